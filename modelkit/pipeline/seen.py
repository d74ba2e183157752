"""Samples behind the dataset port as a model sees them."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from agent.core.frame import Layout, Picture
from agent.core.vision import Placement, View, prepare
from modelkit import synthesise
from modelkit.data import Dataset, Mask, Sample, deeppcb
from schemas.manifest import Clahe, Letterbox


@dataclass(frozen=True, slots=True)
class Drawn:
    """Samples in memory behind the dataset port."""

    samples: Sequence[Sample]

    @property
    def classes(self) -> tuple[str, ...]:
        return deeppcb.CLASSES

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sample.id for sample in self.samples)

    def read(self, sample_id: str) -> Sample:
        return next(sample for sample in self.samples if sample.id == sample_id)


@dataclass(frozen=True, slots=True)
class Seen:
    """A data set with each picture letterboxed to the model's square, and equalised where there is a `clahe`, by the
    very code that a board does it with.
    """

    whole: Dataset
    size_px: int
    clahe: Clahe | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.whole.classes)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.whole.ids)

    def read(self, sample_id: str) -> Sample:
        sample = self.whole.read(sample_id)
        paired = sample.reference is not None
        view = View(
            tile_hw=(self.size_px, self.size_px),
            roi=None,
            fit=Letterbox(fill=synthesise.BAR_GREY),
            clahe=self.clahe,
            roles=("image", "reference") if paired else ("image",),
            names=self.classes,
            limits=bytes(256),
            least_area_px=(0,) * len(self.classes),
        )
        reference = None if sample.reference is None else _picture(sample.reference)
        prepared = prepare(_picture(sample.image), view, reference)
        inputs = prepared.inputs[0]
        return Sample(sample.id, inputs[0], _laid(sample.mask, prepared.placement), inputs[1] if paired else None)


def _picture(rgb: np.ndarray) -> Picture:
    return Picture(np.ascontiguousarray(rgb), Layout.RGB)


def _laid(mask: Mask, placement: Placement) -> Mask:
    """The mask where its picture lies in the tile; around it is background."""
    high, wide = placement.canvas_hw
    top, left = -placement.tops[0], -placement.lefts[0]
    out = np.zeros(placement.tile_hw, np.uint8)
    out[top : top + high, left : left + wide] = cv2.resize(mask, (wide, high), interpolation=cv2.INTER_NEAREST)
    return out
