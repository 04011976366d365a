/* Inner interface of the emulated librknnrt: the model, the arithmetic and the control board.
 *
 * The emulated runtime keeps contexts, memory and cores as the vendor's documents describe them, reads the inputs
 * and outputs from real .rknn files, and answers numbers that depend on every input byte and its place, so that a
 * stale, swapped, truncated or mis-transposed tensor is seen. tests/helpers/emulator.py holds the same arithmetic.
 */
#ifndef ORT_RKNN_EMULATOR_H
#define ORT_RKNN_EMULATOR_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "rknn_abi.h"

enum { EMU_MAX_IO = 64, EMU_MAX_SHAPES = 8, EMU_MAX_CORES = 8 };

/* An input or output in ONNX order. One row of dims for each dynamic shape set; static models have one row. */
typedef struct {
    char name[RKNN_MAX_NAME_LEN];
    uint32_t n_dims, dims[EMU_MAX_SHAPES][RKNN_MAX_DIMS];
    rknn_tensor_type type;     /* as the NPU stores it */
    rknn_tensor_format fmt;    /* as INPUT_ATTR and OUTPUT_ATTR report it */
    rknn_tensor_qnt_type qnt;
    int32_t zp;
    float scale;
    uint32_t stored[EMU_MAX_SHAPES]; /* bytes on the NPU by the file, which tell C1 of NC1HWC2; 0: not known */
    uint32_t c1[EMU_MAX_SHAPES], c2; /* of NC1HWC2 */
    char made_by[32];                /* the operator that produces an output, as the file calls it */
} emu_tensor;

typedef struct {
    atomic_int users; /* contexts that share it */
    uint32_t n_input, n_output, n_shapes;
    emu_tensor inputs[EMU_MAX_IO], outputs[EMU_MAX_IO];
    char target[32], custom[1024];
    int dynamic; /* it was compiled for sets of shapes, be it one */
    uint64_t version, salt;
    int64_t latency_us; /* 0: as the control board says */
    uint32_t weight_bytes;
    char needs[RKNN_MAX_NAME_LEN]; /* a custom operator it has, or "" */
    uint64_t identity; /* size << 32 | CRC-32 of the file; 0 when no arithmetic is lent */
} emu_model;

/* model.c, rknn_file.c: 0 or one of the RKNN_ERR codes. */
int emu_model_read(const uint8_t *data, size_t size, emu_model *model);
int emu_rknn_read(const uint8_t *data, size_t size, emu_model *model);
void emu_graph_read(const uint8_t *graph, uint64_t size, emu_model *model); /* graph.c: stored and made_by, where it says */
rknn_tensor_type emu_type_named(const char *name);

/* layout.c: sizes, strides and layouts by the vendor's rules */
void emu_lay_out(emu_model *model); /* c1 and c2 of all tensors */
int64_t emu_given_size(rknn_tensor_type type); /* of an element handed over; -1: the runtime has no size for it */
typedef enum { EMU_TAKEN, EMU_NO_TYPE, EMU_NO_LAYOUT, EMU_NO_BLOCKS, EMU_NO_SUCH_LAYOUT, EMU_CRASHES } emu_verdict;
emu_verdict emu_accepts(const emu_tensor *tensor, uint32_t shape, rknn_tensor_type type, rknn_tensor_format fmt);

/* vendor.c: the vendor's voice and its ends */
void emu_say(const char *format, ...) __attribute__((format(printf, 1, 2))); /* "E RKNN: [time] ..." and counted */
_Noreturn void emu_die(int signal, const char *why);                         /* as the vendor's runtime ends the process */
const char *emu_type_label(rknn_tensor_type type);

