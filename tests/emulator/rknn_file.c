/* Reads the inputs and outputs of a real .rknn file: names, order and ONNX dims from the JSON trailer, the types and
 * layouts on the device from root strings 12 and 13 of the FlatBuffer, int8 ranges from string 3.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator.h"

typedef struct {
    const char *at, *end;
} text;

static text blank(text t) {
    while (t.at < t.end && strchr(" \t\r\n,:", *t.at)) t.at++;
    return t;
}

/* What follows the JSON value (or Python literal) at t. */
static text after(text t) {
    t = blank(t);
    int depth = 0;
    do {
        if (t.at >= t.end) return t;
        if (*t.at == '"' || *t.at == '\'') {
            char quote = *t.at++;
            while (t.at < t.end && *t.at != quote) t.at += 1 + (*t.at == '\\');
            t.at++;
        } else if (*t.at == '{' || *t.at == '[') depth++, t.at++;
        else if (*t.at == '}' || *t.at == ']') depth--, t.at++;
        else if (depth) t.at++;
        else while (t.at < t.end && !strchr(",}] \n", *t.at)) t.at++;
    } while (depth > 0);
    return t;
}

static text none(void) { return (text){NULL, NULL}; }

/* The value of `key` in the object at t. */
static text member(text t, const char *key) {
    t = t.at ? blank(t) : t;
    if (!t.at || t.at >= t.end || *t.at != '{') return none();
    t.at++;
    for (size_t n = strlen(key);;) {
        t = blank(t);
        if (t.at >= t.end || *t.at == '}') return none();
        text value = after(t);
        if ((size_t)(value.at - t.at) == n + 2 && !strncmp(t.at + 1, key, n)) return blank(value);
        t = after(value);
    }
}

/* Element `index` of the array at t. */
static text item(text t, int index) {
    t = t.at ? blank(t) : t;
    if (!t.at || t.at >= t.end || *t.at != '[') return none();
    for (t.at++, t = blank(t); index > 0 && t.at < t.end && *t.at != ']'; index--) t = blank(after(t));
    return t.at < t.end && *t.at != ']' ? t : none();
}

static double number(text t, double otherwise) { return t.at ? strtod(t.at, NULL) : otherwise; }

static void string(text t, char *out, size_t room) {
    text e = t.at ? after(t) : t;
    *out = 0;
    if (t.at && e.at - t.at >= 2) snprintf(out, room, "%.*s", (int)(e.at - t.at - 2), t.at + 1);
}

static text root_string(const uint8_t *fb, uint64_t n, int slot) {
    uint32_t root, at, length;
    int32_t back;
    uint16_t table, offset;
    if (n < 8) return none();
    memcpy(&root, fb, 4);
    if (root + 4 > n) return none();
    memcpy(&back, fb + root, 4);
    int64_t vtable = (int64_t)root - back;
    if (vtable < 0 || vtable + 4 > (int64_t)n) return none();
    memcpy(&table, fb + vtable, 2);
    if (4 + 2 * slot + 2 > table || vtable + table > (int64_t)n) return none();
    memcpy(&offset, fb + vtable + 4 + 2 * slot, 2);
    if (!offset || root + offset + 4ull > n) return none();
    memcpy(&at, fb + root + offset, 4);
    uint64_t p = (uint64_t)root + offset + at;
    if (p + 4 > n) return none();
    memcpy(&length, fb + p, 4);
    if (p + 4 + length > n) return none();
    return (text){(const char *)fb + p + 4, (const char *)fb + p + 4 + length};
}

