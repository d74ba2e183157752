from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from agent.core.vision import Found, Placement, Region, Roi, View, rle
from agent.core.vision import regions as find
from agent.core.vision.geometry import place
from agent.core.vision.regions import MOST_REGIONS
from schemas.manifest import Letterbox, Tile

Map = npt.NDArray[np.uint8]
NAMES = ("background", "open", "short", "spur")
SEEN = bytes([255, 0, 0, 0]).ljust(256, b"\xff")


def _view(limits: bytes = SEEN, least_area_px: tuple[int, ...] = (0, 0, 0, 0)) -> View:
    return View((32, 32), None, Letterbox(), None, ("image",), NAMES, limits.ljust(256, b"\xff"), least_area_px)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Map, Map, Placement]:
    """Noise of blocks: many shapes, holes, islands in holes, touching classes."""
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    fit = draw(st.sampled_from([Letterbox(), Tile(overlap_px=4), Tile(overlap_px=4, scale=0.4)]))
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    roi = draw(st.none() | st.just(Roi(x, y, 40, 50)))
    placement = place((height, width), roi, draw(st.sampled_from([(32, 32), (24, 40), (17, 31)])), fit, even=False)
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    block = draw(st.sampled_from([1, 2, 5]))
    share = draw(st.sampled_from([0.02, 0.3, 0.6, 0.95]))
    h, w = placement.canvas_hw
    small = rng.integers(1, 4, (h // block + 1, w // block + 1)) * (
        rng.random((h // block + 1, w // block + 1)) < share
    )
    class_map = small.repeat(block, 0).repeat(block, 1)[:h, :w].astype(np.uint8)
    score = np.where(class_map > 0, rng.integers(1, 256, (h, w)), 0).astype(np.uint8)
    return class_map, score, placement


def _full_frame(image: Map, placement: Placement) -> Map:
    """Nearest neighbour by pixel centres, for each camera pixel by itself."""
    roi, (h, w) = placement.roi, placement.canvas_hw
    frame = np.zeros(placement.frame_hw, np.uint8)
    ys = [(2 * y + 1) * h // (2 * roi.h) for y in range(roi.h)]
    xs = [(2 * x + 1) * w // (2 * roi.w) for x in range(roi.w)]
    frame[roi.y : roi.y + roi.h, roi.x : roi.x + roi.w] = image[ys][:, xs]
    return frame


def _plain(classes: Map, score: Map) -> Iterator[tuple[int, int, tuple[int, ...], float, bytes]]:
    for class_id in range(1, len(NAMES)):
        count, labels, stats, _ = cv2.connectedComponentsWithStats((classes == class_id).astype(np.uint8))
        for label in range(1, count):
            own = labels == label
            bbox = tuple(int(value) for value in stats[label][:4])
            yield class_id, int(own.sum()), bbox, float(score[own].mean()) / 255, own.tobytes()


def _drawn(region: Region) -> npt.NDArray[np.bool_]:
    return rle.decode(region.rle, region.mask.frame_hw)


def _facts(region: Region) -> tuple[int, int, tuple[int, ...], float, bytes]:
    mask = np.ascontiguousarray(_drawn(region)).tobytes()
    return region.class_id, region.area_px, region.bbox, region.score, mask


@settings(deadline=None, max_examples=150)
@given(scenes(), st.integers(0, 255), st.integers(0, 20))
def test_regions_are_those_of_the_whole_frame(scene: tuple[Map, Map, Placement], limit: int, least_px: int) -> None:
    class_map, score, placement = scene
    view = _view(bytes([255, limit, 0, limit]), (0, least_px, 0, 0))
    found = find(class_map, score, placement, view)
    counted = score > np.array([255, limit, 0, limit], np.uint8)[class_map]
    classes = _full_frame(class_map * counted, placement)
    expected = [fact for fact in _plain(classes, _full_frame(score, placement)) if fact[0] != 1 or fact[1] >= least_px]
    assert len(found.regions) + found.omitted == len(expected)
    if not found.omitted:
        ours, theirs = sorted(map(_facts, found.regions)), sorted(expected)
        assert [fact[:3] + fact[4:] for fact in ours] == [fact[:3] + fact[4:] for fact in theirs]
        assert [fact[3] for fact in ours] == pytest.approx([fact[3] for fact in theirs])


@settings(deadline=None, max_examples=60)
@given(scenes())
def test_area_box_mask_run_lengths_and_polygon_of_a_region_agree(scene: tuple[Map, Map, Placement]) -> None:
    for region in find(*scene, _view()).regions[:20]:
        x, y, w, h = region.bbox
        mask = _drawn(region)
        assert region.area_px == mask.sum() == sum(region.rle[1::2]) == region.mask.pixels().sum()
        assert coco.toBbox({"size": list(mask.shape), "counts": region.rle_text().encode()}).tolist() == [x, y, w, h]
        assert len(region.polygon) >= 3
        assert all(x <= px <= x + w and y <= py <= y + h for px, py in region.polygon)
        assert cv2.contourArea(np.array(region.polygon, np.int32)) > 0


@pytest.mark.parametrize("radius", [4, 9, 14])
@pytest.mark.parametrize("size", [(96, 96), (240, 135), (20, 20)])
def test_polygon_has_the_area_of_the_region(radius: int, size: tuple[int, int]) -> None:
    placement = place(size, None, (32, 32), Letterbox(), even=False)
    class_map = np.zeros(placement.canvas_hw, np.uint8)
    cv2.circle(class_map, (placement.canvas_hw[1] // 2, placement.canvas_hw[0] // 2), radius, 1, -1)
    (region,) = find(class_map, class_map * 200, placement, _view()).regions
    area = cv2.contourArea(np.array(region.polygon, np.int32))
    assert area == pytest.approx(region.area_px, rel=0.15)


def test_a_rectangle_has_its_own_corners_as_polygon() -> None:
    placement = place((64, 96), None, (32, 32), Letterbox(), even=False)
    class_map = np.zeros(placement.canvas_hw, np.uint8)
    class_map[4:6, 8:13] = 2
    (region,) = find(class_map, class_map * 100, placement, _view()).regions
    x, y, w, h = region.bbox
    assert sorted(region.polygon) == sorted([(x, y), (x + w, y), (x, y + h), (x + w, y + h)])
    assert region.area_px == w * h


def test_a_clean_frame_has_no_regions() -> None:
    placement = place((64, 96), None, (32, 32), Letterbox(), even=False)
    clean = np.zeros(placement.canvas_hw, np.uint8)
    assert find(clean, clean, placement, _view()) == Found()


def test_an_ignored_class_is_not_seen() -> None:
    placement = place((32, 32), None, (32, 32), Letterbox(), even=False)
    class_map = np.full((32, 32), 1, np.uint8)
    assert find(class_map, class_map * 255, placement, _view(bytes([255, 255, 0, 0]))) == Found()


def test_too_many_regions_are_counted_and_the_heaviest_listed() -> None:
    placement = place((128, 128), None, (128, 128), Letterbox(), even=False)
    class_map = np.zeros((128, 128), np.uint8)
    class_map[::2, ::2] = 1
    score = class_map * np.uint8(9)
    class_map[100, 100] = 3
    score[100, 100] = 255
    found = find(class_map, score, placement, _view())
    assert len(found.regions) == MOST_REGIONS
    assert found.omitted == 64 * 64 - MOST_REGIONS
    assert (found.regions[0].class_name, found.regions[0].bbox) == ("spur", (100, 100, 1, 1))


def test_regions_do_not_hold_the_segmenters_buffer() -> None:
    placement = place((32, 32), None, (32, 32), Letterbox(), even=False)
    class_map = np.zeros((32, 32), np.uint8)
    class_map[3:9, 3:9] = 1
    score = class_map * np.uint8(200)
    (region,) = find(class_map, score, placement, _view()).regions
    before = region.rle
    class_map[:] = 2
    score[:] = 0
    assert region.rle == before
    assert region.area_px == 36


def test_maps_that_do_not_fit_are_refused() -> None:
    placement = place((32, 32), None, (32, 32), Letterbox(), even=False)
    good, unknown = np.zeros((32, 32), np.uint8), np.full((32, 32), 4, np.uint8)
    with pytest.raises(ValueError, match="do not fit"):
        find(good[1:], good[1:], placement, _view())
    with pytest.raises(ValueError, match="id above 3"):
        find(unknown, unknown, placement, _view())
