"""Pipeline files: what is wrong is told with its line and what to do; gates say by how much they are missed."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from modelkit.pipeline.gates import GateFailed, check
from modelkit.pipeline.load import PipelineError, load
from modelkit.pipeline.spec import Gate
from modelkit.pipeline.spec_data import Boards, DeepPcb
from modelkit.plan import Plan

PIPELINES = Path(__file__).resolve().parents[2] / "pipelines"
GOOD = """\
schema: rkfleet.pipeline/1
name: mine
version: 1.0.0
data: {kind: boards, sizePx: 128}
model: {architecture: unet, width: 8}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_what_is_left_out_has_the_defaults_of_the_trainer(tmp_path: Path) -> None:
    spec = load(written(tmp_path, GOOD))
    plan = spec.training.plan(spec.model, ("image",), 7)
    assert plan == Plan(architecture="unet", width=8, roles=("image",), classes=7)
    assert [target.value for target in spec.targets] == ["rk3588", "rk3576", "rk3568", "rk3566", "rk3562", "rv1126b"]


def test_fields_of_training_reach_the_plan(tmp_path: Path) -> None:
    spec = load(written(tmp_path, GOOD + "training: {steps: 7, cropPx: 64, emphasis: [3, 2], loss: [dice=1]}\n"))
    plan = spec.training.plan(spec.model, ("image",), 3)
    assert (plan.steps, plan.crop_px, plan.emphasis, plan.loss, plan.classes) == (7, 64, (3.0, 2.0), ("dice=1",), 3)


@pytest.mark.parametrize(
    ("added", "line", "says"),
    [
        pytest.param("training: {steps: 0}", 6, "training.steps: input should be greater than 0, not 0", id="bounds"),
        pytest.param("training:\n  rtae: 1", 7, "training.rtae: there is no such field; is rate meant?", id="misspelt"),
        pytest.param("training: {loss: [dise=1]}", 6, "'dise=1' in the loss is not NAME=WEIGHT", id="loss"),
        pytest.param("tragets: [rk3588]", 6, "is targets meant?", id="misspelt at the top"),
        pytest.param("targets: [rk3599]", 6, "targets.0: input should be 'rk3588'", id="no such target"),
        pytest.param("targets: [cpu]", 1, "cpu is always in the bundle", id="cpu as a target"),
        pytest.param("targets: [rk3588, rk3588]", 1, "stands there twice", id="a target twice"),
        pytest.param("gates:\n- figure: int8.miu\n  atLeast: 1", 7, "int8.miu is no figure: write", id="no figure"),
        pytest.param("gates:\n- figure: int8.miou", 7, "either atLeast or atMost", id="a gate without a limit"),
        pytest.param(
            "gates: [{figure: board.miou, atLeast: 0.5}]\nevaluation: {board: false}", 1, "board off", id="unmeasured"
        ),
        pytest.param("compression: {prune: {}}", 6, "either mostParameters or ratio", id="prune to nothing"),
        pytest.param("compression: {distil: {teacher: {}}}", 6, "either a checkpoint or a model", id="no teacher"),
        pytest.param("training: {start: gone.pt}", 6, "gone.pt does not exist: write where it is", id="no checkpoint"),
        pytest.param("quantisation: {algorithm: best}", 6, "input should be 'normal', 'mmse'", id="no algorithm"),
        pytest.param("name: other", 6, "name stands here twice", id="a field twice"),
        pytest.param("data: [", 6, "this is not YAML", id="no YAML"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, added: str, line: int, says: str) -> None:
    path = written(tmp_path, GOOD + added + "\n")
    with pytest.raises(PipelineError) as caught:
        load(path)
    text = str(caught.value)
    assert says in text
    assert f"{path}:{line}" in text or "not YAML" in text


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param("{kind: deeppcb, folder: nowhere}", "data.folder: ", id="no such folder"),
        pytest.param("{kind: photos}", "data: input tag 'photos'", id="no such kind"),
        pytest.param("{kind: folder, folder: .}", "data.terms: is missing: write it", id="terms are not optional"),
        pytest.param("{kind: boards, sizePx: 100}", "data.sizePx: input should be a multiple of 16", id="no such size"),
    ],
)
def test_data_that_cannot_be_used_are_told(tmp_path: Path, data: str, says: str) -> None:
    with pytest.raises(PipelineError, match=says.replace(".", r"\.")):
        load(written(tmp_path, GOOD.replace("{kind: boards, sizePx: 128}", data)))


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"\xff\xfe", b"a: &a [*a]", b"x: " + b"[" * 40 + b"]" * 40])
def test_hostile_files_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=r"mine\.yaml"):
        load(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"gone\.yaml: No such file"):
        load(tmp_path / "gone.yaml")


