"""The kit's commands: help without torch, bad input in a sentence, and how `rkfleet model` starts them."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer

import modelkit
from fleet.cli import model
from modelkit import cli
from modelkit.cli.options import supply

ROOT = Path(modelkit.__file__).resolve().parents[1]
BUNDLE = ROOT / "modelkit" / "zoo" / "pcb-unet-1.0.0"
COMMANDS = ("data", "train", "distill", "prune", "qat", "export", "convert", "evaluate", "pack", "inspect", "build")
DEADLINE_S = 60


def rkfleet(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fleet.cli", *words],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert "Examples:" in said
    assert re.search(rf"python -m\s+modelkit\s+{command}\b", said)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from modelkit import cli\n"
        f"for command in {COMMANDS}: cli.main([command, '--help'])\n"
        "sys.exit(len({'numpy', 'cv2', 'torch', 'onnx', 'onnxruntime', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        pytest.param(["nonsense"], 2, "No such command", id="no command"),
        pytest.param(["train", "--stpes", "3"], 2, "No such option", id="no option"),
        pytest.param(["evaluate"], 1, "name at least one bundle", id="no bundle"),
        pytest.param(["evaluate", "nowhere"], 1, "nowhere is no bundle", id="a bundle that is not there"),
        pytest.param(["evaluate", str(BUNDLE), "--data", "folder:nowhere"], 1, "nowhere", id="no data"),
        pytest.param(["evaluate", str(BUNDLE), "--data", "photos"], 1, "write boards, deeppcb:FOLDER", id="no kind"),
        pytest.param(["data", "--data", "coco:one"], 1, "write boards, deeppcb:FOLDER", id="half of it"),
        pytest.param(["data", "--deeppcb", "nowhere"], 1, "nowhere does not exist", id="no set"),
        pytest.param(["build", "gone.yaml"], 1, "gone.yaml: No such file", id="no pipeline"),
        pytest.param(["convert", "--shape", "224"], 1, "write HEIGHTxWIDTH", id="no shape"),
        pytest.param(["convert", "--work", "gone"], 1, "run `python -m modelkit export`", id="a step is missing"),
    ],
)
def test_bad_input_ends_with_a_sentence_and_a_code(
    words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert says in " ".join(said.err.split())
    assert "Traceback" not in said.err


def test_errors_are_json_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "nowhere", "--json"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    told = json.loads(said.err)
    assert (told["command"], told["exitCode"]) == ("evaluate", 1)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed here")
def test_without_torch_training_says_what_to_install(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--steps", "1", "--work", str(tmp_path)]) == 1
    assert "torch is needed, and is not installed here: pip install 'rkfleet[modelkit]'" in capsys.readouterr().err


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Sixteen pictures of 96x64 px with a blob of class 1 each, as a folder of label maps."""
    for name in ("images", "masks"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for number in range(16):
        image, mask = np.full((64, 96, 3), 90, np.uint8), np.zeros((64, 96), np.uint8)
        mask[20:30, 10 + number : 30 + number] = 1
        image[mask > 0] = 220
        cv2.imwrite(str(tmp_path / "set" / "images" / f"{number}.png"), image)
        cv2.imwrite(str(tmp_path / "set" / "masks" / f"{number}.png"), mask)
    (tmp_path / "set" / "classes.txt").write_text("background\nscratch\n")
    return tmp_path / "set"


def test_data_shows_the_balance_and_a_sheet(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "out" / "sheet.png"
    assert cli.main(["data", "--data", f"folder:{own}", "--size", "64", "--sheet", str(sheet), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in told["classes"]] == ["background", "scratch"]
    assert told["classes"][1]["instances"] == told["images"]
    assert cv2.imread(str(sheet)) is not None


def test_data_of_ones_own_are_letterboxed_and_split(own: Path) -> None:
    given = supply(f"folder:{own}", None, 64)
    assert given.names == ("background", "scratch")
    assert len(given.train.ids) + len(given.validation.ids) == 16
    assert not set(given.train.ids) & set(given.validation.ids)
    sample = given.validation.read(given.validation.ids[0])
    assert sample.image.shape == (64, 64, 3)
    assert given.source.roles == ("image",)


def test_a_broken_picture_is_named(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (own / "images").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    assert cli.main(["data", "--data", f"folder:{own}"]) == 1
    assert re.search(r"images/\d\.png is broken or no picture", " ".join(capsys.readouterr().err.split()))


def test_rkfleet_passes_all_on_to_the_kit() -> None:
    listed = rkfleet("model", "--help")
    assert listed.returncode == 0
    assert all(f"  {command} " in listed.stdout for command in COMMANDS)
    helped = rkfleet("model", "train", "--help")
    assert helped.returncode == 0
    assert "rkfleet model train --work" in " ".join(helped.stdout.split())
    inspected = rkfleet("model", "inspect", str(BUNDLE), "--json")
    assert json.loads(inspected.stdout)["manifest"]["name"] == "pcb-unet"
    assert rkfleet("model", "inspect", "nowhere").returncode == 1
    assert rkfleet("model", "nonsense").returncode == 2


def test_where_the_kit_cannot_run_it_says_how_to_make_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model, "_ROOT", tmp_path)
    monkeypatch.setattr(model, "_NEEDS", {"train": ("a_module_that_is_nowhere",)})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RKFLEET_MODEL_PYTHON", raising=False)
    with pytest.raises(typer.Exit) as ended:
        model._python(["train", "--steps", "3"])
    assert ended.value.exit_code == 3
    assert "python3 -m venv .venv-train" in capsys.readouterr().err
    assert model._python(["train", "--help"]) == sys.executable
    assert model._python(["inspect", "x"]) == sys.executable


def test_an_environment_beside_the_project_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / ".venv-train" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.setattr(model, "_NEEDS", {"train": ("a_module_that_is_nowhere",)})
    monkeypatch.setattr(model, "_ROOT", tmp_path)
    assert model._python(["train"]) == str(python)
    monkeypatch.setenv("RKFLEET_MODEL_PYTHON", "/elsewhere/python")
    assert model._python(["train"]) == "/elsewhere/python"


def test_ctrl_c_ends_the_kit_and_the_command_cleanly(tmp_path: Path) -> None:
    """A terminal sends the signal to both; the kit is drawing boards when it comes."""
    words = ["model", "synthesise", "--count", "100000", "--size", "64", "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", STARTED, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "drawing\n"
        os.killpg(child.pid, signal.SIGINT)
        code, said = child.wait(DEADLINE_S), child.stderr.read()
    assert code == 130
    assert "synthesise: stopped" in said
    assert "Traceback" not in said


STARTED = """
import os, sys
from fleet import cli
os.environ["RKFLEET_MODEL_PYTHON"] = sys.executable
folder = os.environ["PYTHONPATH"] = os.path.join(sys.argv[-1] + "-site")
os.makedirs(folder)
with open(os.path.join(folder, "sitecustomize.py"), "w") as hook:
    hook.write('''
import sys
if "modelkit" in sys.orig_argv:
    from modelkit import synthesise
    draw = synthesise.validation
    def told(*rest, **named):
        print("drawing", flush=True)
        return draw(*rest, **named)
    synthesise.validation = told
''')
cli.app(sys.argv[1:])
"""
