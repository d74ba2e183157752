"""A student beside a teacher of another architecture, on tiny squares."""

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelkit.data import Sample
from modelkit.plan import Plan

torch = pytest.importorskip("torch", reason="the extra modelkit is not installed")
pytestmark = pytest.mark.torch
torch.set_num_threads(1)  # so small a network only waits for a second one
PLAN = Plan(
    classes=3, architecture="unet", roles=("image", "reference"), width=8, steps=4, batch=2, crop_px=32,
    mean_decay=0.5, validate_every=2,
)  # fmt: skip
TEACHER = replace(PLAN, architecture="pair-unet", width=12)


def squares(seed: int) -> Iterator[Sample]:
    """A bright square is of class 1, a dark one of class 2; the reference has none."""
    rng = np.random.default_rng(seed)
    while True:
        reference = np.full((32, 32, 3), 114, np.uint8)
        image, mask = reference.copy(), np.zeros((32, 32), np.uint8)
        kind, x, y = int(rng.integers(1, 3)), int(rng.integers(24)), int(rng.integers(24))
        mask[y : y + 8, x : x + 8] = kind
        image[mask > 0] = 240 if kind == 1 else 10
        yield Sample("", image, mask, reference)


UNSEEN = [sample for sample, _ in zip(squares(9), range(3), strict=False)]


@pytest.fixture(scope="module")
def distil() -> Any:
    return importlib.import_module("modelkit.distil")


@pytest.fixture(scope="module")
def teacher(distil: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    distil.train.fit(TEACHER, squares, UNSEEN, folder)
    return folder / "best.pt"


def test_a_student_learns_from_a_larger_teacher_of_another_architecture(
    distil: Any, teacher: Path, tmp_path: Path
) -> None:
    change = distil.fit(distil.Distil(str(teacher), 3.0, 0.5), PLAN, squares, UNSEEN, tmp_path)
    assert change.step == "distil"
    assert change.settings["parent"] == "pair-unet, width 12"
    assert change.parent.parameters > change.child.parameters
    assert change.parent.macs > 0
    assert change.child.macs > 0
    assert change.seconds > 0
    _net, plan, record = distil.train.load(tmp_path / "best.pt")
    assert plan.architecture == "unet"
    assert record["parameters"] == change.child.parameters
    assert '"extra"' in (tmp_path / "log.jsonl").read_text()


def test_the_teacher_changes_what_the_student_becomes(distil: Any, teacher: Path, tmp_path: Path) -> None:
    distil.train.fit(PLAN, squares, UNSEEN, tmp_path / "alone")
    distil.fit(distil.Distil(str(teacher)), PLAN, squares, UNSEEN, tmp_path / "taught")
    distil.fit(distil.Distil(str(teacher)), PLAN, squares, UNSEEN, tmp_path / "again")
    heads = [distil.train.load(tmp_path / name / "last.pt")[0].head.weight for name in ("alone", "taught", "again")]
    assert not torch.equal(heads[0], heads[1])
    assert torch.equal(heads[1], heads[2])


def test_a_teacher_may_take_fewer_pictures_than_the_student(distil: Any, tmp_path: Path) -> None:
    one = replace(PLAN, roles=("reference",), width=8)
    distil.train.fit(one, squares, UNSEEN, tmp_path / "teacher")
    change = distil.fit(distil.Distil(str(tmp_path / "teacher" / "best.pt")), PLAN, squares, UNSEEN, tmp_path / "out")
    assert change.child.parameters > change.parent.parameters


@pytest.mark.parametrize(
    ("change", "words"), [({"classes": 4}, "tells 3 classes apart"), ({"roles": ("image",)}, "needs reference")]
)
def test_a_teacher_that_does_not_fit_is_refused(
    distil: Any, teacher: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        distil.fit(distil.Distil(str(teacher)), replace(PLAN, **change), squares, UNSEEN, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("settings", [("x", 0.0, 1.0), ("x", 2.0, 0.0), ("x", -1.0, 1.0)])
def test_senseless_settings_are_refused(distil: Any, settings: tuple[str, float, float]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        distil.Distil(*settings)


def test_the_softened_loss_is_zero_for_the_teachers_own_logits_and_grows_away_from_them(distil: Any) -> None:
    torch.manual_seed(1)
    taught = torch.randn(2, 3, 8, 8)
    off = [float(distil.softened(taught + k * torch.randn(2, 3, 8, 8), taught, 2.0)) for k in (0.0, 0.2, 2.0)]
    assert off[0] == pytest.approx(0, abs=1e-6)
    assert off[0] < off[1] < off[2]


def test_a_few_pixels_of_defects_count_as_much_as_all_the_background(distil: Any) -> None:
    taught = torch.zeros(1, 2, 10, 10)
    taught[:, 0] = 20.0
    taught[:, :, 0, 0] = torch.tensor([0.0, 20.0])
    blind = torch.zeros(1, 2, 10, 10)
    blind[:, 0] = 20.0
    assert float(distil.softened(blind, taught, 1.0)) == pytest.approx(10.0, rel=0.01)
