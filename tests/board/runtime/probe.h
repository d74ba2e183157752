/* The model that this runtime can compute by itself: a 1x1 convolution over the pixels.
 *
 * The first section of its `.rknn` file holds (little-endian):
 *   char magic[8] "CONV1X1\0", u32 inputs, u32 shapes, u32 classes, u32 output (0 logits, 1 class map),
 *   u32 fault stage, i32 fault action, u32 fault first call, u32 fault calls, char fault text[128],
 *   char runtime version[64], char driver version[64],
 *   u32 (height, width) for each shape, f32 weight[classes][3 * inputs], f32 bias[classes].
 * logit[c] = bias[c] + sum over the inputs' bytes of weight * byte, so a test knows every answer.
 */
#ifndef RKFLEET_PROBE_H
#define RKFLEET_PROBE_H

#include <stddef.h>
#include <stdint.h>

#include "npu.h"
#include "tensors.h"

enum { MAX_CLASSES = 255 };

/* How such a model asks this runtime to fail. */
struct probe_fault {
    uint32_t stage;
    int32_t action; /* ACTION_HANG, ACTION_CRASH, or the negative code to return */
    uint32_t first_call, calls;
    char text[TEXT_BYTES + 1];
};

struct probe {
    uint32_t inputs, shapes, classes, class_map;
    struct probe_fault fault;
    uint32_t calls[STAGE_DESTROY + 1];
    char runtime_version[VERSION_BYTES + 1], driver_version[VERSION_BYTES + 1];
    uint32_t height[MAX_SHAPES], width[MAX_SHAPES];
    float weight[MAX_CLASSES][3 * MAX_INPUTS];
    float bias[MAX_CLASSES];
};

int section_is_probe(const uint8_t *section, size_t bytes);

/* Returns 0 or the RKNN error code; the reason is then on stderr. */
int probe_parse(const uint8_t *section, size_t bytes, struct probe *out);

void probe_tensors(const struct probe *probe, struct tensors *out);

/* Fails as the model asks for at this stage: returns 0 or the code, or does not return. */
int probe_obey(struct probe *probe, uint32_t stage);

/* pixels: one (H, W, 3) uint8 picture an input. Writes (C, H, W) logits, or an (H, W) class map as float. */
void probe_compute(const struct probe *probe, uint8_t *const pixels[], size_t pixel_count, float *out);

#endif
