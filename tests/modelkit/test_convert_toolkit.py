"""The toolkit itself, on a network of two convolutions: what it makes for each target, and what it says."""

import json
import struct
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from modelkit.convert_rknn import TARGETS, Conversion, ConversionFailed, Hybrid, Job, Progress, convert

ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv-convert"
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(find_spec("torch") is None, reason="`make modelkit-test` runs it: it takes its time"),
    pytest.mark.skipif(
        not (ENVIRONMENT / "complete").exists(),
        reason="no converter: `python -m modelkit.convert_rknn .venv-convert` makes its environment",
    ),
]
SIDE = 32


def network(path: Path, middle: str = "Sin", spread: float = 1.0) -> Path:
    """Convolution, `middle`, convolution to 3 classes; one of the first one's channels is `spread` times the others,
    which the second undoes.
    """
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 0.3, (8, 3, 3, 3)), rng.normal(0, 0.6, (3, 8, 3, 3))
    first[0] *= spread
    second[:, 0] /= spread
    weights = {"w1": first, "w2": second, "b2": np.zeros(3)}
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], "first", pads=[1] * 4),
        helper.make_node(middle, ["a"], ["b"], "a_layer_of_quite_a_long_name"),
        helper.make_node("Conv", ["b", "w2", "b2"], ["logits"], "second", pads=[1] * 4),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", 1, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", 1, [1, 3, SIDE, SIDE])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def job(folder: Path, model: Path, targets: Sequence[str] = ("rk3588",), simulated: int = 0) -> Job:
    rng = np.random.default_rng(1)
    paths = []
    for number in range(5):
        path = folder / f"picture-{number}.png"
        coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(coarse, (SIDE, SIDE)))
        paths.append(str(path))
    (folder / "list.txt").write_text("\n".join(paths) + "\n")
    return Job(
        onnx=str(model),
        mean=114.0,
        deviation=64.0,
        targets=tuple(targets),
        calibration=str(folder / "list.txt"),
        simulate=tuple((path,) for path in paths[:simulated]),
        out=str(folder / "out"),
    )


def header(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    at = 64 + struct.unpack("<Q", content[16:24])[0]
    size = struct.unpack("<Q", content[at : at + 8])[0]
    read: dict[str, Any] = json.loads(content[at + 8 : at + 8 + size])
    return read


def maps(out: Path, count: int = 5) -> list[Any]:
    return [cv2.imread(str(out / f"picture-{number}.map.png"), cv2.IMREAD_GRAYSCALE) for number in range(count)]


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> tuple[Conversion, list[Progress], Path]:
    folder = tmp_path_factory.mktemp("all")
    steps: list[Progress] = []
    asked = job(folder, network(folder / "small.onnx"), TARGETS, simulated=5)
    return convert(asked, ENVIRONMENT, steps.append), steps, folder / "out"


def test_there_is_a_model_for_every_target_and_nothing_else_is_left(
    everywhere: tuple[Conversion, list[Progress], Path],
) -> None:
    conversion, _, out = everywhere
    assert conversion.quantisation == "ptq"
    for target in TARGETS:
        assert header(out / f"{target}.rknn")["target_platform"] == [target]
    kinds = {each.name.partition(".")[2] for each in out.iterdir()}
    assert kinds == {"rknn", "map.png", "score.png", "log", "json"}


def test_layers_that_a_target_leaves_to_its_cpu_are_told_by_their_whole_name(
    everywhere: tuple[Conversion, list[Progress], Path],
) -> None:
    conversion, _, out = everywhere
    told = {target: [(each.operator, each.layer) for each in found] for target, found in conversion.fallbacks.items()}
    assert set(told) == set(TARGETS)
    assert told["rk3588"] == [("Sin", "a_layer_of_quite_a_long_name")]
    assert told["rv1126b"] == []
    assert json.loads((out / "conversion.json").read_text())["fallbacks"]["rk3588"][0]["operator"] == "Sin"


def test_each_step_is_told_as_it_begins(everywhere: tuple[Conversion, list[Progress], Path]) -> None:
    steps = everywhere[1]
    assert [each.step for each in steps if each.number == 1] == ["configure", "load", "build", "export", "simulate"]
    assert [each.target for each in steps if each.step == "export"] == list(TARGETS)
    assert {each.of for each in steps} == {len(TARGETS)}


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        pytest.param({"algorithm": "mmse"}, 0.9, id="mmse"),
        pytest.param({"algorithm": "kl_divergence"}, 0.9, id="kl_divergence"),
        pytest.param({"batch": 4}, 1.0, id="four pictures a call, the last call not full"),
        pytest.param({"class_map": True}, 1.0, id="class map from the graph"),
        pytest.param({"dtype": "float16"}, 0.95, id="float16"),
    ],
)
def test_other_ways_give_much_the_same_classes(
    everywhere: tuple[Conversion, list[Progress], Path], tmp_path: Path, change: dict[str, Any], alike: float
) -> None:
    asked = replace(job(tmp_path, network(tmp_path / "small.onnx"), simulated=5), **change)
    conversion = convert(asked, ENVIRONMENT)
    pairs = zip(maps(everywhere[2]), maps(tmp_path / "out"), strict=True)
    assert np.mean([mine == other for mine, other in pairs]) >= alike
    model = tmp_path / "out" / "rk3588.rknn"
    assert header(model)["norm_tensor"][1]["size"] == [1, 1 if asked.class_map else 3, SIDE, SIDE]
    # A string of its own holds how many pictures a call takes; one picture is 0.
    batch = b"static_shape" + struct.pack("<II", 0, 1) + (b"4" if asked.batch == 4 else b"0")
    assert batch in model.read_bytes()
    assert ("ArgMax" in {each.operator for each in conversion.fallbacks["rk3588"]}) == asked.class_map


