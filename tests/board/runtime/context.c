#include "context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chip.h"
#include "container.h"

int context_obey(struct context *of, uint32_t stage) {
    const int code = of->probe ? probe_obey(of->probe, stage) : 0;
    return code ? code : npu_obey(&of->npu, stage);
}

void context_free(struct context *of) {
    for (int i = 0; i < MAX_INPUTS; i++) free(of->picture[i].data);
    for (int i = 0; i < MAX_OUTPUTS; i++) free(of->raw[i]);
    free(of->answer);
    free(of->probe);
    npu_close(&of->npu);
    free(of);
}

static int load_probe(struct context *of, const struct section *section) {
    of->probe = calloc(1, sizeof *of->probe);
    if (!of->probe) return RKNN_ERR_MALLOC_FAIL;
    const int code = probe_parse(section->at, section->bytes, of->probe);
    if (code) return code;
    probe_tensors(of->probe, &of->io);
    memcpy(of->board.runtime_version, of->probe->runtime_version, VERSION_BYTES);
    memcpy(of->board.driver_version, of->probe->driver_version, VERSION_BYTES);
    return context_obey(of, STAGE_INIT);
}

static int load_by_helper(struct context *of, void *file, size_t bytes) {
    if (of->npu.fd < 0) {
        fprintf(stderr, "E RKNN: only a helper process can compute this model: RKFLEET_NPU_SOCKET names none\n");
        return RKNN_ERR_MODEL_INVALID;
    }
    const struct iovec model = {file, bytes};
    return npu_ask(&of->npu, STAGE_INIT, &model, 1, (struct iovec){&of->io, sizeof of->io});
}

int context_load(struct context *of, void *file, size_t bytes) {
    struct section section;
    of->board.newest_format = NEWEST_FORMAT;
    int code = npu_open(&of->npu, &of->board);
    if (!code) code = container_open(file, bytes, of->board.newest_format, &section);
    if (code) return code;
    const int is_probe = section_is_probe(section.at, section.bytes);
    code = is_probe ? load_probe(of, &section) : load_by_helper(of, file, bytes);
    if (!code && !tensors_are_sound(&of->io)) {
        fprintf(stderr, "E RKNN: the model's inputs or outputs are too many, too large or of a type unknown here\n");
        code = RKNN_ERR_MODEL_INVALID;
    }
    return code;
}

static size_t answer_elements(const struct context *of) {
    size_t count = 0;
    for (uint32_t i = 0; i < of->io.outputs; i++) count += elements_of(&of->io.output[i], of->shape);
    return count;
}

static int run_probe(struct context *of) {
    uint8_t *pixels[MAX_INPUTS];
    for (uint32_t i = 0; i < of->io.inputs; i++) {
        const struct picture *picture = &of->picture[i];
        if (picture->type != RKNN_TENSOR_UINT8 || picture->format != RKNN_TENSOR_NHWC || picture->pass_through) {
            fprintf(stderr, "E RKNN: this model takes uint8 NHWC and nothing else\n");
            return RKNN_ERR_INPUT_INVALID;
        }
        pixels[i] = picture->data;
    }
    probe_compute(of->probe, pixels, elements_of(&of->io.input[0], of->shape) / 3, of->answer);
    return RKNN_SUCC;
}

/* The core is taken, and kept busy, by the helper. A model of ours gives it no pictures and gets no answer. */
static int run_on_npu(struct context *of, size_t answer_bytes) {
    const struct chip *chip = chip_here();
    uint32_t head[] = {of->core_mask, chip ? chip->cores : 1, of->shape, of->probe ? 0 : of->io.inputs};
    struct iovec parts[1 + 2 * MAX_INPUTS] = {{head, sizeof head}};
    int count = 1;
    for (uint32_t i = 0; i < head[3]; i++) {
        parts[count++] = (struct iovec){&of->picture[i], offsetof(struct picture, data)};
        parts[count++] = (struct iovec){of->picture[i].data, of->picture[i].bytes};
    }
    return npu_ask(&of->npu, STAGE_RUN, parts, count, (struct iovec){of->answer, of->probe ? 0 : answer_bytes});
}

int context_run(struct context *of) {
    int code = of->probe ? probe_obey(of->probe, STAGE_RUN) : 0;
    if (code) return code;
    for (uint32_t i = 0; i < of->io.inputs; i++)
        if (of->picture[i].bytes != elements_of(&of->io.input[i], of->shape) * type_bytes(of->picture[i].type))
            return RKNN_ERR_INPUT_INVALID;
    const size_t bytes = answer_elements(of) * sizeof(float);
    float *answer = realloc(of->answer, bytes);
    if (!answer) return RKNN_ERR_MALLOC_FAIL;
    of->answer = answer;
    if (of->npu.fd >= 0) code = run_on_npu(of, bytes);
    return code || !of->probe ? code : run_probe(of);
}
