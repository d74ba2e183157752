#include "chip.h"

#include <stdio.h>
#include <string.h>

enum { COMPATIBLE_BYTES = 4096 };

static const struct chip chips[] = {
    {"rk3588", NULL, 3},     {"rk3576", NULL, 2}, {"rk3568", "rk3566", 1},
    {"rk3566", "rk3568", 1}, {"rk3562", NULL, 1}, {"rv1126b", NULL, 1},
};

const struct chip *chip_here(void) {
    char compatible[COMPATIBLE_BYTES + 1] = {0};
    FILE *tree = fopen("/proc/device-tree/compatible", "rb");
    if (!tree) return NULL;
    const size_t bytes = fread(compatible, 1, COMPATIBLE_BYTES, tree);
    fclose(tree);
    for (size_t i = 0; i < bytes; i++)
        if (!compatible[i]) compatible[i] = ' ';
    for (size_t i = 0; i < sizeof chips / sizeof *chips; i++)
        if (strstr(compatible, chips[i].name)) return &chips[i];
    return NULL;
}
