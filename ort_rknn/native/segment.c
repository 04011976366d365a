#include "segment.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct ort_rknn_segment {
    ort_rknn_calls calls;
    rknn_context context;
    uint32_t n_inputs, n_outputs;
    ort_rknn_input_form *forms;
    ort_rknn_output_form *results;
    rknn_input *inputs;
    rknn_output *outputs;
    void **turned, **spare; /* room for interleaved inputs and unwanted outputs, made when first needed */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int running, held;
    uint64_t runs;
    ort_rknn_gate *gate;
};

int64_t ort_rknn_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void *copy_of(const void *data, size_t size) {
    void *copy = malloc(size ? size : 1);
    if (copy && size) memcpy(copy, data, size);
    return copy;
}

ort_rknn_segment *ort_rknn_segment_new(const ort_rknn_calls *calls, rknn_context context, uint32_t n_inputs,
                                       const ort_rknn_input_form *inputs, uint32_t n_outputs,
                                       const ort_rknn_output_form *outputs) {
    ort_rknn_segment *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&s->lock, NULL);
    s->calls = *calls;
    s->context = context;
    s->n_inputs = n_inputs;
    s->n_outputs = n_outputs;
    s->forms = copy_of(inputs, n_inputs * sizeof *inputs);
    s->results = copy_of(outputs, n_outputs * sizeof *outputs);
    s->inputs = calloc(n_inputs + 1, sizeof *s->inputs);
    s->outputs = calloc(n_outputs + 1, sizeof *s->outputs);
    s->turned = calloc(n_inputs + 1, sizeof *s->turned);
    s->spare = calloc(n_outputs + 1, sizeof *s->spare);
    if (!s->forms || !s->results || !s->inputs || !s->outputs || !s->turned || !s->spare) {
        ort_rknn_segment_free(s);
        return NULL;
    }
    for (uint32_t i = 0; i < n_inputs; i++)
        s->inputs[i] = (rknn_input){.index = inputs[i].index,
                                    .size = inputs[i].size,
                                    .type = (rknn_tensor_type)inputs[i].type,
                                    .fmt = (rknn_tensor_format)inputs[i].fmt};
    for (uint32_t i = 0; i < n_outputs; i++) s->outputs[i] = (rknn_output){.is_prealloc = 1, .index = outputs[i].index};
    return s;
}

