"""Pictures with exact masks for training and measurement, from procedural boards; nothing is read or downloaded."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from agent.core.frame import Pixels
from agent.core.vision.boards import artwork, shoot
from agent.core.vision.boards.conveyor import Conveyor
from agent.core.vision.boards.defects import Defect, flaw
from modelkit.data import Mask, Sample

PLATE_PX: Final = 512
BAR_GREY: Final = 114
"""What letterboxing fills with; the manifest's preprocess says the same."""
_TRAINING, _VALIDATION, _CALIBRATION = 1_000_000, 2_000_000, 3_000_000


@dataclass(frozen=True, slots=True)
class Plate:
    """A board before the camera: (H, W) uint8 of materials, of materials without the faults, and of defect classes;
    `spots` (N, 2) are the (x, y) of pixels of defects.
    """

    ground: Mask
    golden: Mask
    mask: Mask
    spots: npt.NDArray[np.int64]


def plate(seed: int, good_share: float = 0.35) -> Plate:
    """One board of 512x512 px, with 5 to 19 faults of even kinds unless it is one of the good ones."""
    rng = np.random.default_rng(seed)
    art = artwork.draw(rng, PLATE_PX, PLATE_PX, float(np.exp(rng.uniform(np.log(16), np.log(40)))))
    good = rng.random() < good_share
    kinds = [] if good else [Defect(int(k)) for k in rng.integers(1, 7, int(rng.integers(5, 20)))]
    flawed = flaw(art, rng, kinds, float(rng.uniform(1.2, 2.1)))
    spots = np.argwhere(flawed.mask)[:, ::-1]
    return Plate(shoot.materials(art, flawed.copper), shoot.materials(art, art.copper), flawed.mask, spots)


@dataclass(frozen=True, slots=True)
class Shots:
    """How boards are looked at. In `aimed_share` of cases the camera is aimed at a defect, if the board has any: small
    crops would mostly miss them. `paired` adds the reference: the board without its faults, from nearly the same place.
    """

    size_px: int = PLATE_PX
    aimed_share: float = 0.0
    binarised_share: float = 0.4
    paired: bool = False


def view(board: Plate, rng: np.random.Generator, shots: Shots, name: str = "") -> Sample:
    """A camera's look at a part of the board: turned, scaled, lit; sometimes past its edge, sometimes letterboxed."""
    size_px = shots.size_px
    matrix = _placement(board, rng, size_px, shots.aimed_share)
    look = shoot.random_look(rng, shots.binarised_share)
    rgb = shoot.expose(shoot.paint(board.ground, matrix, look, size_px, size_px), look, rng)
    mask = shoot.place(board.mask, matrix, size_px, size_px)
    layers = [rgb, mask]
    if shots.paired:
        layers.append(_reference(board, matrix, look, size_px, rng.spawn(1)[0]))
    if rng.random() < 0.12:
        _letterbox_bars(layers, mask, rng)
    return Sample(name, rgb, mask, layers[2] if shots.paired else None)


def _reference(
    board: Plate, matrix: npt.NDArray[np.float64], look: shoot.Look, size_px: int, rng: np.random.Generator
) -> Pixels:
    """Taken at another time: light, blur and noise of its own, and off by up to about a pixel."""
    moved = matrix.copy()
    moved[:, 2] += np.clip(rng.normal(0, 0.4, 2), -1.2, 1.2)
    middle, right, bottom = look.gain
    if not look.binarised:
        middle *= float(rng.uniform(0.85, 1.15))
    other = replace(look, blur_px=look.blur_px * float(rng.uniform(0.8, 1.25)), gain=(middle, right, bottom))
    return shoot.expose(shoot.paint(board.golden, moved, other, size_px, size_px), other, rng)


def _placement(board: Plate, rng: np.random.Generator, size_px: int, aimed_share: float) -> npt.NDArray[np.float64]:
    scale = float(rng.uniform(0.8, 1.25))
    tilt = rng.uniform(0, 360) if rng.random() < 0.1 else rng.normal(0, 2.5)
    angle = np.radians(90 * rng.integers(4) + tilt)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    if rng.random() < 0.5:
        turn[:, 0] *= -1
    reach = size_px / scale / 2
    inner = (min(reach, PLATE_PX / 2), max(PLATE_PX - reach, PLATE_PX / 2))
    centre = rng.uniform(*((0.0, float(PLATE_PX)) if rng.random() < 0.2 else inner), 2)
    if len(board.spots) and rng.random() < aimed_share:
        centre = board.spots[int(rng.integers(len(board.spots)))] + rng.uniform(-0.4, 0.4, 2) * size_px / scale
    shift = size_px / 2 - turn @ centre
    return np.concatenate([turn, shift[:, None]], axis=1)


