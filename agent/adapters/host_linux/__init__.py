"""The machine as Linux shows it in /proc and /sys.

Sources: proc(5); Linux Documentation/driver-api/thermal/sysfs-api; rknpu driver 0.9 (debugfs `rknpu`).
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.adapters.host_linux import clock, readings
from agent.adapters.host_linux.readings import CpuTimes, MemoryBasis
from agent.adapters.host_linux.tree import Tree
from agent.ports import HostFacts

__all__ = ["LinuxHost", "MemoryBasis"]

_ROOT = Path("/")


class LinuxHost:
    """Samples the machine. Owned by one thread.

    `pids` names the children whose memory is ours. With another root than `/` only its files are read, never the
    kernel's clock; the disk is that of `data_dir` in either case. Memory is PSS where the kernel lets us read it, else
    RSS; `memory_basis` says which. Own memory is 0 where it cannot be read; a child that has gone counts nothing.
    """

    def __init__(self, *, data_dir: Path, pids: Callable[[], Sequence[int]], root: Path = _ROOT) -> None:
        self._data_dir = data_dir
        self._pids = pids
        self._tree = Tree(root)
        self._is_real = root == _ROOT
        self._cpu: CpuTimes | None = None
        self._memory_basis: MemoryBasis | None = None

    @property
    def memory_basis(self) -> MemoryBasis | None:
        """How the last sample's memory was measured; None before the first, or when no process could be read."""
        return self._memory_basis

    def sample(self) -> HostFacts:
        """The CPU's load is over the time since the sample before, so the first one has none."""
        own_bytes, children_bytes = self._memory()
        free_bytes, total_bytes = self._disk()
        told = (clock.from_kernel() if self._is_real else None) or clock.from_files(self._tree)
        return HostFacts(
            cpu_percent=self._cpu_percent(),
            memory_bytes=own_bytes,
            memory_free_bytes=self.memory_free_bytes(),
            children_memory_bytes=children_bytes,
            temperature_c=readings.temperatures_c(self._tree),
            disk_free_bytes=free_bytes,
            disk_total_bytes=total_bytes,
            clock_synced=told.synced,
            clock_offset_ms=told.offset_ms,
            npu=readings.npu(self._tree),
            uptime_s=readings.uptime_s(self._tree),
        )

    def memory_free_bytes(self) -> int | None:
        return readings.memory_free_bytes(self._tree)

    def soc(self) -> str | None:
        """The chip's family in the words of model targets; None off the board."""
        return readings.soc(self._tree)

    def process_age_s(self) -> float | None:
        """How long ago this process was started, its interpreter included; to a hundredth of a second."""
        began_s = readings.began_s(self._tree, os.sysconf("SC_CLK_TCK"))
        age_s = None if began_s is None else time.clock_gettime(time.CLOCK_BOOTTIME) - began_s
        return age_s if age_s is not None and age_s >= 0 else None

    def _cpu_percent(self) -> float | None:
        now, before = readings.cpu_times(self._tree), self._cpu
        if now is None or now == before:
            return None
        self._cpu = now
        return now.percent_since(before) if before else None

    def _memory(self) -> tuple[int, int]:
        own = readings.process_memory(self._tree, "self")
        measured = (readings.process_memory(self._tree, pid) for pid in dict.fromkeys(self._pids()))
        children = [found for found in measured if found]
        self._memory_basis = readings.joint_basis(basis for _, basis in ([own] if own else []) + children)
        return own[0] if own else 0, sum(size for size, _ in children)

    def _disk(self) -> tuple[int | None, int | None]:
        try:
            disk = os.statvfs(self._data_dir)
        except (OSError, ValueError):
            return None, None
        return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
