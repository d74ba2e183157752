import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.adapters.bundle_fs import read_bundle
from agent.core.fetch_plan import MAX_MANIFEST_BYTES
from agent.errors import Permanent
from schemas.codes import FailureCode
from schemas.target import Target
from tests.scenario.bundle import CLASSES, SIZE_PX, make_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def test_a_whole_bundle_is_read(folder: Path) -> None:
    bundle = read_bundle(folder, Target.CPU)
    assert bundle.spec.shapes == ((SIZE_PX, SIZE_PX),)
    assert bundle.spec.classes == len(CLASSES)
    assert Path(bundle.path) == folder / "cpu.onnx"


def edited(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def flipped(folder: Path) -> None:
    data = bytearray((folder / "cpu.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "cpu.onnx").write_bytes(data)


def truncated(folder: Path) -> None:
    (folder / "cpu.onnx").write_bytes((folder / "cpu.onnx").read_bytes()[:-1])


def leaving(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"cpu.onnx"', '"../cpu.onnx"'))


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), FailureCode.MODEL_MISSING),
        (lambda folder: (folder / "cpu.onnx").unlink(), FailureCode.MODEL_MISSING),
        (lambda folder: (folder / "manifest.json").write_bytes(b""), FailureCode.MODEL_INVALID),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\x00"), FailureCode.MODEL_INVALID),
        (lambda folder: (folder / "manifest.json").write_bytes(b"[" * 100_000), FailureCode.MODEL_INVALID),
        (lambda folder: (folder / "manifest.json").write_bytes(b" " * (MAX_MANIFEST_BYTES + 1)),
         FailureCode.MODEL_INVALID),
        (edited(schema="rkfleet.manifest/2"), FailureCode.MODEL_TOO_NEW),
        (edited(unheard=1), FailureCode.MODEL_INVALID),
        (edited(preprocess=[]), FailureCode.MODEL_INVALID),
        (leaving, FailureCode.MODEL_INVALID),
        (flipped, FailureCode.MODEL_DIGEST_MISMATCH),
        (truncated, FailureCode.MODEL_DIGEST_MISMATCH),
    ],
    ids=["no manifest", "no model", "empty", "no text", "deep", "huge", "a later format", "unknown field",
         "no scaling", "leaves the folder", "one bit", "one byte less"],
)  # fmt: skip
def test_a_spoilt_bundle_is_refused_in_words(folder: Path, spoil: Callable[[Path], None], code: FailureCode) -> None:
    spoil(folder)
    with pytest.raises(Permanent) as caught:
        read_bundle(folder, Target.CPU)
    assert caught.value.code is code
    assert str(folder) in caught.value.text


def test_a_target_without_a_variant_is_refused_with_those_that_there_are(folder: Path) -> None:
    with pytest.raises(Permanent, match=r"no variant for rk3588, only for cpu") as caught:
        read_bundle(folder, Target.RK3588)
    assert caught.value.code is FailureCode.MODEL_WRONG_TARGET
