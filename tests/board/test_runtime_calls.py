"""The runtime's C interface answers for the model that was loaded, in the type and layout that the caller asks for."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from schemas.target import Target
from tests.board import zoo
from tests.board.emulated import DEADLINE_S, HERE, PATH, missing, own_root, python
from tests.board.emulated_npu import EmulatedNpu
from tests.board.rknn_tensors import parse_tensors

pytestmark = pytest.mark.board

WAYS = ["uint8Nhwc", "uint8Nchw", "floatNhwc", "floatNchw", "rawInt8"]


@dataclass(frozen=True)
class Answers:
    attrs: dict[str, dict[str, Any]]
    outputs: dict[str, npt.NDArray[Any]]
    expected: npt.NDArray[np.float32]
    """(1, C, H, W), of the twin, asked here."""


@pytest.fixture(scope="module")
def answers(npu_process: EmulatedNpu, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """One run of raw_calls, with a golden frame."""
    if reason := missing():
        pytest.skip(reason)
    npu_process.behave()
    folder = tmp_path_factory.mktemp("raw")
    picture = zoo.golden(zoo.NEWEST)[0].inputs[0]
    np.save(folder / "picture.npy", picture)
    root = own_root(tmp_path_factory.mktemp("root"))
    model = zoo.bundle(zoo.NEWEST, Target.RK3588).path
    environment = {**npu_process.environment, "PYTHONPATH": ":".join(PATH), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        [*python(root), HERE / "raw_calls.py", model],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    session = onnxruntime.InferenceSession(zoo.bundle(zoo.NEWEST, Target.CPU).path, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"image": picture[None]})
    outputs = {name: np.load(folder / f"{name}.npy") for name in (*WAYS, "int8")}
    return Answers(json.loads(run.stdout), outputs, expected)


def test_the_tensors_are_those_of_the_file(answers: Answers) -> None:
    assert answers.attrs["input"] == {
        "name": "image", "dims": [1, 512, 512, 3], "n_elems": 786_432, "size": 786_432, "fmt": 1, "type": 2,
        "qnt_type": 2, "zp": -14, "scale": pytest.approx(1 / 64),
    }  # fmt: skip
    output = answers.attrs["output"]
    assert (output["name"], output["dims"], output["fmt"], output["type"]) == ("logits", [1, 7, 512, 512], 0, 2)
    assert output["size"] == 7 * 512 * 512


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_has_the_same_answer_in_whatever_type_and_layout_it_comes(way: str, answers: Answers) -> None:
    given = answers.outputs[way].reshape(answers.expected.shape)
    np.testing.assert_allclose(given, answers.expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(given, answers.outputs["uint8Nhwc"].reshape(answers.expected.shape))


def test_without_want_float_the_output_is_quantised_as_its_attributes_say(answers: Answers) -> None:
    attr = answers.attrs["output"]
    real = (answers.outputs["int8"].astype(np.float32) - attr["zp"]) * attr["scale"]
    lowest, highest = (-128 - attr["zp"]) * attr["scale"], (127 - attr["zp"]) * attr["scale"]
    clipped = answers.outputs["uint8Nhwc"].clip(lowest, highest)
    assert np.abs(real - clipped).max() <= attr["scale"] / 2 * 1.001
    assert len(np.unique(answers.outputs["int8"])) > 16


@pytest.mark.parametrize("name", zoo.NAMES)
def test_every_file_of_the_zoo_says_what_its_tensors_are(name: str) -> None:
    bundle = zoo.bundle(name, Target.CPU)
    (shape,) = bundle.manifest.inputs[0].shapes
    for path in sorted(Path(bundle.folder).glob("*.rknn")):
        found = parse_tensors(path.read_bytes())
        assert [(tensor.name, tensor.dims) for tensor in (*found.inputs, *found.outputs)] == [
            *((spec.name, ((1, *shape, 3),)) for spec in bundle.manifest.inputs),
            ("logits", ((1, 7, *shape),)),
        ]
