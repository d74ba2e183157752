/* The model that this runtime can compute: a 1x1 convolution over the pixels, in the container of a `.rknn` file.
 *
 * The first section of the container, which only its own compiler understands, holds here (little-endian):
 *   char magic[8] "CONV1X1\0", u32 inputs, u32 shapes, u32 classes, u32 output (0 logits, 1 class map),
 *   u32 fault stage, i32 fault action, u32 fault first call, u32 fault calls, char fault text[128],
 *   char runtime version[64], char driver version[64],
 *   u32 (height, width) for each shape, f32 weight[classes][3 * inputs], f32 bias[classes].
 * logit[c] = bias[c] + sum over the inputs' bytes of weight * byte, so a test knows every answer.
 */
#ifndef RKFLEET_MODEL_H
#define RKFLEET_MODEL_H

#include <stddef.h>
#include <stdint.h>

enum { MAX_INPUTS = 4, MAX_SHAPES = 8, MAX_CLASSES = 255, TEXT_BYTES = 128, VERSION_BYTES = 64 };
enum { NEWEST_FORMAT = 6 };

/* Where a model asks this runtime to fail. */
enum stage { STAGE_NONE, STAGE_INIT, STAGE_CORE_MASK, STAGE_INPUTS, STAGE_RUN, STAGE_OUTPUTS };
/* A negative action is the code to return. */
enum { ACTION_HANG = 1, ACTION_CRASH = 2 };

struct fault {
    uint32_t stage;
    int32_t action;
    uint32_t first_call;
    uint32_t calls;
    char text[TEXT_BYTES + 1];
};

struct model {
    uint32_t inputs, shapes, classes, class_map;
    struct fault fault;
    char runtime_version[VERSION_BYTES + 1], driver_version[VERSION_BYTES + 1];
    uint32_t height[MAX_SHAPES], width[MAX_SHAPES];
    float weight[MAX_CLASSES][3 * MAX_INPUTS];
    float bias[MAX_CLASSES];
};

/* Returns 0 or the RKNN error code; the reason is then on stderr. */
int model_parse(const uint8_t *file, size_t bytes, struct model *out);

/* pixels: one (H, W, 3) uint8 picture an input. Writes (C, H, W) logits, or an (H, W) class map as float. */
void model_compute(const struct model *model, uint8_t *const pixels[], size_t pixel_count, float *out);

#endif
