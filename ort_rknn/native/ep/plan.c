/* How a segment's ONNX tensors meet the runtime's: types, layouts, and what must be converted on the way.
 *
 * The vendor's library answers 0 to conversions that it does not have, and takes no data then (asked of librknnrt 1.6.0), so
 * nothing is left to it that is not known to work: the NPU's own type, float32, uint8, and float16 for float16.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ep.h"

static const struct {
    const char *name;
    uint8_t size;
    int8_t type; /* the runtime's; -1: it has none */
} ONNX[] = {[ONNX_UNDEFINED] = {"undefined", 0, -1},
            [ONNX_FLOAT] = {"float", 4, RKNN_TENSOR_FLOAT32},
            [ONNX_UINT8] = {"uint8", 1, RKNN_TENSOR_UINT8},
            [ONNX_INT8] = {"int8", 1, RKNN_TENSOR_INT8},
            [ONNX_UINT16] = {"uint16", 2, RKNN_TENSOR_UINT16},
            [ONNX_INT16] = {"int16", 2, RKNN_TENSOR_INT16},
            [ONNX_INT32] = {"int32", 4, RKNN_TENSOR_INT32},
            [ONNX_INT64] = {"int64", 8, RKNN_TENSOR_INT64},
            [ONNX_STRING] = {"string", 0, -1},
            [ONNX_BOOL] = {"bool", 1, RKNN_TENSOR_BOOL},
            [ONNX_FLOAT16] = {"float16", 2, RKNN_TENSOR_FLOAT16},
            [ONNX_DOUBLE] = {"double", 8, -1},
            [ONNX_UINT32] = {"uint32", 4, RKNN_TENSOR_UINT32},
            [ONNX_UINT64] = {"uint64", 8, -1}};

size_t ep_onnx_size(ONNXTensorElementDataType type) { return type <= ONNX_UINT64 ? ONNX[type].size : 0; }
const char *ep_onnx_name(ONNXTensorElementDataType type) { return type <= ONNX_UINT64 ? ONNX[type].name : "unknown"; }

const char *ep_dims_text(const int64_t *dims, size_t rank, char *room, size_t size) {
    size_t n = (size_t)snprintf(room, size, "[");
    for (size_t i = 0; i < rank && n < size; i++)
        n += (size_t)snprintf(room + n, size - n, dims[i] < 0 ? "%s?" : "%s%lld", i ? "," : "", (long long)dims[i]);
    if (n < size) snprintf(room + n, size - n, "]");
    return room;
}

int ep_describe_tensor(const ep_ort *ort, const OrtValueInfo *value, ep_tensor *t, ep_failure *f) {
    const OrtTypeInfo *type = NULL;
    const OrtTensorTypeAndShapeInfo *info = NULL;
    const char *name = "";
    size_t rank = 0;
    OrtStatus *status = ort->api->GetValueInfoName(value, &name);
    if (!status) status = ort->api->GetValueInfoTypeInfo(value, &type);
    if (!status) status = ort->api->CastTypeInfoToTensorInfo(type, &info);
    if (!status && info) status = ort->api->GetTensorElementType(info, &t->type);
    if (!status && info) status = ort->api->GetDimensionsCount(info, &rank);
    if (!status && rank <= EP_MAX_DIMS && info) status = ort->api->GetDimensions(info, t->dims, rank);
    if (status) {
        ep_fail(f, ORT_INVALID_GRAPH, "%s", ort->api->GetErrorMessage(status));
        ort->api->ReleaseStatus(status);
        return f->code;
    }
    if (!info || rank > EP_MAX_DIMS)
        return ep_fail(f, ORT_INVALID_GRAPH, "'%s' of a compiled segment is no tensor, or has more than %d dimensions",
                       name, EP_MAX_DIMS);
    t->rank = (uint32_t)rank;
    for (size_t i = 0; i < rank; i++)
        if (t->dims[i] < 0) t->dims[i] = -1;
    return (t->name = strdup(name)) ? 0 : ep_no_memory(f);
}

static void onnx_dims(const rknn_tensor_attr *a, int64_t dims[EP_MAX_DIMS]) {
    for (uint32_t i = 0; i < a->n_dims && i < EP_MAX_DIMS; i++) dims[i] = a->dims[i];
    if (a->n_dims == 4 && a->fmt == RKNN_TENSOR_NHWC) {
        dims[1] = a->dims[3];
        dims[2] = a->dims[1];
        dims[3] = a->dims[2];
    }
}

