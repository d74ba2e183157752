"""What is refused before the converter starts, and what its log is read for."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modelkit import hybrid
from modelkit.convert_rknn import ConversionFailed, EnvironmentAbsent, Hybrid, Job, UnknownTarget, convert
from modelkit.rknn_job import Fallback
from modelkit.rknn_log import errors, fallbacks

LOG = """I rknn-toolkit2 version: 2.5.0
==== target rk3588
I rknn building ...
D RKNN: [20:41:53.146] 2    Tanh               INT8     CPU    (1,16,64,64)      (1,16,64,64)   0/0/0   64  Tanh:early
I rknn building done.
I rknn building ...
D RKNN: [20:41:53.146] 0    InputOperator      INT8     CPU  \\            (1,3,64,64)   0/0/0   0   InputOperator:image
D RKNN: [20:41:53.146] 1    ConvRelu           INT8     NPU    (1,3,64,64),(16)  (1,16,64,64)   33/6/6  14  Conv:n1
D RKNN: [20:41:53.146] 2    Sin           FLOAT16  CPU  (1,16,64,64)  (1,16,64,64)  0/0/0  64 Sin:/net/a/long/way/to/th
D RKNN: [20:41:53.146] 3    OutputOperator     INT8   CPU  (1,7,64,64)  \\  0/0/0  128 OutputOperator:logits
==== target rv1126b
I rknn building ...
D RKNN: [20:41:53.146] 2    Sin                INT8     NPU    (1,16,64,64)      (1,16,64,64)   0/0/0   64  Sin:s
"""
FAILED = (
    "\x1b[1;31mE\x1b[0m \x1b[1;31mload_onnx: Traceback (most recent call last):\n  File ...\x1b[0m\n"
    "\x1b[1;31mE\x1b[0m \x1b[1;31mrknn-toolkit2 version: 2.5.0\x1b[0m\n"
    "\x1b[1;31mE\x1b[0m \x1b[1;31mbuild: Unsupport op!\x1b[0m\n"
    "E RKNN: [20:41:53.146] failed to configure conv\n"
    "ValueError: Traceback (most recent call last):\nValueError: Invalid operands name 'x'!\n"
    "\x1b[1;31mE\x1b[0m \x1b[1;31mbuild: Unsupport op!\x1b[0m\n"
)
ANALYSIS = """
# single: single-layer output error between 'golden' and 'simulator'
layer_name                  entire              single
[Input] image               1.00000 | 0.00000   1.00000 | 0.00000
[exDataConvert] image_int8  0.90000 | 0.00000   0.90000 | 0.00000
[Conv] a
[Relu] b                    0.99998 | 1.50661   0.99998 | 1.50661
[Conv] c/Conv               0.99991 | 2129.261720.99990 | 3.55181
[Conv] logits_int8          0.98000 | 0.81007   0.99995 | 0.41709
[exDataConvert] logits      0.97000 | 0.81007   0.99996 | 0.35894
"""
CONFIG = "custom_quantize_layers: {}\nquantize_parameters:\n" + "".join(
    f"    {name}:\n        qtype: asym\n        dtype: int8\n" for name in ("image_int8", "a", "b", "c/Conv")
)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "model.onnx").touch()
    (tmp_path / "0.png").touch()
    (tmp_path / "list.txt").write_text(f"{tmp_path / '0.png'}\n")
    return Job(
        onnx=str(tmp_path / "model.onnx"),
        mean=114.0,
        deviation=64.0,
        targets=("rk3588",),
        calibration=str(tmp_path / "list.txt"),
        simulate=(),
        out=str(tmp_path / "out"),
    )


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        pytest.param({"targets": ("rk9999",)}, UnknownTarget, "rk9999.*rk3588.*rv1126b", id="target that is none"),
        pytest.param({"targets": ("cpu",)}, UnknownTarget, "no target cpu", id="target without an NPU"),
        pytest.param({"targets": ()}, UnknownTarget, "there are rk", id="no target"),
        pytest.param({"algorithm": "magic"}, ConversionFailed, "normal, mmse, kl_divergence", id="algorithm"),
        pytest.param({"dtype": "int4"}, ConversionFailed, "int8, float16", id="type"),
        pytest.param({"batch": 0}, ConversionFailed, "batch of 0", id="batch"),
        pytest.param({"batch": 2, "shapes": ((64, 64),)}, ConversionFailed, "a batch or shapes", id="batch and shapes"),
        pytest.param({"dtype": "float16", "hybrid": Hybrid()}, ConversionFailed, "hybrid", id="hybrid of float"),
        pytest.param({"onnx": "/no/model.onnx"}, ConversionFailed, "export the model", id="no model"),
        pytest.param({"calibration": "/no/list.txt"}, ConversionFailed, "is missing", id="no list"),
        pytest.param({"inputs": 2}, ConversionFailed, "1 pictures in a line, the model takes 2", id="too few pictures"),
        pytest.param({}, EnvironmentAbsent, r"-m modelkit\.convert_rknn", id="no environment"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused_before_anything_is_written(
    job: Job, tmp_path: Path, change: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        convert(replace(job, **change), tmp_path / "absent")  # type: ignore[arg-type] # of any field
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("content", "words"), [("\n \n", "is empty"), ("/no/such.png\n", "/no/such.png is missing")])
def test_calibration_without_pictures_is_refused(job: Job, tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "list.txt").write_text(content)
    with pytest.raises(ConversionFailed, match=words):
        convert(job, tmp_path)


@pytest.mark.parametrize(
    ("last_act", "words"),
    [
        pytest.param(
            "sys.exit('refused: step build gave -1')",
            "ended with 1(?s:.*)step build gave -1(?s:.*)no such op",
            id="ends",
        ),
        pytest.param("import os; os.kill(os.getpid(), 11)", r"crashed \(signal 11\)", id="crashes"),
        pytest.param("pass", "ended with 0", id="ends well, with nothing made"),
    ],
)
def test_a_converter_that_fails_leaves_its_log_and_what_was_there_before(
    job: Job, tmp_path: Path, last_act: str, words: str
) -> None:
    """A stand-in for the converter's Python writes half a model and then gives up."""
    script = tmp_path / "converter.py"
    script.write_text(
        "import pathlib, sys\npathlib.Path('rk3588.rknn').write_bytes(b'half')\n"
        f"print('E build: no such op', flush=True)\n{last_act}\n"
    )
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (tmp_path / "env" / "complete").touch()
    python.write_text(f"#!/bin/sh\nexec {sys.executable} {script}\n")
    python.chmod(0o755)
    out = Path(job.out)
    out.mkdir()
    (out / "rk3588.rknn").write_bytes(b"whole")
    with pytest.raises(ConversionFailed, match=words):
        convert(job, tmp_path / "env")
    assert sorted(each.name for each in out.iterdir()) == ["convert.log", "rk3588.rknn"]
    assert (out / "rk3588.rknn").read_bytes() == b"whole"


