"""Pictures kept of parts that are not OK, for people and for training."""

import logging
from collections.abc import Callable

from agent.core import vision
from agent.core.result import Judged, Origin
from agent.core.vision.encode import jpeg
from agent.errors import AgentError
from agent.ports import EvidenceStore
from schemas.recipe import Evaluation
from schemas.result import Evidence

log = logging.getLogger(__name__)

_WORTH_KEEPING = frozenset({Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE})


class Exhibits:
    """At most one picture a camera in `interval_s`; without a store none. Owned by one lane.

    A picture that cannot be kept is logged and left out: evidence never holds up a result.
    """

    def __init__(self, store: EvidenceStore | None, interval_s: float, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._kept_s: dict[str, float] = {}

    def keep(self, judged: Judged, origin: Origin, result_id: str) -> list[Evidence]:
        camera = judged.frame.camera
        now_s = self._monotonic()
        too_soon = now_s - self._kept_s.get(camera, -self._interval_s) < self._interval_s
        if self._store is None or judged.evaluation not in _WORTH_KEEPING or too_soon:
            return []
        self._kept_s[camera] = now_s
        rgb = vision.to_rgb(judged.frame.picture)
        drawn = vision.draw(rgb, judged.found.regions, origin.classes, judged.evaluation)
        try:
            return [
                self._store.save(f"{result_id}.jpg", jpeg(rgb)),
                self._store.save(f"{result_id}.overlay.jpg", jpeg(drawn)),
            ]
        except AgentError as error:
            log.warning("no evidence for result %s: %s", result_id, error.text)
            return []
