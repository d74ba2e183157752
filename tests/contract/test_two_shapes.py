"""A bundle whose model takes two input shapes, from its files to its answers: as an update tries it and a lane uses it.

Two shapes of one model are served by one segmenter, in this process and in a child.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.adapters.bundle_fs import read_bundle
from agent.adapters.golden_fs import read_golden
from agent.build import Place, camera_plans, segmenter_of
from agent.config import Settings, parse
from agent.core.bundle import Bundle
from agent.core.frame import Frame, Layout, Picture, Pixels
from agent.core.health import Healthy, agreement, self_test
from agent.core.model import ModelSpec
from agent.core.update import ModelRef
from agent.errors import Permanent
from agent.loops.inspect import Loaded, StopWatch, look
from agent.ports import Segmenter
from schemas.codes import FailureCode
from schemas.target import Target
from schemas.topics import Topics
from tests.contract import probe_model
from tests.scenario.bundle import CLASSES, GREY, digest, make_bundle
from tests.unit.lane_bench import NOW

LARGE, SMALL = (128, 128), (64, 64)


def _two_shapes(folder: Path) -> Path:
    """The bundle of the scenarios, with a model of any size and a golden frame of each shape."""
    make_bundle(folder)
    spec = ModelSpec(str(folder / "cpu.onnx"), 1, (LARGE, SMALL), len(CLASSES), "logits")
    probe_model.build(folder / "cpu.onnx", spec)
    document = json.loads((folder / "manifest.json").read_text())
    document["inputs"][0]["shapes"] = [LARGE, SMALL]
    document["adaptive"] = {"thresholds": [0.2], "holdFrames": 2}
    document["variants"][0] |= {
        "bytes": (folder / "cpu.onnx").stat().st_size,
        "sha256": digest(folder / "cpu.onnx"),
    }
    document["golden"]["frames"] = [_golden(folder, spec, shape) for shape in (LARGE, SMALL)]
    (folder / "manifest.json").write_text(json.dumps(document))
    return folder


def _golden(folder: Path, spec: ModelSpec, shape: tuple[int, int]) -> dict[str, object]:
    names = f"golden-{shape[0]}.png", f"golden-{shape[0]}.map.png"
    (picture,) = probe_model.random_inputs(spec, shape, seed=shape[0])
    class_map, _ = probe_model.answer([picture], len(CLASSES))
    for name, pixels in zip(names, (picture, class_map), strict=True):
        cv2.imwrite(str(folder / name), pixels)
    return {"inputs": names[:1], "classMap": names[1], "sha256": {name: digest(folder / name) for name in names}}


def _settings(folder: Path, *, isolate: bool) -> Settings:
    document = {
        "station": {"site": "a", "node": "b"},
        "model": {"bundle": "bundle", "isolate": isolate},
        "camera": [{"id": "top", "kind": "synthetic"}],
    }
    return parse(document, folder, "agent.toml")


@pytest.fixture(params=[False, True], ids=["in this process", "in a child"])
def ready(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Bundle, Segmenter, Settings]]:
    settings = _settings(tmp_path, isolate=request.param)
    bundle = read_bundle(_two_shapes(tmp_path / "bundle"), Target.CPU)
    segmenter = segmenter_of(bundle, settings, Place(Target.CPU, 0, "core-0"))
    yield bundle, segmenter, settings
    segmenter.close()


Ready = tuple[Bundle, Segmenter, Settings]


def test_golden_frames_of_both_shapes_pass_the_self_test(ready: Ready) -> None:
    bundle, segmenter, _ = ready
    frames = read_golden(bundle)
    assert [frame.class_map.shape for frame in frames] == [LARGE, SMALL]
    agreements = [
        agreement(segmenter.segment(frame.inputs).class_map, frame.class_map, len(CLASSES)) for frame in frames
    ]
    assert isinstance(self_test(agreements, bundle.manifest.golden.least_agreement), Healthy)


def test_a_shape_that_the_model_has_not_is_refused_and_the_others_still_work(ready: Ready) -> None:
    bundle, segmenter, _ = ready
    with pytest.raises(Permanent) as caught:
        segmenter.segment([np.zeros((96, 96, 3), np.uint8)])
    assert caught.value.code is FailureCode.SHAPE_MISMATCH
    for frame in read_golden(bundle):
        assert segmenter.segment(frame.inputs).class_map.shape == frame.class_map.shape


def test_a_lane_looks_at_busy_and_calm_scenes_with_one_segmenter(ready: Ready) -> None:
    bundle, segmenter, settings = ready
    plans = camera_plans(settings, bundle, Topics("a", "b"))
    ref = ModelRef("probe", "1.0.0", bundle.manifest_sha256)
    loaded = Loaded(segmenter, ref, bundle.info(1, "1", None), bundle, plans)
    plan = plans["top", None]
    seen = []
    for seq, scene in enumerate([_spot(), _spot(), _stripes(), _stripes(), _spot(), _spot()]):
        frame = Frame(Picture(scene, Layout.RGB), "top", seq, NOW, 0.0, 1.0)
        seen.append(look(frame, loaded, plan, StopWatch(lambda: 0.0, {})))
        told = seen[-1].model_input
        assert told is not None
        assert (told.height, told.width) == seen[-1].class_map.shape
    assert [each.class_map.shape for each in seen] == [LARGE, SMALL, LARGE, LARGE, LARGE, SMALL]
    for each in (seen[0], seen[1], seen[4], seen[5]):
        assert [(region.class_name, region.bbox) for region in each.found.regions] == [("short", (64, 128, 32, 32))]


def _spot() -> Pixels:
    """One spot of a known class."""
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[128:160, 64:96] = GREY["short"]
    return pixels


def _stripes() -> Pixels:
    stripes = np.where(np.arange(256) % 32 < 16, 0, GREY["short"]).astype(np.uint8)
    return np.repeat(np.repeat(stripes[None, :, None], 256, axis=0), 3, axis=2)
