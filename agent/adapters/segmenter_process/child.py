"""What runs in the child: `python -m agent.adapters.segmenter_process.child CONTROL_FD LIFE_FD MEMORY_FD`.

It loads the segmenter or the stage, answers one call at a time, and ends when the parent closes its side or is gone.
Whatever is raised that is not an error of ours ends the child: the parent reads the traceback from the child's log.
"""

import fcntl
import os
import pickle
import select
import signal
import socket
import sys
from collections.abc import Callable

from agent.adapters.segmenter_process.serve import SegmenterServer, Server, StageServer
from agent.adapters.segmenter_process.wire import (
    MESSAGE_BYTES,
    Begin,
    BeginStage,
    Failed,
    Garbled,
    Loaded,
    Message,
    decode,
    encode,
)
from agent.errors import AgentError


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


def serve(control: socket.socket, answer: Callable[[Message], Message]) -> None:
    """Answer calls until the parent closes its side."""
    while data := control.recv(MESSAGE_BYTES):
        message = decode(data)
        try:
            made = answer(message)
        except AgentError as error:
            made = Failed.of(message.call, error)
        control.send(encode(made))


def run(control: socket.socket, memory_fd: int) -> None:
    begin = pickle.loads(control.recv(MESSAGE_BYTES))  # noqa: S301 - the parent's own bytes
    if not isinstance(begin, Begin | BeginStage):
        raise Garbled(f"a parent does not begin with {type(begin).__name__}")
    try:
        server: Server = SegmenterServer(begin) if isinstance(begin, Begin) else StageServer(begin)
    except AgentError as error:
        control.send(encode(Failed.of(0, error)))
        return
    runtime = server.runtime
    control.send(encode(Loaded(0, runtime.name, runtime.version, runtime.driver)))
    server.attach(memory_fd)
    serve(control, server.answer)
    server.close()


def main() -> None:
    control_fd, life_fd, memory_fd = (int(word) for word in sys.argv[1:4])
    for fd in (control_fd, life_fd, memory_fd):
        os.set_inheritable(fd, False)  # noqa: FBT003 - a process that the library starts must not keep them open
    die_with_parent(life_fd)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, control_fd) as control:
        run(control, memory_fd)


if __name__ == "__main__":
    main()
