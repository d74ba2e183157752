"""The step `crf`: what it does to a map, what it leaves alone, where it comes in, and who is refused without it."""

import importlib
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from agent.build import camera_plans
from agent.config import Settings
from agent.core.bundle import Bundle
from agent.core.frame import Frame, Layout, Picture
from agent.core.update import ModelRef
from agent.core.vision import LibraryMissing, Roi, View, prepare, refine, require
from agent.core.vision.refine import crf
from agent.errors import Permanent
from agent.loops.inspect import CameraPlan, Loaded, StopWatch, look
from schemas.codes import FailureCode
from schemas.manifest import Crf, LeastArea, Manifest, Threshold, Tile
from schemas.recipe import ClassRules
from schemas.topics import Topics
from tests.unit.a_bundle import a_bundle
from tests.unit.lane_bench import MODEL, Scripted, a_plan

Map = npt.NDArray[np.uint8]
STEP = Crf()
MODULE: Any = importlib.import_module("agent.core.vision.refine")
SIDE = 64


@pytest.fixture
def installed() -> None:
    pytest.importorskip("pydensecrf", reason="the extra crf is not installed")


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)


def scene(side: int = SIDE) -> tuple[Map, Map]:
    """A red disc on pale ground with grain, and where it is."""
    truth = np.zeros((side, side), np.uint8)
    cv2.circle(truth, (side // 2, side // 2), side // 5, 1, -1)
    disc, ground = np.array([150, 40, 40], np.int16), np.array([200, 150, 140], np.int16)
    rgb = np.where(truth[..., None] > 0, disc, ground)
    rgb += np.random.default_rng(1).integers(-6, 7, rgb.shape, np.int16)
    return np.clip(rgb, 0, 255).astype(np.uint8), truth


def scores(class_map: Map, score: int = 200) -> Map:
    return np.where(class_map > 0, np.uint8(score), np.uint8(0))


def wrong(found: Map, truth: Map) -> int:
    return int((found != truth).sum())


def moved(truth: Map) -> Map:
    return np.roll(truth, 3, axis=1)


def swollen(truth: Map) -> Map:
    return np.asarray(cv2.dilate(truth, np.ones((7, 7), np.uint8)), np.uint8)


def speckled(truth: Map) -> Map:
    """Single pixels of a defect on the ground, and holes in the disc."""
    return truth ^ (np.random.default_rng(2).random(truth.shape) < 0.03).astype(np.uint8)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("spoilt", [moved, swollen, speckled])
def test_a_map_that_is_a_little_off_is_drawn_to_the_edges_of_the_picture(spoilt: Callable[[Map], Map]) -> None:
    rgb, truth = scene()
    given = spoilt(truth)
    found, score = crf(rgb, given, scores(given), STEP)
    assert wrong(found, truth) < wrong(given, truth) / 2
    assert (found.shape, score.shape, found.dtype, score.dtype) == (*[truth.shape] * 2, np.uint8, np.uint8)
    assert np.array_equal(score > 0, found > 0)
    assert score[found > 0].min() >= 127, "the score of a winner"


@pytest.mark.usefixtures("installed")
def test_classes_keep_their_ids_and_no_other_appears() -> None:
    rgb, truth = scene()
    truth[2:14, 2:14] = 5
    rgb[2:14, 2:14] = (40, 150, 40)
    given = np.where(truth == 1, np.uint8(7), truth)
    found, _ = crf(rgb, given, scores(given), STEP)
    assert set(np.unique(found)) == {0, 5, 7}
    assert wrong(found, given) < 10


@pytest.mark.usefixtures("installed")
def test_an_unsure_defect_without_an_edge_goes_and_a_sure_one_stays() -> None:
    rgb = np.full((SIDE, SIDE, 3), 150, np.uint8)
    given = np.zeros((SIDE, SIDE), np.uint8)
    given[30:33, 30:33] = 1
    strong = Crf(spatial_weight=0.5, bilateral_weight=0.5)
    unsure, _ = crf(rgb, given, scores(given, 110), strong)
    sure, _ = crf(rgb, given, scores(given, 255), strong)
    assert not unsure.any()
    assert sure.any()


@pytest.mark.usefixtures("installed")
def test_what_is_far_from_every_defect_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = sizes_of_fields(monkeypatch)
    rgb = np.zeros((400, 600, 3), np.uint8)
    given = np.zeros((400, 600), np.uint8)
    given[200:210, 300:310] = 1
    crf(rgb, given, scores(given), Crf(bilateral_px=10))
    assert sizes == [(50, 50)], "10 px, and 20 px to each side"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("most_px", "most_energies"), [(1000, 10**6), (10**6, 2000)])
def test_large_work_is_done_at_a_smaller_scale(
    most_px: int, most_energies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "MOST_PX", most_px)
    monkeypatch.setattr(MODULE, "MOST_ENERGIES", most_energies)
    sizes = sizes_of_fields(monkeypatch)
    rgb, truth = scene(120)
    given = speckled(truth)
    found, score = crf(rgb, given, scores(given), STEP)
    assert all(0 < width * height <= 1000 for width, height in sizes)
    assert wrong(found, truth) < wrong(given, truth), "better, if less so"
    assert np.array_equal(score > 0, found > 0)


@pytest.mark.usefixtures("installed")
def test_what_is_a_part_of_larger_arrays_is_left_as_it_was() -> None:
    rgb, truth = scene()
    given = swollen(truth)
    score = scores(given)
    for each in (rgb, given, score):
        each.flags.writeable = False
    part = np.s_[5:60, 3:50]
    found, sure = crf(rgb[part], given[part], score[part], STEP)
    again, as_sure = crf(rgb[part].copy(), given[part].copy(), score[part].copy(), STEP)
    assert np.array_equal(found, again)
    assert np.array_equal(sure, as_sure)


@pytest.mark.usefixtures("absent")
def test_a_map_without_defects_comes_back_itself() -> None:
    rgb, _ = scene()
    nothing, score = np.zeros((2, SIDE, SIDE), np.uint8)
    assert crf(rgb, nothing, score, STEP) == (nothing, score)


@pytest.mark.usefixtures("absent")
def test_the_missing_library_is_told_with_what_to_install() -> None:
    rgb, truth = scene()
    with pytest.raises(LibraryMissing, match=r"rkfleet\[crf\]"):
        crf(rgb, truth, truth, STEP)


@pytest.mark.parametrize("shape", [(SIDE, SIDE + 1), (SIDE - 1, SIDE)])
def test_maps_of_another_size_are_refused(shape: tuple[int, int]) -> None:
    rgb, truth = scene()
    with pytest.raises(ValueError, match="do not fit"):
        crf(rgb, truth, np.zeros(shape, np.uint8), STEP)
    with pytest.raises(ValueError, match="do not fit"):
        crf(rgb, np.zeros(shape, np.uint8), np.zeros(shape, np.uint8), STEP)


def with_steps(*steps: dict[str, Any]) -> Manifest:
    document = a_bundle().manifest.model_dump(by_alias=True, mode="json") | {"postprocess": list(steps)}
    return Manifest.model_validate(document)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([{"op": "crf"}, {"op": "crf"}], id="twice"),
        pytest.param([{"op": "crf", "iterations": 0}], id="no iteration"),
        pytest.param([{"op": "crf", "iterations": 10**6}], id="without end"),
        pytest.param([{"op": "crf", "spatialPx": 0}], id="no width"),
        pytest.param([{"op": "crf", "bilateralPx": 1e9}], id="a width beyond any picture"),
        pytest.param([{"op": "crf", "bilateralGrey": 0.001}], id="a colour width below a grey level"),
        pytest.param([{"op": "crf", "bilateralWeight": -1}], id="a weight that pushes apart"),
        pytest.param([{"op": "crf", "spatialWeight": float("nan")}], id="no number"),
        pytest.param([{"op": "crf", "backgroundScore": 1}], id="a background that nothing moves"),
        pytest.param([{"op": "crf", "perClass": {}}], id="a field of another step"),
    ],
)
def test_a_manifest_with_an_impossible_step_is_invalid(steps: list[dict[str, Any]]) -> None:
    with pytest.raises(ValidationError):
        with_steps(*steps)


