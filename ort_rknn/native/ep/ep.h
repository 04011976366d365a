/* Inner interfaces of the plugin execution provider: what its files say to each other.
 *
 *   factory.c   the two exported functions, devices, whether a compiled model fits
 *   provider.c  one session's provider: which nodes it takes, what it makes of them
 *   compute.c   one inference of one segment
 *   contexts.c  the contexts a segment runs on      opening.c  how compiled code is opened
 *   timed.c     inferences with a time limit
 *   plan.c      types and layouts                    numbers.c  values of one type as values of another
 *   code.c      compiled code in EPContext nodes     json.c, sha256.c
 *   options.c   provider options                     machine.c  SoC and driver
 *   runtime.c   librknnrt and its errors
 */
#ifndef ORT_RKNN_EP_H
#define ORT_RKNN_EP_H

#include <stdatomic.h>

#include "ort_abi.h"
#include "segment.h"

#define EP_NAME "RKNNExecutionProvider"
#define EP_ALIAS "RKNPU2ExecutionProvider"
#ifndef EP_VERSION
#define EP_VERSION "0.0.0"
#endif

enum { EP_MAX_DIMS = RKNN_MAX_DIMS, EP_MAX_SCHEDULE = 64, EP_MAX_CORES = 8 };

/* Why something failed; code is an OrtErrorCode. */
typedef struct {
    int code;
    char text[1536];
} ep_failure;

int ep_fail(ep_failure *failure, OrtErrorCode code, const char *format, ...) __attribute__((format(printf, 3, 4)));
int ep_no_memory(ep_failure *failure);

/* onnxruntime as the program that registered the library has it. */
typedef struct {
    const OrtApi *api;
    const OrtEpApi *ep;
    uint32_t version; /* negotiated; stamped into every structure handed over */
} ep_ort;

