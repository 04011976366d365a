/* rknn_query of the emulated runtime. */
#include <stdio.h>
#include <string.h>

#include "context.h"

void emu_describe(const emu_tensor *t, uint32_t index, uint32_t shape, rknn_tensor_format fmt, rknn_tensor_attr *out) {
    const uint32_t *d = t->dims[shape];
    memset(out, 0, sizeof *out);
    out->index = index;
    memcpy(out->name, t->name, sizeof out->name);
    if (t->n_dims != 4) fmt = RKNN_TENSOR_UNDEFINED;
    out->n_dims = t->n_dims;
    memcpy(out->dims, d, sizeof t->dims[0]);
    if (fmt == RKNN_TENSOR_NHWC) {
        uint32_t order[4] = {d[0], d[2], d[3], d[1]};
        memcpy(out->dims, order, sizeof order);
    } else if (fmt == RKNN_TENSOR_NC1HWC2) {
        uint32_t c2 = emu_type_size(t->type) == 1 ? 16 : 8, order[5] = {d[0], (d[1] + c2 - 1) / c2, d[2], d[3], c2};
        out->n_dims = 5;
        memcpy(out->dims, order, sizeof order);
    }
    out->fmt = fmt;
    out->type = t->type;
    out->qnt_type = emu_set.affine ? RKNN_TENSOR_QNT_AFFINE_ASYMMETRIC : t->qnt;
    out->zp = t->zp;
    out->scale = t->qnt ? t->scale : 1.0f;
    out->n_elems = emu_packed_elements(t, shape, fmt);
    out->size = out->size_with_stride = out->n_elems * (uint32_t)emu_type_size(t->type);
    if (t->n_dims == 4) out->w_stride = d[3];
}

static int attribute(context *c, rknn_query_cmd cmd, rknn_tensor_attr *attr) {
    int output = cmd == RKNN_QUERY_OUTPUT_ATTR || cmd == RKNN_QUERY_NATIVE_OUTPUT_ATTR ||
                 cmd == RKNN_QUERY_NATIVE_NHWC_OUTPUT_ATTR || cmd == RKNN_QUERY_CURRENT_OUTPUT_ATTR ||
                 cmd == RKNN_QUERY_CURRENT_NATIVE_OUTPUT_ATTR;
    int current = cmd >= RKNN_QUERY_CURRENT_INPUT_ATTR;
    uint32_t index = attr->index;
    if (index >= (output ? c->model->n_output : c->model->n_input)) return RKNN_ERR_PARAM_INVALID;
    const emu_tensor *t = output ? &c->model->outputs[index] : &c->model->inputs[index];
    rknn_tensor_format fmt = t->fmt;
    if (cmd == RKNN_QUERY_NATIVE_NHWC_INPUT_ATTR || cmd == RKNN_QUERY_NATIVE_NHWC_OUTPUT_ATTR) fmt = RKNN_TENSOR_NHWC;
    if (cmd == RKNN_QUERY_NATIVE_OUTPUT_ATTR || cmd == RKNN_QUERY_CURRENT_NATIVE_OUTPUT_ATTR) fmt = RKNN_TENSOR_NC1HWC2;
    if (cmd == RKNN_QUERY_NATIVE_INPUT_ATTR || cmd == RKNN_QUERY_CURRENT_NATIVE_INPUT_ATTR)
        fmt = t->dims[0][1] <= 4 ? RKNN_TENSOR_NHWC : RKNN_TENSOR_NC1HWC2; /* few channels: the NPU reads NHWC */
    emu_describe(t, index, current ? c->shape : 0, fmt, attr);
    return 0;
}

static int range(context *c, rknn_input_range *out) {
    uint32_t index = out->index;
    if (index >= c->model->n_input || c->model->n_shapes < 2) return RKNN_ERR_PARAM_INVALID;
    const emu_tensor *t = &c->model->inputs[index];
    memset(out, 0, sizeof *out);
    out->index = index;
    out->shape_number = c->model->n_shapes;
    out->fmt = t->fmt;
    out->n_dims = t->n_dims;
    memcpy(out->name, t->name, sizeof out->name);
    for (uint32_t s = 0; s < c->model->n_shapes; s++) {
        rknn_tensor_attr attr;
        emu_describe(t, index, s, t->fmt, &attr);
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
    case RKNN_QUERY_MEM_SIZE: return sizeof(rknn_mem_size);
    case RKNN_QUERY_CUSTOM_STRING: return sizeof(rknn_custom_string);
    case RKNN_QUERY_INPUT_DYNAMIC_RANGE: return sizeof(rknn_input_range);
    default: return sizeof(rknn_tensor_attr);
    }
}

int rknn_query(rknn_context handle, rknn_query_cmd cmd, void *info, uint32_t size) {
    int code = emu_enter(EMU_QUERY);
    context *c = emu_find(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    if (code) return code;
    if (!info || size < room_for(cmd)) return RKNN_ERR_PARAM_INVALID;
    switch (cmd) {
    case RKNN_QUERY_IN_OUT_NUM:
        *(rknn_input_output_num *)info = (rknn_input_output_num){c->model->n_input, c->model->n_output};
        return 0;
    case RKNN_QUERY_SDK_VERSION: {
        rknn_sdk_version *v = info;
        snprintf(v->api_version, sizeof v->api_version, "%s", emu_set.api);
        snprintf(v->drv_version, sizeof v->drv_version, "%s", emu_set.driver);
        return 0;
    }
    case RKNN_QUERY_MEM_SIZE: {
        rknn_mem_size *m = info;
        memset(m, 0, sizeof *m);
        m->total_weight_size = c->model->weight_bytes;
        m->total_internal_size = 4096;
        m->total_dma_allocated_size = c->model->weight_bytes + 4096ull;
        return 0;
    }
    case RKNN_QUERY_CUSTOM_STRING:
        snprintf(((rknn_custom_string *)info)->string, 1024, "%s", c->model->custom);
        return 0;
    case RKNN_QUERY_PERF_RUN:
        ((rknn_perf_run *)info)->run_duration = emu_set.latency_us;
        return 0;
    case RKNN_QUERY_PERF_DETAIL:
        if (!(c->flag & RKNN_FLAG_COLLECT_PERF_MASK)) return RKNN_ERR_PARAM_INVALID;
        snprintf(c->report, sizeof c->report, "ID OpType Target Time(us)\n0 Emulated NPU %lld\n", (long long)emu_set.latency_us);
        *(rknn_perf_detail *)info = (rknn_perf_detail){c->report, strlen(c->report)};
        return 0;
    case RKNN_QUERY_INPUT_DYNAMIC_RANGE: return range(c, info);
    case RKNN_QUERY_DEVICE_MEM_INFO: return RKNN_ERR_PARAM_INVALID;
    default: return attribute(c, cmd, info);
    }
}
