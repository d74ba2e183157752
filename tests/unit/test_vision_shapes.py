"""One camera's pictures at each of a model's shapes: the way there and back, with and without tiles."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.frame import Layout, Picture, Pixels
from agent.core.vision import Prepared, Region, Roi, Stitch, View, prepare, regions
from schemas.manifest import Letterbox, Tile

SHAPES = ((96, 128), (48, 64), (160, 160), (24, 96))
"""The preferred one first: half of it, larger and square, and another aspect ratio."""
SEEN = bytes([255, 0]).ljust(256, b"\xff")
TILES = Tile(overlap_px=48, scale=0.5)
FITS = st.sampled_from([Letterbox(fill=0), TILES, Tile(overlap_px=8, scale=1.3), Tile(overlap_px=0)])


def _view(fit: Letterbox | Tile, roi: Roi | None = None) -> View:
    return View(SHAPES[0], roi, fit, None, ("image",), ("background", "spot"), SEEN, (0, 0))


def _bright(prepared: Prepared, view: View) -> tuple[Region, ...]:
    """As a model that takes everything bright for a spot."""
    stitch = Stitch(prepared.placement)
    for tile, (pixels,) in enumerate(prepared.inputs):
        class_map = (pixels[:, :, 0] > 127).astype(np.uint8)
        stitch.add(tile, class_map, class_map * np.uint8(255))
    return regions(*stitch.result(), prepared.placement, view).regions


def _picture(height: int, width: int, box: tuple[int, int, int, int], *, nv12: bool) -> Picture:
    x, y, w, h = box
    if nv12:
        pixels = np.full((height * 3 // 2, width), 128, np.uint8)
        pixels[:height] = 16
        pixels[y : y + h, x : x + w] = 235
        return Picture(pixels, Layout.NV12)
    rgb: Pixels = np.zeros((height, width, 3), np.uint8)
    rgb[y : y + h, x : x + w] = 255
    return Picture(rgb, Layout.RGB)


@settings(deadline=None, max_examples=120)
@given(st.tuples(st.integers(60, 200), st.integers(60, 200)), FITS, st.booleans(), st.booleans(), st.data())
def test_a_spot_lies_where_the_camera_saw_it_at_every_shape(
    half_hw: tuple[int, int], fit: Letterbox | Tile, nv12: bool, crop: bool, data: st.DataObject
) -> None:
    half_h, half_w = half_hw
    height, width = 2 * half_h, 2 * half_w
    roi = Roi(half_w // 4, half_h // 4, width - half_w // 2, height - half_h // 2) if crop else None
    area = roi or Roi(0, 0, width, height)
    w, h = area.w // 3, area.h // 3
    x = area.x + data.draw(st.integers(0, area.w - w))
    y = area.y + data.draw(st.integers(0, area.h - h))
    picture, view = _picture(height, width, (x, y, w, h), nv12=nv12), _view(fit, roi)
    for shape in SHAPES:
        prepared = prepare(picture, view.at(shape))
        assert prepared.placement.tile_hw == shape
        assert {pixels.shape for (pixels,) in prepared.inputs} == {(*shape, 3)}
        (spot,) = _bright(prepared, view)
        canvas_h, canvas_w = prepared.placement.canvas_hw
        near = 1 + 1.5 * max(1.0, area.w / canvas_w, area.h / canvas_h)
        left, top, box_w, box_h = spot.bbox
        assert [left, top, left + box_w, top + box_h] == pytest.approx([x, y, x + w, y + h], abs=near)


@settings(deadline=None, max_examples=60)
@given(st.integers(40, 400), st.integers(40, 400), st.integers(0, 48), st.floats(0.3, 2))
def test_tiles_keep_to_the_same_parts_of_the_picture(height: int, width: int, overlap_px: int, scale: float) -> None:
    view = _view(Tile(overlap_px=overlap_px, scale=scale))
    picture = _picture(height, width, (0, 0, 1, 1), nv12=False)
    whole, half = (prepare(picture, view.at(shape)).placement for shape in SHAPES[:2])
    # Even sizes round differently: at most one tile more or less along an axis.
    assert abs(len(whole.tops) - len(half.tops)) <= 1
    assert abs(len(whole.lefts) - len(half.lefts)) <= 1
    assert half.canvas_hw == pytest.approx((whole.canvas_hw[0] / 2, whole.canvas_hw[1] / 2), abs=2)
    assert isinstance(view.at(SHAPES[1]).fit, Tile)


def test_the_preferred_shape_is_the_view_itself_and_nothing_else_changes() -> None:
    view = _view(TILES)
    assert view.at(SHAPES[0]) is view
    other = view.at(SHAPES[1])
    assert other.fit == Tile(overlap_px=24, scale=0.25)
    assert replace(other, tile_hw=view.tile_hw, fit=view.fit) == view
    assert _view(Letterbox()).at(SHAPES[1]) == replace(_view(Letterbox()), tile_hw=SHAPES[1])
