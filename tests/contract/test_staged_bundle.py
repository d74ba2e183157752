"""A bundle whose model is split: from the cut to the class maps of the whole model, and what a board refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from agent.adapters.bundle_fs import read_bundle
from agent.adapters.host_linux import LinuxHost
from agent.adapters.segmenter_onnx import OnnxSegmenter
from agent.adapters.segmenter_process import ProcessChain
from agent.adapters.store_fs import FolderStore, StoreLimits
from agent.build import Place, segmenter_of
from agent.config import Settings, parse
from agent.core.fetch_plan import plan
from agent.errors import Permanent
from agent.library import Library
from modelkit.split import CannotSplit, StageFile, split, staged
from schemas.codes import FailureCode
from schemas.manifest import Manifest
from schemas.target import Target
from schemas.topics import Topics
from tests.contract import probe_model
from tests.scenario.bundle import SIZE_PX, digest, make_bundle

SHAPE = (SIZE_PX, SIZE_PX)
CUT = "picture0_nchw"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "whole")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """The same bundle with its model in two stages."""
    made = tmp_path / "bundle"
    shutil.copytree(whole, made)
    cut = split(made / "cpu.onnx", [CUT], tmp_path / "cut", [SHAPE])
    staged(made, Target.CPU, [StageFile(cut.shallow, "onnx"), StageFile(cut.deep, "onnx")], cut.crossings)
    return made


def settings(folder: Path) -> Settings:
    document = {
        "station": {"site": "a", "node": "b"},
        "model": {"bundle": str(folder), "deadline_s": 60, "load_deadline_s": 60},
        "camera": [{"id": "top", "kind": "synthetic"}],
    }
    return parse(document, folder.parent, "agent.toml")


def test_a_split_model_gives_pixel_for_pixel_what_the_whole_gives(whole: Path, folder: Path) -> None:
    bundle = read_bundle(folder, Target.CPU)
    assert [part.path for part in bundle.parts] == [str(folder / f"model-cpu-{n}.onnx") for n in (1, 2)]
    chain = segmenter_of(bundle, settings(folder), Place(Target.CPU, 0, "core-0"))
    assert isinstance(chain, ProcessChain)
    plain = OnnxSegmenter(read_bundle(whole, Target.CPU).spec)
    items = [probe_model.random_inputs(plain._spec, SHAPE, seed) for seed in range(chain.batch)]
    for made, inputs in zip(chain.segment_all(items), items, strict=True):
        wanted = plain.segment(inputs)
        np.testing.assert_array_equal(made.class_map, wanted.class_map)
        np.testing.assert_array_equal(made.score, wanted.score)
    chain.close()
    plain.close()


def test_a_board_fetches_every_stage_and_nothing_that_was_replaced(folder: Path) -> None:
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    wanted = {file.path: file.sha256 for file in plan(manifest, digest(folder / "manifest.json"), Target.CPU).files}
    there = {path.name: digest(path) for path in folder.iterdir()}
    assert wanted == there


def library(folder: Path) -> Library:
    store = FolderStore(folder.parent / "models", Target.CPU, StoreLimits(10_000_000, 0))
    return Library(settings(folder), Target.CPU, Topics("a", "b"), store, LinuxHost(data_dir=folder.parent, pids=list))


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_with_another_content_is_refused_when_examined_and_when_loaded(stage: int, folder: Path) -> None:
    path = folder / f"model-cpu-{stage}.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    shelf = library(folder)
    bundle = shelf.open(shelf.installed)
    for use in (lambda: shelf.examine(bundle), lambda: shelf.load("core-0", shelf.installed, bundle)):
        with pytest.raises(Permanent) as caught:
            use()
        assert caught.value.code is FailureCode.MODEL_DIGEST_MISMATCH
    with pytest.raises(Permanent):
        read_bundle(folder, Target.CPU)


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        pytest.param(lambda path: path.unlink(), FailureCode.MODEL_MISSING, id="missing"),
        pytest.param(lambda path: path.write_bytes(b"x"), FailureCode.MODEL_DIGEST_MISMATCH, id="another size"),
    ],
)
def test_a_stage_that_is_missing_or_cut_off_is_refused(
    spoil: Callable[[Path], object], code: FailureCode, stage: int, folder: Path
) -> None:
    spoil(folder / f"model-cpu-{stage}.onnx")
    with pytest.raises(Permanent) as caught:
        read_bundle(folder, Target.CPU)
    assert caught.value.code is code


def test_an_rknn_stage_on_a_board_without_an_npu_is_refused(folder: Path) -> None:
    edit(folder, lambda v: v["stages"][0].update(runtime="rknn"))
    shelf = library(folder)
    bundle = shelf.open(shelf.installed)
    with pytest.raises(Permanent) as caught:
        shelf.examine(bundle)
    assert caught.value.code is FailureCode.MODEL_INVALID
    with pytest.raises(Permanent) as caught:
        shelf.load("core-0", shelf.installed, bundle)
    assert caught.value.code is FailureCode.CONFIG_INVALID


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document["variants"][0])
    path.write_text(json.dumps(document))


def gives(variant: dict[str, Any]) -> dict[str, Any]:
    tensor: dict[str, Any] = variant["stages"][0]["gives"][0]
    return tensor


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda v: v["stages"].pop(), id="one stage"),
        pytest.param(lambda v: v["stages"].reverse(), id="in the other order"),
        pytest.param(lambda v: v["stages"].extend(v["stages"] * 2), id="too many"),
        pytest.param(lambda v: v["stages"][0].update(gives=[]), id="the first gives nothing"),
        pytest.param(lambda v: v["stages"][1].update(gives=v["stages"][0]["gives"]), id="the last gives something"),
        pytest.param(lambda v: v["stages"][0].update(file="../x.onnx"), id="outside the bundle"),
        pytest.param(lambda v: v["stages"][0].update(file=v["stages"][1]["file"]), id="one file twice"),
        pytest.param(lambda v: v["stages"][0].update(runtime="tflite"), id="another runtime"),
        pytest.param(lambda v: v.update(sha256="0" * 64), id="not the last stage's digest"),
        pytest.param(lambda v: gives(v).update(dtype="int64"), id="another type"),
        pytest.param(lambda v: gives(v).update(shapes=[]), id="no shape"),
        pytest.param(lambda v: gives(v).update(shapes=gives(v)["shapes"] * 2), id="more shapes than the inputs have"),
        pytest.param(lambda v: gives(v).update(shapes=[[1, 3, 64, 0]]), id="an empty side"),
        pytest.param(lambda v: gives(v).update(shapes=[[1, 3, 65_536, 65_536]]), id="too much to cross"),
        pytest.param(lambda v: v["stages"][0].update(gives=[gives(v), gives(v)]), id="one name twice"),
        pytest.param(lambda v: v["stages"][0].update(runtime="rknn", gives=[{**gives(v), "dtype": "uint8"}]),
                     id="an rknn file that gives pixels"),
    ],
)  # fmt: skip
def test_a_manifest_whose_stages_do_not_follow_each_other_is_refused(
    change: Callable[[dict[str, Any]], object], folder: Path
) -> None:
    edit(folder, change)
    with pytest.raises(Permanent) as caught:
        read_bundle(folder, Target.CPU)
    assert caught.value.code is FailureCode.MODEL_INVALID


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda v: gives(v).update(shapes=[[1, 4, SIZE_PX, SIZE_PX]]), id="more channels"),
        pytest.param(lambda v: gives(v).update(shapes=[[1, 3, SIZE_PX]]), id="fewer dimensions"),
        pytest.param(lambda v: gives(v).update(dtype="float16"), id="another type"),
        pytest.param(lambda v: gives(v).update(name="else"), id="another name"),
    ],
)
def test_files_that_give_something_else_than_the_manifest_says_are_refused_at_load(
    change: Callable[[dict[str, Any]], object], folder: Path
) -> None:
    edit(folder, change)
    with pytest.raises(Permanent) as caught:
        segmenter_of(read_bundle(folder, Target.CPU), settings(folder), Place(Target.CPU, 0, "core-0"))
    assert caught.value.code is FailureCode.MODEL_INVALID


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        pytest.param([], "no tensor to cut at", id="none"),
        pytest.param(["nothing"], "no tensor nothing", id="unknown"),
        pytest.param(["logits"], "nothing is left", id="the answer"),
    ],
)
def test_a_cut_that_makes_no_sense_is_refused(tensors: list[str], says: str, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotSplit, match=says):
        split(whole / "cpu.onnx", tensors, tmp_path / "cut", [SHAPE])


def test_a_cut_that_something_passes_by_is_refused_and_one_with_all_of_it_is_not(tmp_path: Path) -> None:
    """Two branches meet behind the cut."""
    path = tmp_path / "branches.onnx"
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["left"], perm=[0, 3, 1, 2]),
        helper.make_node("Neg", ["left"], ["right"]),
        helper.make_node("Concat", ["left", "right"], ["logits"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "branches",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *SHAPE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 6, *SHAPE])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(CannotSplit):
        split(path, ["right"], tmp_path / "one", [SHAPE])
    made = split(path, ["left", "right"], tmp_path / "both", [SHAPE])
    assert [(each.name, each.shapes) for each in made.crossings] == [
        ("left", [[1, 3, *SHAPE]]),
        ("right", [[1, 3, *SHAPE]]),
    ]
