"""The command with which a bundle of one's own is tried."""

import json
import shutil
from pathlib import Path

import pytest

from schemas.target import Target
from tests.board import zoo
from tests.board.emulated_npu import ZOO, EmulatedNpu
from tests.board.try_bundle import Tried, try_bundle

pytestmark = pytest.mark.board


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ZOO / zoo.NEWEST, tmp_path / "mine"))


def test_a_good_bundle_answers_as_its_twin_on_each_chip_asked_for(npu: EmulatedNpu, bundle: Path) -> None:
    tried = try_bundle(npu, bundle, [Target.RK3576, Target.RV1126B])
    assert [(one.target, one.other_pixels, one.said) for one in tried] == [
        (Target.RK3576, 0, ""),
        (Target.RV1126B, 0, ""),
    ]
    assert all(one.worst_agreement > 0.9 for one in tried)


def test_what_is_wrong_with_a_bundle_is_told_for_each_chip(npu: EmulatedNpu, bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["variants"] = [variant for variant in manifest["variants"] if variant["target"] != "rk3562"]
    manifest["golden"]["leastAgreement"] = 1.0
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    absent, worse = try_bundle(npu, bundle, [Target.RK3562, Target.RK3588])
    assert "no variant for rk3562" in absent.said
    assert "asked for" in worse.said
    assert worse.other_pixels == 0


def test_answers_that_are_not_the_twins_are_told(npu: EmulatedNpu, bundle: Path) -> None:
    npu.behave(numbers="shifted")
    (tried,) = try_bundle(npu, bundle, [Target.RK3588])
    assert tried.other_pixels > 0
    assert "not the twin's" in tried.line


def test_a_line_says_why_a_chip_cannot_be_used() -> None:
    assert Tried(Target.RK3588, said="no such file").line == "rk3588   cannot be used: no such file"