/* Gives open dimensions the sizes the code was compiled for, and checks the others. */
static int settle_shape(ep_tensor *t, const rknn_tensor_attr *a, const char *kind, ep_failure *f) {
    char declared[200], compiled[200];
    int64_t dims[EP_MAX_DIMS] = {0};
    uint64_t all = 1, known = 1;
    uint32_t open = 0;
    onnx_dims(a, dims);
    for (uint32_t i = 0; i < a->n_dims && i < EP_MAX_DIMS; i++) all *= (uint64_t)dims[i];
    if (!t->rank && all != 1) { /* no scalar: the model says nothing of its shape */
        t->rank = a->n_dims;
        for (uint32_t i = 0; i < t->rank; i++) t->dims[i] = -1;
    }
    for (uint32_t i = 0; i < t->rank; i++) t->dims[i] < 0 ? (void)open++ : (void)(known *= (uint64_t)t->dims[i]);
    int same = a->n_dims == t->rank || (!t->rank && a->n_dims == 1);
    for (uint32_t i = 0; same && i < t->rank; i++) same = t->dims[i] < 0 || t->dims[i] == dims[i];
    ep_dims_text(t->dims, t->rank, declared, sizeof declared);
    if (same) {
        for (uint32_t i = 0; i < t->rank; i++) t->dims[i] = dims[i];
    } else if (a->fmt != RKNN_TENSOR_NHWC && open <= 1 && known && all % known == 0 && (open || all == known)) {
        /* The compiler may add or drop dimensions of 1; the bytes are the same then. */
        for (uint32_t i = 0; i < t->rank; i++)
            if (t->dims[i] < 0) t->dims[i] = (int64_t)(all / known);
    } else {
        return ep_fail(
            f, ORT_INVALID_GRAPH, "%s '%s': the compiled code has shape %s, the segment has %s", kind, t->name,
            ep_dims_text(dims, a->n_dims < EP_MAX_DIMS ? a->n_dims : EP_MAX_DIMS, compiled, sizeof compiled), declared);
    }
    t->elements = all;
    if (all > UINT32_MAX / 8)
        return ep_fail(f, ORT_INVALID_GRAPH, "%s '%s' of %s is too large for the NPU's runtime", kind, t->name,
                       declared);
    return 0;
}

static int is_real(int type) { return type == RKNN_TENSOR_FLOAT32 || type == RKNN_TENSOR_FLOAT16; }

/* Whether a tensor's integers stand for other numbers. Runtimes call tensors quantized that are not, with a scale that
 * changes nothing: 1.6.0 does so of every tensor. */
static bool is_quantized(const rknn_tensor_attr *a) {
    size_t item = ep_runtime_size((int)a->type);
    return item && item <= 2 && !is_real((int)a->type) && a->type != RKNN_TENSOR_BOOL &&
           a->qnt_type != RKNN_TENSOR_QNT_NONE && !(a->scale == 1.0f && !a->zp);
}

/* Whether rknn_inputs_set turns `given` into `stored`: as tensor_layout.py of the package, where it is said what was asked. */
static bool runtime_converts(int given, int stored) {
    bool real = is_real(given) || given == RKNN_TENSOR_UINT8;
    switch (stored) {
    case RKNN_TENSOR_FLOAT32:
    case RKNN_TENSOR_FLOAT16:
    case RKNN_TENSOR_INT8:
    case RKNN_TENSOR_UINT8: return real;
    case RKNN_TENSOR_INT64: return real || given == RKNN_TENSOR_INT32 || given == RKNN_TENSOR_INT64;
    case RKNN_TENSOR_INT32:
    case RKNN_TENSOR_BOOL: return given == stored;
    default: return given == RKNN_TENSOR_FLOAT32;
    }
}

/* What to convert to before it is handed over; -1: nothing. int16, uint16 and uint32 are refused by the vendor's library. */
static int converted_type(const ep_tensor *t, const rknn_tensor_attr *a) {
    int stored = (int)a->type,
        own = t->type == ONNX_BOOL && stored != RKNN_TENSOR_BOOL ? RKNN_TENSOR_UINT8 : ONNX[t->type].type;
    bool refused = stored == RKNN_TENSOR_INT16 || stored == RKNN_TENSOR_UINT16 || stored == RKNN_TENSOR_UINT32;
    bool as_it_is = ep_runtime_size(stored) && !is_quantized(a) && !refused;
    if ((as_it_is && own == stored) || (own >= 0 && runtime_converts(own, stored))) return -1;
    return as_it_is && !is_real(stored) ? stored : RKNN_TENSOR_FLOAT32;
}

