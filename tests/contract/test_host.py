import dataclasses
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.host_linux import LinuxHost, MemoryBasis, clock
from agent.adapters.host_linux.tree import ENTRIES_CAP, FILE_CAP_BYTES, HEAD_BYTES
from agent.ports import Host, HostFacts, NpuFacts

Files = dict[str, bytes]
CHILD = 4711
MB = 2**20

COMMON: Files = {
    "proc/stat": b"cpu  100 10 50 800 40 0 0 0 25 0\ncpu0 100 10 50 800 40 0 0 0 25 0\nintr 12345\n",
    "proc/meminfo": b"MemTotal:        8000000 kB\nMemFree:  1000 kB\nMemAvailable:    6000000 kB\n",
    "proc/uptime": b"3725.51 14000.02\n",
    "proc/self/smaps_rollup": b"5570a0-7ffe [rollup]\nRss:     80000 kB\nPss:     51200 kB\nPss_Dirty:   400 kB\n",
    "proc/self/status": b"Name:\tagent\nVmPeak:\t  999 kB\nVmRSS:\t   80000 kB\n",
    f"proc/{CHILD}/smaps_rollup": b"5570a0-7ffe [rollup]\nRss:   300000 kB\nPss:    204800 kB\n",
    f"proc/{CHILD}/status": b"Name:\tchild\nVmRSS:\t  300000 kB\n",
    "run/systemd/timesync/synchronized": b"",
}
RK3588: Files = COMMON | {
    "proc/device-tree/compatible": b"radxa,rock-5b\0rockchip,rk3588\0",
    "sys/class/thermal/thermal_zone0/type": b"soc-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": b"46230\n",
    "sys/class/thermal/thermal_zone6/type": b"npu-thermal\n",
    "sys/class/thermal/thermal_zone6/temp": b"51769\n",
    "sys/kernel/debug/rknpu/load": b"NPU load:  Core0: 45%, Core1:  0%, Core2:  3%,\n",
    "sys/kernel/debug/rknpu/version": b"RKNPU driver: v0.9.8\n",
    "sys/module/rknpu/version": b"0.9.8\n",
    "sys/class/devfreq/aaaa0000.npu/cur_freq": b"off\n",  # of several, the first that tells counts
    "sys/class/devfreq/fb000000.gpu/cur_freq": b"300000000\n",
    "sys/class/devfreq/fdab0000.npu/cur_freq": b"1000000000\n",
}
RK3566: Files = COMMON | {
    "proc/device-tree/compatible": b"rockchip,rk3566-box-demo-v10\0rockchip,rk3566\0",
    "sys/class/thermal/thermal_zone0/type": b"cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": b"-3500\n",
    "sys/kernel/debug/rknpu/load": b"NPU load:  12%\n",
    "sys/class/devfreq/fde40000.npu/cur_freq": b"600000000\n",
    "sys/module/rknpu/version": b"0.8.2\n",
}
PATHS = sorted(RK3588)
GARBAGE = [b"", b"\0" * 50, b"\xff\xfe garbage", b"cpu \n", b"NPU load:  Core0: 999%,", b"NaN", b"1e400 1\n"]


def plant(root: Path, files: Files) -> None:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def linux(root: Path, *pids: int) -> LinuxHost:
    return LinuxHost(root=root, data_dir=root, pids=lambda: pids)


def broken_tree(root: Path) -> None:
    """Each file is something else: a pipe, a folder, an endless device, a link to itself."""
    for number, name in enumerate(PATHS):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make = (os.mkfifo, Path.mkdir, partial(os.symlink, "/dev/zero"), partial(os.symlink, path))[number % 4]
        make(path)


TREES: dict[str, Callable[[Path], None]] = {
    "an RK3588": partial(plant, files=RK3588),
    "an RK3566": partial(plant, files=RK3566),
    "nothing there": partial(plant, files={}),
    "files are no files": broken_tree,
    "huge files": partial(plant, files=dict.fromkeys(PATHS, b"9" * (FILE_CAP_BYTES + 1))),
    **{f"garbage {data[:20]!r}": partial(plant, files=dict.fromkeys(PATHS, data)) for data in GARBAGE},
}


