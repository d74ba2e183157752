"""The order of the tests: first what is quick, then each core alone, then all together for as long as was asked."""

import os
import platform
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, TypeVar

from agent.adapters.bundle_fs import read_bundle
from agent.adapters.golden_fs import read_golden
from agent.adapters.host_linux import LinuxHost
from agent.build import Place, segmenter_of
from agent.config import CameraSettings, Continuous, Settings
from agent.core.watch import redacted
from agent.errors import AgentError
from agent.selftest import cores, judge, measure, world
from agent.selftest.cores import Core, Work
from agent.target import target_of
from schemas.selftest import BoardFacts, Finding, SelfTest
from schemas.status import ModelInfo

Told = TypeVar("Told")

_CAMERA_SHARE, _CAMERA_MOST_S = 0.1, 5.0
_ALONE_SHARE, _ALONE_MOST_S = 0.1, 10.0
_LEAST_S = 0.2
_DEVICES = frozenset({"v4l2", "ffmpeg"})


@dataclass(frozen=True, slots=True)
class Asked:
    """`progress` is told what is being done, and the share of the whole that is over (0 to 1)."""

    seconds: float
    stop: threading.Event
    progress: Callable[[str, float], None]


@dataclass(slots=True)
class _Report:
    """What is known so far: fields of the report, and findings."""

    fields: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def attempt(self, what: str, step: Callable[[], Told]) -> Told | None:
        """None where it failed, which is a finding."""
        try:
            return step()
        except AgentError as error:
            # Hosts and paths help; passwords in URLs go to nobody.
            self.findings.append(judge.failed(what, f"{redacted(error.text)[:1900]} [{error.code.value}]"))
            return None


def selftest(settings: Settings, asked: Asked) -> SelfTest:
    """Never raises what is foreseen: what does not work is a finding. Set `asked.stop` to end early."""
    began_s = time.monotonic()
    report = _Report()
    pids: list[int] = []
    host = LinuxHost(data_dir=settings.storage.data_dir, pids=lambda: pids)
    is_shared = world.is_agent_running(settings.storage.data_dir)
    if is_shared:
        report.findings.append(judge.look("agent", "one runs here: it goes on, and devices that it holds are left out"))
    board = _board(settings, host)
    report.findings.append(judge.board(board))
    _quick(settings, host, report, asked)
    for camera in settings.camera:
        if not (is_shared and camera.kind in _DEVICES) and not asked.stop.is_set():
            _camera(camera, report, asked)
    _model(settings, (host, pids), report, asked, is_shared=is_shared)
    asked.progress("done", 1.0)
    took_s = time.monotonic() - began_s
    return SelfTest(
        time=datetime.now(UTC),
        seconds=round(took_s, 1),
        asked_seconds=asked.seconds,
        is_ended_early=asked.stop.is_set(),
        is_agent_running=is_shared,
        ok=judge.is_well(report.findings),
        board=board,
        findings=report.findings,
        **report.fields,
    )


def _board(settings: Settings, host: LinuxHost) -> BoardFacts:
    npu = host.sample().npu
    return BoardFacts(
        agent_version=version("rkfleet"),
        python_version=platform.python_version(),
        machine=platform.machine(),
        kernel=platform.release(),
        cpus=os.cpu_count(),
        soc=host.soc(),
        target=target_of(settings, host),
        npu_driver=npu.driver if npu else None,
        npu_load_told=bool(npu and npu.load_percent),
        npu_frequency_told=bool(npu and npu.frequency_hz is not None),
    )


def _quick(settings: Settings, host: LinuxHost, report: _Report, asked: Asked) -> None:
    facts = host.sample()
    report.fields |= {"clock_synced": facts.clock_synced, "clock_offset_ms": facts.clock_offset_ms}
    report.findings.append(judge.clock(synced=facts.clock_synced, offset_ms=facts.clock_offset_ms))
    asked.progress("disk", 0.0)
    spool = report.attempt("spool", lambda: world.spool(settings.storage.data_dir, asked.stop))
    if spool is not None:
        report.fields["spool"] = spool
        text = f"a durable row in {spool.commit_ms.p50:.2f} ms, 95 % within {spool.commit_ms.p95:.2f} ms"
        report.findings.append(judge.ok("spool", text))
    asked.progress("broker", 0.0)
    found = report.attempt("broker", lambda: world.broker(settings))
    if found is not None:
        connect_ms, trip_ms = found
        report.fields |= {"broker_connect_ms": connect_ms, "broker_round_trip_ms": trip_ms}
        report.findings.append(
            judge.ok("broker", f"connected in {connect_ms:.0f} ms, acknowledged in {trip_ms.p50:.2f} ms (median)")
        )


