/* One inference of one segment, on whatever thread onnxruntime calls from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ep.h"

static OrtStatus *refuse(const ep_ort *ort, OrtErrorCode code, const char *text) {
    return ort->api->CreateStatus(code, text);
}

static OrtStatus *check_input(const ep_segment *s, const ep_tensor *t, const OrtValue *value) {
    const OrtApi *api = s->ort->api;
    OrtTensorTypeAndShapeInfo *info = NULL;
    ONNXTensorElementDataType type = ONNX_UNDEFINED;
    int64_t dims[EP_MAX_DIMS];
    size_t rank = 0;
    OrtStatus *status = api->GetTensorTypeAndShape(value, &info);
    if (status) return status;
    status = api->GetTensorElementType(info, &type);
    if (!status) status = api->GetDimensionsCount(info, &rank);
    if (!status && rank <= EP_MAX_DIMS) status = api->GetDimensions(info, dims, rank);
    api->ReleaseTensorTypeAndShapeInfo(info);
    if (status) return status;
    if (type == t->type && rank == t->rank && !memcmp(dims, t->dims, rank * sizeof *dims)) return NULL;
    char text[900], got[200], expected[200];
    snprintf(text, sizeof text,
             "input '%.200s' of segment %.100s has shape %s (%s); its NPU code is for %s (%s) only. Compile the model "
             "for this shape "
             "too (ort-rknn convert --shape, one file for each), or open it with ort_rknn, which runs other shapes on "
             "the CPU",
             t->name, s->code.name,
             rank <= EP_MAX_DIMS ? ep_dims_text(dims, rank, got, sizeof got) : "of too many dimensions",
             ep_onnx_name(type), ep_dims_text(t->dims, t->rank, expected, sizeof expected), ep_onnx_name(t->type));
    return refuse(s->ort, ORT_INVALID_ARGUMENT, text);
}

static OrtStatus *take_inputs(ep_segment *s, ep_context *c, const OrtKernelContext *kernel) {
    const OrtApi *api = s->ort->api;
    for (uint32_t i = 0; i < s->plan.n_inputs; i++) {
        const ep_tensor *t = &s->plan.inputs[i];
        const OrtValue *value = NULL;
        OrtStatus *status = api->KernelContext_GetInput(kernel, t->place, &value);
        if (!status) status = check_input(s, t, value);
        if (!status) status = api->GetTensorData(value, &c->ins[i]);
        if (status) return status;
        int type = s->plan.given_type[i];
        if (type < 0) continue;
        if (!ep_room(&c->converted[i], (size_t)t->elements * ep_runtime_size(type)))
            return refuse(s->ort, ORT_FAIL, EP_NAME ": no memory left");
        int bad = ep_to_runtime(t->type, c->ins[i], type, c->converted[i], t->elements);
        if (bad) {
            char text[500];
            snprintf(text, sizeof text,
                     "input '%.200s' of segment %.100s has values that the NPU cannot hold: it keeps them in %zu bytes",
                     t->name, s->code.name, ep_runtime_size(type));
            return refuse(s->ort, ORT_INVALID_ARGUMENT, text);
        }
        c->ins[i] = c->converted[i];
    }
    return NULL;
}

/* Where the runtime writes: into onnxruntime's tensors, or into rooms of the context's what must be converted. */
static OrtStatus *place_outputs(ep_segment *s, ep_context *c, OrtKernelContext *kernel) {
    const OrtApi *api = s->ort->api;
    for (uint32_t i = 0; i < s->plan.n_outputs; i++) {
        const ep_tensor *t = &s->plan.outputs[i];
        OrtValue *value = NULL;
        c->outs[i] = NULL;
        if (t->place == SIZE_MAX) continue;
        if (s->plan.got_type[i] >= 0) {
            if (!(c->outs[i] = ep_room(&c->raw[i], s->plan.got[i].size)))
                return refuse(s->ort, ORT_FAIL, EP_NAME ": no memory left");
            continue;
        }
        OrtStatus *status = api->KernelContext_GetOutput(kernel, t->place, t->dims, t->rank, &value);
        if (!status) status = api->GetTensorMutableData(value, &c->outs[i]);
        if (status) return status;
    }
    return NULL;
}

static OrtStatus *finish_outputs(ep_segment *s, ep_context *c, OrtKernelContext *kernel) {
    const OrtApi *api = s->ort->api;
    for (uint32_t i = 0; i < s->plan.n_outputs; i++) {
        const ep_tensor *t = &s->plan.outputs[i];
        OrtValue *value = NULL;
        void *data = NULL, *planes = NULL;
        int type = s->plan.got_type[i];
        if (t->place == SIZE_MAX || type < 0) continue;
        OrtStatus *status = api->KernelContext_GetOutput(kernel, t->place, t->dims, t->rank, &value);
        if (!status) status = api->GetTensorMutableData(value, &data);
        if (status) return status;
        const void *from = c->raw[i];
        if (s->plan.got_nhwc[i]) {
            if (!(planes = malloc(s->plan.got[i].size + 1)))
                return refuse(s->ort, ORT_FAIL, EP_NAME ": no memory left");
            ep_planes(from, planes, (uint64_t)t->dims[0], (uint64_t)t->dims[1], (uint64_t)(t->dims[2] * t->dims[3]),
                      ep_runtime_size(type));
            from = planes;
        }
        ep_from_runtime(type, from, t->type, data, t->elements);
        free(planes);
    }
    return NULL;
}

/* onnxruntime's Python class answers EP_FAIL of a run by making the session anew on the CPU, which cannot run compiled code:
 * a device that fails is ENGINE_ERROR, as other providers have it, and the session goes on. */
static OrtStatus *lost(const ep_segment *s, ep_failure *f) {
    if (f->code == ORT_EP_FAIL) f->code = ORT_ENGINE_ERROR;
    return ep_status(s->ort, f);
}

static OrtStatus *failed(const ep_segment *s, const ort_rknn_outcome *outcome, uint32_t mask) {
    static const char *const calls[] = {"", "rknn_inputs_set", "rknn_run", "rknn_outputs_get"};
    ep_failure f = {.code = 0};
    if (outcome->call == ORT_RKNN_CALL_NONE) ep_fail(&f, ORT_FAIL, "segment %s: no memory left", s->code.name);
    else ep_runtime_failed(&f, calls[outcome->call], outcome->code, "Segment %s, core mask %#x", s->code.name, mask);
    return lost(s, &f);
}

OrtStatus *ep_compute(ep_segment *s, OrtKernelContext *kernel) {
    ep_failure f = {.code = 0};
    ep_context *c = ep_take_context(s, &f);
    if (!c) return lost(s, &f);
    OrtStatus *status = take_inputs(s, c, kernel);
    if (!status) status = place_outputs(s, c, kernel);
    if (status) {
        ep_give_context(s, c);
        return status;
    }
    ort_rknn_outcome outcome;
    int64_t limit = s->options->run_timeout_ms;
    uint32_t mask = c->mask;
    int code = limit ? ep_run_timed(s, c, limit * 1000000, &outcome)
                     : ort_rknn_segment_run(c->segment, c->ins, c->outs, &outcome);
    if (code == EP_TIMED_OUT) {
        ep_fail(&f, ORT_EP_FAIL, "the inference of segment %s took longer than %lld ms (run_timeout_ms), core mask %#x",
                s->code.name, (long long)limit, mask);
        return lost(s, &f);
    }
    if (code) {
        status = failed(s, &outcome, mask);
        ep_drop_context(s, c);
        return status;
    }
    status = finish_outputs(s, c, kernel);
    ep_give_context(s, c);
    return status;
}
