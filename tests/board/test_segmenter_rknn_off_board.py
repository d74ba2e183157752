"""What is decided before the library is reached, on any machine."""

import pickle
import platform
import sys
from pathlib import Path

import pytest

from agent.adapters.segmenter_rknn import CoreMask, RknnFactory
from agent.core.model import ModelSpec
from agent.errors import Permanent
from schemas.codes import FailureCode
from schemas.target import Target
from tests.board.container import probe


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return probe(
        ModelSpec(str(tmp_path / "probe.rknn"), 1, ((16, 24),), 3, "logits"),
        platforms=("rk3588", "rk3576", "rk3566", "rk3562", "rv1126b"),
    )


@pytest.mark.parametrize("machine", ["x86_64", "riscv64", "armv7l"])
def test_other_machines_are_told_to_use_the_cpu_variant(
    machine: str, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(Permanent) as caught:
        RknnFactory(spec, Target.RK3588)()
    assert caught.value.code is FailureCode.RUNTIME_MISSING
    assert machine in caught.value.text
    assert "cpu" in caught.value.text


def test_a_board_without_the_python_library_is_told_what_to_install(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setitem(sys.modules, "rknnlite", None)
    with pytest.raises(Permanent) as caught:
        RknnFactory(spec, Target.RK3588)()
    assert caught.value.code is FailureCode.RUNTIME_MISSING
    assert "rknn-toolkit-lite2" in caught.value.text
    assert "3.13" in caught.value.text


ONE, TWO, THREE = (
    {CoreMask.AUTO, CoreMask.CORE_0, CoreMask.ALL},
    {CoreMask.AUTO, CoreMask.CORE_0, CoreMask.CORE_1, CoreMask.CORE_0_1, CoreMask.ALL},
    set(CoreMask),
)


@pytest.mark.parametrize("mask", list(CoreMask), ids=lambda mask: mask.name)
@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        (Target.RK3588, THREE),
        (Target.RK3576, TWO),
        (Target.RK3568, ONE),
        (Target.RK3566, ONE),
        (Target.RK3562, ONE),
        (Target.RV1126B, ONE),
        (Target.CPU, set()),
    ],
)
def test_core_masks_are_those_of_the_chip(
    mask: CoreMask, target: Target, allowed: set[CoreMask], spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(Permanent) as caught:
        RknnFactory(spec, target, mask)()
    expected = FailureCode.RUNTIME_MISSING if mask in allowed else FailureCode.CONFIG_INVALID
    assert caught.value.code is expected


def test_a_factory_survives_pickling(spec: ModelSpec) -> None:
    factory = RknnFactory(spec, Target.RK3576, CoreMask.CORE_0_1)
    assert pickle.loads(pickle.dumps(factory)) == factory


def test_the_library_is_not_imported_with_the_adapter() -> None:
    assert "rknnlite" not in sys.modules
