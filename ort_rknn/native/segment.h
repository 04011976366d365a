/* One opened segment on one runtime context: set inputs, run, fetch outputs, in a single call without Python.
 *
 * Everything that does not change between inferences is said once, when the segment is made; an inference is then two
 * arrays of pointers. A segment serves one thread at a time.
 */
#ifndef ORT_RKNN_SEGMENT_H
#define ORT_RKNN_SEGMENT_H

#include <stdint.h>

#include "blocks.h"
#include "rknn_abi.h"

/* Addresses of the runtime's entry points, resolved once by Python. */
typedef struct {
    int (*inputs_set)(rknn_context, uint32_t, rknn_input *);
    int (*run)(rknn_context, rknn_run_extend *);
    int (*outputs_get)(rknn_context, uint32_t, rknn_output *, rknn_output_extend *);
    int (*outputs_release)(rknn_context, uint32_t, rknn_output *);
} ort_rknn_calls;

/* How an array goes in. With channels > 0 it is NCHW and is handed over as NHWC; with `half` it is float32 then and is
 * handed over as float16. */
typedef struct {
    uint32_t index, size, type, fmt; /* size, type: as handed over */
    uint32_t batch, channels, points, item, half; /* points = height * width, item = bytes of a given element */
} ort_rknn_input_form;

/* How an output comes out: into the caller's array, or (not wanted) in its stored type into room of our own. */
typedef struct {
    uint32_t index, size, stored_size, want_float;
} ort_rknn_output_form;

enum { ORT_RKNN_CALL_NONE, ORT_RKNN_CALL_INPUTS_SET, ORT_RKNN_CALL_RUN, ORT_RKNN_CALL_OUTPUTS_GET,
       ORT_RKNN_CALL_OUTPUTS_RELEASE };

typedef struct {
    int32_t code, call;                   /* 0, or the runtime's error and which call gave it */
    int64_t begun, set, ran, done;        /* CLOCK_MONOTONIC nanoseconds; 0 where it did not come so far */
} ort_rknn_outcome;

typedef struct ort_rknn_segment ort_rknn_segment;

/* Who lets a segment's inferences go to the driver, one after the other; see arbiter.h. */
typedef struct ort_rknn_gate {
    int64_t (*enter)(struct ort_rknn_gate *gate); /* waits: nanoseconds it waited */
    void (*leave)(struct ort_rknn_gate *gate, int64_t took);
    void (*forfeit)(struct ort_rknn_gate *gate); /* the inference hangs: others go on */
    void (*release)(struct ort_rknn_gate *gate);
    int64_t waited; /* for this inference, read by others without a lock; -1: it waits now */
} ort_rknn_gate;

/* NULL when there is no memory. Arrays are copied. */
ort_rknn_segment *ort_rknn_segment_new(const ort_rknn_calls *calls, rknn_context context, uint32_t n_inputs,
                                       const ort_rknn_input_form *inputs, uint32_t n_outputs,
                                       const ort_rknn_output_form *outputs);
void ort_rknn_segment_free(ort_rknn_segment *segment);
uint64_t ort_rknn_segment_runs(const ort_rknn_segment *segment); /* inferences so far that the runtime ended well */

/* SHORT. From now on every inference goes through this gate, which becomes the segment's own. NULL: through none. Nothing
 * runs meanwhile. */
void ort_rknn_segment_guard(ort_rknn_segment *segment, ort_rknn_gate *gate);
ort_rknn_gate *ort_rknn_segment_gate(const ort_rknn_segment *segment); /* or NULL */

/* One inference. Times do not count what it waited at its gate: it begins so much later. outputs[i] == NULL: not wanted.
 * Returns outcome->code. */
int ort_rknn_segment_run(ort_rknn_segment *segment, const void *const *inputs, void **outputs, ort_rknn_outcome *outcome);

/* What an inference reads and writes, as words: two masks, the inputs, the outputs.
 *   ORT_RKNN_TURNED  bit i: input i is as it is handed over already, where it would be turned
 *   ORT_RKNN_SPENT   bit i: input i is a block, and goes back as soon as the runtime has its data: when rknn_inputs_set
 *                    returns. The vendor's rknn-toolkit-lite2 2.3.2 builds on that, too: it keeps no reference to what it
 *                    handed over, and a garbage collection frees it before rknn_run (seen). Not seen on a board;
 *                    `ort-rknn board-test` tries it.
 * An output that is ORT_RKNN_LATE of some blocks is written to one of them, taken when the NPU is through: its address is
 * in the table then, and it is the caller's, whatever came of the inference. */
enum { ORT_RKNN_TURNED, ORT_RKNN_SPENT, ORT_RKNN_TABLE_HEAD };
#define ORT_RKNN_LATE(blocks) ((void *)((uintptr_t)(blocks) | 1))

/* The same with such a table. */
int ort_rknn_segment_infer(ort_rknn_segment *segment, void **table, ort_rknn_outcome *outcome);

/* From now on calls[ORT_RKNN_CALL_...] counts the calls of the runtime that are under way in all segments, so that
 * whoever finds the process dead knows in which it died. NULL: no more. */
void ort_rknn_black_box(uint32_t *calls);

/* Keep the context from running while it is duplicated: waits `timeout` nanoseconds for the inference under way. Whether
 * it is held now; ort_rknn_segment_let_go must follow then. */
int ort_rknn_segment_hold(ort_rknn_segment *segment, int64_t timeout);
void ort_rknn_segment_let_go(ort_rknn_segment *segment);

/* [channels][points] -> [points][channels], elements of `item` bytes. */
void ort_rknn_interleave(const void *from, void *to, uint32_t channels, uint32_t points, uint32_t item);

/* The same, float32 -> float16, rounded to nearest even. Only where ort_rknn_halves(): elsewhere it does nothing. */
void ort_rknn_interleave_half(const float *from, uint16_t *to, uint32_t channels, uint32_t points);
int ort_rknn_halves(void);

int64_t ort_rknn_now(void);

#endif