/* arithmetic.c */
size_t emu_type_size(rknn_tensor_type type);
uint32_t emu_elements(const emu_tensor *tensor, uint32_t shape);
typedef struct { /* bytes as somebody handed them over */
    const void *data;
    rknn_tensor_type type;
    rknn_tensor_format fmt;
    int as_stored; /* pass_through: the type and, for ranks other than 4, the order are the NPU's own */
} emu_view;
uint64_t emu_digest(const emu_tensor *tensor, uint32_t shape, emu_view view, int light);
uint64_t emu_fold(uint64_t state, uint32_t index, uint64_t digest);
void emu_answer(const emu_tensor *tensor, uint32_t shape, uint32_t index, uint64_t state, rknn_tensor_type type,
                rknn_tensor_format fmt, int light, void *out);
uint32_t emu_packed_elements(const emu_tensor *tensor, uint32_t shape, rknn_tensor_format fmt);
void emu_take(const emu_tensor *tensor, uint32_t shape, emu_view view, void *out); /* stored types, ONNX order */
void emu_hand_over(const emu_tensor *tensor, uint32_t shape, const void *values, rknn_tensor_type type,
                   rknn_tensor_format fmt, void *out); /* and back */

/* lent.c: arithmetic from outside, in the place of the made-up numbers. Arrays are in stored types and ONNX order. */
typedef struct {
    void *data;
    const char *name;
    uint32_t type, n_dims, dims[RKNN_MAX_DIMS];
    int32_t zp;
    float scale; /* 0: not quantized */
} emu_array;
/* 0: it has filled the outputs; 1: it does not know this model; anything else: the run fails. */
typedef int (*emu_arithmetic)(uint64_t model, uint32_t n_input, const emu_array *inputs, uint32_t n_output, emu_array *outputs);
void emu_lend(emu_arithmetic lent); /* NULL takes it back */
uint64_t emu_identity(const uint8_t *data, size_t size);

/* control.c: settings, faults, counters. */
typedef enum { EMU_INIT, EMU_DUP, EMU_DESTROY, EMU_QUERY, EMU_MASK, EMU_SET, EMU_RUN, EMU_GET, EMU_RELEASE, EMU_CREATE_MEM,
               EMU_DESTROY_MEM, EMU_IO_MEM, EMU_SYNC, EMU_SHAPES, EMU_BATCH, EMU_CUSTOM, EMU_CALLS } emu_call;
typedef enum { EMU_CONCURRENT, EMU_DEAD, EMU_CHANGED, EMU_BUSY_DESTROY, EMU_UNRUN, EMU_UNRELEASED,
               EMU_DEAD_MEM, EMU_BUSY_MEM, EMU_LEFT_MEM, EMU_LENT_WEIGHTS, EMU_OVERRUN, EMU_MISUSES } emu_misuse;

typedef struct {
    int cores, light, own_outputs;
    int old; /* librknnrt 1.6.0, not 2.3.2 */
    uint32_t count, short_outputs, null_memory; /* hostile: numbers of inputs and outputs, bytes missing, no addresses */
    int32_t offset;                             /* hostile: where memory is said to begin */
    int64_t latency_us, pattern[64];
    int64_t memory; /* bytes of weights there is room for; 0: no limit */
    int n_pattern;
    uint64_t max_version;
    char target[32], api[256], driver[256];
} emu_settings;

extern emu_settings emu_set;
extern atomic_llong emu_misuses[EMU_MISUSES];
extern atomic_llong emu_live_contexts, emu_live_mems, emu_dma_bytes, emu_dma_peak, emu_copied_in, emu_copied_out, emu_init_flags, emu_errors;
void emu_start(void);                 /* reads the environment once */
int emu_enter(emu_call call);         /* counts the call; 0, or the code an armed fault asks for; may hang first */
int64_t emu_next_latency(void);       /* microseconds, by the pattern */

/* cores.c */
int64_t emu_now(void); /* nanoseconds */
void emu_sleep_until(int64_t deadline);
void emu_stall(int core, int64_t us);
void emu_cores_reset(void);
long long emu_core_count(int core, int busy); /* microseconds it was busy, else the jobs it ran */
int emu_occupy(rknn_core_mask mask, int64_t latency_us); /* one inference on its core or cores; 0 or an error */

#endif
