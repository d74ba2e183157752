import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.vision.geometry import Placement, Roi, axis, place
from agent.core.vision.tiling import Stitch
from schemas.manifest import Letterbox, Tile

FITS = st.one_of(
    st.builds(Letterbox),
    st.builds(Tile, overlap_px=st.integers(0, 8), scale=st.sampled_from([1.0, 0.5, 0.37, 1.9])),
)

ANY_SPEED = settings(deadline=None)


@st.composite
def placements(draw: st.DrawFn, largest: int = 700) -> Placement:
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    even = draw(st.booleans())
    if even:
        height, width = 2 * height, 2 * width
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    roi = draw(st.none() | st.just(Roi(x, y, draw(st.integers(1, width)), draw(st.integers(1, height)))))
    tile_hw = draw(st.integers(16, 96)), draw(st.integers(16, 96))
    return place((height, width), roi, tile_hw, draw(FITS), even=even)


@ANY_SPEED
@given(placements(), st.floats(0, 1), st.floats(0, 1), st.data())
def test_a_point_comes_back_from_its_tile(placement: Placement, u: float, v: float, data: st.DataObject) -> None:
    tile = data.draw(st.integers(0, placement.tiles - 1))
    x, y = placement.roi.x + u * placement.roi.w, placement.roi.y + v * placement.roi.h
    assert placement.to_camera(*placement.to_tile(x, y, tile), tile) == pytest.approx((x, y), abs=1e-6)


@ANY_SPEED
@given(placements())
def test_integer_edges_lie_within_half_a_pixel_of_the_exact_ones(placement: Placement) -> None:
    for camera_px, canvas_px in zip((placement.roi.h, placement.roi.w), placement.canvas_hw, strict=True):
        way = axis(camera_px, canvas_px)
        cells = way.pick if way.pick is not None else np.arange(canvas_px)
        assert (np.diff(way.edges) >= 1).all()
        assert (way.edges[0], way.edges[-1]) == (0, camera_px)
        # The centre of each camera pixel lies in the canvas pixel that it is given.
        owner = cells.repeat(np.diff(way.edges))
        centre = (np.arange(camera_px) + 0.5) * canvas_px / camera_px
        assert (owner <= centre + 1e-9).all()
        assert (centre <= owner + 1 + 1e-9).all()
        if way.pick is None:
            exact = np.arange(canvas_px + 1) * camera_px / canvas_px
            assert (np.abs(way.edges - exact) <= 0.5 + 1e-9).all()


@ANY_SPEED
@given(placements(), st.data())
def test_a_box_on_the_model_comes_back_within_half_a_model_pixel(placement: Placement, data: st.DataObject) -> None:
    """A box drawn on canvas pixels, to the camera by the integer edges, and to the canvas again."""
    if placement.roi.h < placement.canvas_hw[0] or placement.roi.w < placement.canvas_hw[1]:
        return
    left = data.draw(st.integers(0, placement.canvas_hw[1] - 1))
    right = data.draw(st.integers(left + 1, placement.canvas_hw[1]))
    edges = placement.columns.edges + placement.roi.x
    for column in (left, right):
        x, _ = placement.to_tile(float(edges[column]), 0.0)
        assert abs(x + placement.lefts[0] - column) <= 0.5 + 1e-9


@ANY_SPEED
@given(placements())
def test_letterbox_keeps_the_aspect_ratio_and_even_sizes(placement: Placement) -> None:
    roi, (height, width) = placement.roi, placement.canvas_hw
    scaled = (height, width) != (roi.h, roi.w)
    if scaled:
        assert height % 2 == width % 2 == 0
    if placement.tiles == 1 and scaled and min(height, width) > 2:
        # Rounding to even sizes costs at most one pixel, and two where the model's own size is odd.
        assert abs(height * roi.w - width * roi.h) <= 2 * max(roi.w, roi.h) * 2