def _camera(settings: CameraSettings, report: _Report, asked: Asked) -> None:
    asked.progress(f"camera {settings.id}", 0.0)
    seconds = _share(asked, _CAMERA_SHARE, _CAMERA_MOST_S)
    found = report.attempt(f"camera.{settings.id}", lambda: world.camera(settings, seconds, asked.stop))
    if found is not None:
        report.fields.setdefault("cameras", {})[settings.id] = found
        wanted_hz = settings.trigger.rate_hz if isinstance(settings.trigger, Continuous) else None
        report.findings.append(judge.camera(settings.id, found, wanted_hz))


def _model(
    settings: Settings, machine: tuple[LinuxHost, list[int]], report: _Report, asked: Asked, *, is_shared: bool
) -> None:
    target = target_of(settings, machine[0])
    bundle = report.attempt("model", lambda: read_bundle(settings.model.bundle, target))
    frames = report.attempt("model", lambda: read_golden(bundle)) if bundle else None
    if bundle is None or not frames:
        return
    work = Work(bundle, frames, asked.stop)
    with ExitStack() as loaded:
        able: list[Core] = []
        for number in settings.model.cores:
            if (core := _load(settings, work, Place(target, number, f"core-{number}"), report)) is None:
                continue
            loaded.callback(core.segmenter.close)
            machine[1].extend(pid for pid in [getattr(core.segmenter, "pid", None)] if pid)
            if _alone(core, work, report, asked):
                able.append(core)
        if able:
            _together(able, work, machine[0], report, asked, is_shared=is_shared)


def _load(settings: Settings, work: Work, place: Place, report: _Report) -> Core | None:
    began_s = time.monotonic()
    segmenter = report.attempt(place.name, lambda: segmenter_of(work.bundle, settings, place))
    if segmenter is None:
        return None
    runtime = segmenter.runtime
    info: ModelInfo = work.bundle.info(0, runtime.version, runtime.driver)
    report.fields["model"] = info
    text = f"{info.name} {info.version} loads; {runtime.name} {runtime.version}, driver {runtime.driver or 'not told'}"
    report.findings.append(judge.ok(place.name, text))
    return Core(place.name, segmenter, (time.monotonic() - began_s) * 1e3)


def _alone(core: Core, work: Work, report: _Report, asked: Asked) -> bool:
    asked.progress(f"{core.lane} alone", 0.0)
    seconds = _share(asked, _ALONE_SHARE, _ALONE_MOST_S)
    facts = report.attempt(f"{core.lane}.golden", lambda: cores.alone(core, work, seconds))
    if facts is None:
        return False
    report.fields.setdefault("cores", {})[core.lane] = facts
    least = work.bundle.manifest.golden.least_agreement
    report.findings.append(judge.golden(core.lane, facts, least))
    return True


def _together(able: list[Core], work: Work, host: LinuxHost, report: _Report, asked: Asked, *, is_shared: bool) -> None:
    samples = report.fields.setdefault("samples", [])

    def sample(at_s: float) -> None:
        samples.append(cores.sampled(host, at_s))
        asked.progress("all cores", min(1.0, at_s / asked.seconds))

    made = report.attempt("throughput", lambda: cores.together(able, work, asked.seconds, sample))
    if made is None:
        return
    sum_hz = sum(report.fields["cores"][core.lane].rate_hz for core in able)
    facts = made.model_copy(update={"ratio": round(made.rate_hz / sum_hz, 3)})
    own = measure.trend(samples, lambda each: each.memory_bytes)
    children = measure.trend(samples, lambda each: each.children_memory_bytes)
    report.fields |= {"together": facts, "memory": own, "children_memory": children}
    report.findings += [
        judge.together(facts, len(able), is_shared=is_shared),
        judge.temperature(samples),
        *filter(None, [judge.throttling(samples)]),
        judge.memory("memory", own, facts.seconds),
        judge.memory("memory.children", children, facts.seconds),
    ]


def _share(asked: Asked, share: float, most_s: float) -> float:
    return max(_LEAST_S, min(most_s, asked.seconds * share))
