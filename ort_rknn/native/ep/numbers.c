/* Values of one type as values of another, as numpy's astype gives them. */
#include <math.h>
#include <string.h>

#include "ep.h"

static float from_half(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023, bits;
    if (exponent == 31) {
        bits = sign | 0x7F800000 | fraction << 13;
    } else if (exponent) {
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    } else {
        float small = (float)fraction * 0x1p-24f;
        memcpy(&bits, &small, 4);
        bits |= sign;
    }
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static uint16_t to_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7FFFFFFF;
    if (bits > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (bits >> 13 & 0x3FF));
    if (bits >= 0x477FF000) return (uint16_t)(sign | 0x7C00);
    if (bits < 0x38800000) { /* subnormal: let the float addition round */
        float small;
        memcpy(&small, &bits, 4);
        small += 0.5f;
        memcpy(&bits, &small, 4);
        return (uint16_t)(sign | (bits - 0x3F000000));
    }
    bits += 0xC8000FFF + (bits >> 13 & 1);
    return (uint16_t)(sign | bits >> 13);
}

size_t ep_runtime_size(int type) {
    static const uint8_t sizes[] = {4, 2, 1, 1, 2, 2, 4, 4, 8, 1};
    return type >= 0 && type < (int)sizeof sizes ? sizes[type] : 0;
}

/* A value that moves between types: a whole one keeps all its digits. */
typedef struct {
    enum { REAL, WHOLE, NATURAL } kind;
    double real;
    int64_t whole; /* bits of a natural one */
} number;

#define WHOLE_NUMBER(x) ((number){WHOLE, 0, (int64_t)(x)})
#define REAL_NUMBER(x) ((number){REAL, (double)(x), 0})

#define LOAD(T, make)                                                                                                  \
    {                                                                                                                  \
        T v;                                                                                                           \
        memcpy(&v, (const char *)data + i * sizeof v, sizeof v);                                                       \
        return make(v);                                                                                                \
    }

static inline number load_runtime(int type, const void *data, uint64_t i) {
    switch (type) {
    case RKNN_TENSOR_FLOAT32: LOAD(float, REAL_NUMBER)
    case RKNN_TENSOR_FLOAT16: {
        uint16_t v;
        memcpy(&v, (const char *)data + 2 * i, 2);
        return REAL_NUMBER(from_half(v));
    }
    case RKNN_TENSOR_INT8: LOAD(int8_t, WHOLE_NUMBER)
    case RKNN_TENSOR_BOOL:
    case RKNN_TENSOR_UINT8: LOAD(uint8_t, WHOLE_NUMBER)
    case RKNN_TENSOR_INT16: LOAD(int16_t, WHOLE_NUMBER)
    case RKNN_TENSOR_UINT16: LOAD(uint16_t, WHOLE_NUMBER)
    case RKNN_TENSOR_INT32: LOAD(int32_t, WHOLE_NUMBER)
    case RKNN_TENSOR_UINT32: LOAD(uint32_t, WHOLE_NUMBER)
    default: LOAD(int64_t, WHOLE_NUMBER)
    }
}

static inline number load_onnx(ONNXTensorElementDataType type, const void *data, uint64_t i) {
    switch (type) {
    case ONNX_FLOAT: return load_runtime(RKNN_TENSOR_FLOAT32, data, i);
    case ONNX_FLOAT16: return load_runtime(RKNN_TENSOR_FLOAT16, data, i);
    case ONNX_DOUBLE: LOAD(double, REAL_NUMBER)
    case ONNX_INT8: return load_runtime(RKNN_TENSOR_INT8, data, i);
    case ONNX_BOOL:
    case ONNX_UINT8: return load_runtime(RKNN_TENSOR_UINT8, data, i);
    case ONNX_INT16: return load_runtime(RKNN_TENSOR_INT16, data, i);
    case ONNX_UINT16: return load_runtime(RKNN_TENSOR_UINT16, data, i);
    case ONNX_INT32: return load_runtime(RKNN_TENSOR_INT32, data, i);
    case ONNX_UINT32: return load_runtime(RKNN_TENSOR_UINT32, data, i);
    default: {
        number n = load_runtime(RKNN_TENSOR_INT64, data, i);
        if (type == ONNX_UINT64) n.kind = NATURAL;
        return n;
    }
    }
}

static inline double real_of(number n) {
    return n.kind == REAL ? n.real : n.kind == WHOLE ? (double)n.whole : (double)(uint64_t)n.whole;
}

