"""Results without pictures: the regions that a model would have found, through the board's own verdict and message."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from agent.core.frame import Frame, Layout, Order, Picture
from agent.core.result import Fitted, Judged, Origin, draft, fitted
from agent.core.verdict import judge
from agent.core.vision import Found, Region
from agent.core.vision.rle import Mask
from agent.simulate.bundle import BUNDLE
from schemas.codes import FailureCode
from schemas.recipe import Evaluation, Recipe
from schemas.result import Clock, Fault, Station
from schemas.status import Location, ModelInfo

CAMERA = "cam0"
_HEIGHT_PX, _WIDTH_PX = 720, 960
_PICTURE = Picture(np.zeros((_HEIGHT_PX, _WIDTH_PX, 3), np.uint8), Layout.RGB)
_RECIPE = Recipe(id="default")
_WEIGHTS = (5, 2, 4, 3, 2, 1)
"""Of the defect classes, in their order: as in a line's statistics, few kinds make most of it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a picture was taken: `mono_s` by the monotonic clock, `seq` the camera's count."""

    at: datetime
    mono_s: float
    seq: int
    order: Order | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    evaluation: Evaluation
    inference_ms: float

    @property
    def stages_ms(self) -> dict[str, float]:
        return {"segment": self.inference_ms, "total": self.total_ms}

    @property
    def total_ms(self) -> float:
        """With capture, preparation and judgement, which take their time on every board."""
        return 1.3 * self.inference_ms + 4.0


def origin_of(station: Location) -> Origin:
    return Origin(
        station=Station(**station.model_dump(), camera=CAMERA),
        recipe_id=_RECIPE.id,
        external_recipe_id=None,
        is_simulated=True,
        pixel_size_mm=0.05,
        classes=tuple(BUNDLE.manifest.classes),
    )


def frame_of(moment: Moment) -> Frame:
    return Frame(_PICTURE, CAMERA, moment.seq, moment.at, moment.mono_s, 4.0, moment.order)


def result_of(inspection: Inspection, frame: Frame, model: ModelInfo, origin: Origin, chance: random.Random) -> Fitted:
    """The message but for its place in the sequence."""
    found = Found(_regions(inspection.evaluation, chance))
    fault = None
    if inspection.evaluation is Evaluation.UNDEFINED:
        fault = Fault(code=FailureCode.NPU_FAULT, text="the model gave no output")
    verdict = judge(found, _RECIPE)
    judged = Judged(
        frame=frame,
        model=model,
        started_at=frame.captured_at,
        ended_at=frame.captured_at + timedelta(milliseconds=inspection.total_ms),
        processing_ms=inspection.total_ms,
        stages_ms=inspection.stages_ms,
        evaluation=Evaluation.UNDEFINED if fault else verdict.evaluation,
        reasons=verdict.reasons,
        found=found,
        fault=fault,
    )
    return fitted(draft(judged, origin, f"{chance.getrandbits(128):032x}", Clock(synced=True, offset_ms=0.0)))


def _regions(evaluation: Evaluation, chance: random.Random) -> tuple[Region, ...]:
    match evaluation:
        case Evaluation.NOT_OK:
            return tuple(_region(chance, chance.uniform(0.6, 0.99)) for _ in range(chance.choice((1, 1, 1, 2, 3))))
        case Evaluation.NOT_DECIDABLE:
            return (_region(chance, chance.uniform(0.3, 0.49)),)
    return ()


def _region(chance: random.Random, score: float) -> Region:
    (spec,) = chance.choices(BUNDLE.manifest.classes[1:], _WEIGHTS)
    width, height = chance.randint(6, 40), chance.randint(6, 40)
    x, y = chance.randrange(_WIDTH_PX - width), chance.randrange(_HEIGHT_PX - height)
    mask = Mask(np.ones((1, 1), np.bool_), np.array([y, y + height]), np.array([x, x + width]), (_HEIGHT_PX, _WIDTH_PX))
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    return Region(spec.id, spec.name, score, width * height, (x, y, width, height), corners, mask)
