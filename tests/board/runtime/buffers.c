#include "buffers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int can_be_set(const rknn_input *in, const struct tensor *tensor) {
    if (in->fmt != RKNN_TENSOR_NHWC && in->fmt != RKNN_TENSOR_NCHW) return 0;
    if (in->pass_through) return in->type == tensor->type && in->fmt == tensor->format;
    return in->type == RKNN_TENSOR_UINT8 || in->type == RKNN_TENSOR_FLOAT32;
}

int picture_set(struct picture *to, const rknn_input *in, const struct tensor *tensor, uint32_t shape) {
    const size_t bytes = elements_of(tensor, shape) * type_bytes(in->type);
    if (!in->buf || in->size != bytes || !can_be_set(in, tensor)) {
        fprintf(stderr, "E RKNN: input %u: %u bytes of type %d, layout %d, pass_through %d do not fit the model\n",
                in->index, in->size, in->type, in->fmt, in->pass_through);
        return RKNN_ERR_INPUT_INVALID;
    }
    uint8_t *data = realloc(to->data, bytes);
    if (!data) return RKNN_ERR_MALLOC_FAIL;
    memcpy(data, in->buf, bytes);
    *to = (struct picture){in->type, in->fmt, in->pass_through, (uint32_t)bytes, data};
    return RKNN_SUCC;
}

static int8_t quantised(const struct tensor *tensor, float value) {
    const float step = rintf(value / tensor->scale) + (float)tensor->zero_point;
    return (int8_t)fminf(127.0f, fmaxf(-128.0f, step));
}

void write_raw(const struct tensor *tensor, const float *values, size_t count, void *out) {
    for (size_t i = 0; i < count; i++) switch (tensor->type) {
            case RKNN_TENSOR_INT8: ((int8_t *)out)[i] = quantised(tensor, values[i]); break;
            case RKNN_TENSOR_INT64: ((int64_t *)out)[i] = (int64_t)values[i]; break;
            case RKNN_TENSOR_FLOAT16: ((__fp16 *)out)[i] = (__fp16)values[i]; break;
            default: ((float *)out)[i] = values[i];
        }
}
