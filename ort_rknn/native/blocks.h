/* Memory of one size that is used again: fresh pages cost more than what is written to them, and what was used a moment
 * ago may still be in a cache.
 *
 * No function waits for anything, and none takes a lock: any thread may call, in a child of fork() as well.
 */
#ifndef ORT_RKNN_BLOCKS_H
#define ORT_RKNN_BLOCKS_H

#include <stdint.h>

typedef struct ort_rknn_blocks ort_rknn_blocks;

/* Blocks of `size` bytes; `kept` at most stay when nobody uses them. NULL: no memory. */
ort_rknn_blocks *ort_rknn_blocks_new(uint64_t size, uint32_t kept);

/* A block, aligned to 64 bytes, with whatever was in it before. NULL: no memory. */
void *ort_rknn_blocks_take(ort_rknn_blocks *blocks);

/* A block goes back to where it was taken, even after ort_rknn_blocks_close. The second time in a row nothing happens. */
void ort_rknn_blocks_give(void *block);

/* Nobody takes any more; the rest is freed, and what is lent when it comes back. */
void ort_rknn_blocks_close(ort_rknn_blocks *blocks);

#endif