def _letterbox_bars(layers: list[Pixels], mask: Mask, rng: np.random.Generator) -> None:
    """Grey over one side of all pictures, as at the edge of a letterboxed one."""
    size = mask.shape[0]
    first, last = sorted((int(rng.integers(size // 2)), 0) if rng.random() < 0.5 else (size - 1, int(size * 0.6)))
    along = np.s_[first:last] if rng.random() < 0.5 else np.s_[:, first:last]
    for layer in layers:
        layer[along] = 0 if layer is mask else BAR_GREY


def training(seed: int, plates: int, shots: Shots) -> Iterator[Sample]:
    """Endless views of `plates` boards; boards are drawn once and kept (0.8 MB each)."""
    rng = np.random.default_rng(seed)
    stock: dict[int, Plate] = {}
    while True:
        index = _TRAINING + int(rng.integers(plates))
        if index not in stock:
            stock[index] = plate(index)
        yield view(stock[index], rng, shots)


def validation(count: int, size_px: int = PLATE_PX, first: int = 0) -> list[Sample]:
    """Fixed pictures that training never sees: every fourth is a letterboxed picture of the conveyor."""
    return _fixed(_VALIDATION + first, count, size_px)


def calibration(count: int, size_px: int = PLATE_PX) -> list[Sample]:
    """Fixed pictures for the ranges of quantisation, from neither training nor validation."""
    return _fixed(_CALIBRATION, count, size_px)


def pairs(count: int, shots: Shots, first: int = 0) -> list[Sample]:
    """Fixed pictures with their references, of boards with faults."""
    shots = replace(shots, paired=True)
    seeds = range(_VALIDATION + first, _VALIDATION + first + count)
    return [view(plate(seed, good_share=0), np.random.default_rng(seed), shots, str(seed)) for seed in seeds]


def _fixed(first: int, count: int, size_px: int) -> list[Sample]:
    out = []
    for index in range(count):
        seed = first + index
        if index % 4 == 3:
            shot = Conveyor(seed, 720, 960).frame(int(np.random.default_rng(seed).integers(400)))
            out.append(letterboxed(Sample(str(seed), shot.rgb, shot.mask), size_px))
        else:
            out.append(view(plate(seed), np.random.default_rng(seed), Shots(size_px), str(seed)))
    return out


def letterboxed(sample: Sample, size_px: int) -> Sample:
    """Scale to a square, aspect ratio kept, in the middle of grey bars."""
    high, wide = sample.mask.shape
    scale = size_px / max(high, wide)
    inner = max(1, round(wide * scale)), max(1, round(high * scale))
    top, left = (size_px - inner[1]) // 2, (size_px - inner[0]) // 2
    within = np.s_[top : top + inner[1], left : left + inner[0]]

    def boxed(picture: Pixels) -> Pixels:
        out = np.full((size_px, size_px, 3), BAR_GREY, np.uint8)
        out[within] = cv2.resize(np.ascontiguousarray(picture), inner, interpolation=cv2.INTER_LINEAR)
        return out

    mask = np.zeros((size_px, size_px), np.uint8)
    mask[within] = cv2.resize(sample.mask, inner, interpolation=cv2.INTER_NEAREST)
    reference = None if sample.reference is None else boxed(sample.reference)
    return Sample(sample.id, boxed(sample.image), mask, reference)


def write(samples: list[Sample], folder: Path) -> None:
    """Write `NNNN.png`, `NNNN_mask.png` and one `sheet.png` with the defects framed."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, sample in enumerate(samples):
        cv2.imwrite(str(folder / f"{index:04d}.png"), sample.image[:, :, ::-1])
        cv2.imwrite(str(folder / f"{index:04d}_mask.png"), sample.mask)
    cv2.imwrite(str(folder / "sheet.png"), sheet([framed(s.image, s.mask) for s in samples[:16]])[:, :, ::-1])


COLOURS: Final = ("#000000", "#e6194b", "#f58231", "#4363d8", "#911eb4", "#ffe119", "#42d4f4")


def framed(rgb: Pixels, mask: Mask) -> Pixels:
    """A copy with a box in the class's colour around each region."""
    out = rgb.copy()
    for class_id, colour in enumerate(COLOURS[1:], 1):
        shade = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        _, _, stats, _ = cv2.connectedComponentsWithStats((mask == class_id).astype(np.uint8))
        for x, y, wide, high, _ in stats[1:].tolist():
            cv2.rectangle(out, (x - 5, y - 5), (x + wide + 4, y + high + 4), shade, 2)
    return out


def sheet(pictures: list[Pixels], columns: int = 4) -> Pixels:
    """Pictures of one size side by side."""
    blank = np.zeros_like(pictures[0])
    full = pictures + [blank] * (-len(pictures) % columns)
    rows = [np.hstack(full[i : i + columns]) for i in range(0, len(full), columns)]
    return np.vstack(rows)
