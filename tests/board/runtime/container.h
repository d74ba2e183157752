/* The frame of every `.rknn` file: a prefix of 64 bytes, a section that its own compiler understands, and JSON. */
#ifndef RKFLEET_CONTAINER_H
#define RKFLEET_CONTAINER_H

#include <stddef.h>
#include <stdint.h>

enum { NEWEST_FORMAT = 6 };

struct section {
    const uint8_t *at;
    size_t bytes;
};

/* Finds the section of a file that this runtime may load here: its format is not above `newest_format`, and it was
 * built for this chip. Returns 0 or the RKNN error code; the reason is then on stderr. */
int container_open(const uint8_t *file, size_t bytes, uint32_t newest_format, struct section *out);

#endif
