"""The measure of the current model."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.adapters.host_linux import LinuxHost
from agent.adapters.store_fs import FolderStore, StoreLimits
from agent.benchmark import benchmark
from agent.config import parse
from agent.core.bundle import Bundle
from agent.core.frame import Pixels
from agent.core.update import ModelRef
from agent.errors import AgentError, Retryable
from agent.library import Library
from agent.loops.inspect import Loaded
from agent.ports import Runtime, Segmentation, Segmenter
from schemas.codes import FailureCode
from schemas.job import BenchmarkOutput
from schemas.target import Target
from schemas.topics import Topics
from tests.scenario.bundle import make_bundle


class Watched:
    """A segmenter that knows whether it was closed, and fails at the call of this number."""

    def __init__(self, inner: Segmenter, fails_at: int | None) -> None:
        self._inner = inner
        self._fails_at = fails_at
        self.calls = 0
        self.is_closed = False

    @property
    def runtime(self) -> Runtime:
        return self._inner.runtime

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        return self._inner.shapes

    @property
    def batch(self) -> int:
        return self._inner.batch

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        return [self.segment(inputs) for inputs in items]

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        self.calls += 1
        if self.calls == self._fails_at:
            raise Retryable(FailureCode.NPU_FAULT, "no answer")
        return self._inner.segment(inputs)

    def close(self) -> None:
        self.is_closed = True
        self._inner.close()


class Bench(Library):
    fails_at: int | None = None
    watched: Watched

    def load(self, lane: str, ref: ModelRef, bundle: Bundle) -> Loaded:
        loaded = super().load(lane, ref, bundle)
        self.watched = Watched(loaded.segmenter, self.fails_at)
        return Loaded(self.watched, loaded.ref, loaded.model, loaded.bundle, loaded.plans)


@pytest.fixture
def library(tmp_path: Path) -> Bench:
    make_bundle(tmp_path / "bundle")
    document = {"station": {"site": "a", "node": "b"}, "model": {"bundle": "bundle", "isolate": False}}
    settings = parse({**document, "camera": [{"id": "top", "kind": "synthetic"}]}, tmp_path, "agent.toml")
    store = FolderStore(tmp_path / "models", Target.CPU, StoreLimits(10_000_000, 0))
    return Bench(settings, Target.CPU, Topics("a", "b"), store, LinuxHost(data_dir=tmp_path, pids=list))


def test_calls_are_counted_and_timed(library: Bench) -> None:
    output = BenchmarkOutput.model_validate(benchmark(library, library.installed, "core-0", threading.Event(), 0.1))
    assert output.calls == library.watched.calls
    assert (output.lane, output.model.name, output.model.version) == ("core-0", "probe", "1.0.0")
    assert 0 <= output.call_ms.p50 <= output.call_ms.p95 <= output.call_ms.max
    assert output.inference_ms.p50 <= output.call_ms.max
    assert output.rate_hz > 0
    assert output.load_ms >= 0
    assert library.watched.is_closed


def test_one_call_is_made_however_short_the_time_is(library: Bench) -> None:
    stop = threading.Event()
    stop.set()
    output = BenchmarkOutput.model_validate(benchmark(library, library.installed, "core-0", stop, 300.0))
    assert output.calls == 1
    assert library.watched.is_closed


def test_a_model_that_fails_ends_it_and_is_closed(library: Bench) -> None:
    library.fails_at = 2
    with pytest.raises(AgentError) as failed:
        benchmark(library, library.installed, "core-0", threading.Event(), 300.0)
    assert failed.value.code is FailureCode.NPU_FAULT
    assert library.watched.is_closed