/* Reals are rounded to the nearest whole number, halves to the even one; what is out of range takes the nearest end. */
static inline int64_t whole_of(number n) {
    if (n.kind != REAL) return n.whole;
    double r = rint(n.real);
    return r >= 0x1p63 ? INT64_MAX : r <= -0x1p63 || r != r ? INT64_MIN : (int64_t)r;
}

#define STORE(T, value)                                                                                                \
    {                                                                                                                  \
        T v = (T)(value);                                                                                              \
        memcpy((char *)out + i * sizeof v, &v, sizeof v);                                                              \
        break;                                                                                                         \
    }

static inline void store_onnx(number n, ONNXTensorElementDataType type, void *out, uint64_t i) {
    switch (type) {
    case ONNX_FLOAT: STORE(float, real_of(n))
    case ONNX_FLOAT16: STORE(uint16_t, to_half((float)real_of(n)))
    case ONNX_DOUBLE: STORE(double, real_of(n))
    case ONNX_BOOL: STORE(uint8_t, n.kind == REAL ? n.real != 0 : n.whole != 0)
    case ONNX_INT8:
    case ONNX_UINT8: STORE(uint8_t, whole_of(n))
    case ONNX_INT16:
    case ONNX_UINT16: STORE(uint16_t, whole_of(n))
    case ONNX_INT32:
    case ONNX_UINT32: STORE(uint32_t, whole_of(n))
    default: STORE(int64_t, whole_of(n))
    }
}

int ep_from_runtime(int from, const void *data, ONNXTensorElementDataType to, void *out, uint64_t elements) {
    if (!ep_runtime_size(from) || !ep_onnx_size(to)) return -1;
    if (from == RKNN_TENSOR_FLOAT32 && to == ONNX_FLOAT16) {
        for (uint64_t i = 0; i < elements; i++) ((uint16_t *)out)[i] = to_half(((const float *)data)[i]);
    } else if (from == RKNN_TENSOR_FLOAT16 && to == ONNX_FLOAT) {
        for (uint64_t i = 0; i < elements; i++) ((float *)out)[i] = from_half(((const uint16_t *)data)[i]);
    } else {
        for (uint64_t i = 0; i < elements; i++) store_onnx(load_runtime(from, data, i), to, out, i);
    }
    return 0;
}

static const struct {
    int64_t least, most;
} RANGES[] = {[RKNN_TENSOR_INT8] = {INT8_MIN, INT8_MAX},    [RKNN_TENSOR_UINT8] = {0, UINT8_MAX},
              [RKNN_TENSOR_INT16] = {INT16_MIN, INT16_MAX}, [RKNN_TENSOR_UINT16] = {0, UINT16_MAX},
              [RKNN_TENSOR_INT32] = {INT32_MIN, INT32_MAX}, [RKNN_TENSOR_UINT32] = {0, UINT32_MAX},
              [RKNN_TENSOR_INT64] = {INT64_MIN, INT64_MAX}, [RKNN_TENSOR_BOOL] = {0, UINT8_MAX}};

int ep_to_runtime(ONNXTensorElementDataType from, const void *data, int to, void *out, uint64_t elements) {
    if (!ep_runtime_size(to) || !ep_onnx_size(from)) return -1;
    int missed = 0;
    for (uint64_t i = 0; i < elements; i++) {
        number n = load_onnx(from, data, i);
        if (to == RKNN_TENSOR_FLOAT32 || to == RKNN_TENSOR_FLOAT16) {
            store_onnx(n, to == RKNN_TENSOR_FLOAT32 ? ONNX_FLOAT : ONNX_FLOAT16, out, i);
            continue;
        }
        if (n.kind == REAL) n.real = to == RKNN_TENSOR_BOOL ? n.real != 0 : trunc(n.real); /* as numpy */
        int64_t whole = to == RKNN_TENSOR_BOOL && n.kind != REAL ? n.whole != 0 : whole_of(n);
        missed |= (n.kind == NATURAL && whole < 0) || whole < RANGES[to].least || whole > RANGES[to].most;
        size_t size = ep_runtime_size(to);
        memcpy((char *)out + i * size, &whole, size); /* little-endian, as every board */
    }
    return missed ? -2 : 0;
}

void ep_planes(const void *from, void *to, uint64_t batch, uint64_t channels, uint64_t points, size_t item) {
    size_t sheet = (size_t)(channels * points) * item;
    for (uint64_t n = 0; n < batch; n++) /* the other way round it is the same exchange */
        ort_rknn_interleave((const char *)from + n * sheet, (char *)to + n * sheet, (uint32_t)points,
                            (uint32_t)channels, (uint32_t)item);
}
