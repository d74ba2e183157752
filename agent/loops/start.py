"""How far the start is: when each of its phases was over, once and for all."""

from collections.abc import Mapping
from enum import StrEnum

from agent.core.watch import Phase
from agent.loops.capture import CameraReport
from agent.loops.orders import LaneReport
from agent.ports import Connected


class Milestone(StrEnum):
    """In the order in which they come, but for the three in the middle, which wait for nothing of each other."""

    IMPORTED = "imported"
    STORES = "stores"
    BROKER_CONNECTED = "broker_connected"
    CAMERA_OPENED = "camera_opened"
    MODEL_LOADED = "model_loaded"
    FIRST_RESULT = "first_result"


class Start:
    """`began_s` is when the process was started, by the monotonic clock. Any thread may call."""

    def __init__(self, began_s: float) -> None:
        self.began_s = began_s
        self._reached_ms: dict[Milestone, float] = {}

    def reach(self, milestone: Milestone, now_s: float) -> None:
        """Only the first time counts."""
        self._reached_ms.setdefault(milestone, round((now_s - self.began_s) * 1e3, 1))

    def saw(self, item: object, now_s: float) -> None:
        """Whatever control is told; the first camera, the first lane count."""
        match item:
            case Connected():
                self.reach(Milestone.BROKER_CONNECTED, now_s)
            case CameraReport(phase=Phase.STREAMING):
                self.reach(Milestone.CAMERA_OPENED, now_s)
            case LaneReport(code=None):
                self.reach(Milestone.MODEL_LOADED, now_s)

    @property
    def reached_ms(self) -> Mapping[str, float]:
        """Since the start of the process, by the name of the milestone."""
        return {milestone.value: at_ms for milestone, at_ms in dict(self._reached_ms).items()}
