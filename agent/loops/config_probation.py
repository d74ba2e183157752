"""What a configuration from afar must show before it is kept."""

from collections.abc import Collection
from dataclasses import dataclass

from agent.config import CameraSettings, Continuous, EveryInterval, Settings
from schemas.codes import FailureCode

_CAMERA_CODES = frozenset({FailureCode.CAMERA_ABSENT, FailureCode.CAMERA_LOST})
WATCHED = _CAMERA_CODES | {FailureCode.CONFIG_INVALID} | {code for code in FailureCode if code.startswith("npu-")}
"""Alarms that end a probation where their source had none of them before."""


@dataclass(frozen=True, slots=True)
class Terms:
    """`lasts_s` from the first look on. `owing` are the cameras that must show a result until then, `excused` the
    sources whose alarms tell nothing, because they had some before.
    """

    lasts_s: float
    owing: frozenset[str]
    excused: frozenset[str]


def terms(settings: Settings, before: Settings, lasts_s: float, ailing: Collection[str] | None) -> Terms:
    """`ailing` are the sources of watched alarms before the change. None at the start of the agent, where nobody knows:
    cameras that did not change are excused, and loading the model is not counted.
    """
    new = {camera.id for camera in settings.camera if _is_new(camera, settings, before)}
    owing = frozenset(camera.id for camera in settings.camera if camera.id in new and _is_due(camera, lasts_s))
    if ailing is None:
        others = frozenset(camera.id for camera in settings.camera if camera.id not in new)
        return Terms(lasts_s + settings.model.load_deadline_s, owing, others)
    return Terms(lasts_s, owing, frozenset(ailing))


class Probation:
    """Owned by one thread. Times are monotonic seconds."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._owing = set(terms.owing)
        self._since_s: float | None = None
        self._ends_s: float | None = None

    @property
    def owing(self) -> list[str]:
        """The cameras that have shown no result yet."""
        return sorted(self._owing)

    def began(self, at_s: float) -> None:
        """The change is made: what was captured before tells nothing of it."""
        self._since_s = at_s

    def is_hurt_by(self, code: FailureCode, source: str) -> bool:
        return code in WATCHED and source not in self._terms.excused

    def inspected(self, camera: str, captured_s: float | None) -> None:
        if captured_s is None or self._since_s is None or captured_s >= self._since_s:
            self._owing.discard(camera)

    def is_over(self, at_s: float) -> bool:
        if self._ends_s is None:
            self._ends_s = at_s + self._terms.lasts_s
        return at_s >= self._ends_s


def _is_new(camera: CameraSettings, settings: Settings, before: Settings) -> bool:
    old = {one.id: one for one in before.camera}.get(camera.id)
    return old is None or old != camera or before.recipe_of(old) != settings.recipe_of(camera)


def _is_due(camera: CameraSettings, within_s: float) -> bool:
    """Does it show a picture in that time by itself?"""
    match camera.trigger:
        case Continuous():
            return True
        case EveryInterval(every_s=every_s, within_s=answer_s):
            return every_s + answer_s <= within_s
    return False