def test_one_model_takes_several_shapes(tmp_path: Path) -> None:
    asked = replace(job(tmp_path, network(tmp_path / "small.onnx")), shapes=((224, 224), (448, 448)))
    convert(asked, ENVIRONMENT)
    content = (tmp_path / "out" / "rk3588.rknn").read_bytes()
    assert b"dynamic_shape" in content
    assert all(struct.pack("<4I", 1, 3, *shape) in content for shape in asked.shapes)


def test_hybrid_quantisation_keeps_layers_float16_until_the_loss_is_small(tmp_path: Path) -> None:
    asked = replace(
        job(tmp_path, network(tmp_path / "small.onnx", "Relu", spread=200.0), ("rk3588", "rk3566"), simulated=5),
        hybrid=Hybrid(most_layers=2, least_cosine=0.9999),
    )
    conversion = convert(asked, ENVIRONMENT)
    assert conversion.float16_layers
    assert "b" in conversion.float16_layers
    assert max(conversion.cosines) > conversion.cosines[0]
    assert {Path(each).name for each in conversion.models.values()} == {"rk3588.rknn", "rk3566.rknn"}


def test_hybrid_quantisation_of_what_loses_little_leaves_all_in_int8(tmp_path: Path) -> None:
    asked = replace(job(tmp_path, network(tmp_path / "small.onnx", "Relu")), hybrid=Hybrid(2, 0.9))
    conversion = convert(asked, ENVIRONMENT)
    assert conversion.float16_layers == ()
    assert len(conversion.cosines) == 1


def test_an_operator_that_the_toolkit_has_not_is_told_in_its_own_words(tmp_path: Path) -> None:
    asked = job(tmp_path, network(tmp_path / "small.onnx", "NoSuchOperator"))
    with pytest.raises(ConversionFailed, match=r"(?s)in step build for rk3588.*NoSuchOperator"):
        convert(asked, ENVIRONMENT)
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["convert.log"]


def test_int8_without_pictures_or_scales_of_its_own_is_refused(tmp_path: Path) -> None:
    asked = replace(job(tmp_path, network(tmp_path / "small.onnx")), calibration="")
    with pytest.raises(ConversionFailed, match="needs calibration pictures"):
        convert(asked, ENVIRONMENT)