OrtStatus *ep_status(const ep_ort *ort, const ep_failure *failure);
void ep_log(const ep_ort *ort, const OrtLogger *logger, OrtLoggingLevel level, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* json.c: a text that is read in place. */
typedef struct {
    const char *at, *end;
} ep_json;

ep_json ep_json_of(const char *text, size_t size);
ep_json ep_json_member(ep_json object, const char *key); /* .at == NULL: there is none */
ep_json ep_json_item(ep_json array, size_t index);
int ep_json_text(ep_json value, char *room, size_t size); /* 0, or -1: no string, or too long a one */
int ep_json_whole(ep_json value, uint64_t *number);
int ep_json_same(ep_json one, ep_json other);

/* sha256.c: hexadecimal, lower case. */
typedef struct {
    uint32_t h[8];
    uint64_t size;
    uint8_t rest[64];
} ep_sha256_state;

void ep_sha256_begin(ep_sha256_state *state);
void ep_sha256_add(ep_sha256_state *state, const void *data, size_t size);
void ep_sha256_end(ep_sha256_state *state, char digest[65]);
void ep_sha256(const void *data, size_t size, char digest[65]);

/* machine.c */
typedef struct {
    const char *name;
    uint32_t cores;
    const char *family; /* code for one SoC runs on the others of its family */
    const char *aliases[4];
} ep_target;

typedef struct {
    const ep_target *target;
    char driver[16], driver_version[32];
    char problem[640]; /* why librknnrt cannot work here, with the cure; "" when nothing speaks against it */
} ep_machine;

const ep_target *ep_find_target(const char *name);
const char *ep_targets(void); /* their names, for messages */
void ep_look(const char *root, ep_machine *machine);

/* runtime.c: an opened librknnrt; it is never unloaded. */
typedef struct ep_runtime {
    struct ep_runtime *next;
    char path[512], version[32]; /* version: as written into the file, "" when it is not known */
    atomic_int halves;           /* whether it takes float16 where ONNX has float32: 0 not asked yet, 1 yes, -1 no */
    ort_rknn_calls calls;
    int (*init)(rknn_context *, void *, uint32_t, uint32_t, rknn_init_extend *);
    int (*dup_context)(rknn_context *, rknn_context *);
    int (*destroy)(rknn_context);
    int (*query)(rknn_context, rknn_query_cmd, void *, uint32_t);
    int (*set_core_mask)(rknn_context, rknn_core_mask);
    int (*set_input_shapes)(rknn_context, uint32_t, rknn_tensor_attr *); /* NULL before 1.5 */
} ep_runtime;

const char *ep_named_runtime(void); /* by the environment, or NULL */
ep_runtime *ep_open_runtime(const char *path, ep_failure *failure); /* path NULL: the usual places */
int ep_runtime_failed(ep_failure *failure, const char *call, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* options.c */
typedef struct {
    const ep_target *target; /* NULL: the board's own */
    char *runtime_library, *folder; /* folder: of files beside a model that came as bytes; or NULL */
    uint32_t init_flags;
    int schedule[EP_MAX_SCHEDULE], n_schedule;
    int tp_mode, threads_per_core; /* tp_mode: core mask, -1 when not given; threads_per_core: 0 when not given */
    enum { EP_HINT_NONE, EP_HINT_LATENCY, EP_HINT_THROUGHPUT } hint;
    int64_t run_timeout_ms;
    bool disable_dup_context, half_inputs, writes_context;
} ep_options;

int ep_read_options(const ep_ort *ort, const OrtSessionOptions *session, ep_options *options, ep_failure *failure);
void ep_free_options(ep_options *options);
const char *ep_option_names(void);

/* code.c: the compiled code of one node. */
typedef struct {
    char *name, *path; /* segment; path NULL when it was inside */
    void *data;        /* when it was inside: room of its own, or NULL when it was let go */
    size_t size, offset;
    char target[32], toolkit[64];
} ep_code;

int ep_is_ours(const ep_ort *ort, const OrtNode *node);
/* Whether a bundle's forms are for several shapes, of which onnxruntime sees only the first. */
int ep_check_bundle(const char *table, ep_failure *failure);
int ep_read_code(const ep_ort *ort, const OrtNode *node, const char *model_path, const ep_options *options,
                 const ep_target *here, ep_code *code, ep_failure *failure);
void ep_free_code(ep_code *code);
/* Toolkit version and SoC that a .rknn names itself; "" where it does not. */
void ep_code_facts(const void *data, size_t size, char version[64], char target[64]);

/* plan.c: how ONNX tensors meet the runtime's. */
typedef struct {
    char *name;
    ONNXTensorElementDataType type;
    int64_t dims[EP_MAX_DIMS]; /* -1: open, until the code's own shape is known */
    uint32_t rank;
    uint64_t elements;
    size_t place; /* among the fused node's inputs or outputs; SIZE_MAX: nobody wants it */
} ep_tensor;

typedef struct {
    uint32_t n_inputs, n_outputs;
    ep_tensor *inputs, *outputs; /* in the node's order, which is the code's */
    ort_rknn_input_form *given;
    ort_rknn_output_form *got;
    int *given_type, *got_type; /* rknn_tensor_type to convert from ONNX's, to ONNX's; -1: handed over as it is */
    bool *got_nhwc;
    bool halves; /* whether an input is handed over as float16 instead of float32 */
} ep_plan;

int ep_make_plan(const ep_runtime *runtime, rknn_context context, ep_plan *plan, bool halves, ep_failure *failure);
int ep_describe_tensor(const ep_ort *ort, const OrtValueInfo *value, ep_tensor *tensor, ep_failure *failure);
void ep_free_plan(ep_plan *plan);
size_t ep_onnx_size(ONNXTensorElementDataType type);
const char *ep_onnx_name(ONNXTensorElementDataType type);
const char *ep_dims_text(const int64_t *dims, size_t rank, char *room, size_t size);

/* numbers.c: from ONNX types to the runtime's and back; -1 when there is no such conversion, -2 when a value does not fit. */
int ep_to_runtime(ONNXTensorElementDataType from, const void *data, int to, void *out, uint64_t elements);
int ep_from_runtime(int from, const void *data, ONNXTensorElementDataType to, void *out, uint64_t elements);
size_t ep_runtime_size(int type);
/* [batch][points][channels] -> [batch][channels][points] */
void ep_planes(const void *from, void *to, uint64_t batch, uint64_t channels, uint64_t points, size_t item);

/* contexts.c */
typedef struct ep_family ep_family; /* contexts that share weights */
typedef struct ep_segment ep_segment;
typedef struct ep_worker ep_worker;
enum { EP_TIMED_OUT = -1000 }; /* beside the runtime's codes: a call that did not come back in time */

typedef struct ep_context {
    struct ep_context *next;
    const ep_runtime *runtime;
    ep_family *family;
    rknn_context handle;
    uint32_t mask;
    int group;
    ort_rknn_segment *segment;
    ep_worker *worker;
    uint32_t n_inputs, n_outputs;
    void **converted, **raw, **kept_in, **kept_out; /* rooms, made when first needed */
    const void **ins;
    void **outs;
} ep_context;

struct ep_segment {
    const ep_ort *ort;
    const OrtLogger *logger;
    const ep_options *options;
    ep_runtime *runtime;
    ep_code code;
    ep_plan plan;
    uint32_t cores;
    struct ep_pool *pool;
};

/* opening.c */
/* The runtime's code, 0, or EP_TIMED_OUT. */
int ep_init(ep_segment *segment, rknn_context *handle);
/* The same; a call that comes back after its time tells `back`. */
int ep_duplicate(const ep_segment *segment, rknn_context root, rknn_context *handle,
                 void (*back)(const ep_runtime *, void *), void *what);
int ep_init_failed(const ep_segment *segment, int code, ep_failure *failure);
int ep_first_plan(ep_segment *segment, rknn_context handle, ep_failure *failure);

/* Makes the first context, and of it the plan. */
int ep_open_segment(ep_segment *segment, ep_failure *failure);
void ep_close_segment(ep_segment *segment);
ep_context *ep_take_context(ep_segment *segment, ep_failure *failure);
void ep_give_context(ep_segment *segment, ep_context *context);
/* After a failure: the context is not used again. */
void ep_drop_context(ep_segment *segment, ep_context *context);
/* After a time-out: the context is not counted any more; its worker closes it when what it does comes back. */
void ep_lose_context(ep_segment *segment, ep_context *context);
void ep_close_lost(ep_context *context);
void ep_close_context(ep_context *context);
void *ep_room(void **room, size_t size);
int ep_forked(void); /* how often this process was forked off since the library was loaded */

/* timed.c: 0, an error of the runtime, or EP_TIMED_OUT: then the context is lost. */
int ep_run_timed(ep_segment *segment, ep_context *context, int64_t timeout_ns, ort_rknn_outcome *outcome);
void ep_end_worker(ep_worker *worker);

/* compute.c */
OrtStatus *ep_compute(ep_segment *segment, OrtKernelContext *kernel);

/* provider.c */
OrtStatus *ep_new_provider(const ep_ort *ort, const ep_machine *machine, const OrtSessionOptions *options,
                           const OrtLogger *logger, OrtEp **provider);
void ep_free_provider(OrtEp *provider);

#endif
