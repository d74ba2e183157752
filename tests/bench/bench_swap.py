"""Hot swaps under load: the longest gap between results against the steady p99, what is lost, times, memory.

Also the time from a hung child to the next right result.
"""

import hashlib
import json
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from fleet.core.swap import Gaps, Mark, gaps
from schemas.result import ResultState
from schemas.state import DesiredModel, Phase, ProbationPlan, ReportedModel
from tests.bench.files import FileServer
from tests.contract.brokers import Iotcore
from tests.scenario.bundle import make_bundle
from tests.scenario.station import TOPICS, Mes, Station

ZOO = Path(__file__).resolve().parents[2] / "modelkit" / "zoo"
STEADY_S = 3.0


class _Fleet:
    """A station, its reader, and two bundles to go back and forth between."""

    def __init__(self, folder: Path, broker: Iotcore, bundles: tuple[Path, Path], rate_hz: float) -> None:
        self.served = folder / "served"
        self.served.mkdir()
        for number, bundle in enumerate(bundles):
            shutil.copytree(bundle, self.served / str(number))
        (folder / "station").mkdir()
        self.station = Station(folder / "station", broker.port, rate_hz=rate_hz)
        shutil.rmtree(folder / "station" / "bundle")
        shutil.copytree(bundles[0], folder / "station" / "bundle")
        self.mes = Mes(broker.host, broker.port)

    def swap(self, generation: int, url: str) -> ReportedModel:
        """To the bundle that does not run now; returns the last report."""
        folder = self.served / str(generation % 2)
        raw = (folder / "manifest.json").read_bytes()
        manifest = json.loads(raw)
        message = DesiredModel(
            generation=generation,
            name=manifest["name"],
            version=manifest["version"],
            manifest_sha256=hashlib.sha256(raw).hexdigest(),
            urls=[f"{url}/{folder.name}"],
            probation=ProbationPlan(frames=30, max_p95_ratio=50.0, max_ng_drift=1.0),
        )
        self.mes.publish(TOPICS.desired("model"), message.to_json(), retain=True)
        self.mes.wait(f"generation {generation}", lambda: self._end(generation) is not None, 120)
        report = self._end(generation)
        assert report is not None
        assert report.phase is Phase.COMMITTED, report.last_error
        return report

    def marks(self) -> list[Mark]:
        return [Mark.of(result) for result in self.mes.results().values()]

    def _end(self, generation: int) -> ReportedModel | None:
        messages = self.mes.of("reported/model")
        report = ReportedModel.model_validate_json(messages[-1].payload) if messages else None
        is_over = report is not None and report.observed_generation == generation and report.phase.is_end
        return report if is_over else None


def swaps_under_load(folder: Path, count: int) -> dict[str, float]:
    """The zoo's models, 512x512, at a rate that the machine can hold."""
    bundles = (ZOO / "pcb-unet-1.0.0", ZOO / "pcb-unet-1.1.0")
    found: list[Gaps] = []
    lengths: dict[str, list[float]] = defaultdict(list)
    with Iotcore(folder / "broker") as broker:
        fleet = _Fleet(folder, broker, bundles, rate_hz=6.0)
        with FileServer(fleet.served) as server, fleet.mes as mes, fleet.station:
            mes.wait("results", lambda: len(mes.results()) >= 30, 60)
            since = 0
            for generation in range(1, count + 1):
                ready_s = time.monotonic() + STEADY_S
                mes.wait("steady results", lambda ready_s=ready_s: time.monotonic() > ready_s)  # type: ignore[misc]
                report = fleet.swap(generation, server.url)
                seen = len(mes.results())
                mes.wait("a result after it", lambda seen=seen: len(mes.results()) > seen + 2)  # type: ignore[misc]
                marks = sorted(fleet.marks(), key=lambda mark: mark.number)
                began, ended = report.phases[0].time, report.phases[-1].time
                gap = gaps(marks[since:], began, ended)
                assert gap is not None
                found.append(gap)
                since = next(i for i, mark in enumerate(marks) if mark.at > ended)
                for each, later in zip(report.phases, report.phases[1:], strict=False):
                    lengths[each.phase.value].append((later.time - each.time).total_seconds() * 1e3)
                lengths["total"].append((ended - began).total_seconds() * 1e3)
            fleet.station.stop()
    steady = statistics.median(gap.steady_p99 for gap in found)
    longest = max(gap.longest for gap in found)
    return {
        "swaps": float(count),
        "steadyP99Ms": steady,
        "longestGapMs": longest,
        "medianOfLongestGapsMs": statistics.median(gap.longest for gap in found),
        "longestGapToSteadyP99": longest / steady,
        "longestGapToSteadyP99Target": 1.5,
        "framesLost": float(sum(gap.lost for gap in found)),
        **{f"median{phase.title().replace('_', '')}Ms": statistics.median(ms) for phase, ms in lengths.items()},
    }


