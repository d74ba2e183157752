"""Wakes a thread that waits in select."""

import socket
from types import TracebackType
from typing import Self


class Bell:
    """Any thread may ring; one thread waits on `fileno` and answers, then looks for work. Rings before the answer are
    one: under load most cost no system call.
    """

    def __init__(self) -> None:
        self._hears, self._rings = socket.socketpair()
        self._hears.settimeout(0.0)
        self._rings.settimeout(0.0)
        self._is_ringing = False

    def fileno(self) -> int:
        return self._hears.fileno()

    def ring(self) -> None:
        if self._is_ringing:
            return
        self._is_ringing = True
        try:
            self._rings.send(b"\0")
        except OSError:
            return  # closed: nobody waits

    def answer(self) -> None:
        """The work of a ring that this clears was put down before it, and is looked for after."""
        self._hears.recv(4096)
        self._is_ringing = False

    def close(self) -> None:
        self._hears.close()
        self._rings.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
