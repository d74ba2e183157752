"""Models that compare with a golden reference: what a lane makes of pictures, and how the reference gets to it."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agent.adapters.reference_fs import MAX_BYTES, read_reference
from agent.build import camera_plans
from agent.config import parse
from agent.core.bundle import Bundle
from agent.core.frame import Frame, Layout, Picture, Pixels
from agent.core.vision.align import Golden, Limits
from agent.errors import Permanent
from agent.loops.inspect import Loaded, Reference, StopWatch, look
from agent.ports import Segmentation
from schemas.codes import FailureCode
from schemas.manifest import ModelInput
from schemas.recipe import Evaluation
from schemas.topics import Topics
from tests.unit.a_bundle import a_bundle
from tests.unit.lane_bench import MODEL, NOW, OLD, Scripted, a_plan

SIDE = 128


def a_part() -> Pixels:
    """Texture that lies in one way only."""
    coarse = np.random.default_rng(5).integers(20, 230, (16, 16), np.uint8)
    grey = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.repeat(np.asarray(grey, np.uint8)[:, :, None], 3, axis=2)


class Comparing(Scripted):
    """A defect is where picture and reference differ."""

    shapes: Sequence[tuple[int, int]] = ((SIDE, SIDE),)
    calls = 0

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        self.calls += 1
        image, reference = inputs
        class_map = (np.abs(image[:, :, 0].astype(int) - reference[:, :, 0]) > 60).astype(np.uint8)
        return Segmentation(class_map, class_map * np.uint8(250), 1.0, 0.1)


def pair_bundle(size_px: int = SIDE) -> Bundle:
    bundle = a_bundle(size_px=size_px)
    roles = [ModelInput(name=role, role=role, shapes=[(size_px, size_px)]) for role in ("image", "reference")]
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"inputs": roles}))


def seen(picture: Pixels, limits: Limits | None = None) -> tuple[Any, Comparing, StopWatch]:
    plan = a_plan("top")
    view = replace(plan.view, tile_hw=(SIDE, SIDE), roles=("image", "reference"))
    reference = Reference(Golden.of(Picture(a_part(), Layout.RGB)), limits or Limits(max_shift_px=12))
    plan = replace(plan, view=view, reference=reference)
    segmenter, watch = Comparing([]), StopWatch(lambda: 0.0, {})
    loaded = Loaded(segmenter, OLD, MODEL, pair_bundle(), {})
    return look(Frame(Picture(picture, Layout.RGB), "top", 0, NOW, 0.0, 1.0), loaded, plan, watch), segmenter, watch


def test_a_part_like_the_reference_is_good_wherever_it_lies() -> None:
    moved = np.roll(a_part(), (3, -5), (0, 1))
    moved[:3], moved[:, -5:] = a_part()[:1], a_part()[:, -1:]
    result, _, watch = seen(moved)
    assert (result.evaluation, result.reasons) == (Evaluation.OK, ())
    assert "align" in watch.stages


def test_what_the_reference_has_not_is_found_where_it_is() -> None:
    picture = a_part()
    picture[60:70, 80:92] = 255 - picture[60:70, 80:92] // 4 * 3
    picture[60:70, 80:92] ^= 128
    result, _, _ = seen(picture)
    assert result.evaluation is Evaluation.NOT_OK
    box = result.found.regions[0].bbox
    assert 78 <= box[0] <= 92
    assert 58 <= box[1] <= 70


def test_a_picture_of_another_view_cannot_be_decided_and_is_not_given_to_the_model() -> None:
    other = np.random.default_rng(9).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    result, segmenter, _ = seen(other)
    assert result.evaluation is Evaluation.NOT_DECIDABLE
    assert "not of the reference's view" in result.reasons[0]
    assert result.quality.reasons == [*result.reasons]
    assert (result.found.regions, segmenter.calls, result.is_misfit) == ((), 0, True)


def test_a_picture_of_another_size_is_a_fault() -> None:
    with pytest.raises(Permanent, match="camera top: the reference of 128x128") as refused:
        seen(np.zeros((100, 128, 3), np.uint8))
    assert refused.value.code is FailureCode.CONFIG_INVALID


def settings(folder: Path, files: dict[str, str] | None, **limits: float) -> Any:
    recipe: dict[str, Any] = {"reference": {"files": files, **limits}} if files else {}
    base = {"station": {"site": "a", "node": "b"}, "model": {"bundle": "bundle"}}
    camera = [{"id": "top", "kind": "synthetic", "recipe": "front"}]
    return parse({**base, "camera": camera, "recipe": {"front": recipe}}, folder, "agent.toml")


def test_the_recipe_names_the_reference_of_each_camera_beside_the_settings(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "top.png"), a_part()[:, :, ::-1])
    of = settings(tmp_path, {"top": "top.png"}, max_shift_px=9, min_likeness=0.7)
    reference = camera_plans(of, pair_bundle(), Topics("a", "b"))["top", None].reference
    assert reference is not None
    assert np.array_equal(reference.golden.rgb, a_part())
    assert (reference.limits.max_shift_px, reference.limits.min_likeness) == (9, 0.7)
    assert camera_plans(of, a_bundle(), Topics("a", "b"))["top", None].reference is None, "a model without"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        pytest.param(None, r"recipe front has none for camera top: name it in \[recipe.front.reference\]", id="none"),
        pytest.param({"side": "a.png"}, "none for camera top", id="of another camera"),
        pytest.param({"top": "gone.png"}, "gone.png: No such file", id="no such file"),
        pytest.param({"top": "empty.png"}, "empty.png: empty", id="empty"),
        pytest.param({"top": "text.png"}, "text.png: not a picture", id="no picture"),
        pytest.param({"top": "small.png"}, "small.png: .*too small", id="too small"),
        pytest.param({"top": "folder"}, "folder: not a file", id="a folder"),
        pytest.param({"top": "pipe"}, "pipe: not a file", id="a pipe"),
        pytest.param({"top": "huge.png"}, f"huge.png: over {MAX_BYTES} bytes", id="huge"),
    ],
)
def test_without_a_usable_reference_the_settings_do_not_fit_the_model(
    files: dict[str, str] | None, says: str, tmp_path: Path
) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((40, 40, 3), np.uint8))
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(Permanent, match=says) as refused:
        camera_plans(settings(tmp_path, files), pair_bundle(), Topics("a", "b"))
    assert refused.value.code is FailureCode.CONFIG_INVALID


@pytest.mark.parametrize("path", ["../top.png", "/etc/passwd", "a/../../b.png"])
def test_a_reference_outside_of_the_settings_folder_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"recipe\.front\.reference\.files"):
        settings(tmp_path, {"top": path})


def test_a_file_is_read_again_only_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "top.png"
    cv2.imwrite(str(path), a_part())
    first = read_reference(path)
    assert read_reference(path) is first
    cv2.imwrite(str(path), 255 - a_part())
    os.utime(path, (1, 1))
    assert np.array_equal(read_reference(path).rgb, (255 - a_part())[:, :, ::-1])
