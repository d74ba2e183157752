"""Where a model's pictures come from, for each step: training, validation, calibration, golden frames."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelkit import synthesise
from modelkit.data import Sample, read_all
from modelkit.data.crops import Augment, crops
from modelkit.data.deeppcb import Box, DeepPcb
from modelkit.measure import Thresholds
from modelkit.plan import Plan

VALIDATION_IMAGES: Final = 96
CALIBRATION_IMAGES: Final = 48
GOLDEN_CANDIDATES: Final = 32
GOLDEN_FIRST: Final = 5000
MEASURED_FROM: Final = 1000
"""Past the pictures by which the trainer chose its best state."""
DEEPPCB_PX: Final = 640
_PLATES: Final = 1000
_WATCHED: Final = 4
"""One held-out pair in so many is looked at while training, to choose the best state."""


@dataclass(frozen=True, slots=True)
class Source:
    """`crops` gives training crops for a plan from a seed; `watched` chooses the best state; `boxes` are annotations
    by sample id, where there are any. The texts are the manifest's.
    """

    roles: tuple[str, ...]
    size_px: int
    crops: Callable[[Plan], Callable[[int], Iterator[Sample]]]
    watched: Callable[[], Sequence[Sample]]
    validation: Callable[[], Sequence[Sample]]
    calibration: Callable[[], Sequence[Sample]]
    golden: Callable[[], Sequence[Sample]]
    boxes: Callable[[], dict[str, list[Box]]]
    thresholds: Thresholds
    dataset: str
    licence: str
    description: str


def procedural() -> Source:
    """Drawn boards alone, one picture a board."""

    def training(plan: Plan) -> Callable[[int], Iterator[Sample]]:
        shots = synthesise.Shots(plan.crop_px, aimed_share=0.7)
        return lambda seed: synthesise.training(seed, _PLATES, shots)

    return Source(
        roles=("image",),
        size_px=synthesise.PLATE_PX,
        crops=training,
        watched=lambda: synthesise.validation(48),
        validation=lambda: synthesise.validation(VALIDATION_IMAGES, first=MEASURED_FROM),
        calibration=lambda: synthesise.calibration(CALIBRATION_IMAGES),
        golden=lambda: synthesise.validation(GOLDEN_CANDIDATES, first=GOLDEN_FIRST),
        boxes=dict,
        thresholds=Thresholds(),
        dataset="procedural boards, validation seeds (a quarter of them conveyor pictures), after postprocessing",
        licence="Apache-2.0; trained on procedural pictures alone",
        description="Finds six kinds of etching faults on bare printed circuit boards, in colour or black and white.",
    )


def deeppcb(folder: Path) -> Source:
    """DeepPCB's pairs: learned from the training part, measured on the validation part.

    Golden frames are of drawn boards in the same black and white, since the set's pictures are not handed on. The least
    area is that from which the masks' own derivation calls a piece solid.
    """
    train, held_out = DeepPcb(folder, "train", aligned_masks=True), DeepPcb(folder, "validation")

    def training(plan: Plan) -> Callable[[int], Iterator[Sample]]:
        samples = read_all(train)
        augment = Augment().scaled_by(plan.faults)
        return lambda seed: crops(samples, plan.crop_px, seed, augment)

    shots = synthesise.Shots(DEEPPCB_PX, binarised_share=1.0)
    step = max(1, len(train.ids) // CALIBRATION_IMAGES)
    return Source(
        roles=("image", "reference"),
        size_px=DEEPPCB_PX,
        crops=training,
        watched=lambda: read_all(held_out, held_out.ids[::_WATCHED]),
        validation=lambda: read_all(held_out),
        calibration=lambda: read_all(train, train.ids[::step][:CALIBRATION_IMAGES]),
        golden=lambda: synthesise.pairs(GOLDEN_CANDIDATES, shots, first=GOLDEN_FIRST),
        boxes=lambda: {name: held_out.boxes(name) for name in held_out.ids},
        thresholds=Thresholds(least_score=0.5, least_area_px=6),
        dataset="DeepPCB, the held-out part of its training split, after postprocessing",
        licence="Apache-2.0; trained on DeepPCB, whose licence is MIT and whose README limits the data to research",
        description="Finds six kinds of faults on bare boards by comparing a picture with a golden reference of it.",
    )
