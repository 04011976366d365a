/* rknn_query of the emulated runtime. */
#include <stdio.h>
#include <string.h>

#include "context.h"

static const char *name_of(rknn_query_cmd cmd) {
    static const char *const names[] = {"IN_OUT_NUM", "INPUT_ATTR", "OUTPUT_ATTR", "PERF_DETAIL", "PERF_RUN", "SDK_VERSION",
        "MEM_SIZE", "CUSTOM_STRING", "NATIVE_INPUT_ATTR", "NATIVE_OUTPUT_ATTR", "NATIVE_NHWC_INPUT_ATTR",
        "NATIVE_NHWC_OUTPUT_ATTR", "DEVICE_MEM_INFO", "INPUT_DYNAMIC_RANGE", "CURRENT_INPUT_ATTR", "CURRENT_OUTPUT_ATTR",
        "CURRENT_NATIVE_INPUT_ATTR", "CURRENT_NATIVE_OUTPUT_ATTR"};
    return names[cmd];
}

/* CURRENT_* before rknn_set_input_shapes, or of a static model: the messages are the vendor's own confusion. */
static int no_current(const context *c, rknn_query_cmd cmd) {
    static const char *const fixed = "rknn model is static shape type, please export rknn with dynamic_shapes";
    int native = cmd >= RKNN_QUERY_CURRENT_NATIVE_INPUT_ATTR;
    if (!c->model->dynamic && !native) {
        emu_say("query RKNN_QUERY_INPUT_DYNAMIC_RANGE error, %s", fixed);
        return RKNN_ERR_MODEL_INVALID;
    }
    if (!c->model->dynamic && cmd == RKNN_QUERY_CURRENT_NATIVE_INPUT_ATTR) emu_say("query RKNN_QUERY_%s error, %s", name_of(cmd), fixed);
    emu_say("query RKNN_QUERY_%s error, please call rknn_set_input_shape first", native ? name_of(cmd) : "CURRENT_INPUT_ATTR");
    return RKNN_ERR_CTX_INVALID;
}

static int attribute(context *c, rknn_query_cmd cmd, rknn_tensor_attr *attr) {
    int output = cmd == RKNN_QUERY_OUTPUT_ATTR || cmd == RKNN_QUERY_NATIVE_OUTPUT_ATTR ||
                 cmd == RKNN_QUERY_NATIVE_NHWC_OUTPUT_ATTR || cmd == RKNN_QUERY_CURRENT_OUTPUT_ATTR ||
                 cmd == RKNN_QUERY_CURRENT_NATIVE_OUTPUT_ATTR;
    int native = cmd >= RKNN_QUERY_NATIVE_INPUT_ATTR && cmd <= RKNN_QUERY_NATIVE_NHWC_OUTPUT_ATTR;
    uint32_t index = attr->index, count = output ? c->model->n_output : c->model->n_input;
    if (index >= count) {
        emu_say("rknn_query, RKNN_QUERY_%s, p_attr->index(%u) >= %s_num(%u)!", name_of(cmd), index, output ? "output" : "input", count);
        return RKNN_ERR_PARAM_INVALID;
    }
    if (cmd >= RKNN_QUERY_CURRENT_INPUT_ATTR && !(c->model->dynamic && c->shaped)) return no_current(c, cmd);
    if (cmd == RKNN_QUERY_NATIVE_NHWC_OUTPUT_ATTR && c->model->dynamic) {
        emu_say("query RKNN_QUERY_NATIVE_NHWC_OUTPUT_ATTR failed, command is invalid for dynamic shapes rknn model!");
        return RKNN_ERR_PARAM_INVALID;
    }
    const emu_tensor *t = output ? &c->model->outputs[index] : &c->model->inputs[index];
    rknn_tensor_format fmt = t->fmt;
    if (cmd == RKNN_QUERY_NATIVE_NHWC_OUTPUT_ATTR) fmt = RKNN_TENSOR_NHWC;
    if (cmd == RKNN_QUERY_NATIVE_OUTPUT_ATTR || cmd == RKNN_QUERY_CURRENT_NATIVE_OUTPUT_ATTR)
        fmt = c->outputs[index].bound && !native ? fmt : c->outputs[index].bound ? c->outputs[index].view.fmt : RKNN_TENSOR_NC1HWC2;
    if (cmd == RKNN_QUERY_NATIVE_INPUT_ATTR || cmd == RKNN_QUERY_CURRENT_NATIVE_INPUT_ATTR || cmd == RKNN_QUERY_NATIVE_NHWC_INPUT_ATTR)
        fmt = t->dims[0][1] <= 4 ? RKNN_TENSOR_NHWC : RKNN_TENSOR_NC1HWC2; /* few channels: the NPU reads NHWC */
    /* of a dynamic model the native attributes are those of the shapes before the last rknn_set_input_shapes */
    emu_describe(c->model, t, index, native ? c->shape_before : c->shape, fmt, attr);
    int plain = cmd == RKNN_QUERY_OUTPUT_ATTR || cmd == RKNN_QUERY_CURRENT_OUTPUT_ATTR;
    if (plain) attr->size_with_stride = emu_stride_size(t, c->shape);
    if (output && emu_bool_is_strange(t)) {
        attr->type = RKNN_TENSOR_INT8;
        if (!plain) return 0;
        emu_say("output dtype is undefine!");
        attr->type = RKNN_TENSOR_BFLOAT16;
        attr->size = attr->size_with_stride = 0u - attr->n_elems;
    }
    return 0;
}

