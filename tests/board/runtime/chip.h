/* The chip that the device tree names. */
#ifndef RKFLEET_CHIP_H
#define RKFLEET_CHIP_H

#include <stdint.h>

struct chip {
    const char *name;
    const char *twin; /* another name of the same NPU, or NULL */
    uint32_t cores;
};

/* NULL where the device tree names none that has this NPU. Read anew at each call: a test changes it. */
const struct chip *chip_here(void);

#endif