@settings(deadline=None, max_examples=40)
@given(placements(largest=110))
def test_tiles_cover_the_canvas_and_each_pixel_has_its_deepest_tile(placement: Placement) -> None:
    height, width = placement.canvas_hw
    deepest = np.full((height, width), -(10**6))
    owner = np.full((height, width), -1)
    claimed = np.zeros((height, width), np.int64)
    for tile in range(placement.tiles):
        top, left = placement.origin(tile)
        rows, columns = placement.owned(tile)
        claimed[rows, columns] += 1
        y, x = np.arange(height) - top, np.arange(width) - left
        depth_y = np.minimum(y, placement.tile_hw[0] - 1 - y)
        depth_x = np.minimum(x, placement.tile_hw[1] - 1 - x)
        depth = np.minimum(depth_y[:, None], depth_x[None, :])
        owner[rows, columns] = depth[rows, columns]
        deepest = np.maximum(deepest, depth)
    assert (claimed == 1).all()
    assert (owner >= 0).all()
    assert (owner == deepest).all()


@settings(deadline=None, max_examples=50)
@given(placements(largest=300))
def test_stitched_tiles_equal_the_whole(placement: Placement) -> None:
    height, width = placement.canvas_hw
    rng = np.random.default_rng(height * 1000 + width)
    whole = rng.integers(0, 7, (2, height, width), np.uint8)
    stitch = Stitch(placement)
    for tile in range(placement.tiles):
        top, left = placement.origin(tile)
        part = rng.integers(0, 255, (2, *placement.tile_hw), np.uint8)
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = min(top + placement.tile_hw[0], height), min(left + placement.tile_hw[1], width)
        part[:, y0 - top : y1 - top, x0 - left : x1 - left] = whole[:, y0:y1, x0:x1]
        stitch.add(tile, part[0], part[1])
        if placement.tiles > 1:
            part[:] = 99  # what a segmenter's buffer holds after its next call
    class_map, score = stitch.result()
    assert (class_map == whole[0]).all()
    assert (score == whole[1]).all()


def test_a_single_tile_is_not_copied() -> None:
    placement = place((60, 100), None, (64, 64), Letterbox(), even=False)
    class_map, score = np.zeros((2, 64, 64), np.uint8)
    stitch = Stitch(placement)
    stitch.add(0, class_map, score)
    assert np.shares_memory(stitch.result()[0], class_map)


def test_stitch_refuses_what_does_not_fit() -> None:
    placement = place((60, 200), None, (32, 32), Tile(overlap_px=8), even=False)
    stitch = Stitch(placement)
    whole = np.zeros((32, 32), np.uint8)
    with pytest.raises(ValueError, match="missing"):
        stitch.result()
    with pytest.raises(ValueError, match="do not fit"):
        stitch.add(0, whole[:-1], whole)
    stitch.add(0, whole, whole)
    with pytest.raises(KeyError):
        stitch.add(0, whole, whole)
    with pytest.raises(KeyError):
        stitch.add(placement.tiles, whole, whole)


@pytest.mark.parametrize(
    ("roi", "even", "expected"),
    [
        pytest.param(Roi(3, 5, 10, 10), False, Roi(3, 5, 10, 10), id="inside: kept"),
        pytest.param(Roi(3, 5, 10, 10), True, Roi(2, 4, 12, 12), id="NV12: grown to even"),
        pytest.param(Roi(90, 40, 500, 500), False, Roi(90, 40, 10, 20), id="over the edge: clipped"),
        pytest.param(Roi(99, 59, 500, 500), True, Roi(98, 58, 2, 2), id="NV12 at the last pixel"),
    ],
)
def test_roi_is_clipped_to_the_picture(roi: Roi, even: bool, expected: Roi) -> None:
    assert roi.clip((60, 100), even=even) == expected


def test_roi_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Roi(0, 0, 0, 5)
    with pytest.raises(ValueError, match="start"):
        Roi(-1, 0, 5, 5)
    with pytest.raises(ValueError, match="outside"):
        Roi(100, 0, 5, 5).clip((60, 100), even=False)