void ort_rknn_segment_free(ort_rknn_segment *s) {
    if (!s) return;
    ort_rknn_segment_guard(s, NULL);
    for (uint32_t i = 0; s->turned && i < s->n_inputs; i++) free(s->turned[i]);
    for (uint32_t i = 0; s->spare && i < s->n_outputs; i++) free(s->spare[i]);
    free(s->forms);
    free(s->results);
    free(s->inputs);
    free(s->outputs);
    free(s->turned);
    free(s->spare);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

uint64_t ort_rknn_segment_runs(const ort_rknn_segment *s) { return __atomic_load_n(&s->runs, __ATOMIC_RELAXED); }

void ort_rknn_segment_guard(ort_rknn_segment *s, ort_rknn_gate *gate) {
    ort_rknn_gate *before = s->gate;
    s->gate = gate;
    if (before) before->release(before);
}

ort_rknn_gate *ort_rknn_segment_gate(const ort_rknn_segment *s) { return s->gate; }

static int place_input(ort_rknn_segment *s, uint32_t i, const void *data, int turned) {
    const ort_rknn_input_form *f = &s->forms[i];
    if (!f->channels || turned) {
        s->inputs[i].buf = (void *)(uintptr_t)data; /* the runtime only reads it */
        s->inputs[i].size = f->size;
        return 0;
    }
    if (!s->turned[i] && !(s->turned[i] = malloc(f->size))) return RKNN_ERR_MALLOC_FAIL;
    size_t sheet = (size_t)f->channels * f->points;
    for (uint32_t n = 0; n < f->batch; n++) {
        const char *from = (const char *)data + n * sheet * f->item;
        char *to = (char *)s->turned[i] + n * (f->size / f->batch);
        if (f->half) ort_rknn_interleave_half((const float *)(const void *)from, (uint16_t *)(void *)to, f->channels, f->points);
        else ort_rknn_interleave(from, to, f->channels, f->points, f->item);
    }
    s->inputs[i].buf = s->turned[i];
    return 0;
}

static int place_output(ort_rknn_segment *s, uint32_t i, void **place) {
    const ort_rknn_output_form *f = &s->results[i];
    if ((uintptr_t)*place & 1) {
        void *block = ort_rknn_blocks_take((ort_rknn_blocks *)((uintptr_t)*place - 1));
        if (!block) return RKNN_ERR_MALLOC_FAIL;
        *place = block;
    }
    void *data = *place;
    if (!data && !s->spare[i] && !(s->spare[i] = malloc(f->stored_size))) return RKNN_ERR_MALLOC_FAIL;
    s->outputs[i].want_float = data ? (uint8_t)f->want_float : 0;
    s->outputs[i].is_prealloc = 1;
    s->outputs[i].index = f->index;
    s->outputs[i].buf = data ? data : s->spare[i];
    s->outputs[i].size = data ? f->size : f->stored_size;
    return 0;
}

static int failed(ort_rknn_outcome *outcome, int call, int code) {
    outcome->call = call;
    outcome->done = ort_rknn_now();
    return outcome->code = code;
}

/* Whoever holds goes before the next inference, or a busy lane would never let anybody in. */
static void begin(ort_rknn_segment *s) {
    pthread_mutex_lock(&s->lock);
    /* no limit: who holds does so for a moment; an inference that hangs takes its lane out of service by run_timeout_ms */
    while (s->held || s->running) pthread_cond_wait(&s->changed, &s->lock);
    s->running = 1;
    pthread_mutex_unlock(&s->lock);
}

static void end(ort_rknn_segment *s) {
    pthread_mutex_lock(&s->lock);
    s->running = 0;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

int ort_rknn_segment_hold(ort_rknn_segment *s, int64_t timeout) {
    int64_t deadline = ort_rknn_now() + timeout;
    struct timespec t = {deadline / 1000000000, deadline % 1000000000};
    int late = 0;
    pthread_mutex_lock(&s->lock);
    s->held++;
    while (s->running && !late) late = pthread_cond_timedwait(&s->changed, &s->lock, &t) == ETIMEDOUT;
    int got = !s->running;
    if (!got) s->held--;
    pthread_mutex_unlock(&s->lock);
    return got;
}

void ort_rknn_segment_let_go(ort_rknn_segment *s) {
    pthread_mutex_lock(&s->lock);
    s->held--;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static uint32_t *black_box;

void ort_rknn_black_box(uint32_t *calls) { __atomic_store_n(&black_box, calls, __ATOMIC_RELEASE); }

static void note(int call, int by) {
    uint32_t *box = __atomic_load_n(&black_box, __ATOMIC_ACQUIRE);
    if (box) __atomic_add_fetch(&box[call], (uint32_t)by, __ATOMIC_RELAXED);
}

/* A call of the runtime, with a note of it while it lasts. */
#define NOTED(call, code, expression) (note(call, 1), (code) = (expression), note(call, -1), (code))

static int infer(ort_rknn_segment *s, const void *const *inputs, uint64_t turned, uint64_t spent, void **outputs,
                 ort_rknn_outcome *outcome) {
    int code = 0;
    *outcome = (ort_rknn_outcome){.begun = ort_rknn_now()};
    if (s->gate) __atomic_store_n(&s->gate->waited, 0, __ATOMIC_RELEASE);
    for (uint32_t i = 0; !code && i < s->n_inputs; i++) code = place_input(s, i, inputs[i], i < 64 && turned >> i & 1);
    if (code) return failed(outcome, ORT_RKNN_CALL_NONE, code);
    if (s->n_inputs && NOTED(ORT_RKNN_CALL_INPUTS_SET, code, s->calls.inputs_set(s->context, s->n_inputs, s->inputs)))
        return failed(outcome, ORT_RKNN_CALL_INPUTS_SET, code);
    for (uint32_t i = 0; i < s->n_inputs && i < 64; i++)
        if (spent >> i & 1) ort_rknn_blocks_give((void *)(uintptr_t)inputs[i]);
    outcome->set = ort_rknn_now();
    if (s->gate) {
        int64_t waited = s->gate->enter(s->gate);
        outcome->begun += waited;
        outcome->set += waited;
    }
    (void)NOTED(ORT_RKNN_CALL_RUN, code, s->calls.run(s->context, NULL));
    int64_t ran = ort_rknn_now();
    if (s->gate) s->gate->leave(s->gate, ran - outcome->set);
    if (code) return failed(outcome, ORT_RKNN_CALL_RUN, code);
    outcome->ran = ran;
    __atomic_add_fetch(&s->runs, 1, __ATOMIC_RELAXED);
    for (uint32_t i = 0; !code && i < s->n_outputs; i++) code = place_output(s, i, &outputs[i]);
    if (code) return failed(outcome, ORT_RKNN_CALL_NONE, code);
    if (NOTED(ORT_RKNN_CALL_OUTPUTS_GET, code, s->calls.outputs_get(s->context, s->n_outputs, s->outputs, NULL)))
        return failed(outcome, ORT_RKNN_CALL_OUTPUTS_GET, code);
    for (uint32_t i = 0; i < s->n_outputs; i++) { /* a runtime that gives its own memory whatever it is told */
        const void *got = s->outputs[i].buf;
        if (!outputs[i] || got == outputs[i]) continue;
        if (!got || s->outputs[i].size < s->results[i].size) code = RKNN_ERR_OUTPUT_INVALID;
        else memcpy(outputs[i], got, s->results[i].size);
    }
    int released; /* nothing could be done about it */
    (void)NOTED(ORT_RKNN_CALL_OUTPUTS_RELEASE, released, s->calls.outputs_release(s->context, s->n_outputs, s->outputs));
    if (code) return failed(outcome, ORT_RKNN_CALL_OUTPUTS_GET, code);
    outcome->done = ort_rknn_now();
    return 0;
}

static int infer_alone(ort_rknn_segment *s, const void *const *inputs, uint64_t turned, uint64_t spent, void **outputs,
                       ort_rknn_outcome *outcome) {
    begin(s);
    infer(s, inputs, turned, spent, outputs, outcome);
    end(s);
    return outcome->code;
}

int ort_rknn_segment_infer(ort_rknn_segment *s, void **table, ort_rknn_outcome *outcome) {
    void **inputs = table + ORT_RKNN_TABLE_HEAD;
    return infer_alone(s, (const void *const *)inputs, (uintptr_t)table[ORT_RKNN_TURNED], (uintptr_t)table[ORT_RKNN_SPENT],
                       inputs + s->n_inputs, outcome);
}

int ort_rknn_segment_run(ort_rknn_segment *s, const void *const *inputs, void **outputs, ort_rknn_outcome *outcome) {
    return infer_alone(s, inputs, 0, 0, outputs, outcome);
}
