/* What goes into a model and comes out of it. Laid out as it comes from the helper process, so without padding. */
#ifndef RKFLEET_TENSORS_H
#define RKFLEET_TENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "rknn_api.h"

enum { MAX_INPUTS = 4, MAX_OUTPUTS = 4, MAX_SHAPES = 8, TENSOR_NAME_BYTES = 64, TENSOR_DIMS = 4 };

struct tensor {
    char name[TENSOR_NAME_BYTES];
    int32_t type, format, zero_point;
    float scale;                             /* 0 where the tensor is not quantised */
    uint32_t dims[MAX_SHAPES][TENSOR_DIMS]; /* in the order of `format` */
};

struct tensors {
    uint32_t inputs, outputs, shapes;
    struct tensor input[MAX_INPUTS], output[MAX_OUTPUTS];
};

_Static_assert(sizeof(struct tensor) == 208, "struct tensor");
_Static_assert(sizeof(struct tensors) == 12 + 8 * 208, "struct tensors");

/* Bytes of one element, 0 for a type that no tensor here has. */
size_t type_bytes(int32_t type);
size_t elements_of(const struct tensor *tensor, uint32_t shape);

/* Whether counts, types and sizes can be worked with. */
int tensors_are_sound(const struct tensors *io);

int describe_tensor(const struct tensor *tensor, uint32_t shape, rknn_tensor_attr *attr);
int describe_range(const struct tensors *io, rknn_input_range *range);

#endif
