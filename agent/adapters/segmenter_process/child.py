"""What runs in the child: `python -m agent.adapters.segmenter_process.child CONTROL_FD LIFE_FD MEMORY_FD`.

It loads the segmenter, answers one call at a time, and ends when the parent closes its side or is gone. Whatever the
segmenter raises that is not an error of ours ends the child: the parent reads the traceback from the child's log.
"""

import fcntl
import os
import pickle
import select
import signal
import socket
import sys

import numpy as np

from agent.adapters.segmenter_process.memory import SharedMemory
from agent.adapters.segmenter_process.wire import (
    MESSAGE_BYTES,
    Begin,
    Failed,
    Garbled,
    Loaded,
    Segment,
    Segmented,
    decode,
    encode,
)
from agent.errors import AgentError
from agent.ports import Segmenter


def die_with_parent(life_fd: int) -> None:
    """Have the kernel kill this process when the parent's end of the pipe closes, even while C code holds the GIL.

    PR_SET_PDEATHSIG would watch the parent's *thread* that started the child, which may well end first.
    """
    fcntl.fcntl(life_fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(life_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life_fd, fcntl.F_SETFL, fcntl.fcntl(life_fd, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(life_fd, select.POLLHUP)
    if poll.poll(0):  # it was gone before the kernel watched
        sys.exit(1)


def serve(control: socket.socket, memory: SharedMemory, segmenter: Segmenter) -> None:
    """Answer calls until the parent closes its side."""
    while data := control.recv(MESSAGE_BYTES):
        message = decode(data)
        if not isinstance(message, Segment):
            raise Garbled(f"a parent does not say {type(message).__name__}")
        control.send(encode(_segment(memory, segmenter, message)))


def _segment(memory: SharedMemory, segmenter: Segmenter, ask: Segment) -> Segmented | Failed:
    shape = (ask.height_px, ask.width_px)
    try:
        made = segmenter.segment_all([memory.inputs(shape, item) for item in range(ask.count)])
    except AgentError as error:
        return Failed.of(ask.call, error)
    if len(made) != ask.count:
        raise TypeError(f"the segmenter answered {len(made)} of {ask.count} pictures")
    for item, each in enumerate(made):
        for target, source in zip(memory.maps(shape, item), (each.class_map, each.score), strict=True):
            if source.shape != shape or source.dtype != np.uint8:
                raise TypeError(f"the segmenter gave {source.dtype} {source.shape} for a picture of {shape}")
            np.copyto(target, source)
    return Segmented(ask.call, sum(each.inference_ms for each in made), sum(each.postprocess_ms for each in made))


def main() -> None:
    control_fd, life_fd, memory_fd = (int(word) for word in sys.argv[1:4])
    for fd in (control_fd, life_fd, memory_fd):
        os.set_inheritable(fd, False)  # noqa: FBT003 - a process that the library starts must not keep them open
    die_with_parent(life_fd)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, control_fd) as control:
        begin = pickle.loads(control.recv(MESSAGE_BYTES))  # noqa: S301 - the parent's own bytes
        if not isinstance(begin, Begin):
            raise Garbled(f"a parent does not begin with {type(begin).__name__}")
        try:
            segmenter = begin.factory()
        except AgentError as error:
            control.send(encode(Failed.of(0, error)))
            return
        runtime = segmenter.runtime
        control.send(encode(Loaded(0, runtime.name, runtime.version, runtime.driver)))
        serve(control, SharedMemory.attach(begin.spec, memory_fd), segmenter)
        segmenter.close()


if __name__ == "__main__":
    main()
