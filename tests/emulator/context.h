/* One context of the emulated runtime, shared by rknnrt.c, query.c and memory.c. */
#ifndef ORT_RKNN_EMULATOR_CONTEXT_H
#define ORT_RKNN_EMULATOR_CONTEXT_H

#include "emulator.h"

typedef struct {
    void *data; /* the runtime's own copy of what rknn_inputs_set was given */
    uint32_t room;
    emu_view view;
    rknn_tensor_mem *mem; /* or the memory bound by rknn_set_io_mem */
    const rknn_tensor_mem *last; /* bound last, also when rknn_inputs_set came after it */
    int bound, gone;             /* bound to memory once; that was destroyed since */
} held;

typedef struct {
    uint64_t handle;
    emu_model *model;
    uint32_t flag, shape, shape_before;
    int shaped; /* rknn_set_input_shapes was called */
    uint64_t lender; /* whose weights it shares by RKNN_FLAG_SHARE_WEIGHT_MEM */
    rknn_core_mask mask;
    atomic_int busy;
    int fresh, unreleased, ran;
    void *given[4 * EMU_MAX_IO]; /* buffers of rknn_outputs_get that were not released */
    uint64_t state, frame;
    held inputs[EMU_MAX_IO], outputs[EMU_MAX_IO];
    void *answers[EMU_MAX_IO]; /* of lent arithmetic */
    int lent;                  /* whether the last run's answers are those */
    char report[512], custom_op[RKNN_MAX_NAME_LEN]; /* the last operator it was told of */
} context;

context *emu_peek(rknn_context handle); /* NULL and a count of misuse when there is none: not seen at the vendor's */
context *emu_find(rknn_context handle); /* NULL for 0; a context that was destroyed ends the process */
void emu_need_shapes(const context *c);  /* a dynamic model before rknn_set_input_shapes ends the process */
int emu_mem_alive(const rknn_tensor_mem *mem); /* 0 and a count of misuse when it was freed */
int emu_mems_of(uint64_t owner); /* memory of a context that is alive */
int emu_hold(context *c);
void emu_let_go(context *c, int mine);
int emu_compute(context *c); /* lent.c: by lent arithmetic, if there is any; 0 or an RKNN_ERR code */
void emu_describe(const emu_model *model, const emu_tensor *tensor, uint32_t index, uint32_t shape, rknn_tensor_format fmt,
                  rknn_tensor_attr *out);
uint32_t emu_stride_size(const emu_tensor *tensor, uint32_t shape); /* of OUTPUT_ATTR */
int emu_bool_is_strange(const emu_tensor *tensor); /* a BOOL output for a runtime that does not know the type */

#endif
