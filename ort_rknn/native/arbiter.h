/* One arbiter for a device: which inference goes to the driver next, among all sessions of a process.
 *
 * The driver keeps one first-in-first-out queue a core, never interrupts a job and reads no priorities. So whoever shall go
 * first must be let go first: an inference takes tokens before rknn_run and gives them back after it. There are
 *
 *   two a core    while all who work are of one class: the driver's queue hides the turn-around between two jobs; one a core
 *                 when they are very long and of several sessions: a turn-around is nothing then;
 *   one a core    while classes are mixed, so that a core that is through is free for the highest class that waits, and one
 *                 more while all jobs are short (ORT_RKNN_SHORT);
 *   minus those reserved, for classes below `high`.
 *
 * Among those that wait the highest class goes first, then the session with the fewest tokens, then the longest waiting; each ORT_RKNN_AGE raises by a class, so that
 * nobody starves. A token held for longer than ORT_RKNN_LEASE is lent to others: its holder hangs.
 *
 * With a key the tokens are System V semaphores that all processes of an IPC namespace share; the kernel gives back those
 * of a process that was killed (SEM_UNDO). */
#ifndef ORT_RKNN_ARBITER_H
#define ORT_RKNN_ARBITER_H

#include "segment.h"

enum { ORT_RKNN_HIGH, ORT_RKNN_NORMAL, ORT_RKNN_LOW, ORT_RKNN_CLASSES };

#define ORT_RKNN_SHORT 2000000LL     /* nanoseconds; a guess: who waits behind such a job hardly notices */
#define ORT_RKNN_VERY_LONG 8000000LL
#define ORT_RKNN_AGE 500000000LL     /* a guess */
#define ORT_RKNN_RECENT 10000000000LL /* classes are mixed for so long after a job of another; a guess */
#define ORT_RKNN_LEASE 6000000000LL  /* the driver gives a job up after 6 s */

typedef struct ort_rknn_arbiter ort_rknn_arbiter;

/* Never freed: one for each device of a process. key: of the semaphores; 0: of this process alone. NULL when there is no
 * memory, or there are no such semaphores. */
ort_rknn_arbiter *ort_rknn_arbiter_new(uint32_t cores, int key);
/* SHORT. So many cores more (or fewer) are kept for class `high`; one always stays for the others. */
void ort_rknn_arbiter_reserve(ort_rknn_arbiter *arbiter, int more);

/* A gate for one segment, or for one thread of any other kind. party: a small number of the session; weight: cores that
 * one inference takes. */
ort_rknn_gate *ort_rknn_arbiter_gate(ort_rknn_arbiter *arbiter, uint32_t party, int class, uint32_t weight);
int ort_rknn_gate_try(ort_rknn_gate *gate);                 /* SHORT: whether it went through without waiting */
int64_t ort_rknn_gate_enter(ort_rknn_gate *gate);           /* waits; nanoseconds waited */
void ort_rknn_gate_leave(ort_rknn_gate *gate, int64_t took); /* SHORT */
void ort_rknn_gate_forfeit(ort_rknn_gate *gate);              /* SHORT: the inference hangs, others go on */
void ort_rknn_gate_free(ort_rknn_gate *gate);                /* SHORT */

/* Tokens taken now; shared ones those of all processes. For tests. */
int ort_rknn_arbiter_taken(ort_rknn_arbiter *arbiter);

#endif
