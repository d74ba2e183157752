#include "tensors.h"

#include <stdio.h>
#include <string.h>

enum { LARGEST_SIDE = 8192 };

size_t type_bytes(int32_t type) {
    switch (type) {
        case RKNN_TENSOR_FLOAT32: return 4;
        case RKNN_TENSOR_FLOAT16: return 2;
        case RKNN_TENSOR_INT8:
        case RKNN_TENSOR_UINT8: return 1;
        case RKNN_TENSOR_INT64: return 8;
        default: return 0;
    }
}

size_t elements_of(const struct tensor *tensor, uint32_t shape) {
    size_t count = 1;
    for (int i = 0; i < TENSOR_DIMS; i++) count *= tensor->dims[shape][i];
    return count;
}

static int tensor_is_sound(const struct tensor *tensor, uint32_t shapes) {
    if (!type_bytes(tensor->type) || memchr(tensor->name, 0, sizeof tensor->name) == NULL) return 0;
    for (uint32_t shape = 0; shape < shapes; shape++)
        for (int i = 0; i < TENSOR_DIMS; i++)
            if (!tensor->dims[shape][i] || tensor->dims[shape][i] > LARGEST_SIDE) return 0;
    return 1;
}

int tensors_are_sound(const struct tensors *io) {
    if (!io->inputs || io->inputs > MAX_INPUTS || !io->outputs || io->outputs > MAX_OUTPUTS || !io->shapes ||
        io->shapes > MAX_SHAPES)
        return 0;
    for (uint32_t i = 0; i < io->inputs; i++)
        if (!tensor_is_sound(&io->input[i], io->shapes)) return 0;
    for (uint32_t i = 0; i < io->outputs; i++)
        if (!tensor_is_sound(&io->output[i], io->shapes)) return 0;
    return 1;
}

int describe_tensor(const struct tensor *tensor, uint32_t shape, rknn_tensor_attr *attr) {
    const uint32_t index = attr->index;
    *attr = (rknn_tensor_attr){.index = index, .n_dims = TENSOR_DIMS, .fmt = tensor->format, .type = tensor->type};
    memcpy(attr->dims, tensor->dims[shape], sizeof tensor->dims[shape]);
    attr->n_elems = (uint32_t)elements_of(tensor, shape);
    attr->size = attr->size_with_stride = attr->n_elems * (uint32_t)type_bytes(tensor->type);
    attr->qnt_type = tensor->scale > 0 ? RKNN_TENSOR_QNT_AFFINE_ASYMMETRIC : RKNN_TENSOR_QNT_NONE;
    attr->zp = tensor->zero_point;
    attr->scale = tensor->scale > 0 ? tensor->scale : 1.0f;
    snprintf(attr->name, sizeof attr->name, "%s", tensor->name);
    return RKNN_SUCC;
}

int describe_range(const struct tensors *io, rknn_input_range *range) {
    if (io->shapes < 2 || range->index >= io->inputs) return RKNN_ERR_PARAM_INVALID;
    const struct tensor *input = &io->input[range->index];
    range->shape_number = io->shapes;
    range->fmt = input->format;
    range->n_dims = TENSOR_DIMS;
    snprintf(range->name, sizeof range->name, "%s", input->name);
    for (uint32_t i = 0; i < io->shapes; i++) memcpy(range->dyn_range[i], input->dims[i], sizeof input->dims[i]);
    return RKNN_SUCC;
}
