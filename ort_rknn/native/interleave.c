/* [channels][points] -> [points][channels]: NPUs want pictures with the colours of a point side by side. */
#include <stddef.h>

#include "segment.h"

#if defined(__aarch64__)
#include <arm_neon.h>
/* As many points as fill registers; how many that were. */
#define QUICK(n, bits, lanes)                                                                                           \
    static uint32_t quick##n##_##bits(const uint##bits##_t *from, uint##bits##_t *to, uint32_t points) {                \
        uint32_t p = 0;                                                                                                 \
        for (; points - p >= lanes; p += lanes) {                                                                       \
            uint##bits##x##lanes##x##n##_t v;                                                                           \
            for (uint32_t c = 0; c < n; c++) v.val[c] = vld1q_u##bits(from + (size_t)c * points + p);                   \
            vst##n##q_u##bits(to + (size_t)n * p, v);                                                                   \
        }                                                                                                               \
        return p;                                                                                                       \
    }
QUICK(3, 8, 16)
QUICK(3, 16, 8)
QUICK(3, 32, 4)
QUICK(4, 8, 16)
QUICK(4, 16, 8)
QUICK(4, 32, 4)

static uint32_t quick(const void *from, void *to, uint32_t channels, uint32_t points, uint32_t item) {
    switch (8 * channels + item) {
    case 25: return quick3_8(from, to, points);
    case 26: return quick3_16(from, to, points);
    case 28: return quick3_32(from, to, points);
    case 33: return quick4_8(from, to, points);
    case 34: return quick4_16(from, to, points);
    case 36: return quick4_32(from, to, points);
    default: return 0;
    }
}
#elif defined(__x86_64__)
#include <immintrin.h>
/* 32 bytes of each of n planes at a time: each half of a register becomes 16 * n bytes of points. */
__attribute__((target("avx2"), always_inline)) static inline uint32_t
shuffle(const uint8_t *from, uint8_t *to, const uint32_t n, uint32_t points, uint32_t item) {
    __m256i mask[4][4]; /* for 16 bytes of points: which byte of which plane */
    for (uint32_t k = 0; k < n; k++)
        for (uint32_t c = 0; c < n; c++) {
            uint8_t which[16];
            for (uint32_t j = 0; j < 16; j++) {
                uint32_t element = (16 * k + j) / item;
                which[j] = element % n == c ? (uint8_t)(element / n * item + j % item) : 0x80;
            }
            mask[k][c] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)which));
        }
    size_t plane = (size_t)points * item, at = 0;
    for (; plane - at >= 32; at += 32, to += 32 * n) {
        __m256i in[4];
        for (uint32_t c = 0; c < n; c++) in[c] = _mm256_loadu_si256((const __m256i *)(from + c * plane + at));
        for (uint32_t k = 0; k < n; k++) {
            __m256i out = _mm256_shuffle_epi8(in[0], mask[k][0]);
            for (uint32_t c = 1; c < n; c++) out = _mm256_or_si256(out, _mm256_shuffle_epi8(in[c], mask[k][c]));
            _mm_storeu_si128((__m128i *)(to + 16 * k), _mm256_castsi256_si128(out));
            _mm_storeu_si128((__m128i *)(to + 16 * (n + k)), _mm256_extracti128_si256(out, 1));
        }
    }
    return (uint32_t)(at / item);
}

__attribute__((target("avx2"))) static uint32_t three(const void *from, void *to, uint32_t points, uint32_t item) {
    return shuffle(from, to, 3, points, item);
}

__attribute__((target("avx2"))) static uint32_t four(const void *from, void *to, uint32_t points, uint32_t item) {
    return shuffle(from, to, 4, points, item);
}

static uint32_t quick(const void *from, void *to, uint32_t channels, uint32_t points, uint32_t item) {
    if ((channels != 3 && channels != 4) || !__builtin_cpu_supports("avx2")) return 0;
    return (channels == 3 ? three : four)(from, to, points, item);
}
#else
static uint32_t quick(const void *from, void *to, uint32_t channels, uint32_t points, uint32_t item) {
    (void)from, (void)to, (void)channels, (void)points, (void)item;
    return 0;
}
#endif

/* In tiles, so that neither the planes read nor the rows written fall out of the first-level cache. */
#define INTERLEAVE(T)                                                                                                   \
    static void interleave_##T(const T *restrict from, T *restrict to, uint32_t channels, uint32_t points, uint32_t p0) { \
        enum { TILE = 16 };                                                                                             \
        for (; p0 < points; p0 += TILE) {                                                                               \
            uint32_t p1 = points - p0 < TILE ? points : p0 + TILE;                                                      \
            for (uint32_t c0 = 0; c0 < channels; c0 += TILE) {                                                          \
                uint32_t c1 = channels - c0 < TILE ? channels : c0 + TILE;                                              \
                for (uint32_t p = p0; p < p1; p++)                                                                      \
                    for (uint32_t c = c0; c < c1; c++) to[(size_t)p * channels + c] = from[(size_t)c * points + p];     \
            }                                                                                                           \
            if (points - p0 < TILE) break; /* p0 must not wrap */                                                       \
        }                                                                                                               \
    }
INTERLEAVE(uint8_t)
INTERLEAVE(uint16_t)
INTERLEAVE(uint32_t)
INTERLEAVE(uint64_t)

void ort_rknn_interleave(const void *from, void *to, uint32_t channels, uint32_t points, uint32_t item) {
    uint32_t done = quick(from, to, channels, points, item);
    switch (item) {
    case 1: interleave_uint8_t(from, to, channels, points, done); break;
    case 2: interleave_uint16_t(from, to, channels, points, done); break;
    case 4: interleave_uint32_t(from, to, channels, points, done); break;
    default: interleave_uint64_t(from, to, channels, points, done); break;
    }
}
