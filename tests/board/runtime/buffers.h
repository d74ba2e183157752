/* What the caller sets and gets, between its types and layouts and ours. */
#ifndef RKFLEET_BUFFERS_H
#define RKFLEET_BUFFERS_H

#include "tensors.h"

/* One input as it was set. `bytes` 0: not set yet. */
struct picture {
    int32_t type, format;
    uint32_t pass_through, bytes;
    uint8_t *data;
};

/* Copies `in`, after a look at its size, type and layout. Returns 0 or the RKNN error code; the reason is on stderr. */
int picture_set(struct picture *to, const rknn_input *in, const struct tensor *tensor, uint32_t shape);

/* Writes `count` values in the tensor's own type: quantised where it is. */
void write_raw(const struct tensor *tensor, const float *values, size_t count, void *out);

#endif
