/* SHA-256 (FIPS 180-4), with the processor's own instructions on ARM where it has them: compiled code has hundreds of megabytes. */
#include <stdio.h>
#include <string.h>

#include "ep.h"

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t turned(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void plain(uint32_t h[8], const uint8_t *at, size_t blocks) {
    for (; blocks; blocks--, at += 64) {
        uint32_t w[64], v[8];
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)at[4 * i] << 24 | (uint32_t)at[4 * i + 1] << 16 | (uint32_t)at[4 * i + 2] << 8 |
                   at[4 * i + 3];
        for (int i = 16; i < 64; i++) {
            uint32_t s0 = turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ w[i - 15] >> 3;
            uint32_t s1 = turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ w[i - 2] >> 10;
            w[i] = w[i - 16] + s0 + w[i - 7] + s1;
        }
        memcpy(v, h, sizeof v);
        for (int i = 0; i < 64; i++) {
            uint32_t e = turned(v[4], 6) ^ turned(v[4], 11) ^ turned(v[4], 25);
            uint32_t a = turned(v[0], 2) ^ turned(v[0], 13) ^ turned(v[0], 22);
            uint32_t t1 = v[7] + e + ((v[4] & v[5]) ^ (~v[4] & v[6])) + K[i] + w[i];
            uint32_t t2 = a + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            memmove(v + 1, v, 7 * sizeof *v);
            v[4] += t1;
            v[0] = t1 + t2;
        }
        for (int i = 0; i < 8; i++) h[i] += v[i];
    }
}

#if defined(__aarch64__) && defined(__GNUC__)
#include <arm_neon.h>
#include <sys/auxv.h>
#ifndef HWCAP_SHA2
#define HWCAP_SHA2 (1 << 6)
#endif
__attribute__((target("+crypto"))) static void quick(uint32_t h[8], const uint8_t *at, size_t blocks) {
    uint32x4_t a = vld1q_u32(h), b = vld1q_u32(h + 4);
    for (; blocks; blocks--, at += 64) {
        uint32x4_t w[4], a0 = a, b0 = b;
        for (int i = 0; i < 4; i++) w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(at + 16 * i)));
        for (int i = 0; i < 16; i++) {
            uint32x4_t k = vaddq_u32(w[i & 3], vld1q_u32(K + 4 * i)), before = a;
            if (i < 12)
                w[i & 3] = vsha256su1q_u32(vsha256su0q_u32(w[i & 3], w[(i + 1) & 3]), w[(i + 2) & 3], w[(i + 3) & 3]);
            a = vsha256hq_u32(a, b, k);
            b = vsha256h2q_u32(b, before, k);
        }
        a = vaddq_u32(a, a0);
        b = vaddq_u32(b, b0);
    }
    vst1q_u32(h, a);
    vst1q_u32(h + 4, b);
}

static void digest_blocks(uint32_t h[8], const uint8_t *at, size_t blocks) {
    (getauxval(AT_HWCAP) & HWCAP_SHA2 ? quick : plain)(h, at, blocks);
}
#else
static void digest_blocks(uint32_t h[8], const uint8_t *at, size_t blocks) { plain(h, at, blocks); }
#endif

void ep_sha256_begin(ep_sha256_state *s) {
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->h, start, sizeof start);
    s->size = 0;
}

void ep_sha256_add(ep_sha256_state *s, const void *data, size_t size) {
    const uint8_t *at = data;
    size_t held = s->size % 64, room = held ? 64 - held : 0, n = room < size ? room : size;
    if (n) memcpy(s->rest + held, at, n);
    s->size += size;
    at += n;
    size -= n;
    if (room && n == room) digest_blocks(s->h, s->rest, 1);
    if (!size) return;
    digest_blocks(s->h, at, size / 64);
    memcpy(s->rest, at + size / 64 * 64, size % 64);
}

void ep_sha256_end(ep_sha256_state *s, char digest[65]) {
    uint8_t last[128] = {0};
    size_t left = s->size % 64, room = left < 56 ? 64 : 128;
    memcpy(last, s->rest, left);
    last[left] = 0x80;
    for (int i = 0; i < 8; i++) last[room - 1 - (size_t)i] = (uint8_t)(s->size * 8 >> 8 * i);
    digest_blocks(s->h, last, room / 64);
    for (int i = 0; i < 8; i++) snprintf(digest + 8 * i, 9, "%08x", s->h[i]);
}

void ep_sha256(const void *data, size_t size, char digest[65]) {
    ep_sha256_state s;
    ep_sha256_begin(&s);
    ep_sha256_add(&s, data, size);
    ep_sha256_end(&s, digest);
}
