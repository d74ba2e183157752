#include "container.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chip.h"
#include "rknn_api.h"

enum { PREFIX_BYTES = 64, LENGTH_BYTES = 8, JSON_BYTES = 1 << 20 };

static int invalid(const char *why) {
    fprintf(stderr, "E RKNN: container_open: %s\n", why);
    return RKNN_ERR_MODEL_INVALID;
}

static int list_has(const char *json, const char *chip) {
    const char *list = strstr(json, "\"target_platform\"");
    const char *end = list ? strchr(list, ']') : NULL;
    const char *found = list ? strstr(list, chip) : NULL;
    return found && end && found < end;
}

static int built_for_this_chip(const char *json) {
    const struct chip *here = chip_here();
    return here && (list_has(json, here->name) || (here->twin && list_has(json, here->twin)));
}

int container_open(const uint8_t *file, size_t bytes, uint32_t newest_format, struct section *out) {
    uint64_t version, section_bytes, json_bytes;
    if (bytes < PREFIX_BYTES || memcmp(file, "RKNN\0\0\0\0", 8)) return invalid("no RKNN magic");
    memcpy(&version, file + 8, sizeof version);
    memcpy(&section_bytes, file + 16, sizeof section_bytes);
    if (version > newest_format) {
        fprintf(stderr, "E RKNN: Invalid RKNN model version %llu\n", (unsigned long long)version);
        return RKNN_ERR_FAIL;
    }
    if (section_bytes > bytes - PREFIX_BYTES || bytes - PREFIX_BYTES - section_bytes < LENGTH_BYTES)
        return invalid("the file ends inside its first section");
    const uint8_t *tail = file + PREFIX_BYTES + section_bytes;
    memcpy(&json_bytes, tail, sizeof json_bytes);
    if (json_bytes > JSON_BYTES || json_bytes > bytes - PREFIX_BYTES - section_bytes - LENGTH_BYTES)
        return invalid("the file ends inside its JSON");
    char *json = strndup((const char *)tail + LENGTH_BYTES, json_bytes);
    if (!json) return RKNN_ERR_MALLOC_FAIL;
    const int fits = built_for_this_chip(json);
    free(json);
    if (!fits) {
        fprintf(stderr, "E RKNN: rknn_init, the model's target_platform does not match this chip\n");
        return RKNN_ERR_TARGET_PLATFORM_UNMATCH;
    }
    *out = (struct section){file + PREFIX_BYTES, section_bytes};
    return 0;
}
