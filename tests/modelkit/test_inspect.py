"""What model files and bundles say of themselves, and what is told of damaged ones."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import modelkit
from modelkit import cli
from modelkit.inspect_file import BundleFolder, RknnFile, Tensor, Unreadable, inspect

ZOO = Path(modelkit.__file__).parent / "zoo"
BUNDLE = ZOO / "pcb-unet-1.0.0"
ROOT = Path(modelkit.__file__).resolve().parents[1]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))


def change(bundle: Path, **fields: Any) -> None:
    path = bundle / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_model_file_tells_boards_toolkit_and_tensors() -> None:
    found = inspect(BUNDLE / "model-rk3566.rknn")
    assert isinstance(found, RknnFile)
    assert (found.platforms, set(found.targets)) == (("rk3566",), {"rk3566", "rk3568"})
    assert found.toolkit.startswith("2.5.0")
    assert found.inputs == (Tensor("image", (1, 3, 512, 512), "int8"),)
    assert [each.shape for each in found.outputs] == [(1, 7, 512, 512)]
    assert found.bytes == (BUNDLE / "model-rk3566.rknn").stat().st_size


@pytest.mark.parametrize("bundle", sorted(ZOO.glob("*/manifest.json")), ids=lambda path: path.parent.name)
def test_the_bundles_of_the_project_have_no_fault(bundle: Path) -> None:
    found = inspect(bundle)
    assert isinstance(found, BundleFolder)
    assert found.problems == ()
    assert sum(each.rknn is not None for each in found.files) == 6


def test_for_people_all_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(BUNDLE)]) == 0
    said = capsys.readouterr().out
    for word in ("pcb-unet 1.0.0", "512x512", "rv1126b", "2.5.0", "mIoU", "IoU pin-hole", "logits of 7 classes"):
        assert word in said


def test_for_scripts_it_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(BUNDLE), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["kind"], said["problems"]) == ("bundle", [])
    assert said["manifest"]["accuracy"]["int8"]["miou"] > 0
    assert cli.main(["inspect", str(BUNDLE / "model-rk3588.rknn"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["targets"] == ["rk3588"]


def spoiled(bundle: Path) -> None:
    path = bundle / "model-rk3588.rknn"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def exchanged(bundle: Path) -> None:
    """The manifest tells the truth of bytes and digest, but the file is for another board."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    by_target = {each["target"]: each for each in manifest["variants"]}
    for key in ("file", "bytes", "sha256"):
        by_target["rk3588"][key] = by_target["rk3562"][key]
    change(bundle, variants=manifest["variants"])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(spoiled, "model-rk3588.rknn: its SHA-256 is not the manifest's", id="a byte changed"),
        pytest.param(exchanged, "it was built for rk3562", id="another board's file"),
        pytest.param(lambda b: (b / "model-cpu.onnx").unlink(), "model-cpu.onnx: No such file", id="a file is gone"),
        pytest.param(lambda b: (b / "golden" / "0.png").write_bytes(b""), "golden/0.png: its SHA-256", id="golden"),
        pytest.param(lambda b: (b / "model-rk3576.rknn").write_bytes(b"RKNN"), "it has 4 bytes", id="short"),
    ],
)
def test_what_a_bundle_lacks_is_told_and_exits_1(
    copied: Path, damage: Any, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(copied)
    assert cli.main(["inspect", str(copied)]) == 1
    assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda p: p.write_bytes(b"no model"), "not a usable .rknn file", id="no model"),
        pytest.param(lambda p: p.write_bytes(b"RKNN" + b"\0" * 60 + b"\xff" * 40), "format", id="a strange format"),
        pytest.param(lambda p: p.mkdir(), "no bundle: manifest.json: No such file", id="an empty folder"),
        pytest.param(lambda p: None, "No such file", id="nothing"),
    ],
)
def test_what_is_neither_is_refused_in_a_sentence(tmp_path: Path, make: Any, says: str) -> None:
    path = tmp_path / "thing"
    make(path)
    with pytest.raises(Unreadable, match=says):
        inspect(path)


def test_a_manifest_of_nonsense_names_its_file(copied: Path) -> None:
    change(copied, variants=[])
    with pytest.raises(Unreadable, match=r"(?s)manifest\.json: .*variants"):
        inspect(copied)


def test_neither_numpy_nor_any_runtime_is_loaded() -> None:
    code = (
        "import sys; from modelkit import cli; code = cli.main(['inspect', sys.argv[1], '--json']);"
        "heavy = {'numpy', 'cv2', 'torch', 'onnx', 'onnxruntime', 'rknn', 'rknnlite'} & set(sys.modules);"
        "sys.exit(code or len(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(BUNDLE)], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