def test_a_job_is_the_same_after_a_trip_through_json(job: Job) -> None:
    full = replace(job, shapes=((224, 224), (448, 448)), hybrid=Hybrid(2, 0.99), simulate=(("a", "b"),), inputs=2)
    for each in (job, full):
        assert Job.from_json(each.to_json()) == each
    assert json.loads(full.to_json())["hybrid"] == {"most_layers": 2, "least_cosine": 0.99}


def test_layers_that_fall_back_are_those_of_the_last_model_built_for_each_target() -> None:
    whole = "/net/a/long/way/to/the/Sin"
    assert fallbacks(LOG, [("Sin", whole), ("Conv", "n1")]) == {
        "rk3588": (Fallback("Sin", whole, "FLOAT16"),),
        "rv1126b": (),
    }


def test_a_name_cut_short_stays_so_where_two_layers_begin_with_it() -> None:
    two = [("Sin", "/net/a/long/way/to/the/Sin"), ("Sin", "/net/a/long/way/to/the/Sin_1")]
    assert fallbacks(LOG, two)["rk3588"][0].layer == "/net/a/long/way/to/th"


def test_the_toolkits_errors_are_told_once_without_colours_and_versions() -> None:
    assert errors(FAILED) == ["build: Unsupport op!", "failed to configure conv", "Invalid operands name 'x'!"]


def test_the_analysis_ranks_layers_by_the_loss_of_their_own_with_what_is_fused_into_them() -> None:
    losses = hybrid.parse(ANALYSIS)
    assert [each.tensors for each in hybrid.ranked(losses)] == [("c/Conv",), ("logits_int8",), ("a", "b")]
    assert hybrid.final_cosine(losses) == 0.97


def test_layers_are_named_float16_in_the_configuration() -> None:
    losses = hybrid.ranked(hybrid.parse(ANALYSIS))
    told = hybrid.kept_float(CONFIG, [losses[0], losses[2]])
    assert told.startswith(
        'custom_quantize_layers:\n    "c/Conv": float16\n    "a": float16\n    "b": float16\nquantize'
    )
    with pytest.raises(hybrid.UnknownLayer, match="logits_int8"):
        hybrid.kept_float(CONFIG, [losses[1]])
    with pytest.raises(ValueError, match="names layers already"):
        hybrid.kept_float(told, [])


def test_an_analysis_of_no_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="no layer"):
        hybrid.parse("layer_name\n")


@pytest.mark.parametrize(("layers", "cosine"), [(0, 0.99), (1, 0.0), (1, 1.1)])
def test_hybrid_limits_that_make_no_sense_are_refused(layers: int, cosine: float) -> None:
    with pytest.raises(ValueError, match="hybrid"):
        Hybrid(layers, cosine)
