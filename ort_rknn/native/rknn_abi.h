/* The binary interface of librknnrt 2.x as far as this project calls it: names, values and layouts.
 *
 * The native lanes, the emulated runtime of the tests and (field by field) devices/rknnrt_abi.py agree on this file.
 * Nothing is linked against the vendor's library: Python resolves the entry points and hands their addresses over.
 * The sizes asserted at the end hold on every 64-bit Linux; 32-bit ones are not supported.
 */
#ifndef ORT_RKNN_ABI_H
#define ORT_RKNN_ABI_H

#include <stdint.h>

typedef uint64_t rknn_context;
typedef uint32_t rknn_core_mask; /* int-sized enum at the vendor's: 0 auto, bit i is core i, 0xffff all */

enum { RKNN_MAX_DIMS = 16, RKNN_MAX_NAME_LEN = 256, RKNN_MAX_DYNAMIC_SHAPE_NUM = 512 };

enum {
    RKNN_SUCC = 0,
    RKNN_ERR_FAIL = -1,
    RKNN_ERR_TIMEOUT = -2,
    RKNN_ERR_DEVICE_UNAVAILABLE = -3,
    RKNN_ERR_MALLOC_FAIL = -4,
    RKNN_ERR_PARAM_INVALID = -5,
    RKNN_ERR_MODEL_INVALID = -6,
    RKNN_ERR_CTX_INVALID = -7,
    RKNN_ERR_INPUT_INVALID = -8,
    RKNN_ERR_OUTPUT_INVALID = -9,
    RKNN_ERR_DEVICE_UNMATCH = -10,
    RKNN_ERR_INCOMPATILE_PRE_COMPILE_MODEL = -11,
    RKNN_ERR_INCOMPATILE_OPTIMIZATION_LEVEL_VERSION = -12,
    RKNN_ERR_TARGET_PLATFORM_UNMATCH = -13
};

/* Flags of rknn_init that this project or its tests name. */
enum {
    RKNN_FLAG_PRIOR_MEDIUM = 0x1,
    RKNN_FLAG_PRIOR_LOW = 0x2,
    RKNN_FLAG_ASYNC_MASK = 0x4,
    RKNN_FLAG_COLLECT_PERF_MASK = 0x8,
    RKNN_FLAG_SHARE_WEIGHT_MEM = 0x20,
    RKNN_FLAG_ENABLE_SRAM = 0x800
};

typedef enum {
    RKNN_QUERY_IN_OUT_NUM,
    RKNN_QUERY_INPUT_ATTR,
    RKNN_QUERY_OUTPUT_ATTR,
    RKNN_QUERY_PERF_DETAIL,
    RKNN_QUERY_PERF_RUN,
    RKNN_QUERY_SDK_VERSION,
    RKNN_QUERY_MEM_SIZE,
    RKNN_QUERY_CUSTOM_STRING,
    RKNN_QUERY_NATIVE_INPUT_ATTR,
    RKNN_QUERY_NATIVE_OUTPUT_ATTR,
    RKNN_QUERY_NATIVE_NHWC_INPUT_ATTR,
    RKNN_QUERY_NATIVE_NHWC_OUTPUT_ATTR,
    RKNN_QUERY_DEVICE_MEM_INFO,
    RKNN_QUERY_INPUT_DYNAMIC_RANGE,
    RKNN_QUERY_CURRENT_INPUT_ATTR,
    RKNN_QUERY_CURRENT_OUTPUT_ATTR,
    RKNN_QUERY_CURRENT_NATIVE_INPUT_ATTR,
    RKNN_QUERY_CURRENT_NATIVE_OUTPUT_ATTR
} rknn_query_cmd;

typedef enum {
    RKNN_TENSOR_FLOAT32,
    RKNN_TENSOR_FLOAT16,
    RKNN_TENSOR_INT8,
    RKNN_TENSOR_UINT8,
    RKNN_TENSOR_INT16,
    RKNN_TENSOR_UINT16,
    RKNN_TENSOR_INT32,
    RKNN_TENSOR_UINT32,
    RKNN_TENSOR_INT64,
    RKNN_TENSOR_BOOL,
    RKNN_TENSOR_INT4,
    RKNN_TENSOR_BFLOAT16,
    RKNN_TENSOR_TYPE_MAX
} rknn_tensor_type;