def test_the_view_has_the_step_of_the_manifest_and_none_without() -> None:
    others: list[dict[str, Any]] = [{"op": "threshold", "minScore": 0.5}, {"op": "leastArea", "px": 4}]
    manifest = with_steps(*others, {"op": "crf", "iterations": 3})
    assert [type(step) for step in manifest.postprocess] == [Threshold, LeastArea, Crf]
    view = View.of(manifest, None, ClassRules())
    assert view.crf == Crf(iterations=3)
    assert view.limits[1] == 127, "thresholds as ever"
    assert View.of(with_steps(*others), None, ClassRules()).crf is None


def test_widths_follow_the_shape_and_keep_their_least() -> None:
    view = View.of(with_steps({"op": "crf", "spatialPx": 1.5, "bilateralPx": 30}), Roi(0, 0, 32, 32), ClassRules())
    assert view.at(view.tile_hw) is view
    doubled, small = view.at((64, 64)).crf, view.at((16, 16)).crf
    assert doubled is not None
    assert (doubled.spatial_px, doubled.bilateral_px, doubled.bilateral_grey) == (3.0, 60.0, 8.0)
    assert small is not None
    assert (small.spatial_px, small.bilateral_px) == (1.0, 15.0)


def inspected(view: View) -> tuple[int, dict[str, float]]:
    """Area of the defect that a lane reports, and the stages that it timed: 6 px bright, 2 px around half so."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[8:18, 8:18] = 110
    pixels[10:16, 10:16] = 250
    plan = a_plan("top")
    plan = CameraPlan(view, plan.recipe, plan.origin, plan.topic)
    loaded = Loaded(Scripted([]), ModelRef("m", "1", "1" * 64), MODEL, a_bundle(), {("top", None): plan})
    stages: dict[str, float] = {}
    frame = Frame(Picture(pixels, Layout.RGB), "top", 1, datetime(2026, 1, 1, tzinfo=UTC), 0.0, 1.0)
    seen = look(frame, loaded, plan, StopWatch(lambda: 0.0, stages))
    return int((seen.class_map > 0).sum()), stages


@pytest.mark.usefixtures("installed")
def test_a_lane_refines_what_the_model_found_and_times_it() -> None:
    plain, stages = inspected(View.of(with_steps(), None, ClassRules()))
    assert (plain, "refine" in stages) == (100, False)
    step = {"op": "crf", "spatialWeight": 0, "bilateralWeight": 50, "bilateralGrey": 128, "bilateralPx": 60}
    drawn, stages = inspected(View.of(with_steps(step), None, ClassRules()))
    assert drawn != plain
    assert list(stages)[-3:] == ["refine", "regions", "judge"]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("fit", [None, Tile(overlap_px=8)])
def test_the_step_works_on_the_canvas_whatever_its_size(fit: Tile | None) -> None:
    manifest = with_steps({"op": "crf"})
    if fit is not None:
        manifest = manifest.model_copy(update={"preprocess": [fit]})
    rgb, truth = scene(100)
    view = View.of(manifest, Roi(0, 0, 100, 60), ClassRules())
    prepared = prepare(Picture(rgb, Layout.RGB), view)
    height, width = prepared.placement.canvas_hw
    given = cv2.resize(truth[:60], (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    found, score = refine(prepared, view, given, scores(given))
    assert found.shape == score.shape == (height, width)


def settings(folder: Path) -> Settings:
    document = {
        "station": {"site": "a", "node": "b"},
        "model": {"bundle": str(folder)},
        "storage": {"data_dir": str(folder)},
        "camera": [{"id": "top", "kind": "synthetic"}],
    }
    return Settings.model_validate(document)


def bundle_of(manifest: Manifest) -> Bundle:
    plain = a_bundle()
    return Bundle(manifest, plain.variant, plain.path, plain.folder, plain.manifest_sha256)


@pytest.mark.usefixtures("absent")
def test_a_board_without_the_library_refuses_the_model_before_it_inspects(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"crf needs a library .* pip install 'rkfleet\[crf\]'") as caught:
        camera_plans(settings(tmp_path), bundle_of(with_steps({"op": "crf"})), Topics("a", "b"))
    assert caught.value.code is FailureCode.CONFIG_INVALID
    assert camera_plans(settings(tmp_path), a_bundle(), Topics("a", "b")), "others are not asked for it"
    require(a_bundle().manifest)


@pytest.mark.usefixtures("installed")
def test_a_board_with_the_library_takes_the_model(tmp_path: Path) -> None:
    plans = camera_plans(settings(tmp_path), bundle_of(with_steps({"op": "crf"})), Topics("a", "b"))
    assert plans["top", None].view.crf == Crf()


def sizes_of_fields(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Width and height of each field that is made from now on."""
    library = MODULE._library()
    sizes: list[tuple[int, int]] = []

    class Watched:
        @staticmethod
        def DenseCRF2D(width: int, height: int, labels: int) -> Any:  # noqa: N802  the library's own name
            sizes.append((width, height))
            return library.DenseCRF2D(width, height, labels)

    monkeypatch.setattr(MODULE, "_library", lambda: Watched)
    return sizes
