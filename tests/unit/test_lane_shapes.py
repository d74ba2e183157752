"""Adaptive input through a lane: which shape the model gets, when it changes, and what the result says of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agent.build import camera_plans
from agent.config import parse
from agent.core.bundle import Bundle
from agent.core.frame import Frame, Layout, Picture, Pixels
from agent.core.vision import ShapeRule
from agent.errors import AgentError, Permanent
from agent.loops.inspect import InputShape, Loaded, StopWatch, look
from agent.ports import Segmentation
from schemas.codes import FailureCode
from schemas.manifest import Adaptive, Tile
from schemas.result import Result
from schemas.topics import Topics
from tests.unit.a_bundle import a_bundle
from tests.unit.lane_bench import MODEL, NOW, OLD, Bench, Scripted

LARGE, SMALL = (64, 64), (32, 32)
HOLD = 3


class Recording(Scripted):
    """Remembers the shapes that it was given."""

    shapes: Sequence[tuple[int, int]] = (LARGE, SMALL)

    def __init__(self, faults: list[AgentError | None] | None = None) -> None:
        super().__init__(faults or [])
        self.batch = 1
        self.calls: list[int] = []
        self.given: list[tuple[int, ...]] = []

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        self.given.append(inputs[0].shape[:2])
        return super().segment(inputs)

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        assert 1 <= len(items) <= self.batch
        self.calls.append(len(items))
        return [self.segment(inputs) for inputs in items]


class AdaptiveBench(Bench):
    """`shapes` are (preferred and large, small)."""

    def __init__(
        self, faults: list[AgentError | None] | None = None, shapes: tuple[tuple[int, int], ...] = (LARGE, SMALL)
    ) -> None:
        super().__init__()
        self.segmenter: Recording = Recording(faults)
        rule = ShapeRule(shapes[::-1], (0.3,), 0.05, HOLD, 1)
        self.plan = replace(self.plan, view=replace(self.plan.view, tile_hw=shapes[0]), shape=InputShape(rule))

    def see(self, seq: int, pixels: Pixels) -> Result:
        self.slots["top"].put(_frame(seq, pixels))
        with self.spool.enough:
            assert self.spool.enough.wait_for(lambda: any(r.image.frame_id == seq for r in self.spool.results), 10)
        return next(r for r in self.spool.results if r.image.frame_id == seq)


def _frame(seq: int, pixels: Pixels) -> Frame:
    return Frame(Picture(pixels, Layout.RGB), "top", seq, NOW, 0.0, 1.0)


def _busy() -> Pixels:
    """Stripes all over."""
    stripes = np.where(np.arange(128) % 16 < 8, 0, 200).astype(np.uint8)
    return np.repeat(np.repeat(stripes[None, :, None], 128, axis=0), 3, axis=2)


def _calm() -> Pixels:
    """One bright spot of 16x16 on nothing."""
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[32:48, 32:48] = 255
    return pixels


def test_a_calm_scene_gets_the_small_shape_after_the_pictures_to_hold_a_busy_one_the_large_at_once() -> None:
    """And the result says so."""
    scenes = [_busy()] * 2 + [_calm()] * 6 + [_busy()] * 2
    with AdaptiveBench() as bench:
        results = [bench.see(seq, pixels) for seq, pixels in enumerate(scenes)]
    wanted = [LARGE] * 4 + [SMALL] * 4 + [LARGE] * 2
    assert bench.segmenter.given == wanted
    told = [result.image.model_input for result in results]
    assert [(each.height, each.width) for each in told if each] == wanted
    complexities = [each.complexity for each in told if each and each.complexity is not None]
    assert [complexity > 0.35 for complexity in complexities] == [True] * 2 + [False] * 6 + [True] * 2
    for result in results[2:8]:
        (spot,) = result.defects
        assert (spot.bbox.x, spot.bbox.y, spot.bbox.width, spot.bbox.height) == (32, 32, 16, 16)


def test_a_fault_says_nothing_of_the_input() -> None:
    with AdaptiveBench([Permanent(FailureCode.SHAPE_MISMATCH, "another shape")]) as bench:
        failed, good = bench.see(0, _calm()), bench.see(1, _calm())
    assert failed.fault is not None
    assert failed.image.model_input is None
    assert good.image.model_input is not None


def test_a_model_of_one_shape_is_not_asked_for_complexity() -> None:
    with Bench() as bench:
        told = bench.show(0, bright=True).image.model_input
    assert told is not None
    assert (told.width, told.height, told.complexity) == (32, 32, None)


def test_lanes_that_share_a_camera_agree_on_its_shape() -> None:
    bench = AdaptiveBench()
    lanes = [Loaded(Recording(), OLD, MODEL, a_bundle(), {("top", None): bench.plan}) for _ in range(2)]
    for seq in range(HOLD):
        look(_frame(seq, _calm()), lanes[seq % 2], bench.plan, StopWatch(lambda: 0.0, {}))
    given = [lane.segmenter.given for lane in lanes if isinstance(lane.segmenter, Recording)]
    assert given == [[LARGE, SMALL], [LARGE]]


def test_tiles_change_their_shape_all_at_once() -> None:
    bench = AdaptiveBench()
    plan = replace(bench.plan, view=replace(bench.plan.view, fit=Tile(overlap_px=8)))
    segmenter = Recording()
    loaded = Loaded(segmenter, OLD, MODEL, a_bundle(), {})
    for seq in range(HOLD):
        seen = look(_frame(seq, _calm()), loaded, plan, StopWatch(lambda: 0.0, {}))
    tiles = segmenter.given
    assert set(tiles) == {LARGE, SMALL}
    assert tiles == sorted(tiles, reverse=True)
    assert tiles.count(LARGE) == 2 * tiles.count(SMALL)
    assert [region.bbox for region in seen.found.regions] == [(32, 32, 16, 16)]


@pytest.mark.parametrize(
    ("batch", "calls"),
    [
        pytest.param(1, [1] * 9, id="one by one"),
        pytest.param(3, [3, 3, 3], id="whole calls"),
        pytest.param(4, [4, 4, 1], id="the last alone"),
        pytest.param(7, [7, 2], id="a rest"),
        pytest.param(16, [9], id="all at once"),
    ],
)
def test_tiles_go_as_many_in_a_call_as_the_model_takes(batch: int, calls: list[int]) -> None:
    bench = AdaptiveBench()
    plan = replace(bench.plan, view=replace(bench.plan.view, fit=Tile(overlap_px=8)), shape=None)
    segmenter = Recording()
    segmenter.batch = batch
    watch = StopWatch(lambda: 0.0, {})
    seen = look(_frame(0, _calm()), Loaded(segmenter, OLD, MODEL, a_bundle(), {}), plan, watch)
    assert len(segmenter.given) == 9
    assert segmenter.calls == calls
    assert watch.stages["inference"] == seen.inference_ms == 9.0
    assert [region.bbox for region in seen.found.regions] == [(32, 32, 16, 16)]


def _adaptive_bundle() -> Bundle:
    bundle = a_bundle(size_px=64)
    inputs = [each.model_copy(update={"shapes": [LARGE, SMALL]}) for each in bundle.manifest.inputs]
    return replace(
        bundle,
        manifest=bundle.manifest.model_copy(update={"inputs": inputs, "adaptive": Adaptive(thresholds=[0.3])}),
    )


def test_each_camera_has_a_shape_of_its_own_whatever_the_recipe(tmp_path: Any) -> None:
    document = {
        "station": {"site": "a", "node": "b"},
        "model": {"bundle": "bundle", "isolate": False},
        "camera": [{"id": name, "kind": "synthetic"} for name in ("top", "side")],
        "recipe": {"strict": {}},
    }
    settings = parse(document, tmp_path, "agent.toml")
    plans = camera_plans(settings, _adaptive_bundle(), Topics("a", "b"))
    shapes = {camera: {plan.shape for (name, _), plan in plans.items() if name == camera} for camera in ("top", "side")}
    assert [len(each) for each in shapes.values()] == [1, 1]
    assert shapes["top"] != shapes["side"]
    (shape,) = shapes["top"]
    assert shape is not None
    assert shape.now() == LARGE
    assert all(plan.shape is None for plan in camera_plans(settings, a_bundle(), Topics("a", "b")).values())


@pytest.mark.parametrize("scene", [_busy(), _calm()], ids=["busy", "calm"])
def test_the_shape_that_a_scene_settles_on_stays(scene: Pixels) -> None:
    bench = AdaptiveBench()
    segmenter = Recording()
    loaded = Loaded(segmenter, OLD, MODEL, a_bundle(), {})
    for seq in range(20):
        look(_frame(seq, scene), loaded, bench.plan, StopWatch(lambda: 0.0, {}))
    assert len(set(segmenter.given[HOLD - 1 :])) == 1
