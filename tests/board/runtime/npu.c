#include "npu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "rknn_api.h"

_Static_assert(sizeof(struct order) == 144, "struct order");
_Static_assert(sizeof(struct board) == 132, "struct board");

int enact(const struct order *order) {
    if (order->text[0]) fprintf(stderr, "E RKNN: %.*s\n", TEXT_BYTES, order->text);
    if (order->leak_bytes) {
        char *volatile lost = malloc(order->leak_bytes); /* volatile: the compiler may drop what nobody reads */
        if (lost) memset(lost, 1, order->leak_bytes);
    }
    if (order->action == ACTION_HANG)
        for (;;) pause();
    if (order->action == ACTION_CRASH) raise(SIGSEGV);
    return order->code;
}

static int lost(const char *doing) {
    fprintf(stderr, "E RKNN: failed to %s the NPU's helper process: %s\n", doing, strerror(errno));
    return RKNN_ERR_DEVICE_UNAVAILABLE;
}

static int send_all(int fd, const void *data, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        const ssize_t sent = send(fd, (const char *)data + done, bytes - done, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) return -1;
        if (sent > 0) done += (size_t)sent;
    }
    return 0;
}

static int receive_all(int fd, void *data, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        const ssize_t got = recv(fd, (char *)data + done, bytes - done, 0);
        if (got == 0) errno = ECONNRESET;
        if (got == 0 || (got < 0 && errno != EINTR)) return -1;
        if (got > 0) done += (size_t)got;
    }
    return 0;
}

int npu_ask(struct npu *npu, uint32_t stage, const struct iovec parts[], int count, struct iovec answer) {
    uint32_t head[2] = {stage, 0};
    for (int i = 0; i < count; i++) head[1] += (uint32_t)parts[i].iov_len;
    if (send_all(npu->fd, head, sizeof head)) return lost("ask");
    for (int i = 0; i < count; i++)
        if (send_all(npu->fd, parts[i].iov_base, parts[i].iov_len)) return lost("ask");
    struct order order;
    if (receive_all(npu->fd, &order, sizeof order)) return lost("hear");
    const int code = enact(&order);
    if (code) return code;
    errno = EPROTO;
    if (order.payload_bytes != answer.iov_len) return lost("understand");
    return receive_all(npu->fd, answer.iov_base, answer.iov_len) ? lost("hear") : 0;
}

int npu_obey(struct npu *npu, uint32_t stage) {
    return npu->fd < 0 ? 0 : npu_ask(npu, stage, NULL, 0, (struct iovec){0});
}

int npu_open(struct npu *npu, struct board *board) {
    npu->fd = -1;
    const char *path = getenv("RKFLEET_NPU_SOCKET");
    if (!path) return 0;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    errno = ENAMETOOLONG;
    if (strlen(path) >= sizeof address.sun_path) return lost("reach");
    strcpy(address.sun_path, path);
    npu->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (npu->fd < 0 || connect(npu->fd, (struct sockaddr *)&address, sizeof address)) return lost("reach");
    const int code = npu_ask(npu, STAGE_HELLO, NULL, 0, (struct iovec){board, sizeof *board});
    board->runtime_version[VERSION_BYTES - 1] = board->driver_version[VERSION_BYTES - 1] = 0;
    return code;
}

void npu_close(struct npu *npu) {
    if (npu->fd >= 0) close(npu->fd);
    npu->fd = -1;
}
