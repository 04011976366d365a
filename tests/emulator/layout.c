/* Sizes, strides and layouts by the vendor's rules, and which conversions its runtime has.
 *
 * Sources: librknnrt 1.6.0 asked on RK3588 (tests/data/librknnrt-1.6.0); where it was not asked, the line says "a guess".
 */
#include <string.h>

#include "context.h"

static int single_core(const emu_model *model) { return !strncmp(model->target, "rk356", 5); }

/* 16 bytes of channels on RK3588 and its like, 8 on RK356x (board owners' stride logs). */
static uint32_t block(const emu_model *model, rknn_tensor_type type) {
    uint32_t bytes = single_core(model) ? 8 : 16, size = (uint32_t)emu_type_size(type);
    return bytes > size ? bytes / size : 1;
}

static int one_of(const char *op, const char *const *names) {
    for (; *names; names++)
        if (!strcmp(op, *names)) return 1;
    return 0;
}

/* C1 of an output depends on what produces it. The file says the bytes, except for activations that stand alone: the
 * runtime packs these without the room the file gives them (sigmoid, tanh and hard swish of 8 channels in fp16: 1). */
static uint32_t blocks(const emu_tensor *t, uint32_t shape, int output) {
    static const char *const alone[] = {"Sigmoid", "Tanh", "HardSwish", NULL};
    static const char *const wide[] = {"Conv", "ConvRelu", "ConvTranspose", NULL};
    const uint32_t *d = t->dims[shape], least = (d[1] + t->c2 - 1) / t->c2;
    size_t sheet = (size_t)d[0] * d[2] * d[3] * t->c2 * emu_type_size(t->type);
    if (!output || one_of(t->made_by, alone)) return least;
    if (t->stored[shape] && sheet && t->stored[shape] % sheet == 0 && t->stored[shape] / sheet >= least)
        return (uint32_t)(t->stored[shape] / sheet);
    return one_of(t->made_by, wide) ? (least + 1) / 2 * 2 : least;
}

static void lay_out(const emu_model *model, emu_tensor *t, int output) {
    t->c2 = block(model, t->type);
    for (uint32_t shape = 0; t->n_dims == 4 && shape < EMU_MAX_SHAPES; shape++) t->c1[shape] = blocks(t, shape, output);
}

void emu_lay_out(emu_model *model) {
    for (uint32_t i = 0; i < model->n_input; i++) lay_out(model, &model->inputs[i], 0);
    for (uint32_t i = 0; i < model->n_output; i++) lay_out(model, &model->outputs[i], 1);
}

uint32_t emu_stride_size(const emu_tensor *t, uint32_t shape) {
    const uint32_t *d = t->dims[shape], c2 = t->c2, size = (uint32_t)emu_type_size(t->type);
    if (t->n_dims != 4) return emu_elements(t, shape) * size;
    return d[0] * ((d[1] + c2 - 1) / c2 * c2) * d[2] * ((d[3] + c2 - 1) / c2 * c2) * size;
}

int emu_bool_is_strange(const emu_tensor *t) { return emu_set.old && t->type == RKNN_TENSOR_BOOL; }

void emu_describe(const emu_model *model, const emu_tensor *t, uint32_t index, uint32_t shape, rknn_tensor_format fmt,
                  rknn_tensor_attr *out) {
    const uint32_t *d = t->dims[shape];
    int output = t >= model->outputs && t < model->outputs + EMU_MAX_IO;
    memset(out, 0, sizeof *out);
    out->index = index;
    memcpy(out->name, t->name, sizeof out->name);
    if (t->n_dims != 4) fmt = RKNN_TENSOR_UNDEFINED;
    out->n_dims = t->n_dims;
    memcpy(out->dims, d, sizeof t->dims[0]);
    out->n_elems = emu_elements(t, shape);
    if (fmt == RKNN_TENSOR_NHWC) {
        uint32_t order[4] = {d[0], d[2], d[3], d[1]};
        memcpy(out->dims, order, sizeof order);
    } else if (fmt == RKNN_TENSOR_NC1HWC2) {
        uint32_t order[5] = {d[0], t->c1[shape], d[2], d[3], t->c2};
        out->n_dims = 5;
        memcpy(out->dims, order, sizeof order);
        out->n_elems = order[0] * order[1] * order[2] * order[3] * order[4];
    }
    out->fmt = fmt;
    out->type = t->type;
    out->qnt_type = RKNN_TENSOR_QNT_AFFINE_ASYMMETRIC; /* of every tensor, quantized or not */
    out->zp = t->zp;
    out->scale = t->qnt ? t->scale : 1.0f;
    out->size = out->size_with_stride = out->n_elems * (uint32_t)emu_type_size(t->type);
    if (t->n_dims == 4 && !output) out->w_stride = d[3];
}

int64_t emu_given_size(rknn_tensor_type type) {
    switch (type) {
    case RKNN_TENSOR_FLOAT32: case RKNN_TENSOR_INT32: return 4;
    case RKNN_TENSOR_FLOAT16: return 2;
    case RKNN_TENSOR_INT8: case RKNN_TENSOR_UINT8: case RKNN_TENSOR_BOOL: return 1;
    case RKNN_TENSOR_INT64: return 8;
    default: return -1;
    }
}

static int convertible(rknn_tensor_type from, rknn_tensor_type to) {
    int real = from == RKNN_TENSOR_FLOAT32 || from == RKNN_TENSOR_FLOAT16 || from == RKNN_TENSOR_UINT8;
    switch (to) {
    case RKNN_TENSOR_FLOAT16: return real;
    case RKNN_TENSOR_INT8: return real || from == RKNN_TENSOR_INT8 || from == RKNN_TENSOR_BOOL;
    case RKNN_TENSOR_INT64: return real || from == RKNN_TENSOR_INT32 || from == RKNN_TENSOR_INT64;
    case RKNN_TENSOR_INT32: return real || from == to; /* a guess, as all below */
    default: return real || from == to;
    }
}

/* What the runtime makes of an input given in this type and layout (not with pass_through). */
emu_verdict emu_accepts(const emu_tensor *t, uint32_t shape, rknn_tensor_type type, rknn_tensor_format fmt) {
    if (!convertible(type, t->type)) return EMU_NO_TYPE;
    if (t->n_dims != 4) return fmt == RKNN_TENSOR_NC1HWC2 ? EMU_NO_SUCH_LAYOUT : EMU_TAKEN;
    if (t->fmt != RKNN_TENSOR_NHWC) return fmt == RKNN_TENSOR_NC1HWC2 ? EMU_NO_SUCH_LAYOUT : EMU_TAKEN; /* a guess */
    if (fmt == RKNN_TENSOR_NHWC) return EMU_TAKEN;
    if (fmt == RKNN_TENSOR_NCHW) return emu_set.old ? EMU_CRASHES : EMU_NO_LAYOUT; /* 2.3.0 on a board: toolkit2 issue 304 */
    if (fmt != RKNN_TENSOR_NC1HWC2) return EMU_NO_LAYOUT;
    if (t->dims[shape][1] <= 4) return EMU_NO_BLOCKS;
    return emu_type_size(t->type) == 1 ? EMU_TAKEN : EMU_CRASHES;
}
