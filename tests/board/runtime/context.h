/* One loaded model, and what belongs to it. */
#ifndef RKFLEET_CONTEXT_H
#define RKFLEET_CONTEXT_H

#include "buffers.h"
#include "npu.h"
#include "probe.h"
#include "tensors.h"

struct context {
    struct tensors io;
    struct board board;
    struct npu npu;
    struct probe *probe; /* NULL where the helper computes */
    uint32_t shape, core_mask;
    struct picture picture[MAX_INPUTS];
    float *answer; /* of all outputs, one after the other; NULL before the first run */
    void *raw[MAX_OUTPUTS];
};

/* Fails as the model or the board asks for at this stage: returns 0 or the code, or does not return. */
int context_obey(struct context *of, uint32_t stage);

/* Reads the file into an empty context. Returns 0 or the RKNN error code; the reason is then on stderr. */
int context_load(struct context *of, void *file, size_t bytes);

/* Runs on the pictures that were set. Returns 0 or the RKNN error code; the answer stands only after 0. */
int context_run(struct context *of);

/* Frees all. */
void context_free(struct context *of);

#endif
