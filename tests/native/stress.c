/* Stress of the native lanes over the emulated runtime, for the sanitizers: many submitters, pinned and unpinned requests,
 * cancels, failures, hangs over the time limit, lanes re-equipped and retired, several pools one after the other; inputs
 * that are given back in the midst of it, and outputs whose memory is taken there.
 *
 * Built with all sources of ort_rknn/native and tests/emulator in one program, so that the sanitizers see everything.
 * Exit status 0: every request ended exactly once with the right result, and nothing was misused or left behind.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arbiter.h"
#include "lanes.h"

int rknn_init(rknn_context *, void *, uint32_t, uint32_t, rknn_init_extend *);
int rknn_dup_context(rknn_context *, rknn_context *);
int rknn_destroy(rknn_context);
int rknn_inputs_set(rknn_context, uint32_t, rknn_input *);
int rknn_run(rknn_context, rknn_run_extend *);
int rknn_outputs_get(rknn_context, uint32_t, rknn_output *, rknn_output_extend *);
int rknn_outputs_release(rknn_context, uint32_t, rknn_output *);
int emu_configure(const char *, const char *);
long long emu_count(const char *);
void emu_release_hangs(void);
void emu_reset(void);

enum { CORES = 3, LANES = 6, SUBMITTERS = 4, IN = 3 * 20, OUT = 64, MOST_LANES = 64 };

static const char MODEL[] = "RKNNEMU 1\ninput x float16 1,3,4,5 nhwc\noutput y float16 1,64\n";
static char model[sizeof MODEL + 64];
static const ort_rknn_calls CALLS = {rknn_inputs_set, rknn_run, rknn_outputs_get, rknn_outputs_release};
static const ort_rknn_input_form INPUT = {0, IN * 4, RKNN_TENSOR_FLOAT32, RKNN_TENSOR_NHWC, 1, 3, 20, 4, 0};
static const ort_rknn_input_form HALF_INPUT = {0, IN * 2, RKNN_TENSOR_FLOAT16, RKNN_TENSOR_NHWC, 1, 3, 20, 4, 1};
static const ort_rknn_output_form OUTPUT = {0, OUT * 4, OUT * 2, 1};

typedef struct {
    float in[IN], out[OUT];
    void *table[ORT_RKNN_TABLE_HEAD + 2];
    int number;
    atomic_int ended, released, code;
} job;

static ort_rknn_pool *pool;
static ort_rknn_arbiter *arbiter;
static ort_rknn_blocks *ins_kept, *outs_kept;
static ort_rknn_segment *segments[MOST_LANES];
static rknn_context contexts[MOST_LANES], master;
static pthread_mutex_t lanes_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_int open_jobs, submitted, done, failed, timed_out, cancelled, wrong, stop;
static float expected[64][OUT];
static int jobs_each = 1500, shedding[MOST_LANES];
static int short_way; /* nobody watches over it, so that with a time limit it is not to be taken */

static void fill(float *in, int number) {
    for (int i = 0; i < IN; i++) in[i] = (float)((number * 31 + i * 7) % 97) / 4;
}

static ort_rknn_segment *new_segment(rknn_context *context) {
    static atomic_int made;
    int half = made++ % 2 && ort_rknn_halves(); /* the numbers of fill() are exact in both */
    if (rknn_dup_context(&master, context)) abort();
    ort_rknn_segment *segment = ort_rknn_segment_new(&CALLS, *context, 1, half ? &HALF_INPUT : &INPUT, 1, &OUTPUT);
    ort_rknn_segment_guard(segment, ort_rknn_arbiter_gate(arbiter, (uint32_t)made % 5, made % ORT_RKNN_CLASSES, 1 + (uint32_t)made % 2));
    return segment;
}

static void drop(int lane) {
    if (!segments[lane]) return;
    ort_rknn_segment_free(segments[lane]);
    rknn_destroy(contexts[lane]);
    segments[lane] = NULL;
}

static void open_lane(int group) {
    pthread_mutex_lock(&lanes_lock);
    int lane = ort_rknn_pool_add(pool, (uint32_t)group);
    if (lane >= 0 && lane < MOST_LANES) {
        segments[lane] = new_segment(&contexts[lane]);
        if (ort_rknn_pool_equip(pool, lane, 1, &segments[lane], 0, NULL, 0)) drop(lane);
    }
    pthread_mutex_unlock(&lanes_lock);
}

/* Contexts are given back and opened again, as while other sessions want the NPU. */
static void shed(int lane) {
    pthread_mutex_lock(&lanes_lock);
    if (segments[lane] && ort_rknn_pool_unequip(pool, lane)) {
        drop(lane);
        segments[lane] = new_segment(&contexts[lane]);
        if (ort_rknn_pool_equip(pool, lane, 1, &segments[lane], 0, NULL, 0)) drop(lane);
    } else {
        shedding[lane] = 1;
    }
    pthread_mutex_unlock(&lanes_lock);
}

