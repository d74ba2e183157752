/* `librknnrt.so` for a machine without an NPU: the calls that rknn-toolkit-lite2 makes, answered for the model that was
 * loaded. The 1x1 convolutions of probe.h are computed here, all other models by the helper process of npu.h. The
 * library under test is the real one; only this is ours. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chip.h"
#include "context.h"
#include "rknn_api.h"

static struct context *context_of(rknn_context context) { return (struct context *)(uintptr_t)context; }

int rknn_init(rknn_context *out, void *model, uint32_t size, uint32_t flag, void *extend) {
    (void)flag, (void)extend;
    struct context *made = calloc(1, sizeof *made);
    if (!made) return RKNN_ERR_MALLOC_FAIL;
    const int code = context_load(made, model, size);
    if (code) {
        context_free(made);
        return code;
    }
    *out = (rknn_context)(uintptr_t)made;
    return RKNN_SUCC;
}

int rknn_destroy(rknn_context context) {
    struct context *of = context_of(context);
    if (!of) return RKNN_ERR_CTX_INVALID;
    const int code = context_obey(of, STAGE_DESTROY);
    context_free(of);
    return code;
}

static int describe(const struct context *of, int outputs, rknn_tensor_attr *attr) {
    if (attr->index >= (outputs ? of->io.outputs : of->io.inputs)) return RKNN_ERR_PARAM_INVALID;
    return describe_tensor(outputs ? &of->io.output[attr->index] : &of->io.input[attr->index], of->shape, attr);
}

static int describe_versions(const struct context *of, rknn_sdk_version *version) {
    snprintf(version->api_version, sizeof version->api_version, "%.*s", VERSION_BYTES, of->board.runtime_version);
    snprintf(version->drv_version, sizeof version->drv_version, "%.*s", VERSION_BYTES, of->board.driver_version);
    return RKNN_SUCC;
}

int rknn_query(rknn_context context, int32_t command, void *info, uint32_t size) {
    const struct context *of = context_of(context);
    if (!of || !info) return RKNN_ERR_CTX_INVALID;
    switch (command) {
        case RKNN_QUERY_IN_OUT_NUM:
            if (size != sizeof(rknn_input_output_num)) return RKNN_ERR_PARAM_INVALID;
            *(rknn_input_output_num *)info = (rknn_input_output_num){of->io.inputs, of->io.outputs};
            return RKNN_SUCC;
        case RKNN_QUERY_INPUT_ATTR:
        case RKNN_QUERY_CURRENT_INPUT_ATTR:
            return size == sizeof(rknn_tensor_attr) ? describe(of, 0, info) : RKNN_ERR_PARAM_INVALID;
        case RKNN_QUERY_OUTPUT_ATTR:
        case RKNN_QUERY_CURRENT_OUTPUT_ATTR:
            return size == sizeof(rknn_tensor_attr) ? describe(of, 1, info) : RKNN_ERR_PARAM_INVALID;
        case RKNN_QUERY_SDK_VERSION:
            return size == sizeof(rknn_sdk_version) ? describe_versions(of, info) : RKNN_ERR_PARAM_INVALID;
        case RKNN_QUERY_INPUT_DYNAMIC_RANGE:
            return size == sizeof(rknn_input_range) ? describe_range(&of->io, info) : RKNN_ERR_PARAM_INVALID;
        default:
            return RKNN_ERR_PARAM_INVALID;
    }
}

int rknn_set_core_mask(rknn_context context, int32_t core_mask) {
    struct context *of = context_of(context);
    const struct chip *chip = chip_here();
    if (!of || !chip) return RKNN_ERR_CTX_INVALID;
    fprintf(stderr, "I RKNN: core mask %d\n", core_mask);
    const int32_t all = (1 << chip->cores) - 1;
    const int32_t wanted = core_mask == RKNN_NPU_CORE_ALL ? all : core_mask;
    if (wanted < 0 || wanted > all || (wanted && chip->cores == 1)) {
        fprintf(stderr, "E RKNN: core mask %d on %s, which has %u core(s)\n", core_mask, chip->name, chip->cores);
        return RKNN_ERR_PARAM_INVALID;
    }
    of->core_mask = (uint32_t)wanted;
    const int code = of->probe ? probe_obey(of->probe, STAGE_CORE_MASK) : 0;
    if (code || of->npu.fd < 0) return code;
    const struct iovec mask = {&of->core_mask, sizeof of->core_mask};
    return npu_ask(&of->npu, STAGE_CORE_MASK, &mask, 1, (struct iovec){0});
}

int rknn_set_input_shapes(rknn_context context, uint32_t count, rknn_tensor_attr attrs[]) {
    struct context *of = context_of(context);
    if (!of) return RKNN_ERR_CTX_INVALID;
    if (count != of->io.inputs) return RKNN_ERR_PARAM_INVALID;
    for (uint32_t shape = 0; shape < of->io.shapes; shape++) {
        uint32_t fitting = 0;
        while (fitting < count && !memcmp(attrs[fitting].dims, of->io.input[fitting].dims[shape],
                                          sizeof of->io.input[fitting].dims[shape]))
            fitting++;
        if (fitting < count) continue;
        of->shape = shape;
        return RKNN_SUCC;
    }
    fprintf(stderr, "E RKNN: the model has no shape %ux%u\n", attrs[0].dims[1], attrs[0].dims[2]);
    return RKNN_ERR_INPUT_INVALID;
}

int rknn_inputs_set(rknn_context context, uint32_t count, rknn_input inputs[]) {
    struct context *of = context_of(context);
    if (!of) return RKNN_ERR_CTX_INVALID;
    int code = context_obey(of, STAGE_INPUTS);
    if (code) return code;
    if (count != of->io.inputs) return RKNN_ERR_PARAM_INVALID;
    for (uint32_t i = 0; i < count && !code; i++) {
        const rknn_input *in = &inputs[i];
        if (in->index >= count) return RKNN_ERR_PARAM_INVALID;
        code = picture_set(&of->picture[in->index], in, &of->io.input[in->index], of->shape);
    }
    return code;
}

int rknn_run(rknn_context context, void *extend) {
    (void)extend;
    struct context *of = context_of(context);
    return of ? context_run(of) : RKNN_ERR_CTX_INVALID;
}

/* Where the values go: to the caller's memory, or to ours, which stays until the next call. */
static int give(struct context *of, rknn_output *out, const float *values) {
    const struct tensor *tensor = &of->io.output[out->index];
    const size_t count = elements_of(tensor, of->shape);
    const size_t bytes = count * (out->want_float ? sizeof(float) : type_bytes(tensor->type));
    if (out->is_prealloc && (!out->buf || out->size < bytes)) return RKNN_ERR_PARAM_INVALID;
    if (!out->is_prealloc) {
        void *ours = realloc(of->raw[out->index], bytes);
        if (!ours) return RKNN_ERR_MALLOC_FAIL;
        out->buf = of->raw[out->index] = ours;
    }
    if (out->want_float)
        memcpy(out->buf, values, bytes);
    else
        write_raw(tensor, values, count, out->buf);
    out->size = (uint32_t)bytes;
    return RKNN_SUCC;
}

int rknn_outputs_get(rknn_context context, uint32_t count, rknn_output outputs[], void *extend) {
    (void)extend;
    struct context *of = context_of(context);
    if (!of) return RKNN_ERR_CTX_INVALID;
    int code = context_obey(of, STAGE_OUTPUTS);
    if (code) return code;
    if (count != of->io.outputs || !of->answer) return RKNN_ERR_PARAM_INVALID;
    const float *values = of->answer;
    for (uint32_t i = 0; i < count && !code; i++) {
        outputs[i].index = i;
        code = give(of, &outputs[i], values);
        values += elements_of(&of->io.output[i], of->shape);
    }
    return code;
}

int rknn_outputs_release(rknn_context context, uint32_t count, rknn_output outputs[]) {
    (void)count, (void)outputs; /* what was given is owned by the context and replaced by the next call */
    return context_of(context) ? RKNN_SUCC : RKNN_ERR_CTX_INVALID;
}
