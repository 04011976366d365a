/* Inputs, runs and outputs of the emulated runtime. Memory for zero copy is in memory.c. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"

static void no_conversion(const emu_tensor *t, rknn_tensor_type type) {
    emu_say("Normalize does not support for this data type. src type(%d), dst type fbs::TensorType_%s",
            type == RKNN_TENSOR_BOOL ? 9 : type == RKNN_TENSOR_INT64 ? 7 : type == RKNN_TENSOR_INT32 ? 6 : 3, emu_type_label(t->type));
}

/* Says why an input is not taken, as rknn_inputs_set does; 0: it is. */
static int not_taken(context *c, const rknn_input *in) {
    const emu_tensor *t = &c->model->inputs[in->index];
    switch (emu_accepts(t, c->shape, in->type, in->fmt)) {
    case EMU_TAKEN: return 0;
    case EMU_NO_TYPE: no_conversion(t, in->type); break;
    case EMU_NO_LAYOUT:
        emu_say("Meet unsupported src layout for normalize: %s, only support NHWC src layout!",
                in->fmt == RKNN_TENSOR_NCHW ? "NCHW" : "(null)");
        break;
    case EMU_NO_BLOCKS: emu_say("rknn_inputs_set, when input channel is 1\x03\x04, not support NC1HWC2 layout!"); return 1;
    case EMU_NO_SUCH_LAYOUT: emu_say("rknn_inputs_set, meet unsupported layout(%d)!", in->fmt); return 1;
    case EMU_CRASHES: emu_die(SIGSEGV, "a four-dimensional input that is not NHWC is handed to an NHWC input");
    }
    emu_say("rknn_inputs_set, normalize error(-1) index=%u", in->index);
    return 1;
}

static int take(context *c, const rknn_input *in) {
    const emu_tensor *t = &c->model->inputs[in->index];
    int64_t need = (int64_t)emu_elements(t, c->shape) * emu_given_size(in->type);
    if (!in->buf) emu_die(SIGSEGV, "rknn_inputs_set gets an input without a buffer");
    if (in->size < (uint32_t)need) {
        emu_say("rknn_inputs_set, param input size(%u) < model input size(%lld)", in->size, (long long)need);
        return RKNN_ERR_PARAM_INVALID;
    }
    if (!in->pass_through && not_taken(c, in)) return 0; /* the vendor's silence: what was there before stays */
    held *h = &c->inputs[in->index];
    uint32_t least = (uint32_t)(emu_elements(t, c->shape) * emu_type_size(t->type)), room = (uint32_t)need > least ? (uint32_t)need : least;
    if (h->room < room) {
        free(h->data);
        h->data = calloc(1, room);
        h->room = room;
    }
    memcpy(h->data, in->buf, (size_t)need);
    emu_copied_in += need;
    h->view = (emu_view){h->data, in->pass_through ? t->type : in->type, in->fmt, in->pass_through};
    h->mem = NULL; /* which does not unbind it: see last */
    c->fresh = 0;
    return 0;
}

