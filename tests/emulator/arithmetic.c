/* The numbers of the emulated runtime.
 *
 * Every input element becomes the bit pattern b of the value as the NPU stores it. An input's digest is
 * sum((b + 1) * (2 k + 1) * GOLDEN) modulo 2^64 over its elements in ONNX order (k); the digests are folded one after
 * the other into the model's salt, and output element j is a hash of that state, the output's index and j.
 * "light" looks at 64 elements spread over the input and writes 16 elements of each output (the rest comes from a state
 * of 0), for benchmarks where the arithmetic must not be what is measured.
 */
#include <string.h>

#include "emulator.h"

#define GOLDEN 0x9E3779B97F4A7C15ull

static uint64_t mix(uint64_t x) {
    x ^= x >> 30;
    x *= 0xBF58476D1CE4E5B9ull;
    x ^= x >> 27;
    x *= 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

size_t emu_type_size(rknn_tensor_type type) {
    switch (type) {
    case RKNN_TENSOR_INT64: return 8;
    case RKNN_TENSOR_FLOAT32: case RKNN_TENSOR_INT32: case RKNN_TENSOR_UINT32: return 4;
    case RKNN_TENSOR_FLOAT16: case RKNN_TENSOR_INT16: case RKNN_TENSOR_UINT16: case RKNN_TENSOR_BFLOAT16: return 2;
    default: return 1;
    }
}

uint32_t emu_elements(const emu_tensor *tensor, uint32_t shape) {
    uint32_t n = 1;
    for (uint32_t i = 0; i < tensor->n_dims; i++) n *= tensor->dims[shape][i];
    return n;
}

static uint16_t half_of(float value) { /* round to nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000);
    bits &= 0x7FFFFFFF;
    if (bits > 0x7F800000) return sign | 0x7E00;
    if (bits >= 0x477FF000) return sign | 0x7C00;
    if (bits < 0x33000001) return sign;
    uint32_t shift = 13, mantissa = bits;
    if (bits < 0x38800000) { /* subnormal */
        shift = 126 - (bits >> 23);
        mantissa = (bits & 0x7FFFFF) | 0x800000;
    } else {
        mantissa = bits - 0x38000000;
    }
    uint32_t half = mantissa >> shift, rest = mantissa & ((1u << shift) - 1), middle = 1u << (shift - 1);
    half += rest > middle || (rest == middle && (half & 1));
    return sign | (uint16_t)half;
}

