/* The part of the RKNN runtime's C interface that rknn-toolkit-lite2 calls, written down from its public description.
 * Sizes are checked against what the library passes: a wrong field order would show there first. */
#ifndef RKFLEET_RKNN_API_H
#define RKFLEET_RKNN_API_H

#include <stdint.h>

enum { RKNN_MAX_DIMS = 16, RKNN_MAX_NAME_LEN = 256, RKNN_MAX_DYNAMIC_SHAPES = 512 };

enum {
    RKNN_SUCC = 0,
    RKNN_ERR_FAIL = -1,
    RKNN_ERR_DEVICE_UNAVAILABLE = -3,
    RKNN_ERR_MALLOC_FAIL = -4,
    RKNN_ERR_PARAM_INVALID = -5,
    RKNN_ERR_MODEL_INVALID = -6,
    RKNN_ERR_CTX_INVALID = -7,
    RKNN_ERR_INPUT_INVALID = -8,
    RKNN_ERR_TARGET_PLATFORM_UNMATCH = -13,
};

enum {
    RKNN_QUERY_IN_OUT_NUM = 0,
    RKNN_QUERY_INPUT_ATTR = 1,
    RKNN_QUERY_OUTPUT_ATTR = 2,
    RKNN_QUERY_SDK_VERSION = 5,
    RKNN_QUERY_INPUT_DYNAMIC_RANGE = 13,
    RKNN_QUERY_CURRENT_INPUT_ATTR = 14,
    RKNN_QUERY_CURRENT_OUTPUT_ATTR = 15,
};

enum {
    RKNN_TENSOR_FLOAT32 = 0,
    RKNN_TENSOR_FLOAT16 = 1,
    RKNN_TENSOR_INT8 = 2,
    RKNN_TENSOR_UINT8 = 3,
    RKNN_TENSOR_INT64 = 8,
};
enum { RKNN_TENSOR_NCHW = 0, RKNN_TENSOR_NHWC = 1 };
enum { RKNN_TENSOR_QNT_NONE = 0, RKNN_TENSOR_QNT_AFFINE_ASYMMETRIC = 2 };
enum { RKNN_NPU_CORE_AUTO = 0, RKNN_NPU_CORE_ALL = 0xffff };

typedef uint64_t rknn_context;

typedef struct {
    uint32_t n_input;
    uint32_t n_output;
} rknn_input_output_num;

typedef struct {
    uint32_t index;
    uint32_t n_dims;
    uint32_t dims[RKNN_MAX_DIMS];
    char name[RKNN_MAX_NAME_LEN];
    uint32_t n_elems;
    uint32_t size;
    int32_t fmt;
    int32_t type;
    int32_t qnt_type;
    int8_t fl;
    int32_t zp;
    float scale;
    uint32_t w_stride;
    uint32_t size_with_stride;
    uint8_t pass_through;
    uint32_t h_stride;
} rknn_tensor_attr;

typedef struct {
    uint32_t index;
    uint32_t shape_number;
    int32_t fmt;
    char name[RKNN_MAX_NAME_LEN];
    uint32_t dyn_range[RKNN_MAX_DYNAMIC_SHAPES][RKNN_MAX_DIMS];
    uint32_t n_dims;
} rknn_input_range;

typedef struct {
    char api_version[256];
    char drv_version[256];
} rknn_sdk_version;

typedef struct {
    uint32_t index;
    void *buf;
    uint32_t size;
    uint8_t pass_through;
    int32_t type;
    int32_t fmt;
} rknn_input;

typedef struct {
    uint8_t want_float;
    uint8_t is_prealloc;
    uint32_t index;
    void *buf;
    uint32_t size;
} rknn_output;

_Static_assert(sizeof(rknn_tensor_attr) == 376, "rknn_tensor_attr");
_Static_assert(sizeof(rknn_input_range) == 33040, "rknn_input_range");
_Static_assert(sizeof(rknn_sdk_version) == 512, "rknn_sdk_version");

int rknn_init(rknn_context *context, void *model, uint32_t size, uint32_t flag, void *extend);
int rknn_destroy(rknn_context context);
int rknn_query(rknn_context context, int32_t command, void *info, uint32_t size);
int rknn_set_core_mask(rknn_context context, int32_t core_mask);
int rknn_set_input_shapes(rknn_context context, uint32_t count, rknn_tensor_attr attrs[]);
int rknn_inputs_set(rknn_context context, uint32_t count, rknn_input inputs[]);
int rknn_run(rknn_context context, void *extend);
int rknn_outputs_get(rknn_context context, uint32_t count, rknn_output outputs[], void *extend);
int rknn_outputs_release(rknn_context context, uint32_t count, rknn_output outputs[]);

#endif
