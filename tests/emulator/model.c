/* Models the emulated runtime can open: real .rknn files, and a text form for tests.
 *
 *   RKNNEMU 1
 *   target rk3588
 *   custom any text
 *   seed 7
 *   weights 1000000
 *   latency 5000                           (microseconds of one run)
 *   needs MyOp                             (a custom operator; runs fail before it is registered)
 *   input x float16 1,3,8,8|1,3,16,16 nhwc
 *   output y int8 1,10 - 0.5 -3            (- = no layout; then scale and zero point)
 *   maker y ConvRelu                       (the operator that produces an output)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator.h"

static const char *const TYPES[RKNN_TENSOR_TYPE_MAX] = {"float32", "float16", "int8", "uint8", "int16", "uint16", "int32",
                                                        "uint32", "int64", "bool", "int4", "bfloat16"};

rknn_tensor_type emu_type_named(const char *name) {
    for (int i = 0; i < RKNN_TENSOR_TYPE_MAX; i++)
        if (!strcmp(TYPES[i], name)) return (rknn_tensor_type)i;
    return RKNN_TENSOR_TYPE_MAX;
}

static int tensor_line(char *rest, emu_tensor *t, uint32_t *n_shapes) {
    char type[32], dims[512], layout[16] = "-";
    float scale = 0;
    int zp = 0, got = sscanf(rest, "%255s %31s %511s %15s %f %d", t->name, type, dims, layout, &scale, &zp);
    if (got < 3 || (t->type = emu_type_named(type)) == RKNN_TENSOR_TYPE_MAX) return -1;
    uint32_t sets = 0;
    for (char *set, *left = dims; (set = strsep(&left, "|")) && sets < EMU_MAX_SHAPES; sets++) {
        t->n_dims = 0;
        for (char *d; (d = strsep(&set, ",")) && t->n_dims < RKNN_MAX_DIMS;) t->dims[sets][t->n_dims++] = (uint32_t)atoi(d);
    }
    if (sets > *n_shapes) *n_shapes = sets;
    for (; sets < EMU_MAX_SHAPES; sets++) memcpy(t->dims[sets], t->dims[0], sizeof t->dims[0]);
    t->fmt = !strcmp(layout, "nhwc") ? RKNN_TENSOR_NHWC : !strcmp(layout, "nchw") ? RKNN_TENSOR_NCHW : RKNN_TENSOR_UNDEFINED;
    if (scale != 0) t->qnt = RKNN_TENSOR_QNT_AFFINE_ASYMMETRIC;
    t->scale = scale;
    t->zp = zp;
    return 0;
}

static void maker_line(const char *rest, emu_model *model) {
    char name[RKNN_MAX_NAME_LEN], op[32];
    if (sscanf(rest, "%255s %31s", name, op) != 2) return;
    for (uint32_t i = 0; i < model->n_output; i++)
        if (!strcmp(model->outputs[i].name, name)) snprintf(model->outputs[i].made_by, sizeof op, "%s", op);
}

static int text_read(const uint8_t *data, size_t size, emu_model *model) {
    char *copy = strndup((const char *)data, size < 65536 ? size : 65536), *left = copy, *line;
    int bad = 0;
    if (!copy) return RKNN_ERR_MALLOC_FAIL;
    model->n_shapes = 1;
    model->version = 6;
    while (!bad && (line = strsep(&left, "\n"))) {
        char word[16] = "";
        int used = 0;
        if (sscanf(line, "%15s%n", word, &used) < 1) continue;
        char *rest = line + used + (line[used] == ' ');
        if (!strcmp(word, "target")) snprintf(model->target, sizeof model->target, "%s", rest);
        else if (!strcmp(word, "custom")) snprintf(model->custom, sizeof model->custom, "%s", rest);
        else if (!strcmp(word, "seed")) model->salt = strtoull(rest, NULL, 0);
        else if (!strcmp(word, "version")) model->version = strtoull(rest, NULL, 0);
        else if (!strcmp(word, "weights")) model->weight_bytes = (uint32_t)strtoul(rest, NULL, 0);
        else if (!strcmp(word, "latency")) model->latency_us = strtoll(rest, NULL, 0);
        else if (!strcmp(word, "maker")) maker_line(rest, model);
        else if (!strcmp(word, "needs")) snprintf(model->needs, sizeof model->needs, "%s", rest);
        else if (!strcmp(word, "input") && model->n_input < EMU_MAX_IO)
            bad = tensor_line(rest, &model->inputs[model->n_input++], &model->n_shapes);
        else if (!strcmp(word, "output") && model->n_output < EMU_MAX_IO)
            bad = tensor_line(rest, &model->outputs[model->n_output++], &model->n_shapes);
    }
    free(copy);
    model->dynamic = model->n_shapes > 1;
    return bad ? RKNN_ERR_MODEL_INVALID : 0;
}

static uint64_t fnv(uint64_t h, const char *text) {
    for (; *text; text++) h = (h ^ (uint8_t)*text) * 0x100000001B3ull;
    return (h ^ ',') * 0x100000001B3ull;
}

static int refused(const char *why) {
    emu_say("parseRKNN%s", why);
    emu_say("parseRKNN from buffer: Invalid RKNN format!");
    return RKNN_ERR_MODEL_INVALID;
}

int emu_model_read(const uint8_t *data, size_t size, emu_model *model) {
    memset(model, 0, sizeof *model);
    if (size < 64 && (size < 8 || memcmp(data, "RKNNEMU", 7))) return refused(": rknn model is too small!");
    if (memcmp(data, "RKNN", 4)) return refused(": invalid RKNN_MAGIC!");
    int code = memcmp(data, "RKNNEMU", 7) ? emu_rknn_read(data, size, model) : text_read(data, size, model);
    if (code) return code;
    if (!model->n_output) return refused(": there is nothing in it");
    emu_lay_out(model);
    /* Files of equal models differ in padding bytes, so the salt is made of the names. */
    uint64_t h = 0xCBF29CE484222325ull;
    for (uint32_t i = 0; i < model->n_input; i++) h = fnv(h, model->inputs[i].name);
    for (uint32_t i = 0; i < model->n_output; i++) h = fnv(h, model->outputs[i].name);
    model->salt ^= fnv(h, model->custom);
    if (!model->weight_bytes) model->weight_bytes = (uint32_t)size;
    model->identity = emu_identity(data, size);
    return 0;
}