int rknn_inputs_set(rknn_context handle, uint32_t n, rknn_input *inputs) {
    context *c = emu_find(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    int mine = emu_hold(c), code = emu_enter(EMU_SET);
    if (!code && n > c->model->n_input) code = RKNN_ERR_PARAM_INVALID;
    if (!code) emu_need_shapes(c);
    if (!code && n && !inputs) emu_die(SIGSEGV, "rknn_inputs_set gets no array");
    for (uint32_t i = 0; !code && i < n; i++)
        if (inputs[i].index < c->model->n_input) code = take(c, &inputs[i]);
    emu_let_go(c, mine);
    return code;
}

static uint64_t fold_inputs(context *c) {
    uint64_t state = c->model->salt;
    for (uint32_t i = 0; i < c->model->n_input; i++) {
        emu_view view = c->inputs[i].view;
        int there = view.data && (!c->inputs[i].mem || emu_mem_alive(c->inputs[i].mem)); /* else what the room held: zeros */
        state = emu_fold(state, i, there ? emu_digest(&c->model->inputs[i], c->shape, view, emu_set.light) : 0);
    }
    return state;
}

static void answer(context *c, uint32_t i, rknn_tensor_type type, rknn_tensor_format fmt, void *out) {
    const emu_tensor *t = &c->model->outputs[i];
    if (c->lent) emu_hand_over(t, c->shape, c->answers[i], type, fmt, out);
    else emu_answer(t, c->shape, i, c->state, type, fmt, emu_set.light, out);
}

static int on_cpu_failed(const char *kind, const char *name) {
    emu_say("Op type:%s, name: %s:%s, fallback cpu failed. please try updating to the latest version of the toolkit2 and runtime "
            "from: https://console.zbox.filez.com/l/I00fc3 (PWD: rknn)", kind, kind, name);
    return RKNN_ERR_FAIL;
}

/* Bound memory that the runtime's CPU part reads and writes; 0 or an RKNN_ERR code. */
static int bound_memory(context *c) {
    for (uint32_t i = 0; i < c->model->n_input; i++) {
        const emu_tensor *t = &c->model->inputs[i];
        held *h = &c->inputs[i];
        if (h->gone) emu_die(SIGSEGV, "a run reads memory that was destroyed while it was bound");
        if (!h->mem || h->view.as_stored) continue;
        emu_verdict verdict = emu_accepts(t, c->shape, h->view.type, h->view.fmt);
        if (verdict == EMU_TAKEN) continue;
        if (verdict == EMU_NO_TYPE) {
            no_conversion(t, h->view.type);
            return on_cpu_failed("InputOperator", t->name);
        }
        emu_die(SIGSEGV, "a run reads a four-dimensional input bound as NCHW");
    }
    for (uint32_t i = 0; i < c->model->n_output; i++) {
        const emu_tensor *t = &c->model->outputs[i];
        held *h = &c->outputs[i];
        if (h->gone && h->view.fmt != RKNN_TENSOR_NC1HWC2)
            emu_die(SIGSEGV, "a run writes memory that was destroyed while it was bound");
        if (!h->mem || h->view.fmt != RKNN_TENSOR_NC1HWC2) continue;
        if (t->n_dims != 4) emu_die(SIGABRT, "std::out_of_range leaves the C interface: NC1HWC2 of an output that has no 4 dimensions");
        if (h->view.type == t->type) continue;
        emu_say("Meet unsupported tensor dtype");
        return on_cpu_failed("OutputOperator", t->name);
    }
    return 0;
}

static int strange_output(const context *c) {
    for (uint32_t i = 0; i < c->model->n_output; i++) {
        if (!emu_bool_is_strange(&c->model->outputs[i])) continue;
        emu_say("ElementwiseLogical: unsupported output type:3");
        return on_cpu_failed("Greater", c->model->outputs[i].name);
    }
    return 0;
}

static void write_bound(context *c) {
    for (uint32_t i = 0; i < c->model->n_output; i++) {
        const emu_tensor *t = &c->model->outputs[i];
        held *h = &c->outputs[i];
        if (!h->mem || !emu_mem_alive(h->mem)) continue;
        uint64_t need = (uint64_t)emu_packed_elements(t, c->shape, h->view.fmt) * emu_type_size(h->view.type);
        if (h->view.fmt != RKNN_TENSOR_NC1HWC2 && need < emu_stride_size(t, c->shape)) need = emu_stride_size(t, c->shape);
        if (h->mem->size < need) emu_misuses[EMU_OVERRUN]++; /* the NPU would write past it */
        else answer(c, i, h->view.type, h->view.fmt, (void *)h->view.data);
    }
}

int rknn_run(rknn_context handle, rknn_run_extend *extend) {
    context *c = emu_find(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    int mine = emu_hold(c), bound = 0, mapped = 0;
    emu_need_shapes(c);
    bound = bound_memory(c); /* before a hang that was asked for: what is destroyed meanwhile is counted */
    int code = emu_enter(EMU_RUN);
    if (!code) {
        int knows = !*c->model->needs || !strcmp(c->model->needs, c->custom_op);
        code = bound;
        if (!code) code = strange_output(c);
        uint64_t state = code ? 0 : fold_inputs(c);
        if (!code) code = !knows ? RKNN_ERR_FAIL : emu_compute(c);
        if (!code) code = emu_occupy(c->mask, c->model->latency_us ? c->model->latency_us : emu_next_latency());
        c->ran = 1;
        for (uint32_t i = 0; i < c->model->n_input; i++) mapped |= c->inputs[i].mem != NULL;
        if (!code) {
            if (mapped && fold_inputs(c) != state) emu_misuses[EMU_CHANGED]++;
            c->state = state;
            c->fresh = 1;
            if (extend) extend->frame_id = ++c->frame;
            write_bound(c);
        }
    }
    emu_let_go(c, mine);
    return code;
}

int rknn_wait(rknn_context handle, rknn_run_extend *extend) {
    (void)handle, (void)extend;
    return RKNN_ERR_FAIL; /* as on Linux boards */
}

static void *own_buffer(context *c, uint32_t size) {
    for (int i = 0; i < 4 * EMU_MAX_IO; i++)
        if (!c->given[i]) {
            c->unreleased++;
            return c->given[i] = malloc(size ? size : 1);
        }
    return malloc(size ? size : 1); /* lost, as whoever never releases wants it */
}

static void give(context *c, rknn_output *out, uint32_t index) {
    const emu_tensor *t = &c->model->outputs[index];
    rknn_tensor_type type = out->want_float ? RKNN_TENSOR_FLOAT32 : t->type;
    uint32_t size = (uint32_t)(emu_elements(t, c->shape) * emu_type_size(type)), least = size;
    if (emu_bool_is_strange(t)) {
        emu_say("output dtype is undefine!");
        if (!out->want_float) size = least = 0;
        if (!out->want_float && !out->is_prealloc) emu_say("Meet unsupported tensor dtype for output dtype");
    }
    if (!out->is_prealloc || emu_set.own_outputs) {
        size -= emu_set.short_outputs < size ? emu_set.short_outputs : size;
        void *whole = malloc(least ? least : 1);
        out->buf = own_buffer(c, size);
        out->size = size;
        out->index = index;
        if (least) answer(c, index, type, t->fmt, whole);
        memcpy(out->buf, whole, size);
        free(whole);
    } else if (!out->buf) {
        emu_die(SIGSEGV, "rknn_outputs_get gets an output without a buffer");
    } else if (out->size < size) {
        emu_say("output[%u] buf size error, size = %u, expected size = %u if want_float = %d", index, out->size, size, out->want_float);
        return; /* nothing is written, and nothing is said */
    } else if (size) {
        answer(c, index, type, t->fmt, out->buf);
    }
    emu_copied_out += size;
}

int rknn_outputs_get(rknn_context handle, uint32_t n, rknn_output *outputs, rknn_output_extend *extend) {
    context *c = emu_find(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    int mine = emu_hold(c), code = emu_enter(EMU_GET);
    if (!code && n > c->model->n_output) code = RKNN_ERR_PARAM_INVALID;
    if (!code) emu_need_shapes(c);
    if (!code && !c->fresh && n) emu_misuses[EMU_UNRUN]++;
    for (uint32_t i = 0; !code && i < n; i++) {
        if (outputs[i].index >= c->model->n_output) {
            emu_say("rknn_outputs_get, param output index(%u) is out of range(%u)", outputs[i].index, c->model->n_output);
            code = RKNN_ERR_PARAM_INVALID;
        }
    }
    for (uint32_t i = 0; !code && i < n; i++) give(c, &outputs[i], outputs[i].is_prealloc ? outputs[i].index : i);
    if (extend) extend->frame_id = c->frame;
    emu_let_go(c, mine);
    return code;
}

int rknn_outputs_release(rknn_context handle, uint32_t n, rknn_output *outputs) {
    context *c = emu_find(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    int mine = emu_hold(c), code = emu_enter(EMU_RELEASE);
    for (uint32_t i = 0; i < n; i++) {
        int slot = 0;
        while (slot < 4 * EMU_MAX_IO && (!outputs[i].buf || c->given[slot] != outputs[i].buf)) slot++;
        if (slot < 4 * EMU_MAX_IO) {
            free(c->given[slot]); /* the caller's pointer stays as it is */
            c->given[slot] = NULL;
            c->unreleased--;
        } else if (!outputs[i].is_prealloc && outputs[i].buf) {
            emu_die(outputs[i].size < 128 << 10 ? SIGABRT : SIGSEGV, "double free: outputs are released twice"); /* as free() does */
        }
    }
    emu_let_go(c, mine);
    return code;
}