def test_values_can_be_set_from_the_command_line(tmp_path: Path) -> None:
    spec = load(written(tmp_path, GOOD), ["training.steps=9", "data.sizePx=64", "gates=[]", "version=2.0.0"])
    assert isinstance(spec.data, Boards)
    assert (spec.training.model_dump()["steps"], spec.data.size_px, spec.version) == (9, 64, "2.0.0")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("training.steps", "write field=value", id="no value"),
        pytest.param("name.first=x", "name has no fields", id="no fields below"),
        pytest.param("training.steps=-1", "training.steps: input should be greater", id="out of bounds"),
        pytest.param("name=[", "not YAML", id="not YAML"),
    ],
)
def test_values_that_cannot_be_set_are_told(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(PipelineError, match=says):
        load(written(tmp_path, GOOD), [text])


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    text = GOOD.replace("{kind: boards, sizePx: 128}", "{kind: deeppcb, folder: set}")
    spec = load(written(tmp_path, text))
    assert isinstance(spec.data, DeepPcb)
    assert spec.data.folder == tmp_path / "set"


def test_the_pipelines_of_the_project_are_good(tmp_path: Path) -> None:
    found = sorted(PIPELINES.glob("*.yaml"))
    assert {"pcb-unet.yaml", "smoke.yaml"} <= {path.name for path in found}
    for path in found:
        text = path.read_text()
        overrides = [f"data.folder={tmp_path}"] if "kind: deeppcb" in text or "kind: folder" in text else []
        assert load(path, overrides).gates, f"{path.name} has no gate"


@pytest.mark.parametrize(
    ("gate", "figures", "text"),
    [
        pytest.param(Gate(figure="int8.miou", at_least=0.9), {"int8.miou": 0.9}, None, id="just there"),
        pytest.param(
            Gate(figure="int8.miou", at_least=0.9),
            {"int8.miou": 0.8712},
            "int8.miou is 0.8712, at least 0.9 is asked: it misses by 0.0288",
            id="too low",
        ),
        pytest.param(Gate(figure="loss.miou", at_most=0.01), {"loss.miou": -0.002}, None, id="int8 better than float"),
        pytest.param(
            Gate(figure="parameters", at_most=1e6),
            {"parameters": 1_250_000},
            "parameters is 1,250,000, at most 1,000,000 is asked: it misses by 250,000",
            id="too many",
        ),
        pytest.param(
            Gate(figure="int8.iou.open", at_least=0.5),
            {},
            "int8.iou.open: at least 0.5 is asked, and it was not",
            id="unknown",
        ),
        pytest.param(
            Gate(figure="int8.miou", at_least=0.1),
            {"int8.miou": float("nan")},
            "int8.miou: at least 0.1 is asked, and it was not",
            id="no number",
        ),
    ],
)
def test_a_gate_says_by_how_much_it_is_missed(gate: Gate, figures: Mapping[str, float], text: str | None) -> None:
    (checked,) = check([gate], figures)
    assert checked.holds == (text is None)
    if text is not None:
        assert checked.text.startswith(text)
        assert text in str(GateFailed([checked]))