typedef enum { RKNN_TENSOR_QNT_NONE, RKNN_TENSOR_QNT_DFP, RKNN_TENSOR_QNT_AFFINE_ASYMMETRIC } rknn_tensor_qnt_type;
typedef enum { RKNN_TENSOR_NCHW, RKNN_TENSOR_NHWC, RKNN_TENSOR_NC1HWC2, RKNN_TENSOR_UNDEFINED } rknn_tensor_format;
typedef enum { RKNN_MEMORY_SYNC_TO_DEVICE = 1, RKNN_MEMORY_SYNC_FROM_DEVICE = 2 } rknn_mem_sync_mode;

typedef struct {
    uint32_t n_input, n_output;
} rknn_input_output_num;

typedef struct {
    uint32_t index, n_dims, dims[RKNN_MAX_DIMS];
    char name[RKNN_MAX_NAME_LEN];
    uint32_t n_elems, size;
    rknn_tensor_format fmt;
    rknn_tensor_type type;
    rknn_tensor_qnt_type qnt_type;
    int8_t fl;
    int32_t zp;
    float scale;
    uint32_t w_stride, size_with_stride;
    uint8_t pass_through;
    uint32_t h_stride;
} rknn_tensor_attr;

typedef struct {
    uint32_t index, shape_number;
    rknn_tensor_format fmt;
    char name[RKNN_MAX_NAME_LEN];
    uint32_t dyn_range[RKNN_MAX_DYNAMIC_SHAPE_NUM][RKNN_MAX_DIMS], n_dims;
} rknn_input_range;

typedef struct {
    char *perf_data;
    uint64_t data_len;
} rknn_perf_detail;

typedef struct {
    int64_t run_duration; /* microseconds */
} rknn_perf_run;

typedef struct {
    char api_version[256], drv_version[256];
} rknn_sdk_version;

typedef struct {
    uint32_t total_weight_size, total_internal_size;
    uint64_t total_dma_allocated_size;
    uint32_t total_sram_size, free_sram_size, reserved[10];
} rknn_mem_size;

typedef struct {
    char string[1024];
} rknn_custom_string;

typedef struct {
    void *virt_addr;
    uint64_t phys_addr;
    int32_t fd, offset;
    uint32_t size, flags;
    void *priv_data;
} rknn_tensor_mem;

typedef struct {
    uint32_t index;
    void *buf;
    uint32_t size;
    uint8_t pass_through;
    rknn_tensor_type type;
    rknn_tensor_format fmt;
} rknn_input;

typedef struct {
    uint8_t want_float, is_prealloc;
    uint32_t index;
    void *buf;
    uint32_t size;
} rknn_output;

typedef struct {
    rknn_context ctx; /* whose weights are shared under RKNN_FLAG_SHARE_WEIGHT_MEM */
    int32_t real_model_offset;
    uint32_t real_model_size;
    int32_t model_buffer_fd;
    uint32_t model_buffer_flags;
    uint8_t reserved[112];
} rknn_init_extend;

typedef struct {
    uint64_t frame_id;
    int32_t non_block, timeout_ms, fence_fd;
} rknn_run_extend;

typedef struct {
    uint64_t frame_id;
} rknn_output_extend;

#define ORT_RKNN_SAME_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), "layout of " #type)
ORT_RKNN_SAME_SIZE(rknn_input_output_num, 8);
ORT_RKNN_SAME_SIZE(rknn_tensor_attr, 376);
ORT_RKNN_SAME_SIZE(rknn_input_range, 33040);
ORT_RKNN_SAME_SIZE(rknn_perf_detail, 16);
ORT_RKNN_SAME_SIZE(rknn_perf_run, 8);
ORT_RKNN_SAME_SIZE(rknn_sdk_version, 512);
ORT_RKNN_SAME_SIZE(rknn_mem_size, 64);
ORT_RKNN_SAME_SIZE(rknn_custom_string, 1024);
ORT_RKNN_SAME_SIZE(rknn_tensor_mem, 40);
ORT_RKNN_SAME_SIZE(rknn_input, 32);
ORT_RKNN_SAME_SIZE(rknn_output, 24);
ORT_RKNN_SAME_SIZE(rknn_init_extend, 136);
ORT_RKNN_SAME_SIZE(rknn_run_extend, 24);
ORT_RKNN_SAME_SIZE(rknn_output_extend, 8);

#endif
