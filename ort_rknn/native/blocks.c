#include "blocks.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { HEAD = 64, HUGE = 2 << 20 };

typedef struct {
    ort_rknn_blocks *home;
    int lent;
} head; /* HEAD bytes before what is lent */

/* Whoever gives fills the first gap, and whoever takes takes the first there is: the same few go round, the others rest. */
struct ort_rknn_blocks {
    uint64_t size;
    uint32_t users, n; /* the owner, and each block that is lent */
    int closed;
    head *kept[];
};

ort_rknn_blocks *ort_rknn_blocks_new(uint64_t size, uint32_t kept) {
    ort_rknn_blocks *b = calloc(1, sizeof *b + kept * sizeof *b->kept);
    if (b) *b = (ort_rknn_blocks){.size = size, .users = 1, .n = kept};
    return b;
}

static head *kept_in(ort_rknn_blocks *b, uint32_t i) {
    return __atomic_load_n(&b->kept[i], __ATOMIC_RELAXED) ? __atomic_exchange_n(&b->kept[i], NULL, __ATOMIC_ACQ_REL) : NULL;
}

static void free_kept(ort_rknn_blocks *b) {
    for (uint32_t i = 0; i < b->n; i++) free(kept_in(b, i));
}

static void let_go(ort_rknn_blocks *b) {
    if (__atomic_sub_fetch(&b->users, 1, __ATOMIC_ACQ_REL)) return;
    free_kept(b); /* one that came back while it was closed */
    free(b);
}

static head *fresh(ort_rknn_blocks *b) {
    void *memory = NULL;
    size_t room = HEAD + b->size;
    if (posix_memalign(&memory, room < HUGE ? HEAD : HUGE, room)) return NULL;
    /* Fewer, larger pages: a megabyte is 256 of the small, more than a core remembers the places of. Refused: no harm. */
    if (room >= HUGE) (void)madvise(memory, room, MADV_HUGEPAGE);
    *(head *)memory = (head){.home = b};
    return memory;
}

void *ort_rknn_blocks_take(ort_rknn_blocks *b) {
    head *h = NULL;
    for (uint32_t i = 0; i < b->n && !h; i++) h = kept_in(b, i);
    if (!h && !(h = fresh(b))) return NULL;
    __atomic_add_fetch(&b->users, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&h->lent, 1, __ATOMIC_RELEASE);
    return (char *)h + HEAD;
}

void ort_rknn_blocks_give(void *block) {
    head *h = (head *)(void *)((char *)block - HEAD);
    if (!__atomic_exchange_n(&h->lent, 0, __ATOMIC_ACQ_REL)) return;
    ort_rknn_blocks *b = h->home;
    int kept = 0;
    for (uint32_t i = 0; !kept && i < b->n && !__atomic_load_n(&b->closed, __ATOMIC_ACQUIRE); i++) {
        head *gap = NULL;
        kept = __atomic_compare_exchange_n(&b->kept[i], &gap, h, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    if (!kept) free(h);
    let_go(b);
}

void ort_rknn_blocks_close(ort_rknn_blocks *b) {
    __atomic_store_n(&b->closed, 1, __ATOMIC_RELEASE);
    free_kept(b);
    let_go(b);
}