/* A lane that was busy then is through. */
static void revive(int lane) {
    pthread_mutex_lock(&lanes_lock);
    if (shedding[lane] && ort_rknn_pool_shed(pool, lane)) {
        shedding[lane] = 0;
        drop(lane);
        segments[lane] = new_segment(&contexts[lane]);
        if (ort_rknn_pool_equip(pool, lane, 1, &segments[lane], 0, NULL, 0)) drop(lane);
    }
    pthread_mutex_unlock(&lanes_lock);
}

static void finish(job *j) {
    if (atomic_fetch_add(&j->ended, 1)) wrong++;
    open_jobs--;
}

/* Two in five inputs are blocks, one output in three is. */
static void board(job *j) {
    int spent = j->number % 5 < 2;
    void *in = spent ? memcpy(ort_rknn_blocks_take(ins_kept), j->in, sizeof j->in) : j->in;
    void *out = j->number % 3 ? j->out : ORT_RKNN_LATE(outs_kept);
    memcpy(j->table, (void *[]){[ORT_RKNN_SPENT] = (void *)(uintptr_t)spent, in, out}, sizeof j->table);
}

/* Nobody will touch a job any more: what is ours goes back. */
static void land(job *j, int set) {
    void *in = j->table[ORT_RKNN_TABLE_HEAD], *out = j->table[ORT_RKNN_TABLE_HEAD + 1];
    if (in != j->in && !set) ort_rknn_blocks_give(in);
    if (out == j->out || (uintptr_t)out & 1) return;
    memcpy(j->out, out, sizeof j->out);
    ort_rknn_blocks_give(out);
}

static void *collector(void *unused) {
    (void)unused;
    ort_rknn_event events[16];
    while (!stop || open_jobs) {
        int n = ort_rknn_pool_take(pool, events, 16, 50000000);
        for (int i = 0; i < n; i++) {
            job *j = (job *)(uintptr_t)events[i].token;
            int lane = events[i].lane;
            if (events[i].kind == ORT_RKNN_EVENT_TIMEOUT) {
                timed_out++;
                emu_release_hangs();
                open_lane(lane % CORES);
                finish(j);
                continue;
            }
            if (events[i].kind == ORT_RKNN_EVENT_LATE) {
                if (!ort_rknn_pool_wait_ended(pool, lane, 2000000000)) wrong++;
                pthread_mutex_lock(&lanes_lock);
                drop(lane);
                pthread_mutex_unlock(&lanes_lock);
                land(j, events[i].outcome.set != 0);
                j->released = 1;
                continue;
            }
            land(j, events[i].outcome.set != 0);
            if (events[i].outcome.code) {
                failed++;
                pthread_mutex_lock(&lanes_lock);
                drop(lane);
                segments[lane] = new_segment(&contexts[lane]);
                if (ort_rknn_pool_equip(pool, lane, 1, &segments[lane], 0, NULL, 0)) drop(lane);
                pthread_mutex_unlock(&lanes_lock);
            } else {
                revive(lane);
                done++;
                if (memcmp(j->out, expected[j->number % 64], sizeof j->out)) wrong++;
            }
            j->released = 1;
            finish(j);
        }
    }
    return NULL;
}

static void *submitter(void *argument) {
    job *jobs = argument;
    for (int i = 0; i < jobs_each; i++) {
        job *j = &jobs[i];
        j->number = i;
        fill(j->in, i % 64);
        board(j);
        for (;;) {
            uint64_t mark = __atomic_load_n(&ort_rknn_pool_look(pool)->mark, __ATOMIC_ACQUIRE);
            if (__atomic_load_n(&ort_rknn_pool_look(pool)->waiting, __ATOMIC_ACQUIRE) < 8) break;
            ort_rknn_pool_wait(pool, mark, 20000000, i % 5 == 0);
        }
        if (short_way && i % 7 == 3) { /* in this thread, if a lane is idle */
            ort_rknn_outcome outcome;
            int lane = ort_rknn_pool_run(pool, i % 4 - 1, 0, j->table, &outcome);
            if (lane >= 0) {
                land(j, outcome.set != 0);
                if (!outcome.code) revive(lane);
                if (!outcome.code && memcmp(j->out, expected[i % 64], sizeof j->out)) wrong++;
                if (outcome.code) {
                    pthread_mutex_lock(&lanes_lock);
                    drop(lane);
                    segments[lane] = new_segment(&contexts[lane]);
                    if (ort_rknn_pool_equip(pool, lane, 1, &segments[lane], 0, NULL, 0)) drop(lane);
                    pthread_mutex_unlock(&lanes_lock);
                }
                j->released = 1;
                continue;
            }
        }
        open_jobs++;
        submitted++;
        int code = ort_rknn_pool_submit(pool, i % 4 - 1, 0, j->table, (uint64_t)(uintptr_t)j, i % 11 ? 0 : ORT_RKNN_FRONT);
        if (code < ORT_RKNN_QUEUED) { wrong++; open_jobs--; }
        if (i % 13 == 0 && ort_rknn_pool_cancel(pool, (uint64_t)(uintptr_t)j)) {
            cancelled++;
            land(j, 0);
            j->released = 1;
            finish(j);
        }
        if (i % 29 == 0) ort_rknn_pool_touch(pool, i % 2);
        if (i % 97 == 0) shed(i / 97 % LANES);
    }
    return NULL;
}

