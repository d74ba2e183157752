/* The helper process that stands for the NPU: it computes, keeps each core busy, and says when this board is to fail.
 *
 * One connection a context, over the Unix socket that RKFLEET_NPU_SOCKET names. Little-endian, without padding.
 * Request: u32 stage, u32 bytes, and so many bytes. Reply: struct order, and its payload.
 */
#ifndef RKFLEET_NPU_H
#define RKFLEET_NPU_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { TEXT_BYTES = 128, VERSION_BYTES = 64 };

/* The calls at which a board can fail; 0 is the first word of a connection. */
enum stage {
    STAGE_HELLO, STAGE_INIT, STAGE_CORE_MASK, STAGE_INPUTS, STAGE_RUN, STAGE_OUTPUTS, STAGE_DESTROY
};
enum { ACTION_NONE = 0, ACTION_HANG = 1, ACTION_CRASH = 2 };

struct order {
    int32_t code; /* to return; the payload is empty then */
    uint32_t action, leak_bytes, payload_bytes;
    char text[TEXT_BYTES]; /* said on stderr first */
};

/* What kind of board this is. */
struct board {
    uint32_t newest_format;
    char runtime_version[VERSION_BYTES], driver_version[VERSION_BYTES];
};

struct npu {
    int fd; /* -1 where no helper was named */
};

/* Says, leaks, hangs or crashes as ordered; returns the code. */
int enact(const struct order *order);

/* Returns 0 or the RKNN error code. Without a helper, `board` stays as it is. */
int npu_open(struct npu *npu, struct board *board);

/* Sends the parts and does what is ordered. `answer` gets exactly `answer_bytes`; fewer or more are an error. */
int npu_ask(struct npu *npu, uint32_t stage, const struct iovec parts[], int count, struct iovec answer);

/* As `npu_ask`, with nothing to tell and no answer. Returns 0 at once where there is no helper. */
int npu_obey(struct npu *npu, uint32_t stage);

void npu_close(struct npu *npu);

#endif
