"""Tell systemd how the service does: ready, alive, stopping, and a line of status.

Source: sd_notify(3), sd_watchdog_enabled(3). The protocol is one datagram of `NAME=value` lines to NOTIFY_SOCKET.
"""

import logging
import os
import re
import socket
from collections.abc import Mapping

_LOG = logging.getLogger(__name__)
_SEND_TIMEOUT_S = 0.5  # systemd reads its socket at once; a full one must not hold the agent
_STATUS_CHARS = 500
_MICROSECONDS = re.compile(r"[0-9]{1,20}")
_INFINITE_USEC = 2**64 - 1


class Notify:
    """Does nothing outside systemd. An error is logged once and never raised: the agent works on without systemd.

    Any thread may call; each call is one datagram. Every method returns whether systemd was told.
    """

    def __init__(self, address: bytes | None, watchdog_interval_s: float | None = None) -> None:
        self._address = address
        self._watchdog_interval_s = watchdog_interval_s if address else None
        self._has_failed = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Notify":
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; what is malformed counts as unset."""
        return cls(_address(environ.get("NOTIFY_SOCKET", "")), _interval_s(environ))

    @property
    def watchdog_interval_s(self) -> float | None:
        """Call `watchdog` at least this often: half of what systemd allows; None when it does not watch us."""
        return self._watchdog_interval_s

    def ready(self) -> bool:
        return self._send("READY=1")

    def status(self, text: str) -> bool:
        """A line for `systemctl status`; line breaks become spaces, and long text is cut."""
        return self._send("STATUS=" + " ".join(text[:_STATUS_CHARS].split()))

    def watchdog(self) -> bool:
        return self._send("WATCHDOG=1")

    def stopping(self) -> bool:
        return self._send("STOPPING=1")

    def _send(self, message: str) -> bool:
        if self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.settimeout(_SEND_TIMEOUT_S)
                out.sendto(message.encode("utf-8", "replace"), self._address)
        except OSError as error:
            if not self._has_failed:
                _LOG.warning("systemd cannot be told %s: %s", message.partition("=")[0], error)
            self._has_failed = True
            return False
        self._has_failed = False
        return True


def _address(name: str) -> bytes | None:
    if not name:
        return None
    if len(name) < 2 or name[0] not in "/@" or "\0" in name:
        _LOG.warning("NOTIFY_SOCKET %r is neither a path nor an abstract socket: systemd will not be told", name[:200])
        return None
    return b"\0" + os.fsencode(name[1:]) if name[0] == "@" else os.fsencode(name)


def _interval_s(environ: Mapping[str, str]) -> float | None:
    allowed = environ.get("WATCHDOG_USEC", "")
    if not allowed or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    if not _MICROSECONDS.fullmatch(allowed) or not 0 < int(allowed) < _INFINITE_USEC:
        _LOG.warning("WATCHDOG_USEC %r is no time: the watchdog stays off", allowed[:200])
        return None
    return int(allowed) / 2 / 1e6
