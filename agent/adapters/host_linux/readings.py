"""Parsers of what the kernel says of CPU, memory, temperatures, NPU and SoC."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from agent.adapters.host_linux.tree import Tree
from agent.ports import NpuFacts

_PSS = re.compile(r"^Pss:\s+(\d{1,15}) kB$", re.MULTILINE)
_RSS = re.compile(r"^VmRSS:\s+(\d{1,15}) kB$", re.MULTILINE)
_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d{1,15}) kB$", re.MULTILINE)
_CPU = re.compile(r"cpu\s+(\d{1,18}(?: \d{1,18}){3,9})\s*")
_TICKS = re.compile(r"\d{1,18}")
_UPTIME = re.compile(r"(\d{1,12}(?:\.\d{1,9})?) ")
_ZONE_TYPE = re.compile(r"[\x21-\x7e]{1,64}")
_CORE_LOAD = re.compile(r"Core(\d{1,2}):\s*(\d{1,3})%")
_ONE_LOAD = re.compile(r"NPU load:\s*(\d{1,3})%")
_DRIVER = re.compile(r"(?:^|[\s:v])(\d{1,5}(?:\.\d{1,5}){1,3})\s*$")
_SOC = re.compile(r"rockchip,(rk\d{4}|rv\d{4}b?)")

COLDEST_MILLI_C, HOTTEST_MILLI_C = -100_000, 250_000
FASTEST_NPU_HZ = 10_000_000_000


class MemoryBasis(StrEnum):
    """How memory was measured: PSS shares common pages out among processes, RSS counts them in each."""

    PSS = "pss"
    RSS = "rss"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Ticks since boot, over all CPUs."""

    busy: int
    total: int

    def percent_since(self, before: "CpuTimes") -> float | None:
        """Busy share in percent (0 to 100) of all CPUs; None when no time has passed or the counters ran back."""
        total, busy = self.total - before.total, self.busy - before.busy
        return min(100.0, max(0.0, 100.0 * busy / total)) if total > 0 else None


def cpu_times(tree: Tree) -> CpuTimes | None:
    match = _CPU.fullmatch(tree.first_line("proc/stat") or "")
    if match is None:
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal; guest time, which follows, is in user already
    ticks = [int(field) for field in match[1].split()][:8]
    total = sum(ticks)
    return CpuTimes(busy=total - sum(ticks[3:5]), total=total)


def memory_free_bytes(tree: Tree) -> int | None:
    return _kilobytes(_AVAILABLE, tree.text("proc/meminfo"))


def process_memory(tree: Tree, process: int | str) -> tuple[int, MemoryBasis] | None:
    """Bytes of one process by PSS, else by RSS; None when it has gone."""
    pss = _kilobytes(_PSS, tree.text(f"proc/{process}/smaps_rollup"))
    if pss is not None:
        return pss, MemoryBasis.PSS
    rss = _kilobytes(_RSS, tree.text(f"proc/{process}/status"))
    return None if rss is None else (rss, MemoryBasis.RSS)


def joint_basis(bases: Iterable[MemoryBasis]) -> MemoryBasis | None:
    found = set(bases)
    return MemoryBasis.MIXED if len(found) > 1 else next(iter(found), None)


def uptime_s(tree: Tree) -> float | None:
    match = _UPTIME.match(tree.first_line("proc/uptime") or "")
    return float(match[1]) if match else None


def began_s(tree: Tree, ticks_a_second: int) -> float | None:
    """When this process was started, in seconds since the machine's boot (field 22 of /proc/self/stat)."""
    # The name of the program comes first, in brackets, and may hold anything.
    fields = (tree.text("proc/self/stat") or "").rpartition(")")[2].split()
    if len(fields) < 20 or not _TICKS.fullmatch(fields[19]):
        return None
    return int(fields[19]) / ticks_a_second


def temperatures_c(tree: Tree) -> dict[str, float]:
    """By the zone's type, since numbers differ from board to board; of zones with one type, the hottest."""
    found: dict[str, float] = {}
    for zone in tree.names("sys/class/thermal", "thermal_zone*"):
        kind = (tree.text(f"sys/class/thermal/{zone}/type") or "").strip()
        milli = tree.integer(f"sys/class/thermal/{zone}/temp", COLDEST_MILLI_C, HOTTEST_MILLI_C)
        if milli is not None and _ZONE_TYPE.fullmatch(kind):
            found[kind] = max(milli / 1000.0, found.get(kind, -float("inf")))
    return found


def npu(tree: Tree) -> NpuFacts | None:
    """None without an NPU driver. The load is empty where debugfs is closed to us (it is root's)."""
    load = npu_load(tree.text("sys/kernel/debug/rknpu/load") or "")
    devices = tree.names("sys/class/devfreq", "*.npu")
    readings = (tree.integer(f"sys/class/devfreq/{name}/cur_freq", 0, FASTEST_NPU_HZ) for name in devices)
    frequency = next((hz for hz in readings if hz is not None), None)
    driver = _driver(tree.text("sys/kernel/debug/rknpu/version")) or _driver(tree.text("sys/module/rknpu/version"))
    if not load and frequency is None and driver is None:
        return None
    return NpuFacts(load_percent=load, frequency_hz=frequency, driver=driver)


def npu_load(text: str) -> tuple[float, ...]:
    """Percent by core, in the order of core numbers; one number where the driver tells one; empty when garbled."""
    if not text.startswith("NPU load:"):
        return ()
    cores = {int(core): int(load) for core, load in _CORE_LOAD.findall(text)}
    one = _ONE_LOAD.match(text)
    loads = [cores[core] for core in sorted(cores)] or ([int(one[1])] if one else [])
    return tuple(float(load) for load in loads) if all(load <= 100 for load in loads) else ()


def soc(tree: Tree) -> str | None:
    """The chip's family, as models are built for it: rk3588 for an RK3588S too."""
    entries = (tree.text("proc/device-tree/compatible") or "").split("\0")
    # The device tree lists the most special name first: the board, then its chip.
    found = [match[1] for entry in entries if (match := _SOC.match(entry))]
    return found[-1] if found else None


def _kilobytes(pattern: re.Pattern[str], text: str | None) -> int | None:
    match = pattern.search(text or "")
    return int(match[1]) * 1024 if match else None


def _driver(text: str | None) -> str | None:
    match = _DRIVER.search((text or "").strip())
    return match[1] if match else None
