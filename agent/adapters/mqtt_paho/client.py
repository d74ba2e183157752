"""paho's client with fewer system calls.

paho reads an acknowledgement in three calls and writes each message in one. At each of them another thread gets in and
has to be waited for, which under load costs more than the work itself. Only the two methods that touch the socket are
replaced: a later paho that no longer called them would be slower, and nothing else.
"""

import socket
from contextlib import suppress
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux has it
_READ_BYTES = 65_536
_GATHERED_BYTES = 65_536
_PUBLISH_AT_QOS_1 = 0x32
_TYPE_AND_QOS = 0xF6


class BatchingClient(Client):
    """For one connection, on one thread. While `has_unread`, no select tells that there is something to read."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._unread = b""
        self._unread_from = 0
        self._gathered = bytearray()
        self._is_within = False

    @property
    def has_unread(self) -> bool:
        """Whether bytes are here that the socket no longer has."""
        return self._unread_from < len(self._unread)

    def want_write(self) -> bool:
        return bool(self._gathered) or super().want_write()

    def loop_write(self) -> MQTTErrorCode:
        code = super().loop_write()
        if self._gathered and self.socket() is not None:
            try:
                self._flush()
            except BlockingIOError:
                pass  # want_write tells
            except OSError:
                self._gathered.clear()  # the connection is gone, and reading from it tells paho so
        return code

    def _sock_recv(self, bufsize: int) -> bytes:
        if not self.has_unread:
            self._unread = super()._sock_recv(max(bufsize, _READ_BYTES))
            self._unread_from = 0
            self._acknowledge_now()
        begin = self._unread_from
        self._unread_from = begin + bufsize
        return self._unread[begin : begin + bufsize]

    def _acknowledge_now(self) -> None:
        """A broker without TCP_NODELAY, such as iotcore, holds each packet back until the one before is acknowledged,
        for which Linux takes up to 40 ms. The option holds until data is sent.
        """
        sock = self.socket()
        if _QUICKACK is not None and isinstance(sock, socket.socket):
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def _sock_send(self, buf: bytes | bytearray) -> int:
        """Gathers what will be acknowledged. All else is written here, after what was gathered: paho calls a message
        at QoS 0 published, and closes the socket after DISCONNECT, when this returns.
        """
        if not self._is_within and buf[0] & _TYPE_AND_QOS == _PUBLISH_AT_QOS_1:
            if len(self._gathered) >= _GATHERED_BYTES:
                self._flush()
            self._gathered += buf
            return len(buf)
        self._flush()
        written = super()._sock_send(buf)
        self._is_within = written < len(buf)
        return written

    def _flush(self) -> None:
        """Errors: BlockingIOError while the socket takes no more; what is left stays gathered."""
        while self._gathered:
            del self._gathered[: super()._sock_send(self._gathered)]