@pytest.fixture(params=[*TREES, "this machine"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    if request.param == "this machine":
        return LinuxHost(data_dir=tmp_path, pids=lambda: [os.getpid(), CHILD])
    TREES[request.param](tmp_path)
    return linux(tmp_path, CHILD, 2**40, 0, -1)


def test_free_memory_is_told_without_a_sample(host: Host) -> None:
    told, sampled = host.memory_free_bytes(), host.sample().memory_free_bytes
    assert (told is None) == (sampled is None)
    assert told is None or told >= 0


def test_every_sample_is_whole_and_plausible(host: Host) -> None:
    for _ in range(3):
        check(host.sample())
    assert (host.soc() or "rk").startswith(("rk", "rv"))


def check(facts: HostFacts) -> None:
    assert facts.cpu_percent is None or 0 <= facts.cpu_percent <= 100
    assert min(facts.memory_bytes, facts.children_memory_bytes) >= 0
    assert facts.uptime_s is None or 0 <= facts.uptime_s < math.inf
    assert all(-100 <= degrees <= 250 for degrees in facts.temperature_c.values())
    assert all((size or 0) >= 0 for size in (facts.memory_free_bytes, facts.disk_free_bytes, facts.disk_total_bytes))
    assert facts.clock_offset_ms is None or math.isfinite(facts.clock_offset_ms)
    assert facts.npu is None or all(0 <= load <= 100 for load in facts.npu.load_percent)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(PATHS), st.binary(max_size=80) | st.sampled_from(list(RK3588.values()))))
def test_any_bytes_in_any_file_give_a_plausible_sample(files: Files) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plant(Path(folder), files)
        host = linux(Path(folder), CHILD)
        check(host.sample())
        host.soc()


def test_an_rk3588_tells_all(tmp_path: Path) -> None:
    plant(tmp_path, RK3588)
    host = linux(tmp_path, CHILD)
    facts = host.sample()
    assert facts.npu == NpuFacts(load_percent=(45.0, 0.0, 3.0), frequency_hz=1_000_000_000, driver="0.9.8")
    assert facts.temperature_c == {"soc-thermal": 46.23, "npu-thermal": 51.769}
    assert (facts.memory_bytes, facts.children_memory_bytes) == (50 * MB, 200 * MB)
    assert (facts.memory_free_bytes, facts.uptime_s) == (6_000_000 * 1024, 3725.51)
    assert (facts.clock_synced, facts.clock_offset_ms) == (True, None)
    assert (host.soc(), host.memory_basis) == ("rk3588", MemoryBasis.PSS)


def test_an_rk3566_tells_one_load_and_frost(tmp_path: Path) -> None:
    plant(tmp_path, RK3566)
    facts = linux(tmp_path).sample()
    assert facts.npu == NpuFacts(load_percent=(12.0,), frequency_hz=600_000_000, driver="0.8.2")
    assert (facts.temperature_c, facts.children_memory_bytes) == ({"cpu-thermal": -3.5}, 0)


