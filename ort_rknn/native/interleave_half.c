/* [channels][points] of float32 -> [points][channels] of float16: what the NPU would keep anyway, in half the bytes. */
#include <stddef.h>
#include <string.h>

#include "segment.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#define HALVES
static inline uint16x8_t eight(const float *from) {
    float16x4_t low = vcvt_f16_f32(vld1q_f32(from)), high = vcvt_f16_f32(vld1q_f32(from + 4));
    return vreinterpretq_u16_f16(vcombine_f16(low, high));
}

static void to_halves(const float *from, uint16_t *to) { vst1q_u16(to, eight(from)); }

static uint32_t quick(const float *from, uint16_t *to, uint32_t channels, uint32_t points) {
    uint32_t p = 0;
    if (channels == 3)
        for (; points - p >= 8; p += 8) {
            uint16x8x3_t v;
            for (uint32_t c = 0; c < 3; c++) v.val[c] = eight(from + (size_t)c * points + p);
            vst3q_u16(to + (size_t)3 * p, v);
        }
    else if (channels == 4)
        for (; points - p >= 8; p += 8) {
            uint16x8x4_t v;
            for (uint32_t c = 0; c < 4; c++) v.val[c] = eight(from + (size_t)c * points + p);
            vst4q_u16(to + (size_t)4 * p, v);
        }
    return p;
}

int ort_rknn_halves(void) { return 1; }
#elif defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#define HALVES
#define QUICK __attribute__((target("avx2,f16c")))
QUICK static inline __m128i eight(const float *from) { return _mm256_cvtps_ph(_mm256_loadu_ps(from), _MM_FROUND_TO_NEAREST_INT); }

QUICK static void to_halves(const float *from, uint16_t *to) { _mm_storeu_si128((__m128i *)to, eight(from)); }

/* Large rooms are in no cache when they are written, and a store that waits for its line holds up all behind it: lines are
 * asked for so many halves ahead. 640 x 640 points take 10 % less with it; 224 x 224, in a cache, would take 5 % more
 * (measured). NEON's loops go without: what it does to a board's cores was not seen. */
enum { LARGE = 1 << 20, AHEAD = 4096 };

/* Each plane is put in such an order that place j of register k, if it is that plane's, holds its point (8 k + j) / 3. */
QUICK __attribute__((always_inline)) static inline uint32_t turn(const float *from, uint16_t *to, uint32_t points,
                                                                 const int large) {
    __m128i order[3];
    for (int c = 0; c < 3; c++) {
        uint8_t which[16];
        for (int j = 0; j < 8; j++) {
            int k = 2 * (c + 9 - j) % 3; /* the one with (8 k + j) % 3 == c */
            which[2 * j] = (uint8_t)((8 * k + j) / 3 * 2);
            which[2 * j + 1] = (uint8_t)(which[2 * j] + 1);
        }
        order[c] = _mm_loadu_si128((const __m128i *)which);
    }
    uint32_t p = 0;
    for (; points - p >= 8; p += 8, to += 24) {
        if (large) __builtin_prefetch(to + AHEAD, 1);
        __m128i a = _mm_shuffle_epi8(eight(from + p), order[0]);
        __m128i b = _mm_shuffle_epi8(eight(from + (size_t)points + p), order[1]);
        __m128i c = _mm_shuffle_epi8(eight(from + (size_t)2 * points + p), order[2]);
        /* bit j: place j is b's, or c's */
        _mm_storeu_si128((__m128i *)to, _mm_blend_epi16(_mm_blend_epi16(a, b, 0x92), c, 0x24));
        _mm_storeu_si128((__m128i *)(to + 8), _mm_blend_epi16(_mm_blend_epi16(a, b, 0x24), c, 0x49));
        _mm_storeu_si128((__m128i *)(to + 16), _mm_blend_epi16(_mm_blend_epi16(a, b, 0x49), c, 0x92));
    }
    return p;
}

QUICK static uint32_t three(const float *from, uint16_t *to, uint32_t points) {
    return (size_t)points * 3 * sizeof *to < LARGE ? turn(from, to, points, 0) : turn(from, to, points, 1);
}

QUICK static uint32_t four(const float *from, uint16_t *to, uint32_t points) {
    uint32_t p = 0;
    for (; points - p >= 8; p += 8, to += 32) {
        __m128i a = eight(from + p), b = eight(from + (size_t)points + p);
        __m128i c = eight(from + (size_t)2 * points + p), d = eight(from + (size_t)3 * points + p);
        __m128i ab = _mm_unpacklo_epi16(a, b), cd = _mm_unpacklo_epi16(c, d);
        _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi32(ab, cd));
        _mm_storeu_si128((__m128i *)(to + 8), _mm_unpackhi_epi32(ab, cd));
        ab = _mm_unpackhi_epi16(a, b), cd = _mm_unpackhi_epi16(c, d);
        _mm_storeu_si128((__m128i *)(to + 16), _mm_unpacklo_epi32(ab, cd));
        _mm_storeu_si128((__m128i *)(to + 24), _mm_unpackhi_epi32(ab, cd));
    }
    return p;
}

static uint32_t quick(const float *from, uint16_t *to, uint32_t channels, uint32_t points) {
    return channels == 3 ? three(from, to, points) : channels == 4 ? four(from, to, points) : 0;
}

int ort_rknn_halves(void) {
    unsigned a, b, c = 0, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d) && c >> 29 & 1; /* F16C */
}
#endif

#ifdef HALVES
void ort_rknn_interleave_half(const float *from, uint16_t *to, uint32_t channels, uint32_t points) {
    enum { POINTS = 8, PLANES = 16 }; /* in tiles, as interleave.c */
    for (uint32_t p = quick(from, to, channels, points); p < points; p += POINTS) {
        uint32_t n = points - p < POINTS ? points - p : POINTS;
        for (uint32_t c0 = 0; c0 < channels; c0 += PLANES) {
            uint32_t planes = channels - c0 < PLANES ? channels - c0 : PLANES;
            uint16_t tile[PLANES][POINTS];
            for (uint32_t c = 0; c < planes; c++) {
                const float *plane = from + (size_t)(c0 + c) * points + p;
                float last[POINTS] = {0};
                if (n < POINTS) plane = memcpy(last, plane, n * sizeof *last);
                to_halves(plane, tile[c]);
            }
            for (uint32_t i = 0; i < n; i++)
                for (uint32_t c = 0; c < planes; c++) to[(size_t)(p + i) * channels + c0 + c] = tile[c][i];
        }
        if (n < POINTS) break; /* p must not wrap */
    }
}
#else
int ort_rknn_halves(void) { return 0; }
void ort_rknn_interleave_half(const float *from, uint16_t *to, uint32_t channels, uint32_t points) {
    (void)from, (void)to, (void)channels, (void)points;
}
#endif
