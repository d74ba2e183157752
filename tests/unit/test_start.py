"""The start of the agent: its phases, the model's file read ahead and verified."""

import hashlib
import json
import os
import pickle
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from agent.adapters.host_linux import LinuxHost
from agent.config import Settings, parse
from agent.core.watch import Phase
from agent.errors import AgentError, Permanent
from agent.loops.capture import CameraReport
from agent.loops.orders import LaneReport
from agent.loops.start import Milestone, Start
from agent.model_file import VerifiedFactory, verify
from agent.ports import Connected, Segmenter
from agent.read_ahead import bring, likely_file
from schemas.codes import FailureCode
from schemas.telemetry import StartTelemetry
from tests.unit.a_model import Counted

DIGEST = "ab" * 32


def test_only_the_first_time_of_a_phase_counts() -> None:
    start = Start(10.0)
    start.reach(Milestone.IMPORTED, 10.5)
    start.reach(Milestone.IMPORTED, 99.0)
    assert start.reached_ms == {"imported": 500.0}


def camera(phase: Phase) -> CameraReport:
    return CameraReport("top", datetime.now(UTC), phase, (), (), "")


@pytest.mark.parametrize(
    ("item", "reached"),
    [
        (Connected(session_present=False, receive_maximum=20, session_seq=1), {"broker_connected"}),
        (camera(Phase.STREAMING), {"camera_opened"}),
        (camera(Phase.CONNECTING), set()),
        (LaneReport("core-0", None), {"model_loaded"}),
        (LaneReport("core-0", FailureCode.MODEL_MISSING), set()),
    ],
)
def test_phases_are_read_from_what_control_is_told(item: object, reached: set[str]) -> None:
    start = Start(0.0)
    start.saw(item, 1.0)
    assert set(start.reached_ms) == reached


def test_each_milestone_has_its_field_in_telemetry() -> None:
    start = Start(0.0)
    for milestone in Milestone:
        start.reach(milestone, 2.0)
    assert set(StartTelemetry.of(start.reached_ms).model_dump().values()) == {2000.0}


def settings(folder: Path, target: str = "cpu") -> Settings:
    document = {
        "station": {"site": "a", "node": "b"},
        "model": {"bundle": "bundle", "target": target},
        "storage": {"data_dir": "data"},
        "camera": [{"id": "top", "kind": "synthetic"}],
    }
    return parse(document, folder, "agent.toml")


def put_manifest(folder: Path, content: object = None) -> None:
    variants = [{"target": "rk3588", "file": "a.rknn"}, {"target": "cpu", "file": "sub/a.onnx"}]
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"variants": variants} if content is None else content))


@pytest.mark.parametrize(
    ("target", "chips", "file"),
    [
        ("cpu", "", "sub/a.onnx"),
        ("rk3588", "", "a.rknn"),
        ("rk3566", "", None),
        ("auto", "radxa,rock-5b\0rockchip,rk3588\0", "a.rknn"),
        ("auto", "raspberrypi,4", "sub/a.onnx"),
    ],
)
def test_the_file_of_this_machine_is_read_ahead(target: str, chips: str, file: str | None, tmp_path: Path) -> None:
    put_manifest(tmp_path / "bundle")
    (tmp_path / "compatible").write_text(chips)
    found = likely_file(settings(tmp_path, target), tmp_path / "compatible")
    assert found == (tmp_path / "bundle" / file if file else None)


def test_a_downloaded_bundle_comes_before_the_installed_one(tmp_path: Path) -> None:
    put_manifest(tmp_path / "bundle")
    bundles = tmp_path / "data" / "models" / "bundles"
    for number, name in enumerate(("cd" * 32, DIGEST, "ef" * 32, ".new-" + DIGEST)):
        put_manifest(bundles / name)
        os.utime(bundles / name, (number % 2, number % 2))
    assert likely_file(settings(tmp_path)) == bundles / DIGEST / "sub" / "a.onnx"


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"variants": 3},
        {"variants": [3]},
        {"variants": [{"target": "cpu"}]},
        {"variants": [{"target": "cpu", "file": "/etc/passwd"}]},
        {"variants": [{"target": "cpu", "file": "a/../../x"}]},
    ],
)
def test_a_strange_manifest_is_no_hint(content: object, tmp_path: Path) -> None:
    put_manifest(tmp_path / "bundle", content)
    assert likely_file(settings(tmp_path)) is None


@pytest.mark.parametrize("size_bytes", [0, 1, 5_000_000])
def test_a_file_is_read_to_its_end(size_bytes: int, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(bytes(size_bytes))
    assert bring(tmp_path / "model") == size_bytes


def made() -> Segmenter:
    return cast("Segmenter", Counted())


def refused() -> Segmenter:
    raise AssertionError("the file reached the runtime")


def verified(path: Path, content: bytes, library: str = "json") -> VerifiedFactory[Segmenter]:
    return VerifiedFactory(made, str(path), hashlib.sha256(content).hexdigest(), library)


@pytest.mark.parametrize("library", ["json", "no_such_library"])
def test_a_verified_file_is_loaded_even_after_a_journey_to_a_child(library: str, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"model")
    factory = pickle.loads(pickle.dumps(verified(tmp_path / "model", b"model", library)))
    assert isinstance(factory(), Counted)


@pytest.mark.parametrize(
    ("content", "code"), [(b"other", FailureCode.MODEL_DIGEST_MISMATCH), (None, FailureCode.MODEL_MISSING)]
)
def test_no_other_file_reaches_the_runtime(content: bytes | None, code: FailureCode, tmp_path: Path) -> None:
    path = tmp_path / "model"
    if content is not None:
        path.write_bytes(content)
    sha256 = hashlib.sha256(b"model").hexdigest()
    with pytest.raises(AgentError) as found:
        VerifiedFactory(refused, str(path), sha256, "json")()
    assert found.value.code is code
    with pytest.raises(Permanent):
        verify(path, sha256)


def test_the_age_of_this_process_grows_with_the_clock() -> None:
    host = LinuxHost(data_dir=Path("/"), pids=tuple)
    before_s, age_s = time.monotonic(), host.process_age_s()
    assert age_s is not None
    assert age_s > 0
    later_s = host.process_age_s()
    assert later_s is not None
    assert later_s - age_s <= time.monotonic() - before_s + 0.02


@pytest.mark.parametrize(
    "stat",
    ["", "1 (x", "1 (a b) c) S " + "0 " * 17, "1 (x) S " + "0 " * 18 + "soon 1", f"1 (x) S {'0 ' * 18}{10**17} 1"],
)
def test_an_age_that_cannot_be_told_is_none(stat: str, tmp_path: Path) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "stat").write_text(stat)
    assert LinuxHost(data_dir=tmp_path, pids=tuple, root=tmp_path).process_age_s() is None
