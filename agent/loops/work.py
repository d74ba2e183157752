"""A picture in a lane's hands, from when it was taken until its result is handed in."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from agent.core.frame import Frame
from agent.core.result import Judged
from agent.errors import AgentError
from agent.loops.inspect import CameraPlan, Loaded, Look, StopWatch
from agent.loops.latest import Taken
from agent.loops.record import LaneParts
from agent.loops.turns import Turn
from schemas.result import Fault


@dataclass(frozen=True, slots=True)
class Work:
    """`watch` is its own and nobody else's."""

    frame: Frame
    plan: CameraPlan
    turn: Turn
    watch: StopWatch
    started_at: datetime
    began_s: float

    @classmethod
    def begin(cls, taken: Taken[Frame], plan: CameraPlan, parts: LaneParts) -> Self:
        frame, began_s = taken.item, parts.monotonic()
        waited = {"acquire": frame.acquisition_ms, "wait": (began_s - frame.captured_mono_s) * 1e3}
        return cls(frame, plan, taken.turn, StopWatch(parts.monotonic, waited), parts.now(), began_s)

    def judged(self, loaded: Loaded, seen: Look, parts: LaneParts) -> Judged:
        return replace(
            self._ended(loaded, parts),
            evaluation=seen.evaluation,
            reasons=seen.reasons,
            found=seen.found,
            quality=seen.quality,
            model_input=seen.model_input,
        )

    def failed(self, loaded: Loaded, error: AgentError, parts: LaneParts) -> Judged:
        return replace(self._ended(loaded, parts), fault=Fault(code=error.code, text=error.text[:2000]))

    def _ended(self, loaded: Loaded, parts: LaneParts) -> Judged:
        spent_ms = (parts.monotonic() - self.began_s) * 1e3
        return Judged(self.frame, loaded.model, self.started_at, parts.now(), spent_ms, self.watch.stages)