static void round_of(int64_t limit, const char *faults) {
    pthread_t threads[SUBMITTERS], collecting;
    job *jobs = calloc((size_t)SUBMITTERS * (size_t)jobs_each, sizeof *jobs);
    stop = 0;
    short_way = !limit;
    emu_reset();
    emu_configure("pattern", "200,20,900,0,50");
    emu_configure("fault", faults);
    if (rknn_init(&master, model, sizeof model, 0, NULL)) abort();
    pool = ort_rknn_pool_new(CORES, limit);
    ins_kept = ort_rknn_blocks_new(IN * sizeof(float), 4);
    outs_kept = ort_rknn_blocks_new(OUT * sizeof(float), 1);
    for (int i = 0; i < LANES; i++) open_lane(i % CORES);
    pthread_create(&collecting, NULL, collector, NULL);
    for (int i = 0; i < SUBMITTERS; i++) pthread_create(&threads[i], NULL, submitter, jobs + i * jobs_each);
    for (int i = 0; i < SUBMITTERS; i++) pthread_join(threads[i], NULL);
    while (open_jobs) usleep(1000);
    stop = 1;
    ort_rknn_pool_retire(pool, 1);
    ort_rknn_pool_wake(pool);
    pthread_join(collecting, NULL);
    emu_release_hangs();
    ort_rknn_pool_stop(pool);
    if (ort_rknn_pool_join(pool, 5000000000)) wrong++;
    ort_rknn_event events[16];
    for (int n; (n = ort_rknn_pool_take(pool, events, 16, 0));)
        for (int i = 0; i < n; i++) land((job *)(uintptr_t)events[i].token, events[i].outcome.set != 0);
    ort_rknn_pool_free(pool);
    ort_rknn_blocks_close(ins_kept);
    ort_rknn_blocks_close(outs_kept);
    for (int i = 0; i < MOST_LANES; i++) drop(i);
    rknn_destroy(master);
    free(jobs);
}

int main(int argc, char **argv) {
    if (argc > 1) jobs_each = atoi(argv[1]);
    memcpy(model, MODEL, sizeof MODEL);
    emu_reset();
    if (rknn_init(&master, model, sizeof model, 0, NULL)) abort();
    ort_rknn_segment *segment = ort_rknn_segment_new(&CALLS, master, 1, &INPUT, 1, &OUTPUT);
    for (int i = 0; i < 64; i++) {
        float in[IN];
        const void *ins[] = {in};
        void *outs[] = {expected[i]};
        ort_rknn_outcome outcome;
        fill(in, i);
        if (ort_rknn_segment_run(segment, ins, outs, &outcome)) abort();
    }
    ort_rknn_segment_free(segment);
    rknn_destroy(master);
    arbiter = ort_rknn_arbiter_new(CORES, 0);
    round_of(0, "");
    ort_rknn_arbiter_reserve(arbiter, 1);
    round_of(0, "rknn_run@50x5=-1;rknn_inputs_set@400x3=-8;rknn_outputs_get@700x2=-9;rknn_run@1000=-2");
    round_of(40000000, "rknn_run@100=hang;rknn_run@900=hang;rknn_outputs_get@1500=hang");
    static const char *const misuses[] = {"concurrent", "dead_context", "destroyed_busy", "not_run", "not_released"};
    for (int i = 0; i < 5; i++)
        if (emu_count(misuses[i])) { wrong++; printf("misuse: %s %lld\n", misuses[i], emu_count(misuses[i])); }
    if (ort_rknn_arbiter_taken(arbiter)) { wrong++; printf("tokens left: %d\n", ort_rknn_arbiter_taken(arbiter)); }
    if (emu_count("contexts")) { wrong++; printf("contexts left: %lld\n", emu_count("contexts")); }
    printf("submitted %d done %d failed %d timed out %d cancelled %d wrong %d\n", submitted, done, failed, timed_out, cancelled, wrong);
    return wrong || done + failed + timed_out + cancelled != submitted;
}
