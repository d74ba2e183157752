"""Is the clock disciplined, and how far is it off?

The kernel knows (adjtimex): whoever keeps the clock (timesyncd, chrony with rtcsync, ntpd) clears STA_UNSYNC, and the
kernel sets it again when nobody has for hours. Where the call is refused, or another root is looked at, files tell.
Source: adjtimex(2); systemd-timesyncd.service(8), FILES.
"""

import ctypes
from dataclasses import dataclass

from agent.adapters.host_linux.tree import Tree

STA_PLL = 0x0001
STA_UNSYNC = 0x0040
STA_NANO = 0x2000


@dataclass(frozen=True, slots=True)
class ClockFacts:
    synced: bool | None
    offset_ms: float | None


class _Timex(ctypes.Structure):
    """`struct timex` of 64-bit Linux."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),  # more than what follows, so that the kernel never writes past the end
    )


def from_kernel() -> ClockFacts | None:
    """Ask adjtimex, without changing anything; None where it is refused (a sandbox) or missing."""
    if ctypes.sizeof(ctypes.c_long) != 8:
        return None
    now = _Timex()
    try:
        if ctypes.CDLL(None).adjtimex(ctypes.byref(now)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    return read_timex(now.status, now.offset)


def read_timex(status: int, offset: int) -> ClockFacts:
    """Read the two fields of `struct timex`; offset is in ns with STA_NANO, else in us.

    The offset is what the kernel's loop has still to correct. Without STA_PLL (chrony steers by frequency) it is 0
    and says nothing, so it is None then, as it is while the clock is not synchronised.
    """
    if status & STA_UNSYNC:
        return ClockFacts(synced=False, offset_ms=None)
    if not status & STA_PLL:
        return ClockFacts(synced=True, offset_ms=None)
    return ClockFacts(synced=True, offset_ms=offset / (1e6 if status & STA_NANO else 1e3))


def from_files(tree: Tree) -> ClockFacts:
    """What timesyncd leaves: a file, once the clock was synchronised since boot. Without timesyncd, nothing."""
    if tree.exists("run/systemd/timesync/synchronized"):
        return ClockFacts(synced=True, offset_ms=None)
    return ClockFacts(synced=False if tree.exists("run/systemd/timesync") else None, offset_ms=None)
