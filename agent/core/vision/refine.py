"""A fully connected conditional random field over a class map: the manifest's step `crf`.

The library is imported when the step is used, since only boards whose models have the step need it.

Source: Kraehenbuehl and Koltun, Efficient inference in fully connected CRFs with Gaussian edge potentials, 2011, by
pydensecrf2 1.1.
"""

import importlib
import math
from types import ModuleType
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from agent.core.frame import Pixels
from agent.core.vision.prepare import Prepared, View
from schemas.manifest import Crf, Manifest

Map = npt.NDArray[np.uint8]
MOST_PX: Final = 2**18
MOST_ENERGIES: Final = 2**21
"""Pixels, and pixels times classes, that are worked on at once; what is larger is refined at a smaller scale."""
_REACH: Final = 2.0
"""Deviations of a kernel beyond which a pixel counts for nothing."""
_SUREST: Final = 0.99
"""No pixel is so sure that its surroundings cannot move it; it bounds the energies too."""


class LibraryMissing(Exception):
    """A model has a step whose library is not installed; the text says what to install."""


def require(manifest: Manifest) -> None:
    """Errors: LibraryMissing where a step of the manifest cannot be done here."""
    if any(isinstance(step, Crf) for step in manifest.postprocess):
        _library()


def refine(prepared: Prepared, view: View, class_map: Map, score: Map) -> tuple[Map, Map]:
    """Class map and score after the step of `view`, which is at the model's preferred shape; as given without a step.

    Shapes: as `Stitch.result` gives them. Errors: as those of `crf`.
    """
    step = view.at(prepared.placement.tile_hw).crf
    return (class_map, score) if step is None else crf(prepared.canvas, class_map, score, step)


def crf(rgb: Pixels, class_map: Map, score: Map, step: Crf) -> tuple[Map, Map]:
    """Shapes: rgb (H, W, 3) uint8; class_map and score (H, W) uint8, score in 1/255, and the same comes back: the score
    is then the posterior, 0 for background. Only classes that are there are given, and none beyond twice the kernels'
    width around them.

    Time: 0.8 to 1.4 s for each megapixel of the part with defects and what is around them, up to 7 s where the picture
    is noise (x86-64, one thread, 5 iterations, 2 to 5 classes); MOST_PX bound it to 0.4 s, of noise to 1.3 s.
    The library holds the interpreter's lock but between iterations. A map without defects takes no time.
    Errors: LibraryMissing; ValueError for other shapes.
    """
    if rgb.shape != (*class_map.shape, 3) or class_map.shape != score.shape:
        raise ValueError(f"a picture of {rgb.shape} and maps of {class_map.shape} and {score.shape} do not fit")
    window = _window(class_map, step)
    if window is None:
        return class_map, score
    new_map, new_score = class_map.copy(), score.copy()
    part = rgb[window], class_map[window], score[window]
    new_map[window], new_score[window] = _bounded(*part, step)
    return new_map, new_score


def _window(class_map: Map, step: Crf) -> tuple[slice, slice] | None:
    """Where defects are, and as far around as they may reach."""
    x, y, width, height = cv2.boundingRect(class_map)
    if not width:
        return None
    reach = math.ceil(_REACH * max(step.spatial_px, step.bilateral_px))
    return slice(max(0, y - reach), y + height + reach), slice(max(0, x - reach), x + width + reach)


def _bounded(rgb: Pixels, class_map: Map, score: Map, step: Crf) -> tuple[Map, Map]:
    labels = np.union1d([0], class_map).astype(np.uint8)
    most_px = min(MOST_PX, MOST_ENERGIES // len(labels))
    if class_map.size <= most_px:
        return _field(rgb, class_map, score, labels, step)
    height, width = class_map.shape
    factor = math.sqrt(most_px / class_map.size)
    small = max(1, int(width * factor)), max(1, int(height * factor))
    coarse = _resized(class_map, small)
    narrow = {"spatial_px": step.spatial_px * factor, "bilateral_px": step.bilateral_px * factor}
    colours = np.asarray(cv2.resize(rgb, small, interpolation=cv2.INTER_AREA), np.uint8)
    winner, sure = _field(colours, coarse, _resized(score, small), labels, step.model_copy(update=narrow))
    # Where nothing has changed the map keeps its own, finer edges.
    changed = _resized((winner != coarse).view(np.uint8), (width, height)) > 0
    winner, sure = _resized(winner, (width, height)), _resized(sure, (width, height))
    return np.where(changed, winner, class_map), np.where(changed | (winner == class_map), sure, score)


def _field(rgb: Pixels, class_map: Map, score: Map, labels: Map, step: Crf) -> tuple[Map, Map]:
    height, width = class_map.shape
    field = _library().DenseCRF2D(width, height, len(labels))
    field.setUnaryEnergy(_energies(class_map, score, labels, step.background_score))
    field.addPairwiseGaussian(step.spatial_px, step.spatial_weight)
    field.addPairwiseBilateral(step.bilateral_px, step.bilateral_grey, np.ascontiguousarray(rgb), step.bilateral_weight)
    posterior, first, second = field.startInference()
    for _ in range(step.iterations):
        field.stepInference(posterior, first, second)
    by_label = np.asarray(posterior)
    best = by_label.argmax(0)
    winner = labels[best].reshape(height, width)
    sure = np.rint(255 * np.take_along_axis(by_label, best[None], 0)).astype(np.uint8).reshape(height, width)
    return winner, np.where(winner > 0, sure, np.uint8(0))


def _energies(class_map: Map, score: Map, labels: Map, background_score: float) -> npt.NDArray[np.float32]:
    """(labels, pixels): the winner's softmax is known; what is left of it the others share."""
    count = len(labels)
    softmax = np.where(class_map > 0, score / np.float32(255), np.float32(background_score)).ravel()
    softmax = np.clip(softmax, 1 / count, _SUREST)
    energies = np.repeat(-np.log((1 - softmax) / (count - 1))[None], count, axis=0).astype(np.float32)
    index = np.searchsorted(labels, class_map.ravel())
    energies[index, np.arange(index.size)] = -np.log(softmax)
    return energies


def _resized(plane: Map, size: tuple[int, int]) -> Map:
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _library() -> ModuleType:
    try:
        return importlib.import_module("pydensecrf.densecrf")
    except ImportError as error:
        text = "the model's postprocess step crf needs a library that is not installed: pip install 'rkfleet[crf]'"
        raise LibraryMissing(f"{text} ({error})") from error
