#include "probe.h"

#include <stdio.h>
#include <string.h>

static const char magic_bytes[8] = "CONV1X1";

struct reader {
    const uint8_t *at;
    size_t left;
    int failed;
};

static void take(struct reader *from, void *to, size_t bytes) {
    if (from->failed || bytes > from->left) {
        from->failed = 1;
        memset(to, 0, bytes);
        return;
    }
    memcpy(to, from->at, bytes);
    from->at += bytes;
    from->left -= bytes;
}

static int invalid(const char *why) {
    fprintf(stderr, "E RKNN: probe_parse: %s\n", why);
    return RKNN_ERR_MODEL_INVALID;
}

int section_is_probe(const uint8_t *section, size_t bytes) {
    return bytes >= sizeof magic_bytes && !memcmp(section, magic_bytes, sizeof magic_bytes);
}

int probe_parse(const uint8_t *section, size_t bytes, struct probe *out) {
    struct reader from = {section + sizeof magic_bytes, bytes - sizeof magic_bytes, 0};
    memset(out, 0, sizeof *out);
    take(&from, &out->inputs, 4);
    take(&from, &out->shapes, 4);
    take(&from, &out->classes, 4);
    take(&from, &out->class_map, 4);
    take(&from, &out->fault.stage, 4);
    take(&from, &out->fault.action, 4);
    take(&from, &out->fault.first_call, 4);
    take(&from, &out->fault.calls, 4);
    take(&from, out->fault.text, TEXT_BYTES);
    take(&from, out->runtime_version, VERSION_BYTES);
    take(&from, out->driver_version, VERSION_BYTES);
    if (from.failed || !out->inputs || out->inputs > MAX_INPUTS || !out->shapes || out->shapes > MAX_SHAPES ||
        !out->classes || out->classes > MAX_CLASSES)
        return invalid("too many or no inputs, shapes or classes");
    for (uint32_t i = 0; i < out->shapes; i++) {
        take(&from, &out->height[i], 4);
        take(&from, &out->width[i], 4);
    }
    for (uint32_t c = 0; c < out->classes; c++) take(&from, out->weight[c], out->inputs * 3 * sizeof(float));
    take(&from, out->bias, out->classes * sizeof(float));
    return from.failed ? invalid("the weights end early") : 0;
}

void probe_tensors(const struct probe *probe, struct tensors *out) {
    memset(out, 0, sizeof *out);
    out->inputs = probe->inputs;
    out->outputs = 1;
    out->shapes = probe->shapes;
    struct tensor *answer = &out->output[0];
    answer->type = RKNN_TENSOR_FLOAT32;
    answer->format = RKNN_TENSOR_NCHW;
    snprintf(answer->name, sizeof answer->name, "output");
    for (uint32_t i = 0; i < probe->inputs; i++) {
        out->input[i].type = RKNN_TENSOR_UINT8;
        out->input[i].format = RKNN_TENSOR_NHWC;
        snprintf(out->input[i].name, sizeof out->input[i].name, "input%u", i);
    }
    for (uint32_t s = 0; s < probe->shapes; s++) {
        const uint32_t height = probe->height[s], width = probe->width[s];
        const uint32_t in[TENSOR_DIMS] = {1, height, width, 3};
        const uint32_t given[TENSOR_DIMS] = {1, probe->class_map ? 1 : probe->classes, height, width};
        for (uint32_t i = 0; i < probe->inputs; i++) memcpy(out->input[i].dims[s], in, sizeof in);
        memcpy(answer->dims[s], given, sizeof given);
    }
}

int probe_obey(struct probe *probe, uint32_t stage) {
    const struct probe_fault *fault = &probe->fault;
    const uint32_t call = probe->calls[stage]++;
    if (fault->stage != stage || call < fault->first_call || call - fault->first_call >= fault->calls) return 0;
    struct order order = {.code = fault->action < 0 ? fault->action : 0,
                          .action = fault->action > 0 ? (uint32_t)fault->action : ACTION_NONE};
    memcpy(order.text, fault->text, sizeof order.text - 1);
    return enact(&order);
}

void probe_compute(const struct probe *probe, uint8_t *const pixels[], size_t pixel_count, float *out) {
    const uint32_t classes = probe->classes;
    for (size_t p = 0; p < pixel_count; p++) {
        float best = 0;
        for (uint32_t c = 0; c < classes; c++) {
            float logit = probe->bias[c];
            for (uint32_t k = 0; k < probe->inputs * 3; k++)
                logit += probe->weight[c][k] * pixels[k / 3][p * 3 + k % 3];
            if (!probe->class_map) {
                out[c * pixel_count + p] = logit;
            } else if (c == 0 || logit > best) {
                best = logit;
                out[p] = (float)c;
            }
        }
    }
}
