"""Start to first result by phase, with the model's file in the page cache or not, read ahead or not."""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from agent.adapters.segmenter_onnx import OnnxFactory
from agent.adapters.segmenter_process import ProcessSegmenter
from agent.core.model import ModelSpec
from agent.model_file import VerifiedFactory, verify
from agent.ports import SegmenterFactory
from agent.read_ahead import SWITCH
from tests.contract.brokers import Iotcore
from tests.scenario.bundle import CLASSES, SIZE_PX, digest
from tests.scenario.station import Mes, Station

LARGE_BYTES = 128 * 2**20


def run(starts: int = 5) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for size, extra_bytes in (("small", 0), ("large", LARGE_BYTES)):
        with (
            tempfile.TemporaryDirectory(dir=Path.cwd() / "build") as folder,
            Iotcore(Path(folder) / "broker") as broker,
        ):
            (Path(folder) / "station").mkdir()
            station = Station(Path(folder) / "station", broker.port)
            model = grown(station, extra_bytes)
            for is_cold in (True, False):
                name = f"{size}{'Cold' if is_cold else 'Warm'}"
                figures[name] = _compared(station, (broker.host, broker.port), model if is_cold else None, starts)
            figures[f"{size}Load"] = loading(model, starts)
    figures["said"] = {name: figures[name].pop("said") for name in list(figures)}
    return figures


def grown(station: Station, extra_bytes: int) -> Path:
    """The station's model with so many bytes of weights that it does not use; the manifest knows."""
    folder = station.folder / "bundle"
    path = folder / "cpu.onnx"
    if extra_bytes:
        model = onnx.load(path)
        weights = np.random.default_rng(1).random(extra_bytes // 8)
        model.graph.initializer.append(numpy_helper.from_array(weights, "unused"))
        onnx.save(model, path)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["variants"][0] |= {"bytes": path.stat().st_size, "sha256": digest(path)}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    return path


def forget(path: Path) -> None:
    """Out of the page cache, as after a boot."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def _compared(station: Station, address: tuple[str, int], cold: Path | None, starts: int) -> dict[str, Any]:
    told: dict[str, list[Mapping[str, float]]] = {"readAhead": [], "notReadAhead": []}
    for _ in range(starts):
        for how, phases in told.items():  # in turn, so that what slows the machine slows both
            if cold is not None:
                forget(cold)
            station.environ = {} if how == "readAhead" else {SWITCH: "1"}
            phases.append(_start(station, address))
    medians = {how: _medians(phases) for how, phases in told.items()}
    ratio = medians["readAhead"]["firstResultMs"] / medians["notReadAhead"]["firstResultMs"]
    return {
        **medians,
        "ratio": ratio,
        "said": _said("reading ahead", *(_firsts(told[how]) for how in ("notReadAhead", "readAhead"))),
    }


def _start(station: Station, address: tuple[str, int]) -> Mapping[str, float]:
    with Mes(*address) as mes:
        station.start()
        mes.wait("telemetry of the first result", lambda: "firstResultMs" in _phases(mes))
        station.stop()
        return _phases(mes)


def _phases(mes: Mes) -> Mapping[str, float]:
    phases: Mapping[str, float] = (mes.latest("telemetry/host") or {}).get("start", {})
    return phases


def _firsts(starts: list[Mapping[str, float]]) -> list[float]:
    return [start["firstResultMs"] for start in starts]


def _medians(starts: list[Mapping[str, float]]) -> dict[str, float]:
    return {phase: statistics.median(start[phase] for start in starts) for phase in starts[0]}


def loading(model: Path, times: int) -> dict[str, Any]:
    """A child that verifies while it imports its runtime, against one that starts when the file was verified."""
    spec = ModelSpec(str(model), 1, ((SIZE_PX, SIZE_PX),), len(CLASSES), "logits")
    sha256 = digest(model)
    made = OnnxFactory(spec)
    beside, before = VerifiedFactory(made, str(model), sha256, "onnxruntime"), made
    both: dict[str, list[float]] = {"beside": [], "before": []}
    for _ in range(times):
        both["beside"].append(_timed(lambda: _load(beside, spec)))
        both["before"].append(_timed(lambda: _verify_and_load(before, spec, sha256)))
    ms = {name: statistics.median(values) for name, values in both.items()}
    ratio = ms["beside"] / ms["before"]
    return {
        "verifiedBesideImportsMs": ms["beside"],
        "verifiedBeforeMs": ms["before"],
        "ratio": ratio,
        "said": _said("verifying beside the imports", both["before"], both["beside"]),
    }


def _load(factory: SegmenterFactory, spec: ModelSpec) -> None:
    ProcessSegmenter(factory, spec, deadline_s=60, load_deadline_s=60).close()


def _verify_and_load(factory: SegmenterFactory, spec: ModelSpec, sha256: str) -> None:
    verify(Path(spec.path), sha256)
    _load(factory, spec)


def _timed(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1e3


def _said(what: str, without_ms: list[float], with_ms: list[float]) -> str:
    """A gain is claimed only where it stands out of what one start differs from the next."""
    usual, other = statistics.median(with_ms), statistics.median(without_ms)
    change = f"{abs(1 - usual / other):.0%} ({abs(other - usual):.0f} ms)"
    if usual < min(without_ms) and max(with_ms) < other:
        return f"{what} saves {change}"
    if usual > max(without_ms) and min(with_ms) > other:
        return f"{what} costs {change}"
    return f"{what} makes no difference that stands out of the noise"
