"""Training on tiny squares: it learns, stops early, logs, and goes on after a break as if there had been none."""

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from modelkit.data import Sample
from modelkit.plan import LOSSES, Plan, mix

PLAN = Plan(
    classes=3,
    architecture="unet",
    roles=("image",),
    width=8,
    steps=6,
    batch=2,
    crop_px=32,
    mean_decay=0.5,
    validate_every=2,
    loss=("cross-entropy=1", "dice=0.5", "lovasz=0.2"),
)


@pytest.fixture
def train() -> Any:
    pytest.importorskip("torch", reason="the extra modelkit is not installed")
    return importlib.import_module("modelkit.train")


def squares(seed: int) -> Iterator[Sample]:
    """A bright square is of class 1, a dark one of class 2."""
    rng = np.random.default_rng(seed)
    while True:
        image = np.full((32, 32, 3), 114, np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        kind, x, y = int(rng.integers(1, 3)), int(rng.integers(24)), int(rng.integers(24))
        mask[y : y + 8, x : x + 8] = kind
        image[mask > 0] = 240 if kind == 1 else 10
        yield Sample("", image, mask)


def unseen(count: int = 3) -> list[Sample]:
    stream = squares(99)
    return [next(stream) for _ in range(count)]


def weights(train: Any, path: Path) -> dict[str, Any]:
    state: dict[str, Any] = train.read(path)["net"]
    return state


def log_of(folder: Path) -> list[dict[str, Any]]:
    points = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in point.items() if key != "elapsed_s"} for point in points]


def equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(bool((first[key] == second[key]).all()) for key in first)


@pytest.mark.torch
@pytest.mark.parametrize("architecture", ["unet", "segformer-b0"])
def test_a_broken_off_and_resumed_run_is_the_unbroken_one(train: Any, tmp_path: Path, architecture: str) -> None:
    if architecture == "segformer-b0":
        pytest.importorskip("transformers", reason="the extra modelkit is not installed")
    plan = replace(PLAN, architecture=architecture)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    best = train.fit(plan, squares, unseen(), whole)

    class Broken(Exception):
        pass

    def breaks(seed: int) -> Iterator[Sample]:
        if seed not in begun and len(begun) == 2:
            raise Broken
        begun.append(seed)
        return squares(seed)

    begun: list[int] = []
    with pytest.raises(Broken):
        train.fit(plan, breaks, unseen(), parts)
    assert train.read(parts / "last.pt")["step"] == 4
    assert train.fit(plan, squares, unseen(), parts, resume=True) == best
    assert equal(weights(train, whole / "last.pt"), weights(train, parts / "last.pt"))
    assert log_of(whole) == log_of(parts)
    assert [point["step"] for point in log_of(whole)] == [2, 4, 6]