@pytest.mark.parametrize("tree", ["nothing there", "files are no files", "huge files"])
def test_what_cannot_be_read_is_none(tree: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    TREES[tree](root)
    host = LinuxHost(root=root, data_dir=tmp_path / "missing", pids=lambda: [CHILD])
    facts = dataclasses.replace(host.sample(), clock_synced=None)
    assert facts == HostFacts(None, 0, None, 0, {}, None, None, None, None, None, None)
    assert (host.soc(), host.memory_basis) == (None, None)


@pytest.mark.parametrize(
    ("after", "percent"),
    [
        pytest.param(b"cpu  130 10 50 870 40 0 0 0 25 0\n", 30.0, id="30 of 100 ticks busy"),
        pytest.param(b"cpu  100 10 50 880 60 0 0 0 25 0\n", 0.0, id="waiting for the disk is idle"),
        pytest.param(b"cpu  200 10 50 800 40 0 0 0 125 0\n", 100.0, id="guest time is not counted twice"),
        pytest.param(b"cpu  125 10 50 800 40 10 10 5 0 0\n", 100.0, id="interrupts and stolen time are busy"),
        pytest.param(b"cpu  100 10 50 800 40 0 0 0 25 0\n", None, id="no time has passed"),
        pytest.param(b"cpu  10 10 5 80 4 0 0 0 0 0\n", None, id="the counters ran back"),
        pytest.param(b"cpu  130 10 50 870 40\n", 30.0, id="an old kernel with fewer fields"),
        pytest.param(b"cpu  130 10 50 870 40 0 0 0 0 0\nintr" + b" 7" * FILE_CAP_BYTES, 30.0, id="a large file"),
        pytest.param(b"cpu  130 10 50 870 40 0 0 0 0 " + b"0" * HEAD_BYTES + b"\n", None, id="an endless line"),
    ],
)
def test_cpu_load_is_over_the_time_between_two_samples(after: bytes, percent: float | None, tmp_path: Path) -> None:
    plant(tmp_path, RK3588)
    host = linux(tmp_path)
    assert host.sample().cpu_percent is None
    plant(tmp_path, {"proc/stat": b"garbled\n"})
    assert host.sample().cpu_percent is None, "and the sample before is kept"
    plant(tmp_path, {"proc/stat": after})
    assert host.sample().cpu_percent == (pytest.approx(percent) if percent is not None else None)


def test_memory_falls_back_to_rss_and_says_so(tmp_path: Path) -> None:
    plant(tmp_path, RK3588)
    host = linux(tmp_path, CHILD, CHILD)
    measured = []
    for process in ("self", CHILD):
        (tmp_path / f"proc/{process}/smaps_rollup").unlink()
        measured.append((host.sample().children_memory_bytes, host.memory_basis))
    assert measured == [(200 * MB, MemoryBasis.MIXED), (300_000 * 1024, MemoryBasis.RSS)]
    assert host.sample().memory_bytes == 80_000 * 1024


@pytest.mark.parametrize(
    ("text", "load"),
    [
        (b"NPU load:  Core0: 45%, Core1:  0%, Core2:  3%,\n", (45.0, 0.0, 3.0)),
        (b"NPU load:  Core1:100%, Core0:  2%,", (2.0, 100.0)),
        (b"NPU load:  101%\n", ()),
        (b"NPU load:  Core0: 45%, Core1: 345%,\n", ()),
        (b"NPU load:  -3%\n", ()),
        (b"Core0: 45%", ()),
    ],
)
def test_the_npus_load(text: bytes, load: tuple[float, ...], tmp_path: Path) -> None:
    plant(tmp_path, RK3588 | {"sys/kernel/debug/rknpu/load": text})
    npu = linux(tmp_path).sample().npu
    assert npu is not None
    assert npu.load_percent == load


@pytest.mark.parametrize(
    ("missing", "npu"),
    [
        pytest.param("kernel/debug", NpuFacts((), 10**9, "0.9.8"), id="debugfs is root's"),
        pytest.param("class/devfreq", NpuFacts((45.0, 0.0, 3.0), None, "0.9.8"), id="no devfreq"),
        pytest.param("module", NpuFacts((45.0, 0.0, 3.0), 10**9, "0.9.8"), id="driver built in"),
        pytest.param("", None, id="no NPU"),
    ],
)
def test_the_npu_tells_what_it_can(missing: str, npu: NpuFacts | None, tmp_path: Path) -> None:
    plant(tmp_path, {name: data for name, data in RK3588.items() if not name.startswith(f"sys/{missing}")})
    assert linux(tmp_path).sample().npu == npu


def test_temperatures_go_by_type_never_by_number(tmp_path: Path) -> None:
    zones = [("npu-thermal", "40000"), ("cpu", "50000"), ("cpu", "61000"), ("cpu", "20000"), ("broken", "999999"),
             ("off", ""), ("two words", "30000"), ("x" * 65, "30000")]  # fmt: skip
    for number, (kind, milli) in enumerate(zones):
        zone = f"sys/class/thermal/thermal_zone{number}"
        plant(tmp_path, {f"{zone}/type": f"{kind}\n".encode(), f"{zone}/temp": f"{milli}\n".encode()})
    plant(
        tmp_path, {"sys/class/thermal/cooling_device0/type": b"fan\n", "sys/class/thermal/cooling_device0/temp": b"1"}
    )
    assert linux(tmp_path).sample().temperature_c == {"npu-thermal": 40.0, "cpu": 61.0}


def test_a_folder_of_very_many_entries_is_not_read_to_its_end(tmp_path: Path) -> None:
    for number in range(ENTRIES_CAP + 100):
        zone = f"sys/class/thermal/thermal_zone{number}"
        plant(tmp_path, {f"{zone}/type": f"zone{number}".encode(), f"{zone}/temp": b"1000"})
    assert len(linux(tmp_path).sample().temperature_c) == ENTRIES_CAP


@pytest.mark.parametrize(
    ("compatible", "soc"),
    [
        (b"xunlong,orangepi-5\0rockchip,rk3588s\0", "rk3588"),
        (b"rockchip,rk3588-evb1-lp4-v10\0rockchip,rk3588\0", "rk3588"),
        (b"rockchip,rv1126b-evb\0rockchip,rv1126b\0", "rv1126b"),
        (b"rockchip,rv1126\0", "rv1126"),
        (b"raspberrypi,5-model-b\0brcm,bcm2712\0", None),
        (b"evil,rockchip,rk3588\0", None),
    ],
)
def test_the_soc_comes_from_the_device_tree(compatible: bytes, soc: str | None, tmp_path: Path) -> None:
    plant(tmp_path, {"proc/device-tree/compatible": compatible})
    assert linux(tmp_path).soc() == soc


@pytest.mark.parametrize(
    ("status", "offset", "synced", "offset_ms"),
    [
        pytest.param(clock.STA_PLL | clock.STA_NANO, -1_500_000, True, -1.5, id="nanoseconds"),
        pytest.param(clock.STA_PLL, 2500, True, 2.5, id="microseconds"),
        pytest.param(0, 0, True, None, id="chrony: no phase loop, no offset"),
        pytest.param(clock.STA_UNSYNC | clock.STA_PLL, 77, False, None, id="not synchronised: no offset"),
        pytest.param(clock.STA_UNSYNC, 0, False, None, id="never set"),
    ],
)
def test_what_the_kernel_says_of_the_clock(status: int, offset: int, synced: bool, offset_ms: float | None) -> None:
    assert clock.read_timex(status, offset) == clock.ClockFacts(synced, offset_ms)


@pytest.mark.parametrize(
    ("made", "synced"),
    [("run/systemd/timesync/synchronized", True), ("run/systemd/timesync", False), ("run", None)],
)
def test_what_timesyncs_files_say_of_the_clock(made: str, synced: bool | None, tmp_path: Path) -> None:
    (tmp_path / made).mkdir(parents=True)
    assert linux(tmp_path).sample().clock_synced is synced


def test_this_machine_agrees_with_an_independent_reader(tmp_path: Path) -> None:
    waiting = [sys.executable, "-c", "import sys; held = bytearray(50_000_000); print(1, flush=True); sys.stdin.read()"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"1\n"
        host = LinuxHost(data_dir=tmp_path, pids=lambda: [child.pid])
        facts = host.sample()
        own, other = (psutil.Process(pid).memory_full_info() for pid in (os.getpid(), child.pid))
        child.communicate()
    assert host.memory_basis is MemoryBasis.PSS
    assert facts.memory_bytes == pytest.approx(own.pss, rel=0.1)
    assert facts.children_memory_bytes == pytest.approx(other.pss, rel=0.1)
    assert facts.children_memory_bytes > 50_000_000
    assert host.sample().children_memory_bytes == 0, "a child that has gone counts nothing"
    assert facts.disk_total_bytes == psutil.disk_usage(str(tmp_path)).total
    assert facts.memory_free_bytes == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_the_kernels_clock_is_read_without_a_word_of_the_files(tmp_path: Path) -> None:
    kernel = clock.from_kernel()
    if kernel is None:
        pytest.skip("a sandbox refuses adjtimex")
    assert LinuxHost(data_dir=tmp_path, pids=list).sample().clock_synced is kernel.synced