static int plan_input(ep_plan *p, uint32_t i, const rknn_tensor_attr *a, bool halves, ep_failure *f) {
    ep_tensor *t = &p->inputs[i];
    ort_rknn_input_form *form = &p->given[i];
    if (settle_shape(t, a, "input", f)) return f->code;
    if (!ep_onnx_size(t->type))
        return ep_fail(f, ORT_NOT_IMPLEMENTED, "input '%s': the NPU's runtime takes no %s", t->name,
                       ep_onnx_name(t->type));
    p->given_type[i] = converted_type(t, a);
    int type = p->given_type[i] >= 0                                 ? p->given_type[i]
               : t->type == ONNX_BOOL && a->type != RKNN_TENSOR_BOOL ? RKNN_TENSOR_UINT8
                                                                     : ONNX[t->type].type;
    *form = (ort_rknn_input_form){.index = a->index, .type = (uint32_t)type, .fmt = (uint32_t)a->fmt};
    if (t->rank == 4) {
        uint64_t points = (uint64_t)t->dims[2] * (uint64_t)t->dims[3];
        form->fmt = RKNN_TENSOR_NCHW;
        if (a->fmt == RKNN_TENSOR_NHWC) {
            form->fmt = RKNN_TENSOR_NHWC;
            /* With one channel or one point the bytes are the same; else it is turned here: the runtime does not turn. */
            if (t->dims[1] != 1 && points != 1) {
                form->batch = (uint32_t)t->dims[0];
                form->channels = (uint32_t)t->dims[1];
                form->points = (uint32_t)points;
                form->item = (uint32_t)ep_runtime_size(type);
                form->half = halves && type == RKNN_TENSOR_FLOAT32 && a->type == RKNN_TENSOR_FLOAT16;
                p->halves |= form->half;
            }
        }
    }
    if (form->half) form->type = RKNN_TENSOR_FLOAT16;
    form->size = (uint32_t)(t->elements * ep_runtime_size((int)form->type));
    return 0;
}

static int plan_output(ep_plan *p, uint32_t i, const rknn_tensor_attr *a, ep_failure *f) {
    ep_tensor *t = &p->outputs[i];
    if (settle_shape(t, a, "output", f)) return f->code;
    if (!ep_onnx_size(t->type))
        return ep_fail(f, ORT_NOT_IMPLEMENTED, "output '%s': the NPU's runtime gives no %s", t->name,
                       ep_onnx_name(t->type));
    int stored = (int)a->type;
    size_t item = ep_runtime_size(stored);
    /* Whole numbers stay whole: a float32 cannot hold what is above 2**24. */
    bool to_float = !item || stored == RKNN_TENSOR_FLOAT32 || t->type == ONNX_FLOAT || is_quantized(a) ||
                    (is_real(stored) && t->type != ONNX_FLOAT16 && t->type != ONNX_DOUBLE);
    int raw = to_float ? RKNN_TENSOR_FLOAT32 : stored;
    p->got_nhwc[i] = a->fmt == RKNN_TENSOR_NHWC && t->rank == 4 && t->dims[1] != 1 && t->dims[2] * t->dims[3] != 1;
    p->got_type[i] = raw == ONNX[t->type].type && !p->got_nhwc[i] ? -1 : raw;
    uint64_t kept = t->elements * (item ? item : 2);
    p->got[i] = (ort_rknn_output_form){.index = a->index,
                                       .size = (uint32_t)(t->elements * ep_runtime_size(raw)),
                                       .stored_size = a->size > kept ? a->size : (uint32_t)kept,
                                       .want_float = to_float};
    return 0;
}

/* Puts attributes into the order of the tensors: by name where all names agree, else as they are. */
static void match(rknn_tensor_attr *attrs, const ep_tensor *tensors, uint32_t count) {
    rknn_tensor_attr *sorted = malloc((count + 1) * sizeof *sorted);
    bool *taken = calloc(count + 1, sizeof *taken); /* a value that goes in twice has one name */
    uint32_t found = 0;
    for (uint32_t i = 0; sorted && taken && i < count; i++)
        for (uint32_t k = 0; k < count; k++)
            if (!taken[k] && !strncmp(attrs[k].name, tensors[i].name, RKNN_MAX_NAME_LEN)) {
                sorted[i] = attrs[k];
                taken[k] = true;
                found++;
                break;
            }
    if (found == count && sorted) memcpy(attrs, sorted, count * sizeof *attrs);
    free(sorted);
    free(taken);
}

static int ask(const ep_runtime *r, rknn_context context, rknn_query_cmd command, uint32_t count,
               rknn_tensor_attr *attrs, ep_failure *f) {
    for (uint32_t i = 0; i < count; i++) {
        memset(&attrs[i], 0, sizeof *attrs);
        attrs[i].index = i;
        int code = r->query(context, command, &attrs[i], sizeof *attrs);
        if (code) return ep_runtime_failed(f, "rknn_query", code, "Tensor %u, query %d", i, (int)command);
        attrs[i].name[RKNN_MAX_NAME_LEN - 1] = 0;
        if (attrs[i].n_dims > RKNN_MAX_DIMS)
            return ep_fail(f, ORT_EP_FAIL, "the NPU's runtime says that a tensor has %u dimensions", attrs[i].n_dims);
    }
    return 0;
}

