"""A segmenter whose model is split into stages, each in a child process of its own."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.adapters.segmenter_process.flow import Flow, Station
from agent.adapters.segmenter_process.layouts import Tensors
from agent.adapters.segmenter_process.process import Interpreter
from agent.adapters.segmenter_process.supervised import Role, Supervised
from agent.adapters.segmenter_process.wire import BeginStage
from agent.core.frame import Pixels
from agent.core.stages import StageSpec
from agent.errors import AgentError, Permanent
from agent.ports import Runtime, Segmentation, StageFactory
from schemas.codes import FailureCode


@dataclass(frozen=True, slots=True)
class ChainLink:
    """One stage. `factory` is picklable and importable in the child, which `interpreter` runs."""

    factory: StageFactory
    spec: StageSpec
    interpreter: Interpreter = field(default_factory=Interpreter)


class ProcessChain:
    """A model in stages. While one stage works on a picture, those before it work on the next ones.

    Each stage has a child with a memory of its own; this process copies what crosses from one to the next, so that a
    child that was lost can never write into what another reads. A stage has one picture at a time, and every answer is
    checked to be the one to that picture. `deadline_s` bounds each stage's work on one picture, `load_deadline_s` the
    load of each; all load at the same time.

    A call that fails leaves no stage at work: what was under way is awaited, or ended at its deadline, and its results
    are dropped. Only the stage that was lost is started again, by the next call. Errors: those of Supervised.
    """

    def __init__(
        self,
        links: Sequence[ChainLink],
        *,
        deadline_s: float,
        load_deadline_s: float,
        core: str = "npu",
    ) -> None:
        self._model = links[0].spec.model
        self._core = core
        self._links = links
        self._stages = []
        for number, link in enumerate(links, 1):
            begin = pickle.dumps(BeginStage(link.spec, link.factory))
            slots = Tensors.slots(link.spec)
            name = f"{core} stage {number}"
            role = Role(name, slots, begin, deadline_s, load_deadline_s, link.interpreter)
            self._stages.append(Supervised(role))
        self._closed = False
        try:
            self._ready()
        except AgentError:
            self.close()
            raise

    @property
    def runtime(self) -> Runtime:
        """What computes in the stages, joined by a plus sign where it differs."""
        runtimes = [stage.runtime for stage in self._stages]
        name = "+".join(dict.fromkeys(runtime.name for runtime in runtimes))
        version = "+".join(dict.fromkeys(runtime.version for runtime in runtimes))
        return Runtime(name, version, next((runtime.driver for runtime in runtimes if runtime.driver), None))

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        return self._model.shapes

    @property
    def batch(self) -> int:
        return self._model.batch

    @property
    def pids(self) -> Sequence[int | None]:
        """Of the stages' children, None for those that do not run."""
        return [stage.child.pid if stage.child else None for stage in self._stages]

    @property
    def restarts(self) -> int:
        return sum(stage.restarts for stage in self._stages)

    def memory_bytes(self) -> int:
        """Resident memory of all children. May be called from any thread."""
        return sum(child.memory_bytes() for stage in self._stages if (child := stage.child))

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        return self.segment_all([inputs])[0]

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        if self._closed:
            raise Permanent(FailureCode.INTERNAL, f"{self._core}: the segmenter is closed")
        shape = self._model.shape_of(items, self._core)
        return Flow(self._ready(), self._model.shapes.index(shape)).run(items)

    def close(self) -> None:
        """End the children. The memory of maps still in use is freed with them."""
        self._closed = True
        for stage in self._stages:
            stage.close()

    def _ready(self) -> list[Station]:
        for stage in self._stages:
            stage.launch()
        return [
            Station(stage, Tensors(link.spec, stage.ready()))
            for stage, link in zip(self._stages, self._links, strict=True)
        ]