static float float_of(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 31, mantissa = half & 0x3FF, bits;
    if (exponent == 0) {
        float value = (float)mantissa / 16777216.0f;
        return sign ? -value : value;
    }
    bits = sign | ((exponent == 31 ? 255 : exponent + 112) << 23) | (mantissa << 13);
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* Element i of the array as a number; integers wider than a double's mantissa go through *whole. */
static double element(const void *data, rknn_tensor_type type, size_t i, int64_t *whole) {
    double value = 0;
    switch (type) {
    case RKNN_TENSOR_FLOAT32: { float f; memcpy(&f, (const char *)data + 4 * i, 4); *whole = 0; return f; }
    case RKNN_TENSOR_FLOAT16: { uint16_t h; memcpy(&h, (const char *)data + 2 * i, 2); *whole = 0; return float_of(h); }
    case RKNN_TENSOR_INT8: *whole = ((const int8_t *)data)[i]; break;
    case RKNN_TENSOR_INT16: { int16_t v; memcpy(&v, (const char *)data + 2 * i, 2); *whole = v; break; }
    case RKNN_TENSOR_UINT16: { uint16_t v; memcpy(&v, (const char *)data + 2 * i, 2); *whole = v; break; }
    case RKNN_TENSOR_INT32: { int32_t v; memcpy(&v, (const char *)data + 4 * i, 4); *whole = v; break; }
    case RKNN_TENSOR_UINT32: { uint32_t v; memcpy(&v, (const char *)data + 4 * i, 4); *whole = v; break; }
    case RKNN_TENSOR_INT64: memcpy(whole, (const char *)data + 8 * i, 8); break;
    default: *whole = ((const uint8_t *)data)[i]; break;
    }
    value = (double)*whole;
    return value;
}

static int is_float(rknn_tensor_type type) { return type == RKNN_TENSOR_FLOAT32 || type == RKNN_TENSOR_FLOAT16; }

static int64_t quantized(const emu_tensor *tensor, double value) {
    double q = value / tensor->scale + tensor->zp;
    int64_t low = tensor->type == RKNN_TENSOR_UINT8 ? 0 : -128, high = low + 255;
    int64_t rounded = (int64_t)(q < 0 ? q - 0.5 : q + 0.5);
    return rounded < low ? low : rounded > high ? high : rounded;
}

/* The bit pattern of the element as the NPU stores it. */
static uint64_t stored(const emu_tensor *tensor, emu_view view, size_t i) {
    int64_t whole;
    double value = element(view.data, view.type, i, &whole);
    size_t size = emu_type_size(tensor->type);
    if (tensor->type == RKNN_TENSOR_FLOAT16) return half_of((float)value);
    if (tensor->type == RKNN_TENSOR_FLOAT32) {
        float f = (float)value;
        uint32_t bits;
        memcpy(&bits, &f, 4);
        return bits;
    }
    if (tensor->qnt == RKNN_TENSOR_QNT_AFFINE_ASYMMETRIC && !view.as_stored) whole = quantized(tensor, value);
    else if (is_float(view.type)) whole = (int64_t)value;
    if (tensor->type == RKNN_TENSOR_BOOL) return whole != 0;
    return size == 8 ? (uint64_t)whole : (uint64_t)whole & ((1ull << (8 * size)) - 1);
}

uint32_t emu_packed_elements(const emu_tensor *tensor, uint32_t shape, rknn_tensor_format fmt) {
    if (tensor->n_dims != 4 || fmt != RKNN_TENSOR_NC1HWC2) return emu_elements(tensor, shape);
    const uint32_t *d = tensor->dims[shape];
    return d[0] * tensor->c1[shape] * d[2] * d[3] * tensor->c2;
}

/* Where element k (ONNX order) lies in memory of the given order. */
static size_t place(const emu_tensor *tensor, uint32_t shape, rknn_tensor_format fmt, size_t k) {
    if (tensor->n_dims != 4 || fmt == RKNN_TENSOR_NCHW || fmt == RKNN_TENSOR_UNDEFINED) return k;
    const uint32_t *d = tensor->dims[shape];
    size_t w = k % d[3], h = k / d[3] % d[2], c = k / d[3] / d[2] % d[1], n = k / d[3] / d[2] / d[1];
    if (fmt == RKNN_TENSOR_NHWC) return ((n * d[2] + h) * d[3] + w) * d[1] + c;
    size_t c1 = tensor->c1[shape], c2 = tensor->c2;
    return (((n * c1 + c / c2) * d[2] + h) * d[3] + w) * c2 + c % c2;
}

uint64_t emu_digest(const emu_tensor *tensor, uint32_t shape, emu_view view, int light) {
    size_t n = emu_elements(tensor, shape), step = light && n > 64 ? n / 64 : 1;
    uint64_t sum = 0;
    for (size_t k = 0; k < n; k += step)
        sum += (stored(tensor, view, place(tensor, shape, view.fmt, k)) + 1) * ((2 * (uint64_t)k + 1) * GOLDEN);
    return sum;
}

uint64_t emu_fold(uint64_t state, uint32_t index, uint64_t digest) {
    return mix(state ^ mix(digest + (index + 1) * GOLDEN));
}

static uint64_t hash(uint64_t state, uint32_t index, uint64_t j) {
    return mix(state + (index + 1) * 0xD1B54A32D192ED03ull + j * GOLDEN);
}

/* A value of the stored type (`value` of a float's, else `whole`), written as `type`. */
static void write_value(const emu_tensor *tensor, double value, int64_t whole, rknn_tensor_type type, size_t p, void *out) {
    if (!is_float(tensor->type)) {
        value = (double)whole;
        if (tensor->qnt == RKNN_TENSOR_QNT_AFFINE_ASYMMETRIC)
            value = (float)(whole - tensor->zp) * tensor->scale;
    }
    if (type == RKNN_TENSOR_FLOAT32) {
        float f = (float)value;
        memcpy((char *)out + 4 * p, &f, 4);
    } else if (type == RKNN_TENSOR_FLOAT16) {
        uint16_t half = half_of((float)value);
        memcpy((char *)out + 2 * p, &half, 2);
    } else {
        memcpy((char *)out + emu_type_size(type) * p, &whole, emu_type_size(type)); /* little endian */
    }
}

/* Element j of an output, written as `type` at place p of `out`. */
static void put(const emu_tensor *tensor, uint64_t h, rknn_tensor_type type, size_t p, void *out) {
    double value = 0;
    int64_t whole = 0;
    switch (tensor->type) {
    case RKNN_TENSOR_FLOAT32: case RKNN_TENSOR_FLOAT16: value = ((double)(h % 4001) - 2000) / 8; break;
    case RKNN_TENSOR_INT8: whole = (int8_t)h; break;
    case RKNN_TENSOR_UINT8: whole = (uint8_t)h; break;
    case RKNN_TENSOR_INT16: whole = (int16_t)h; break;
    case RKNN_TENSOR_UINT16: whole = (uint16_t)h; break;
    case RKNN_TENSOR_INT32: whole = (int32_t)h; break;
    case RKNN_TENSOR_UINT32: whole = (uint32_t)h; break;
    case RKNN_TENSOR_INT64: whole = (int64_t)(h & 0xFFFFFFFFFFull) - (1ll << 39); break; /* beyond a float's mantissa */
    default: whole = h & 1; break;
    }
    write_value(tensor, value, whole, type, p, out);
}

void emu_answer(const emu_tensor *tensor, uint32_t shape, uint32_t index, uint64_t state, rknn_tensor_type type,
                rknn_tensor_format fmt, int light, void *out) {
    size_t n = emu_elements(tensor, shape), size = emu_type_size(type), exact = light && n > 16 ? 16 : n;
    if (fmt == RKNN_TENSOR_NC1HWC2) memset(out, 0, emu_packed_elements(tensor, shape, fmt) * size);
    if (exact < n) { /* one block of the answer to state 0, repeated: costs what a copy costs */
        size_t row = n < 512 ? n : 512;
        for (size_t j = 0; j < row; j++) put(tensor, hash(0, index, j), type, j, out);
        for (size_t done = row; done < n; done += row)
            memcpy((char *)out + done * size, out, (n - done < row ? n - done : row) * size);
    }
    for (size_t j = 0; j < exact; j++)
        put(tensor, hash(state, index, j), type, place(tensor, shape, fmt, j), out);
}

void emu_take(const emu_tensor *tensor, uint32_t shape, emu_view view, void *out) {
    size_t n = emu_elements(tensor, shape), size = emu_type_size(tensor->type);
    for (size_t k = 0; k < n; k++) {
        uint64_t bits = stored(tensor, view, place(tensor, shape, view.fmt, k));
        memcpy((char *)out + k * size, &bits, size); /* little endian */
    }
}

void emu_hand_over(const emu_tensor *tensor, uint32_t shape, const void *values, rknn_tensor_type type,
                   rknn_tensor_format fmt, void *out) {
    size_t n = emu_elements(tensor, shape);
    if (fmt == RKNN_TENSOR_NC1HWC2) memset(out, 0, emu_packed_elements(tensor, shape, fmt) * emu_type_size(type));
    for (size_t k = 0; k < n; k++) {
        int64_t whole;
        double value = element(values, tensor->type, k, &whole);
        write_value(tensor, value, whole, type, place(tensor, shape, fmt, k), out);
    }
}
