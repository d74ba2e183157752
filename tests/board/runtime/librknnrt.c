/* `librknnrt.so` for a machine without an NPU: the calls that rknn-toolkit-lite2 makes, answered for the models of
 * model.h, with the failures that such a model asks for. The library under test is the real one; only this is ours. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model.h"
#include "rknn_api.h"

struct context {
    struct model model;
    uint32_t shape;
    uint32_t calls[STAGE_OUTPUTS + 1];
    uint8_t *pixels[MAX_INPUTS];
    float *answer;
};

static int fail_if_asked(struct context *of, uint32_t stage) {
    const struct fault *fault = &of->model.fault;
    const uint32_t call = of->calls[stage]++;
    if (fault->stage != stage || call < fault->first_call || call - fault->first_call >= fault->calls) return 0;
    if (fault->text[0]) fprintf(stderr, "E RKNN: %s\n", fault->text);
    if (fault->action == ACTION_HANG)
        for (;;) pause();
    if (fault->action == ACTION_CRASH) raise(SIGSEGV);
    return fault->action;
}

static size_t pixel_count(const struct context *of) {
    return (size_t)of->model.height[of->shape] * of->model.width[of->shape];
}

static size_t answer_count(const struct context *of) {
    return pixel_count(of) * (of->model.class_map ? 1 : of->model.classes);
}

int rknn_init(rknn_context *out, void *model, uint32_t size, uint32_t flag, void *extend) {
    (void)flag, (void)extend;
    struct context *made = calloc(1, sizeof *made);
    if (!made) return RKNN_ERR_MALLOC_FAIL;
    int code = model_parse(model, size, &made->model);
    if (!code) code = fail_if_asked(made, STAGE_INIT);
    if (code) {
        free(made);
        return code;
    }
    *out = (rknn_context)(uintptr_t)made;
    return RKNN_SUCC;
}

static struct context *context_of(rknn_context context) { return (struct context *)(uintptr_t)context; }

static void forget_pictures(struct context *of) {
    for (int i = 0; i < MAX_INPUTS; i++) {
        free(of->pixels[i]);
        of->pixels[i] = NULL;
    }
    free(of->answer);
    of->answer = NULL;
}

int rknn_destroy(rknn_context context) {
    struct context *of = context_of(context);
    if (!of) return RKNN_ERR_CTX_INVALID;
    forget_pictures(of);
    free(of);
    return RKNN_SUCC;
}

static int describe_input(const struct context *of, rknn_tensor_attr *attr) {
    if (attr->index >= of->model.inputs) return RKNN_ERR_PARAM_INVALID;
    const uint32_t index = attr->index;
    memset(attr, 0, sizeof *attr);
    *attr = (rknn_tensor_attr){.index = index, .n_dims = 4, .fmt = RKNN_TENSOR_NHWC, .type = RKNN_TENSOR_UINT8};
    attr->dims[0] = 1;
    attr->dims[1] = of->model.height[of->shape];
    attr->dims[2] = of->model.width[of->shape];
    attr->dims[3] = 3;
    attr->n_elems = attr->size = attr->size_with_stride = (uint32_t)pixel_count(of) * 3;
    attr->scale = 1.0f;
    snprintf(attr->name, sizeof attr->name, "input%u", index);
    return RKNN_SUCC;
}

static int describe_output(const struct context *of, rknn_tensor_attr *attr) {
    if (attr->index != 0) return RKNN_ERR_PARAM_INVALID;
    *attr = (rknn_tensor_attr){.n_dims = 4, .fmt = RKNN_TENSOR_NCHW, .type = RKNN_TENSOR_FLOAT32};
    attr->dims[0] = 1;
    attr->dims[1] = of->model.class_map ? 1 : of->model.classes;
    attr->dims[2] = of->model.height[of->shape];
    attr->dims[3] = of->model.width[of->shape];
    attr->n_elems = (uint32_t)answer_count(of);
    attr->size = attr->size_with_stride = attr->n_elems * sizeof(float);
    attr->scale = 1.0f;
    snprintf(attr->name, sizeof attr->name, "output");
    return RKNN_SUCC;
}

static int describe_shapes(const struct context *of, rknn_input_range *range) {
    if (of->model.shapes < 2 || range->index >= of->model.inputs) return RKNN_ERR_PARAM_INVALID;
    range->shape_number = of->model.shapes;
    range->fmt = RKNN_TENSOR_NHWC;
    range->n_dims = 4;
    snprintf(range->name, sizeof range->name, "input%u", range->index);
    for (uint32_t i = 0; i < of->model.shapes; i++) {
        range->dyn_range[i][0] = 1;
        range->dyn_range[i][1] = of->model.height[i];
        range->dyn_range[i][2] = of->model.width[i];
        range->dyn_range[i][3] = 3;
    }
    return RKNN_SUCC;
}

static int describe_versions(const struct context *of, rknn_sdk_version *version) {
    snprintf(version->api_version, sizeof version->api_version, "%s", of->model.runtime_version);
    snprintf(version->drv_version, sizeof version->drv_version, "%s", of->model.driver_version);
    return RKNN_SUCC;
}

int rknn_query(rknn_context context, int32_t command, void *info, uint32_t size) {
    const struct context *of = context_of(context);
    if (!of || !info) return RKNN_ERR_CTX_INVALID;
    switch (command) {
        case RKNN_QUERY_IN_OUT_NUM:
            if (size != sizeof(rknn_input_output_num)) return RKNN_ERR_PARAM_INVALID;
            *(rknn_input_output_num *)info = (rknn_input_output_num){of->model.inputs, 1};
            return RKNN_SUCC;
        case RKNN_QUERY_INPUT_ATTR:
        case RKNN_QUERY_CURRENT_INPUT_ATTR:
            return size == sizeof(rknn_tensor_attr) ? describe_input(of, info) : RKNN_ERR_PARAM_INVALID;
        case RKNN_QUERY_OUTPUT_ATTR:
        case RKNN_QUERY_CURRENT_OUTPUT_ATTR:
            return size == sizeof(rknn_tensor_attr) ? describe_output(of, info) : RKNN_ERR_PARAM_INVALID;
        case RKNN_QUERY_SDK_VERSION:
            return size == sizeof(rknn_sdk_version) ? describe_versions(of, info) : RKNN_ERR_PARAM_INVALID;
        case RKNN_QUERY_INPUT_DYNAMIC_RANGE:
            return size == sizeof(rknn_input_range) ? describe_shapes(of, info) : RKNN_ERR_PARAM_INVALID;
        default:
            return RKNN_ERR_PARAM_INVALID;
    }
}

int rknn_set_core_mask(rknn_context context, int32_t core_mask) {
    struct context *of = context_of(context);
    if (!of) return RKNN_ERR_CTX_INVALID;
    fprintf(stderr, "I RKNN: core mask %d\n", core_mask);
    return fail_if_asked(of, STAGE_CORE_MASK);
}

int rknn_set_input_shapes(rknn_context context, uint32_t count, rknn_tensor_attr attrs[]) {
    struct context *of = context_of(context);
    if (!of) return RKNN_ERR_CTX_INVALID;
    if (count != of->model.inputs) return RKNN_ERR_PARAM_INVALID;
    for (uint32_t i = 0; i < of->model.shapes; i++) {
        if (attrs[0].dims[1] != of->model.height[i] || attrs[0].dims[2] != of->model.width[i]) continue;
        of->shape = i;
        return RKNN_SUCC;
    }
    fprintf(stderr, "E RKNN: the model has no shape %ux%u\n", attrs[0].dims[1], attrs[0].dims[2]);
    return RKNN_ERR_INPUT_INVALID;
}

int rknn_inputs_set(rknn_context context, uint32_t count, rknn_input inputs[]) {
    struct context *of = context_of(context);
    if (!of) return RKNN_ERR_CTX_INVALID;
    int code = fail_if_asked(of, STAGE_INPUTS);
    if (code) return code;
    const size_t bytes = pixel_count(of) * 3;
    if (count != of->model.inputs) return RKNN_ERR_PARAM_INVALID;
    for (uint32_t i = 0; i < count; i++) {
        const rknn_input *in = &inputs[i];
        if (in->index >= count || in->size != bytes || in->type != RKNN_TENSOR_UINT8 || in->fmt != RKNN_TENSOR_NHWC ||
            in->pass_through) {
            fprintf(stderr, "E RKNN: input %u: %u bytes of type %d, layout %d; the model takes %zu bytes of uint8 NHWC\n",
                    in->index, in->size, in->type, in->fmt, bytes);
            return RKNN_ERR_INPUT_INVALID;
        }
        free(of->pixels[in->index]);
        of->pixels[in->index] = malloc(bytes);
        if (!of->pixels[in->index]) return RKNN_ERR_MALLOC_FAIL;
        memcpy(of->pixels[in->index], in->buf, bytes);
    }
    return RKNN_SUCC;
}

int rknn_run(rknn_context context, void *extend) {
    (void)extend;
    struct context *of = context_of(context);
    if (!of) return RKNN_ERR_CTX_INVALID;
    int code = fail_if_asked(of, STAGE_RUN);
    if (code) return code;
    for (uint32_t i = 0; i < of->model.inputs; i++)
        if (!of->pixels[i]) return RKNN_ERR_INPUT_INVALID;
    free(of->answer);
    of->answer = malloc(answer_count(of) * sizeof(float));
    if (!of->answer) return RKNN_ERR_MALLOC_FAIL;
    model_compute(&of->model, of->pixels, pixel_count(of), of->answer);
    return RKNN_SUCC;
}

int rknn_outputs_get(rknn_context context, uint32_t count, rknn_output outputs[], void *extend) {
    (void)extend;
    struct context *of = context_of(context);
    if (!of) return RKNN_ERR_CTX_INVALID;
    int code = fail_if_asked(of, STAGE_OUTPUTS);
    if (code) return code;
    if (count != 1 || !outputs[0].want_float || !of->answer) return RKNN_ERR_PARAM_INVALID;
    const size_t bytes = answer_count(of) * sizeof(float);
    if (outputs[0].is_prealloc) {
        if (outputs[0].size < bytes) return RKNN_ERR_PARAM_INVALID;
        memcpy(outputs[0].buf, of->answer, bytes);
    } else {
        outputs[0].buf = of->answer;
    }
    outputs[0].size = (uint32_t)bytes;
    return RKNN_SUCC;
}

int rknn_outputs_release(rknn_context context, uint32_t count, rknn_output outputs[]) {
    (void)count, (void)outputs; /* the answer is owned by the context and replaced by the next run */
    return context_of(context) ? RKNN_SUCC : RKNN_ERR_CTX_INVALID;
}
