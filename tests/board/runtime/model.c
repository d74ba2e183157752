#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rknn_api.h"

enum { PREFIX_BYTES = 64, COMPATIBLE_BYTES = 4096, JSON_BYTES = 1 << 20 };

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
    fprintf(stderr, "E RKNN: model_parse: %s\n", why);
    return RKNN_ERR_MODEL_INVALID;
}

static int list_has(const char *json, const char *chip) {
    const char *list = strstr(json, "\"target_platform\"");
    const char *end = list ? strchr(list, ']') : NULL;
    const char *found = list ? strstr(list, chip) : NULL;
    return found && end && found < end;
}

static int built_for_this_chip(const char *json) {
    static const char *const chips[] = {"rk3588", "rk3576", "rk3562", "rv1126b"};
    char compatible[COMPATIBLE_BYTES + 1] = {0};
    FILE *tree = fopen("/proc/device-tree/compatible", "rb");
    if (!tree) return 0;
    size_t bytes = fread(compatible, 1, COMPATIBLE_BYTES, tree);
    fclose(tree);
    for (size_t i = 0; i < bytes; i++)
        if (!compatible[i]) compatible[i] = ' ';
    if (strstr(compatible, "rk3566") || strstr(compatible, "rk3568")) /* one NPU, two names */
        return list_has(json, "rk3566") || list_has(json, "rk3568");
    for (size_t i = 0; i < sizeof chips / sizeof *chips; i++)
        if (strstr(compatible, chips[i])) return list_has(json, chips[i]);
    return 0;
}

static int parse_section(const uint8_t *section, size_t bytes, struct model *out) {
    struct reader from = {section, bytes, 0};
    char magic[8];
    memset(out, 0, sizeof *out);
    take(&from, magic, sizeof magic);
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
    if (from.failed || memcmp(magic, "CONV1X1", sizeof magic)) return invalid("not a model of this runtime");
    if (!out->inputs || out->inputs > MAX_INPUTS || !out->shapes || out->shapes > MAX_SHAPES || !out->classes ||
        out->classes > MAX_CLASSES)
        return invalid("too many or no inputs, shapes or classes");
    for (uint32_t i = 0; i < out->shapes; i++) {
        take(&from, &out->height[i], 4);
        take(&from, &out->width[i], 4);
        if (!out->height[i] || out->height[i] > 8192 || !out->width[i] || out->width[i] > 8192)
            return invalid("a shape is out of range");
    }
    for (uint32_t c = 0; c < out->classes; c++) take(&from, out->weight[c], out->inputs * 3 * sizeof(float));
    take(&from, out->bias, out->classes * sizeof(float));
    return from.failed ? invalid("the weights end early") : 0;
}

int model_parse(const uint8_t *file, size_t bytes, struct model *out) {
    uint64_t version, section_bytes, json_bytes;
    if (bytes < PREFIX_BYTES || memcmp(file, "RKNN\0\0\0\0", 8)) return invalid("no RKNN magic");
    memcpy(&version, file + 8, 8);
    memcpy(&section_bytes, file + 16, 8);
    if (version > NEWEST_FORMAT) {
        fprintf(stderr, "E RKNN: Invalid RKNN model version %llu\n", (unsigned long long)version);
        return RKNN_ERR_FAIL;
    }
    if (section_bytes > bytes - PREFIX_BYTES || bytes - PREFIX_BYTES - section_bytes < 8)
        return invalid("the file ends inside its first section");
    const uint8_t *tail = file + PREFIX_BYTES + section_bytes;
    memcpy(&json_bytes, tail, 8);
    if (json_bytes > JSON_BYTES || json_bytes > bytes - PREFIX_BYTES - section_bytes - 8)
        return invalid("the file ends inside its JSON");
    char *json = strndup((const char *)tail + 8, json_bytes);
    if (!json) return RKNN_ERR_MALLOC_FAIL;
    const int fits = built_for_this_chip(json);
    free(json);
    if (!fits) {
        fprintf(stderr, "E RKNN: rknn_init, the model's target_platform does not match this chip\n");
        return RKNN_ERR_TARGET_PLATFORM_UNMATCH;
    }
    return parse_section(file + PREFIX_BYTES, section_bytes, out);
}

void model_compute(const struct model *model, uint8_t *const pixels[], size_t pixel_count, float *out) {
    const uint32_t classes = model->classes;
    for (size_t p = 0; p < pixel_count; p++) {
        float best = 0;
        for (uint32_t c = 0; c < classes; c++) {
            float logit = model->bias[c];
            for (uint32_t k = 0; k < model->inputs * 3; k++)
                logit += model->weight[c][k] * pixels[k / 3][p * 3 + k % 3];
            if (!model->class_map) {
                out[c * pixel_count + p] = logit;
            } else if (c == 0 || logit > best) {
                best = logit;
                out[p] = (float)c;
            }
        }
    }
}
