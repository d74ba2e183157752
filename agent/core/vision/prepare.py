"""From a camera's picture to the model's inputs."""

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np

from agent.core.frame import Layout, Picture, Pixels
from agent.core.vision import colour
from agent.core.vision.geometry import Placement, Roi, Size, place
from schemas.manifest import Clahe, Crf, LeastArea, Letterbox, Manifest, Threshold, Tile
from schemas.recipe import ClassRules

NEVER = 255
"""A limit that no score is greater than."""
TILE_FILL = 114
"""Grey around a canvas that is smaller than its tile; the same as Letterbox.fill is by default."""


@dataclass(frozen=True, slots=True)
class View:
    """All that is fixed for one camera with one model, at one of the model's shapes: the preferred one, unless `at`
    gave it. A tile step's scale and overlap are meant for the preferred shape, and so are the widths of `crf`.

    `limits` (256 bytes) holds for each class the score, in 1/255, that a pixel must exceed to count: NEVER for the
    background, ignored classes and ids that the model has not. `least_area_px` is in camera pixels, by class.
    """

    tile_hw: Size
    roi: Roi | None
    fit: Letterbox | Tile
    clahe: Clahe | None
    roles: tuple[Literal["image", "reference"], ...]
    names: tuple[str, ...]
    limits: bytes
    least_area_px: tuple[int, ...]
    crf: Crf | None = None

    @classmethod
    def of(cls, manifest: Manifest, roi: Roi | None, rules: ClassRules) -> Self:
        """The recipe's rules go before the manifest's, a class's own before those for all.

        Equalisation, when there is one, works on the scaled region of interest, wherever it stands in the list.
        Errors: ValueError when the manifest's inputs or tiles are not possible.
        """
        preferred = {spec.shapes[0] for spec in manifest.inputs}
        tile_hw = manifest.inputs[0].shapes[0]
        if len(preferred) != 1 or min(tile_hw) < 8:
            raise ValueError(f"all inputs need one shape of at least 8x8 pixels, not {sorted(preferred)}")
        fit = next(step for step in manifest.preprocess if isinstance(step, Letterbox | Tile))
        if isinstance(fit, Tile) and 2 * fit.overlap_px > min(tile_hw):
            raise ValueError(f"tiles of {tile_hw} cannot overlap by {fit.overlap_px} pixels: half a tile at most")
        names = tuple(spec.name for spec in manifest.classes)
        return cls(
            tile_hw=tile_hw,
            roi=roi,
            fit=fit,
            clahe=next((step for step in manifest.preprocess if isinstance(step, Clahe)), None),
            roles=tuple(spec.role for spec in manifest.inputs),
            names=names,
            limits=bytes([NEVER, *(_limit(manifest, rules, name) for name in names[1:])]).ljust(256, bytes([NEVER])),
            least_area_px=tuple(_least_area_px(manifest, rules, name) for name in names),
            crf=next((step for step in manifest.postprocess if isinstance(step, Crf)), None),
        )

    def at(self, tile_hw: Size) -> Self:
        """The same for another of the model's shapes. To be asked of the view at the preferred shape.

        Tiles keep to the same parts of the picture, at another scale; the part that overlaps shrinks and grows too.
        """
        if tile_hw == self.tile_hw:
            return self
        factor = min(tile_hw[0] / self.tile_hw[0], tile_hw[1] / self.tile_hw[1])
        fit = self.fit
        if isinstance(fit, Tile):
            overlap_px = int(fit.overlap_px * factor)
            fit = fit.model_copy(update={"scale": fit.scale * factor, "overlap_px": overlap_px})
        return replace(self, tile_hw=tile_hw, fit=fit, crf=None if self.crf is None else _scaled(self.crf, factor))


def _scaled(step: Crf, factor: float) -> Crf:
    widths = {"spatial_px": max(1.0, step.spatial_px * factor), "bilateral_px": max(2.0, step.bilateral_px * factor)}
    return step.model_copy(update=widths)


def _limit(manifest: Manifest, rules: ClassRules, name: str) -> int:
    rule = rules.of(name)
    if rule.ignore:
        return NEVER
    least = rule.min_score
    if least is None:
        steps = [step for step in manifest.postprocess if isinstance(step, Threshold)]
        least = max((step.per_class.get(name, step.min_score) for step in steps), default=0.0)
    return max(1, round(255 * least)) - 1


def _least_area_px(manifest: Manifest, rules: ClassRules, name: str) -> int:
    least = rules.of(name).least_area_px
    if least is None:
        steps = [step for step in manifest.postprocess if isinstance(step, LeastArea)]
        least = max((step.per_class.get(name, step.px) for step in steps), default=0)
    return least


@dataclass(frozen=True, slots=True)
class Prepared:
    """Shapes: inputs[tile][input] is (H, W, 3) uint8 RGB, C-contiguous; canvas is the scaled region of interest as the
    camera gave it, before equalisation, and may share memory with an input.
    """

    inputs: tuple[tuple[Pixels, ...], ...]
    placement: Placement
    canvas: Pixels


def prepare(picture: Picture, view: View, reference: Picture | None = None) -> Prepared:
    """Errors: ValueError for a picture that is not what its layout says, a region of interest outside of it, or a
    model with a reference input when the reference is missing or of another size.
    """
    frame_hw = (picture.height_px, picture.width_px)
    colour.check(picture)
    if "reference" in view.roles:
        if reference is None:
            raise ValueError("the model compares with a reference picture and there is none")
        colour.check(reference)
        if (reference.height_px, reference.width_px) != frame_hw:
            raise ValueError(f"the reference has another size than the picture of {frame_hw[1]}x{frame_hw[0]} pixels")
    even = any(each is not None and each.layout is Layout.NV12 for each in (picture, reference))
    placement = place(frame_hw, view.roi, view.tile_hw, view.fit, even=even)
    canvas, own = _tiles(picture, placement, view)
    by_role = {"image": own}
    if reference is not None and "reference" in view.roles:
        by_role["reference"] = _tiles(reference, placement, view)[1]
    inputs = tuple(zip(*(by_role[role] for role in view.roles), strict=True))
    return Prepared(inputs, placement, canvas)


def _tiles(picture: Picture, placement: Placement, view: View) -> tuple[Pixels, list[Pixels]]:
    """The canvas before equalisation, and every tile."""
    board, canvas = _board(placement, view.fit.fill if isinstance(view.fit, Letterbox) else TILE_FILL)
    colour.scale_into(picture, placement.roi, canvas)
    plain = canvas
    if view.clahe is not None:
        plain = canvas.copy()
        canvas[:] = colour.equalise(plain, view.clahe)
    if placement.tiles == 1:
        return plain, [board]
    height, width = placement.tile_hw
    corners = [placement.origin(tile) for tile in range(placement.tiles)]
    # An axis with a negative origin has one tile, which starts where the board starts.
    starts = [(max(top, 0), max(left, 0)) for top, left in corners]
    return plain, [np.ascontiguousarray(board[y : y + height, x : x + width]) for y, x in starts]


def _board(placement: Placement, fill: int) -> tuple[Pixels, Pixels]:
    """Room for the canvas, filled up to at least one tile, and the canvas as a view into it."""
    (height, width), (tile_h, tile_w) = placement.canvas_hw, placement.tile_hw
    top, left = max(0, -placement.tops[0]), max(0, -placement.lefts[0])
    board = np.empty((max(height, tile_h), max(width, tile_w), 3), np.uint8)
    board[:top] = fill
    board[top + height :] = fill
    board[:, :left] = fill
    board[:, left + width :] = fill
    return board, board[top : top + height, left : left + width]