@pytest.mark.torch
def test_the_seed_decides_the_weights(train: Any, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train.fit(replace(PLAN, seed=seed, steps=2), squares, unseen(1), tmp_path / name)
    first, same, other = (weights(train, tmp_path / name / "last.pt") for name in "abc")
    assert equal(first, same)
    assert not equal(first, other)


@pytest.mark.torch
def test_it_learns_to_tell_squares_apart_and_keeps_the_best(train: Any, tmp_path: Path) -> None:
    plan = replace(PLAN, steps=120, batch=4, validate_every=40, rate=1e-2, mean_decay=0.9)
    best = train.fit(plan, squares, unseen(), tmp_path)
    assert best > 0.7
    net, kept, record = train.load(tmp_path / "best.pt")
    assert (kept, record["miou"]) == (plan, best)
    assert train.validate(net, plan.roles, unseen()).miou() == best


@pytest.mark.torch
def test_it_stops_when_it_gets_no_better_and_stays_stopped(train: Any, tmp_path: Path) -> None:
    plan = replace(PLAN, rate=0.0, steps=40, patience=2, mean_decay=0.0)
    train.fit(plan, squares, unseen(), tmp_path)
    steps = [point["step"] for point in log_of(tmp_path)]
    assert len(steps) < 20
    mious = [point["miou"] for point in log_of(tmp_path)]
    assert max(mious[-2:]) <= max(mious[:-2])
    train.fit(plan, squares, unseen(), tmp_path, resume=True)
    assert [point["step"] for point in log_of(tmp_path)] == steps


@pytest.mark.torch
def test_the_curves_are_drawn_and_a_log_cut_short_is_read_up_to_there(train: Any, tmp_path: Path) -> None:
    curves = importlib.import_module("modelkit.curves")
    train.fit(replace(PLAN, steps=4), squares, unseen(1), tmp_path)
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture is not None
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    log = tmp_path / "log.jsonl"
    log.write_text(log.read_text()[:-20])
    assert [point.step for point in curves.read(log)] == [2]
    assert set(curves.read(log)[0].parts) == {"cross-entropy", "dice", "lovasz"}


@pytest.mark.torch
def test_another_network_and_a_loss_of_ones_own_can_be_trained(train: Any, tmp_path: Path) -> None:
    torch = importlib.import_module("torch")
    net = importlib.import_module("modelkit.models").build("unet", 3, 1, 16)
    asked = []

    def extra(pictures: list[Any], logits: Any) -> Any:
        asked.append((len(pictures), tuple(logits.shape)))
        return torch.mean(logits**2)

    train.fit(replace(PLAN, steps=2), squares, unseen(1), tmp_path, otherwise=train.Otherwise(net, extra))
    assert asked == [(1, (2, 3, 32, 32))] * 2
    assert log_of(tmp_path)[0]["parts"]["extra"] > 0
    assert equal(net.state_dict(), weights(train, tmp_path / "last.pt"))


@pytest.mark.torch
def test_checkpoints_of_before_load(train: Any, tmp_path: Path) -> None:
    torch = importlib.import_module("torch")
    net = importlib.import_module("modelkit.models").build("unet", 7, 2, 8)
    plan = {"architecture": "unet", "width": 8, "start": ""}
    torch.save({"model": net.state_dict(), "plan": plan, "step": 5, "miou": 0.5}, tmp_path / "best.pt")
    _, kept, record = train.load(tmp_path / "best.pt")
    assert (kept.patience, mix(kept.loss)) == (0, {"cross-entropy": 1.0, "dice": 0.5})
    assert record["step"] == 5


@pytest.mark.torch
@pytest.mark.parametrize("content", [None, b"", b"no checkpoint", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint_is_named(train: Any, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.pt is"):
        train.fit(PLAN, squares, unseen(1), tmp_path, resume=True)


@pytest.mark.torch
def test_another_network_is_not_resumed(train: Any, tmp_path: Path) -> None:
    train.fit(replace(PLAN, steps=2), squares, unseen(1), tmp_path)
    with pytest.raises(ValueError, match="another network"):
        train.fit(replace(PLAN, width=16), squares, unseen(1), tmp_path, resume=True)


@pytest.mark.torch
def test_nothing_to_validate_on_is_said_before_anything_is_written(train: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="validate"):
        train.fit(PLAN, squares, [], tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.torch
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_near_zero_when_sure_and_right_and_falls_on_the_way_there(name: str) -> None:
    torch = pytest.importorskip("torch", reason="the extra modelkit is not installed")
    losses = importlib.import_module("modelkit.losses")
    mask = torch.zeros(2, 16, 16, dtype=torch.int64)
    mask[:, 4:9, 5:10], mask[1, 12:, 12:] = 1, 2
    right = torch.nn.functional.one_hot(mask, 3).permute(0, 3, 1, 2).float()

    def value(logits: Any) -> float:
        return float(losses.parts(logits, mask, 3.0, (name,))[name])

    sure, unsure, wrong = value(20 * right), value(1 * right), value(-20 * right)
    assert 0 <= sure < 1e-3 < unsure < wrong
    logits = torch.zeros(2, 3, 16, 16, requires_grad=True)
    losses.mixed_loss(logits, mask, 3.0, {name: 1.0}).backward()
    assert value((logits - 0.5 * logits.grad.sign()).detach()) < value(logits.detach())


@pytest.mark.torch
def test_the_boundary_loss_asks_nothing_where_there_is_none() -> None:
    torch = pytest.importorskip("torch", reason="the extra modelkit is not installed")
    losses = importlib.import_module("modelkit.losses")
    logits = torch.randn(1, 3, 16, 16)
    assert float(losses.parts(logits, torch.zeros(1, 16, 16).long(), 3.0, ("boundary",))["boundary"]) == 0


@pytest.mark.parametrize(
    "bad", [(), ("dice",), ("dice=0",), ("dice=-1",), ("dice=nan",), ("dice=x",), ("dice=1", "dice=2"), ("iou=1",)]
)
def test_a_mix_that_is_none_is_refused_with_the_names_there_are(bad: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"empty|cross-entropy, dice"):
        Plan(loss=bad)