static int read_tensor(text trailer, text types, text ranges, int id, int is_output, emu_tensor *t, uint32_t *n_shapes) {
    char word[64];
    text norm = none();
    for (int i = 0;; i++) {
        norm = item(member(trailer, "norm_tensor"), i);
        if (!norm.at) return RKNN_ERR_MODEL_INVALID;
        if ((int)number(member(norm, "tensor_id"), -1) == id) break;
    }
    string(member(norm, "url"), t->name, sizeof t->name);
    text dim, size = member(norm, "size"), device = member(types, t->name);
    while (t->n_dims < RKNN_MAX_DIMS && (dim = item(size, (int)t->n_dims)).at)
        t->dims[0][t->n_dims++] = (uint32_t)number(dim, 0);
    text sets = member(member(ranges, "dynamic_shapes"), t->name), row;
    uint32_t n = 0;
    for (; n < EMU_MAX_SHAPES && (row = item(sets, (int)n)).at; n++)
        for (uint32_t d = 0; d < t->n_dims; d++) t->dims[n][d] = (uint32_t)number(item(row, (int)d), 0);
    if (n > *n_shapes) *n_shapes = n;
    for (n = n ? n : 1; n < EMU_MAX_SHAPES; n++) memcpy(t->dims[n], t->dims[0], sizeof t->dims[0]);
    string(member(device, "dtype"), word, sizeof word);
    t->type = emu_type_named(word);
    if (t->type == RKNN_TENSOR_TYPE_MAX) return RKNN_ERR_MODEL_INVALID;
    string(member(device, "layout"), word, sizeof word);
    t->fmt = t->n_dims != 4 || !strcmp(word, "UNDEFINED") ? RKNN_TENSOR_UNDEFINED
             : !is_output && !strcmp(word, "NHWC")        ? RKNN_TENSOR_NHWC
                                                          : RKNN_TENSOR_NCHW;
    if (t->type == RKNN_TENSOR_INT8) {
        text range = member(member(ranges, "quant_tab"), t->name);
        double low = number(item(member(range, "min"), 0), 0), high = number(item(member(range, "max"), 0), 1);
        t->qnt = RKNN_TENSOR_QNT_AFFINE_ASYMMETRIC;
        if (high <= low) low = low < 0 ? low : 0, high = high > 0 ? high : 0; /* seen once only: a range holds 0 */
        t->scale = (float)((high - low) / 255);
        double zero = -128 - low / t->scale;
        t->zp = (int32_t)(zero < 0 ? zero - 0.5 : zero + 0.5);
    }
    return 0;
}

int emu_rknn_read(const uint8_t *data, size_t size, emu_model *model) {
    uint64_t n, length;
    memcpy(&model->version, data + 8, 8);
    memcpy(&n, data + 16, 8);
    if (n > size - 64 || size - 64 - n < 8) {
        emu_say("parseRKNN: exportDataSize large then model size: %llu vs 0!", (unsigned long long)n);
        emu_say("parseRKNN from buffer: Invalid RKNN format!");
        return RKNN_ERR_MODEL_INVALID;
    }
    memcpy(&length, data + 64 + n, 8);
    if (length > size - 72 - n) return RKNN_ERR_MODEL_INVALID;
    const uint8_t *fb = data + 64;
    text trailer = {(const char *)fb + n + 8, (const char *)fb + n + 8 + length};
    text ins = root_string(fb, n, 12), outs = root_string(fb, n, 13), ranges = root_string(fb, n, 3);
    text custom = root_string(fb, n, 11), target = root_string(fb, n, 8), edge;
    if (custom.at) snprintf(model->custom, sizeof model->custom, "%.*s", (int)(custom.end - custom.at), custom.at);
    if (target.at) snprintf(model->target, sizeof model->target, "%.*s", (int)(target.end - target.at), target.at);
    model->n_shapes = 1;
    for (int i = 0; (edge = item(member(trailer, "graph"), i)).at; i++) {
        char side[16];
        string(member(edge, "left"), side, sizeof side);
        int output = !strcmp(side, "output"), position = (int)number(member(edge, "left_tensor_id"), -1);
        uint32_t *count = output ? &model->n_output : &model->n_input;
        if (position < 0 || position >= EMU_MAX_IO) return RKNN_ERR_MODEL_INVALID;
        if ((uint32_t)position >= *count) *count = (uint32_t)position + 1;
        int code = read_tensor(trailer, output ? outs : ins, ranges, (int)number(member(edge, "right_tensor_id"), -1), output,
                               output ? &model->outputs[position] : &model->inputs[position], &model->n_shapes);
        if (code) return code;
    }
    emu_graph_read(fb, n, model);
    if (model->n_shapes > 1) model->dynamic = 1;
    return 0;
}