static int range(context *c, rknn_input_range *out) {
    uint32_t index = out->index;
    if (!c->model->dynamic) return RKNN_ERR_MODEL_INVALID;
    if (index >= c->model->n_input) return RKNN_ERR_PARAM_INVALID;
    const emu_tensor *t = &c->model->inputs[index];
    memset(out, 0, sizeof *out);
    out->index = index;
    out->shape_number = c->model->n_shapes;
    out->fmt = t->fmt;
    out->n_dims = t->n_dims;
    memcpy(out->name, t->name, sizeof out->name);
    for (uint32_t s = 0; s < c->model->n_shapes; s++) {
        rknn_tensor_attr attr;
        emu_describe(c->model, t, index, s, t->fmt, &attr);
        memcpy(out->dyn_range[s], attr.dims, sizeof attr.dims);
    }
    return 0;
}

static uint32_t room_for(rknn_query_cmd cmd) {
    switch (cmd) {
    case RKNN_QUERY_IN_OUT_NUM: return sizeof(rknn_input_output_num);
    case RKNN_QUERY_PERF_DETAIL: return sizeof(rknn_perf_detail);
    case RKNN_QUERY_PERF_RUN: return sizeof(rknn_perf_run);
    case RKNN_QUERY_SDK_VERSION: return sizeof(rknn_sdk_version);
    case RKNN_QUERY_MEM_SIZE: return 20; /* the first fields will do */
    case RKNN_QUERY_CUSTOM_STRING: return sizeof(rknn_custom_string);
    case RKNN_QUERY_INPUT_DYNAMIC_RANGE: return sizeof(rknn_input_range);
    default: return sizeof(rknn_tensor_attr);
    }
}

static int answered(context *c, rknn_query_cmd cmd, void *info, uint32_t size) {
    switch (cmd) {
    case RKNN_QUERY_IN_OUT_NUM:
        *(rknn_input_output_num *)info = emu_set.count ? (rknn_input_output_num){emu_set.count, emu_set.count}
                                                       : (rknn_input_output_num){c->model->n_input, c->model->n_output};
        return 0;
    case RKNN_QUERY_SDK_VERSION: {
        rknn_sdk_version *v = info;
        snprintf(v->api_version, sizeof v->api_version, "%s", emu_set.api);
        snprintf(v->drv_version, sizeof v->drv_version, "%s", emu_set.driver);
        return 0;
    }
    case RKNN_QUERY_MEM_SIZE: {
        rknn_mem_size m = {.total_weight_size = c->model->weight_bytes, .total_internal_size = 4096};
        if (size >= sizeof m) m.total_dma_allocated_size = c->model->weight_bytes + 4096ull;
        memcpy(info, &m, size < sizeof m ? size : sizeof m);
        return 0;
    }
    case RKNN_QUERY_CUSTOM_STRING:
        snprintf(((rknn_custom_string *)info)->string, 1024, "%s", c->model->custom);
        return 0;
    case RKNN_QUERY_PERF_RUN:
        ((rknn_perf_run *)info)->run_duration = c->ran ? emu_set.latency_us : 9010151487403812454; /* memory nobody wrote */
        return 0;
    case RKNN_QUERY_PERF_DETAIL:
        if (!(c->flag & RKNN_FLAG_COLLECT_PERF_MASK)) {
            *(rknn_perf_detail *)info = (rknn_perf_detail){c->report, 0};
            return 0;
        }
        snprintf(c->report, sizeof c->report, "ID OpType Target Time(us)\n0 Emulated NPU %lld\n", (long long)emu_set.latency_us);
        *(rknn_perf_detail *)info = (rknn_perf_detail){c->report, strlen(c->report)};
        return 0;
    case RKNN_QUERY_INPUT_DYNAMIC_RANGE: return range(c, info);
    case RKNN_QUERY_DEVICE_MEM_INFO: return RKNN_ERR_PARAM_INVALID;
    default: return attribute(c, cmd, info);
    }
}

int rknn_query(rknn_context handle, rknn_query_cmd cmd, void *info, uint32_t size) {
    int code = emu_enter(EMU_QUERY);
    context *c = emu_find(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    if (code) return code;
    const char *kind = cmd == RKNN_QUERY_IN_OUT_NUM ? "input_output_num" : "tensor_attr";
    if (cmd > RKNN_QUERY_CURRENT_NATIVE_OUTPUT_ATTR) emu_say("rknn_query, cmd = %d is not in [0, 17]!", cmd);
    else if (!info) emu_say("rknn_query, info == nullptr!");
    else if (size < room_for(cmd)) emu_say("rknn_query, info_len(%u) < sizeof(rknn_%s)(%u)!", size, kind, room_for(cmd));
    else return answered(c, cmd, info, size);
    return RKNN_ERR_PARAM_INVALID;
}