/* Code compiled for several sets of shapes must be told one before anything else: the vendor's library ends the process
 * otherwise. Static code answers the question with an error. */
static int choose_shapes(const ep_runtime *r, rknn_context context, ep_plan *p, rknn_tensor_attr *attrs, bool *dynamic,
                         ep_failure *f) {
    rknn_input_range *range = calloc(1, sizeof *range);
    char shape[200];
    if (!range) return ep_no_memory(f);
    *dynamic = p->n_inputs && !r->query(context, RKNN_QUERY_INPUT_DYNAMIC_RANGE, range, sizeof *range) &&
               range->shape_number > 1;
    free(range);
    if (!*dynamic) return 0;
    for (uint32_t i = 0; i < p->n_inputs; i++) {
        ep_tensor *t = &p->inputs[i];
        ep_dims_text(t->dims, t->rank, shape, sizeof shape);
        for (uint32_t k = 0; k < t->rank; k++)
            if (t->dims[k] < 0)
                return ep_fail(f, ORT_NOT_IMPLEMENTED,
                               "the compiled code has several sets of shapes, and input '%s' %s does not say "
                               "which: fix its shape in the model",
                               t->name, shape);
        attrs[i].n_dims = t->rank ? t->rank : 1;
        for (uint32_t k = 0; k < attrs[i].n_dims; k++) attrs[i].dims[k] = t->rank ? (uint32_t)t->dims[k] : 1;
        if (t->rank == 4 && attrs[i].fmt == RKNN_TENSOR_NHWC) {
            attrs[i].dims[1] = (uint32_t)t->dims[2];
            attrs[i].dims[2] = (uint32_t)t->dims[3];
            attrs[i].dims[3] = (uint32_t)t->dims[1];
        }
    }
    int code = r->set_input_shapes ? r->set_input_shapes(context, p->n_inputs, attrs) : RKNN_ERR_FAIL;
    if (code)
        return ep_runtime_failed(f, "rknn_set_input_shapes", code,
                                 "The code was not compiled for the first input's shape %s",
                                 ep_dims_text(p->inputs[0].dims, p->inputs[0].rank, shape, sizeof shape));
    return ask(r, context, RKNN_QUERY_CURRENT_INPUT_ATTR, p->n_inputs, attrs, f);
}

int ep_make_plan(const ep_runtime *r, rknn_context context, ep_plan *p, bool halves, ep_failure *f) {
    rknn_input_output_num count = {0, 0};
    bool dynamic = false;
    int code = r->query(context, RKNN_QUERY_IN_OUT_NUM, &count, sizeof count);
    if (code) return ep_runtime_failed(f, "rknn_query", code, "Numbers of inputs and outputs");
    if (count.n_input != p->n_inputs || count.n_output != p->n_outputs)
        return ep_fail(f, ORT_INVALID_GRAPH,
                       "the compiled code has %u input(s) and %u output(s), the segment has %u and %u", count.n_input,
                       count.n_output, p->n_inputs, p->n_outputs);
    uint32_t most = p->n_inputs > p->n_outputs ? p->n_inputs : p->n_outputs;
    rknn_tensor_attr *attrs = calloc(most + 1, sizeof *attrs);
    if (!attrs) return ep_no_memory(f);
    p->halves = false;
    ask(r, context, RKNN_QUERY_INPUT_ATTR, p->n_inputs, attrs, f);
    if (!f->code) match(attrs, p->inputs, p->n_inputs);
    if (!f->code) choose_shapes(r, context, p, attrs, &dynamic, f);
    if (!f->code && dynamic) match(attrs, p->inputs, p->n_inputs);
    for (uint32_t i = 0; !f->code && i < p->n_inputs; i++) plan_input(p, i, &attrs[i], halves, f);
    if (!f->code)
        ask(r, context, dynamic ? RKNN_QUERY_CURRENT_OUTPUT_ATTR : RKNN_QUERY_OUTPUT_ATTR, p->n_outputs, attrs, f);
    if (!f->code) match(attrs, p->outputs, p->n_outputs);
    for (uint32_t i = 0; !f->code && i < p->n_outputs; i++) plan_output(p, i, &attrs[i], f);
    free(attrs);
    return f->code;
}

void ep_free_plan(ep_plan *p) {
    for (uint32_t i = 0; p->inputs && i < p->n_inputs; i++) free(p->inputs[i].name);
    for (uint32_t i = 0; p->outputs && i < p->n_outputs; i++) free(p->outputs[i].name);
    free(p->inputs);
    free(p->outputs);
    free(p->given);
    free(p->got);
    free(p->given_type);
    free(p->got_type);
    free(p->got_nhwc);
    memset(p, 0, sizeof *p);
}
