"""From what a pipeline file says of its data to the pictures of each step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from modelkit import sources, synthesise
from modelkit.data import Dataset, Sample, deeppcb, read_all
from modelkit.data.coco import Coco
from modelkit.data.crops import Augment, crops
from modelkit.data.folder import Folder
from modelkit.data.split import Part, Split
from modelkit.measure import Thresholds
from modelkit.pipeline.seen import Drawn, Seen
from modelkit.pipeline.spec_data import Boards, CocoData, Data, DeepPcb, FolderData
from modelkit.plan import Plan
from modelkit.sources import Source
from schemas.manifest import Clahe

_CALIBRATION_FIRST: Final = 500_000
_POPULATION: Final = 4
"""So many drawn pictures for each that calibrates: the choice is made among them."""


@dataclass(frozen=True)
class Supply:
    """Data of any kind. With `clahe` a model sees them so, in training too; `measured` are as the camera gives them,
    since whoever measures prepares them as a board does.
    """

    data: Data
    clahe: Clahe | None = None

    @cached_property
    def source(self) -> Source:
        """Errors: DataError for data that are not there or broken."""
        data = self.data
        if isinstance(data, Boards):
            return _boards(data)
        if isinstance(data, DeepPcb):
            return sources.deeppcb(data.folder)
        return _own(data, self.train, self.validation)

    @cached_property
    def train(self) -> Dataset:
        """Not of drawn boards, which have no end."""
        return self._seen("train", self.clahe)

    @cached_property
    def validation(self) -> Dataset:
        return self._seen("validation", self.clahe)

    def measured(self) -> Sequence[Sample]:
        """The validation pictures, in their own size."""
        if isinstance(self.data, Boards | DeepPcb):
            return self.source.validation()
        return read_all(_half(self.data, "validation"))

    def plain(self) -> Sequence[Sample]:
        """The validation pictures at the model's size, without `clahe`."""
        return self.measured() if isinstance(self.data, Boards) else read_all(self._seen("validation", None))

    def _seen(self, part: Part, clahe: Clahe | None) -> Dataset:
        match self.data:
            case Boards():
                raise TypeError("drawn boards have no fixed parts")
            case DeepPcb():
                return deeppcb.DeepPcb(self.data.folder, part)
            case _:
                return Seen(_half(self.data, part), self.data.size_px, clahe)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes by id, the background first."""
        return deeppcb.CLASSES if isinstance(self.data, Boards) else tuple(self.train.classes)

    def population(self, images: int) -> Dataset:
        """What calibration pictures are chosen from, so many: the training part."""
        if isinstance(self.data, Boards):
            return Drawn(_for_ranges(self.data, _POPULATION * images))
        return self.train

    def files(self) -> tuple[Path, ...]:
        """What the data are read from; nothing where they are drawn."""
        match self.data:
            case DeepPcb() | FolderData():
                return (self.data.folder,)
            case CocoData():
                return (self.data.annotations, self.data.images)
            case _:
                return ()

    @property
    def words(self) -> str:
        """For the card."""
        match self.data:
            case Boards():
                return "Procedural boards, drawn by this project."
            case DeepPcb():
                return "DeepPCB, pairs of a tested board and its template; learned from the part that is not held out."
            case _:
                held_out = f"{len(self.validation.ids)} are held out"
                return f"{self.data.kind}: {len(self.train.ids)} pictures to learn from, {held_out}."

    @property
    def options(self) -> str:
        """Those that make `evaluate` measure on the same data."""
        match self.data:
            case Boards():
                return f" --count {self.data.validation}"
            case DeepPcb():
                return f" --deeppcb {self.data.folder}"
            case FolderData():
                return f" --data folder:{self.data.folder}"
            case CocoData():
                return f" --data coco:{self.data.annotations}:{self.data.images}"


def _half(data: FolderData | CocoData, part: Part) -> Dataset:
    whole: Dataset = Folder(data.folder) if isinstance(data, FolderData) else Coco(data.annotations, data.images)
    return Split(whole, part, data.held_out)


def _boards(data: Boards) -> Source:
    def training(plan: Plan) -> Callable[[int], Iterator[Sample]]:
        shots = synthesise.Shots(plan.crop_px, aimed_share=0.7, paired=data.reference)
        return lambda seed: synthesise.training(seed, data.plates, shots)

    return replace(
        sources.procedural(),
        roles=("image", "reference") if data.reference else ("image",),
        size_px=data.size_px,
        crops=training,
        watched=lambda: _unseen(data, data.watched, 0),
        validation=lambda: _unseen(data, data.validation, sources.MEASURED_FROM),
        calibration=lambda: _for_ranges(data, sources.CALIBRATION_IMAGES),
        golden=lambda: _unseen(data, data.golden, sources.GOLDEN_FIRST),
        dataset="drawn boards of seeds that training never saw, after postprocessing",
    )


def _unseen(data: Boards, count: int, first: int) -> list[Sample]:
    if data.reference:
        return synthesise.pairs(count, synthesise.Shots(data.size_px), first)
    return synthesise.validation(count, data.size_px, first)


def _for_ranges(data: Boards, count: int) -> list[Sample]:
    if data.reference:
        return synthesise.pairs(count, synthesise.Shots(data.size_px), _CALIBRATION_FIRST)
    return synthesise.calibration(count, data.size_px)


def _own(data: FolderData | CocoData, train: Dataset, validation: Dataset) -> Source:
    """All pictures are kept in memory once they are asked for."""

    def training(plan: Plan) -> Callable[[int], Iterator[Sample]]:
        samples = read_all(train)
        augment = Augment().scaled_by(plan.faults)
        return lambda seed: crops(samples, plan.crop_px, seed, augment)

    def some(of: Dataset, count: int) -> list[Sample]:
        step = max(1, len(of.ids) // count)
        return read_all(of, of.ids[::step][:count])

    is_paired = isinstance(data, FolderData) and data.reference
    return Source(
        roles=("image", "reference") if is_paired else ("image",),
        size_px=data.size_px,
        crops=training,
        watched=lambda: some(validation, data.watched),
        validation=lambda: read_all(validation),
        calibration=lambda: some(train, sources.CALIBRATION_IMAGES),
        golden=lambda: some(validation, data.golden),
        boxes=dict,
        thresholds=Thresholds(),
        dataset=f"{data.held_out:.0%} of the pictures, held out by the digest of their names, after postprocessing",
        licence="not stated",
        description="Segments " + ", ".join(validation.classes[1:]) + ".",
    )
