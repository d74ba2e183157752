"""The whole agent: start to first result, memory idle and over many frames."""

import statistics
import tempfile
import time
from pathlib import Path

from tests.contract.brokers import Iotcore
from tests.scenario.station import Mes, Station

IDLE_MB = 60.0


def first_result_ms(folder: Path, starts: int) -> dict[str, float]:
    """From the start of the process to the first committed result, by its own telemetry; a model of 20 parameters."""
    with Iotcore(folder / "broker") as broker:
        (folder / "station").mkdir()
        station = Station(folder / "station", broker.port)
        own, outside = [], []
        for _ in range(starts):
            with Mes(broker.host, broker.port) as mes:
                began_s = time.monotonic()
                station.start()
                mes.wait("a result", lambda mes=mes: bool(mes.results()))  # type: ignore[misc]
                outside.append((time.monotonic() - began_s) * 1e3)
                mes.wait("telemetry", lambda mes=mes: _told(mes) is not None)  # type: ignore[misc]
                own.append(_told(mes) or 0.0)
                station.stop()
        return {
            "startToFirstResultMs": statistics.median(own),
            "startToFirstResultSeenByReaderMs": statistics.median(outside),
        }


def _told(mes: Mes) -> float | None:
    host = mes.latest("telemetry/host")
    return None if host is None else host.get("startToFirstResultMs")


def idle_mb(folder: Path) -> dict[str, float]:
    """The main process (PSS) while the camera gives a picture every 100 s."""
    with Iotcore(folder / "broker") as broker:
        (folder / "station").mkdir()
        with Mes(broker.host, broker.port) as mes, Station(folder / "station", broker.port, rate_hz=0.01):
            mes.wait("telemetry", lambda: len(mes.of("telemetry/host")) >= 10)
            host = mes.latest("telemetry/host") or {}
    return {"idleAgentMb": host["memoryBytes"] / 1e6, "idleAgentTargetMb": IDLE_MB,
            "idleSegmenterMb": host["childrenMemoryBytes"] / 1e6}  # fmt: skip


def memory_over_frames(folder: Path, frames: int) -> dict[str, float]:
    """Memory after a tenth of the frames and at the end; flat is a ratio near 1."""
    with Iotcore(folder / "broker") as broker:
        (folder / "station").mkdir()
        with Mes(broker.host, broker.port) as mes, Station(folder / "station", broker.port, rate_hz=400.0):
            began_s = time.monotonic()
            mes.wait("the first tenth", lambda: len(mes.of("result/")) > frames // 10, 600)
            early = mes.latest("telemetry/host") or {}
            mes.wait("all frames", lambda: len(mes.of("result/")) > frames, 1200)
            rate = len(mes.of("result/")) / (time.monotonic() - began_s)
            seen = len(mes.of("telemetry/host"))
            mes.wait("fresh telemetry", lambda: len(mes.of("telemetry/host")) > seen)
            late = mes.latest("telemetry/host") or {}
    agent, child = "memoryBytes", "childrenMemoryBytes"
    return {
        "frames": float(frames),
        "framesPerS": rate,
        "agentEarlyMb": early[agent] / 1e6,
        "agentLateMb": late[agent] / 1e6,
        "agentLateToEarly": late[agent] / early[agent],
        "segmenterEarlyMb": early[child] / 1e6,
        "segmenterLateMb": late[child] / 1e6,
        "segmenterLateToEarly": late[child] / early[child],
    }


def run(starts: int = 5, frames: int = 10_000) -> dict[str, float]:
    figures: dict[str, float] = {}
    for part in (lambda f: first_result_ms(f, starts), idle_mb, lambda f: memory_over_frames(f, frames)):
        with tempfile.TemporaryDirectory() as folder:
            figures |= part(Path(folder))
    return figures