def memory_over_swaps(folder: Path, count: int) -> dict[str, float]:
    """Main process and children after the fifth swap and after the last; flat is a ratio near 1."""
    bundles = (make_bundle(folder / "one", "1.0.0"), make_bundle(folder / "two", "2.0.0"))
    with Iotcore(folder / "broker") as broker:
        fleet = _Fleet(folder, broker, bundles, rate_hz=50.0)
        with FileServer(fleet.served) as server, fleet.mes as mes, fleet.station:
            mes.wait("results", lambda: len(mes.results()) >= 40, 60)
            early: Mapping[str, float] = {}
            for generation in range(1, count + 1):
                fleet.swap(generation, server.url)
                if generation == 5:
                    early = _memory(mes)
            late = _memory(mes)
            children = len(fleet.station.children())
            fleet.station.stop()
    return {
        "memorySwaps": float(count),
        "agentEarlyMb": early["memoryBytes"] / 1e6,
        "agentLateMb": late["memoryBytes"] / 1e6,
        "agentLateToEarly": late["memoryBytes"] / early["memoryBytes"],
        "childrenLateToEarly": late["childrenMemoryBytes"] / early["childrenMemoryBytes"],
        "childrenAtTheEnd": float(children),
    }


def hung_child(folder: Path, times: int) -> dict[str, float]:
    """From SIGSTOP to the next completed result; the deadline of a call is 1 s, a new child has to load the model."""
    took = []
    with Iotcore(folder / "broker") as broker:
        (folder / "station").mkdir()
        station = Station(folder / "station", broker.port)
        with Mes(broker.host, broker.port) as mes, station:
            mes.wait("results", lambda: len(mes.results()) >= 20)
            for _ in range(times):
                before = len(_failed(mes))
                os.kill(station.children()[0], signal.SIGSTOP)
                began_s = time.monotonic()
                mes.wait("the fault", lambda before=before: len(_failed(mes)) > before)  # type: ignore[misc]
                last = max(_failed(mes))
                mes.wait("a right result", lambda last=last: _completed_after(mes, last))  # type: ignore[misc]
                took.append((time.monotonic() - began_s) * 1e3)
            station.stop()
    return {"hungChildToNextResultMs": statistics.median(took), "hungChildToDeadline": statistics.median(took) / 1e3}


def _failed(mes: Mes) -> list[int]:
    return [r.sequence_number for r in mes.results().values() if r.result_state is ResultState.FAILED]


def _completed_after(mes: Mes, number: int) -> bool:
    results = mes.results().values()
    return any(r.sequence_number > number and r.result_state is ResultState.COMPLETED for r in results)


def _memory(mes: Mes) -> Mapping[str, float]:
    """Fresh: telemetry from now on."""
    seen = len(mes.of("telemetry/host"))
    mes.wait("fresh telemetry", lambda: len(mes.of("telemetry/host")) > seen + 2)
    host = mes.latest("telemetry/host")
    assert host is not None
    return host


def run(swaps: int = 20, memory_swaps: int = 50, hangs: int = 3) -> dict[str, float]:
    figures: dict[str, float] = {}
    parts: dict[Callable[[Path, int], dict[str, float]], int] = {
        swaps_under_load: swaps,
        memory_over_swaps: memory_swaps,
        hung_child: hangs,
    }
    for part, count in parts.items():
        with tempfile.TemporaryDirectory() as folder:
            figures |= part(Path(folder), count)
    return figures
