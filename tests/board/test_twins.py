"""What the helper process reads out of the toolkit's files, and how it computes. Needs no board."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.board.rknn_tensors import Tensor, Unreadable, parse_tensors
from tests.board.toolkit_file import write_bundle
from tests.board.twins import Given, NoTwin, Twin, Twins
from tests.contract import probe_model
from tests.contract.segmenter_contract import Kind

HEADS = Path(__file__).parent / "toolkit_heads"
UINT8, NHWC = 3, 1
SHAPE = (16, 24)


def told(tensors: tuple[Tensor, ...]) -> list[tuple[str, str, str, tuple[tuple[int, ...], ...]]]:
    return [(tensor.name, tensor.dtype, tensor.layout, tensor.dims) for tensor in tensors]


PICTURE = ("picture0", "int8", "NHWC", ((1, 48, 64, 3),))
LOGITS = ("l0", "int8", "NCHW", ((1, 4, 48, 64),))


@pytest.mark.parametrize(
    ("name", "inputs", "output"),
    [
        ("two-shapes", [(*PICTURE[:3], ((1, 48, 64, 3), (1, 32, 96, 3)))],
         (*LOGITS[:3], ((1, 4, 48, 64), (1, 4, 32, 96)))),
        ("two-inputs", [PICTURE, ("picture1", *PICTURE[1:])], ("logits", *LOGITS[1:])),
        ("class-map", [PICTURE], ("class_map", "int64", "NCHW", ((1, 1, 48, 64),))),
        ("float16", [("picture0", "float16", *PICTURE[2:])], ("l0", "float16", *LOGITS[2:])),
        ("batch-of-4", [(*PICTURE[:3], ((4, 48, 64, 3),))], (*LOGITS[:3], ((4, 4, 48, 64),))),
    ],
)  # fmt: skip
def test_every_kind_of_file_of_the_toolkit_is_understood(
    name: str,
    inputs: list[tuple[str, str, str, tuple[tuple[int, ...], ...]]],
    output: tuple[str, str, str, tuple[tuple[int, ...], ...]],
) -> None:
    found = parse_tensors((HEADS / f"{name}.bin").read_bytes())
    assert told(found.inputs) == inputs
    assert told(found.outputs) == [output]


def test_quantisation_is_that_of_the_file() -> None:
    found = parse_tensors((HEADS / "two-shapes.bin").read_bytes())
    picture, logits = found.inputs[0], found.outputs[0]
    assert picture.scale == pytest.approx(0.9960784316062927 / 255)
    assert picture.zero_point == -128
    assert picture.std == (255.0,) * 3
    assert logits.scale == pytest.approx((9.08937931060791 + 5.693056106567383) / 255)
    assert logits.zero_point == -30


@pytest.mark.parametrize(
    "description",
    [
        pytest.param(b"", id="none"),
        pytest.param(b"{'attrs': {'image': 3}}\0", id="not as we know it"),
        pytest.param(b"{'attrs': {" + b"(" * 5_000 + b"\0", id="nested without end"),
        pytest.param(b"{'attrs': {}, 'quant_tab': {}, 'dynamic_shapes': {}}\0", id="no tensors"),
        pytest.param(b"{'attrs': {__import__('os').getpid(): 1}}\0", id="code"),
    ],
)
def test_a_file_that_does_not_say_what_its_tensors_are_is_refused(description: bytes) -> None:
    with pytest.raises(Unreadable):
        parse_tensors(b"RKNN" + b"\0" * 60 + description)


def test_a_batch_has_the_answers_of_its_pictures_in_their_order(tmp_path: Path) -> None:
    spec = write_bundle(tmp_path, Kind(shapes=(SHAPE,), batch=3))
    twin = Twins([tmp_path]).find(Path(spec.path).read_bytes())
    pictures = [probe_model.random_inputs(spec, SHAPE, seed)[0] for seed in range(3)]
    (output,) = twin.run(0, [Given(UINT8, NHWC, pass_through=False, data=np.stack(pictures).tobytes())])
    for picture, logits in zip(pictures, output, strict=True):
        np.testing.assert_array_equal(logits.argmax(axis=0), probe_model.answer([picture], spec.classes)[0])


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def another_model(folder: Path) -> None:
    other = Kind(shapes=(SHAPE,), classes=4)
    write_bundle(folder, other)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda folder: (folder / "model-cpu.onnx").unlink(), id="its file is missing"),
        pytest.param(lambda folder: damaged(folder / "model-cpu.onnx"), id="its file is not the manifest's"),
        pytest.param(lambda folder: (folder / "manifest.json").write_text("{"), id="the manifest is no JSON"),
        pytest.param(lambda folder: (folder / "manifest.json").unlink(), id="there is no manifest"),
        pytest.param(another_model, id="the bundle is of another model"),
    ],
)
def test_a_twin_that_cannot_be_trusted_is_refused(spoil: Callable[[Path], object], tmp_path: Path) -> None:
    spec = write_bundle(tmp_path, Kind(shapes=(SHAPE,)))
    file = Path(spec.path).read_bytes()
    assert Twins([tmp_path]).find(file).tensors.shapes == 1
    spoil(tmp_path)
    with pytest.raises(NoTwin):
        Twins([tmp_path]).find(file)


def test_a_twin_that_takes_other_inputs_than_the_file_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path, Kind(shapes=(SHAPE,)))
    said = parse_tensors((HEADS / "two-shapes.bin").read_bytes())
    with pytest.raises(NoTwin):
        Twin(said, tmp_path / "model-cpu.onnx")
