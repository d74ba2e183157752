"""`rkfleet model build pipelines/smoke.yaml`: every step of the kit, once, and then what a second run makes of it.

Needs torch and the converter; where one of them is absent the test says so.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelkit.inspect_file import BundleFolder, inspect
from modelkit.report.document import Document, flat

ROOT = Path(__file__).resolve().parents[2]
CONVERTER = Path(os.environ.get("RKFLEET_CONVERTER", ROOT / ".venv-convert"))
SMOKE = ROOT / "pipelines" / "smoke.yaml"
DEADLINE_S = 900
"""Generous: two minutes on two cores of their own."""
STEPS = (
    *("data", "teacher", "distil", "prune", "qat", "export", "calibrate"),
    *("convert", "pack", "evaluate", "report", "gates", "release"),
)

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None,
        reason="the extra modelkit is not installed; `make modelkit-test` has it",
    ),
    pytest.mark.skipif(not (CONVERTER / "complete").exists(), reason="there is no converter in .venv-convert"),
]


def command(folder: Path, *more: str) -> list[str]:
    places = ["--out", str(folder / "out"), "--work", str(folder / "work"), "--environment", str(CONVERTER)]
    # Whoever edits the code while this runs would have all made again.
    places.append("--same-code")
    return [sys.executable, "-m", "fleet.cli", "model", "build", str(SMOKE), *places, "--json", *more]


def built(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *more), cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE_S
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build, interrupted by Ctrl-C once while the teacher was trained."""
    made = tmp_path_factory.mktemp("smoke")
    with subprocess.Popen(
        command(made), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        assert child.stderr is not None
        # The first line of the trainer: its checkpoint is kept by then.
        assert any(line.startswith("step ") for line in child.stderr), "the trainer said nothing"
        os.killpg(child.pid, signal.SIGINT)
        child.communicate(timeout=DEADLINE_S)
    interrupted = child.returncode
    done = built(made)
    assert done.returncode == 0, done.stderr[-4000:]
    (made / "first.json").write_text(done.stdout)
    (made / "interrupted.txt").write_text(str(interrupted))
    (made / "said.txt").write_text(done.stderr)
    return made


def test_a_build_goes_on_after_ctrl_c_to_a_bundle_with_a_card(folder: Path) -> None:
    assert (folder / "interrupted.txt").read_text() in {"130", "0"}, "0: it was done before the signal came"
    told = json.loads((folder / "first.json").read_text())
    assert tuple(sorted((*told["made"], *told["skipped"]))) == tuple(sorted(STEPS))
    assert "data" in told["skipped"]
    found = inspect(Path(told["bundle"]))
    assert isinstance(found, BundleFolder)
    assert found.problems == ()
    assert {each.target for each in found.files} == {"rk3588", "rk3566", "cpu"}
    lineage = found.manifest.lineage
    assert (lineage.quantisation, lineage.teacher) == ("qat", "pair-unet, width 24")
    assert lineage.pruned_from is not None
    assert [spec.role for spec in found.manifest.inputs] == ["image", "reference"]


def test_the_card_tells_data_terms_lineage_limits_and_commands(folder: Path) -> None:
    told = json.loads((folder / "first.json").read_text())
    words = Path(told["card"]).read_text()
    for word in (
        "Terms: Drawn by this project",
        "distil",
        "prune",
        "qat",
        "## Limits",
        "rkfleet model build",
        "IoU int8",
    ):
        assert word in words
    card = json.loads(Path(told["card"]).with_suffix(".json").read_text())
    assert card["schema"] == "rkfleet.card/1"
    assert [change["step"] for change in card["compression"]] == ["distil", "prune", "qat"]
    assert set(card["overAll"]) == {"float32", "int8", "board"}
    assert all(gate["holds"] for gate in card["gates"])
    assert "<html" in Path(told["report"]).read_text()


def test_the_board_says_what_the_exported_network_says(folder: Path) -> None:
    figures = flat(Document.read(folder / "work" / "evaluate" / "evaluation.json"))
    assert figures["board.miou"] == figures["float32.miou"]
    assert abs(figures["loss.miou"]) <= 0.05


def test_a_second_run_makes_nothing_and_says_so(folder: Path) -> None:
    done = built(folder)
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert (told["made"], set(told["skipped"])) == ([], set(STEPS))
    assert done.stderr.count("up to date") == len(STEPS)


def test_a_gate_that_fails_ends_with_no_bundle_and_by_how_much(folder: Path) -> None:
    bundle = Path(json.loads((folder / "first.json").read_text())["bundle"])
    done = built(folder, "--set", "gates=[{figure: int8.miou, atLeast: 0.99}]")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "at least 0.99 is asked: it misses by 0." in done.stderr
    assert not bundle.exists()
    assert not Path(f"{bundle}.card.md").exists()
    assert "misses by" in (folder / "work" / "report" / "report.html").read_text(), "what failed can be looked at"
    again = built(folder)
    assert again.returncode == 0
    assert json.loads(again.stdout)["made"] == ["report", "gates", "release"]
    assert bundle.exists()
