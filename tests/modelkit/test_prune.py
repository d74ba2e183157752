"""Whole channels go; what is left can be kept, loaded, trained on and pruned again."""

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
    classes=3, architecture="unet", roles=("image",), width=16, steps=2, batch=2, crop_px=32, mean_decay=0.5,
    validate_every=2,
)  # fmt: skip


def squares(seed: int) -> Iterator[Sample]:
    rng = np.random.default_rng(seed)
    while True:
        image, mask = np.full((32, 32, 3), 114, np.uint8), np.zeros((32, 32), np.uint8)
        x, y = rng.integers(24, size=2).tolist()
        mask[y : y + 8, x : x + 8] = int(rng.integers(1, 3))
        image[mask == 1], image[mask == 2] = 240, 10
        yield Sample("", image, mask)


UNSEEN = [sample for sample, _ in zip(squares(9), range(3), strict=False)]


@pytest.fixture(scope="module")
def prune() -> Any:
    return importlib.import_module("modelkit.prune")


@pytest.fixture(scope="module")
def parent(prune: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parent")
    prune.train.fit(PLAN, squares, UNSEEN, folder)
    return folder / "best.pt"


def made(name: str, width: int, inputs: int = 1) -> Any:
    torch.manual_seed(1)
    return importlib.import_module("modelkit.models").build(name, 3, inputs, width).eval()


def widths(net: Any) -> list[int]:
    return [each.out_channels for each in net.modules() if hasattr(each, "out_channels")]


@pytest.mark.parametrize(
    ("name", "inputs", "importance", "round_to"), [("unet", 1, "l2", 8), ("pair-unet", 2, "bn", 16)]
)
def test_a_network_is_pruned_to_a_number_of_parameters(
    prune: Any, name: str, inputs: int, importance: str, round_to: int
) -> None:
    net = made(name, 24, inputs)
    most = prune.parameters(net) // 2
    child = prune.pruned(net, prune.Prune("", most, importance=importance, round_to=round_to), inputs)
    assert most / 4 < prune.parameters(child) <= most
    pruned = [now for now, before in zip(widths(child), widths(net), strict=True) if now != before]
    assert pruned
    assert all(each % round_to == 0 for each in pruned)
    pictures = [torch.zeros(1, 3, 64, 64)] * inputs
    with torch.inference_mode():
        assert child(*pictures).shape == (1, 3, 64, 64)
    assert widths(net)[0] == widths(made(name, 24, inputs))[0], "the parent is as it was"


def test_a_ratio_takes_that_share_of_channels_and_leaves_the_classes(prune: Any) -> None:
    child = prune.pruned(made("unet", 32), prune.Prune("", ratio=0.5), 1)
    assert child.stem[0][0].out_channels == 16
    assert child.down[2][2][0].out_channels == 96
    assert child.head.out_channels == 3


def test_a_narrow_layer_keeps_its_channels_where_a_wide_one_can_give_them(prune: Any) -> None:
    child = prune.pruned(made("unet", 16), prune.Prune("", ratio=0.3), 1)
    assert child.stem[0][0].out_channels == 16
    assert child.down[2][2][0].out_channels == 72


def test_weak_channels_go_first(prune: Any) -> None:
    net = made("unet", 16)
    with torch.no_grad():
        for layer in (net.refine[0], net.refine[1]):
            layer.weight[8:] *= 1e-3
        net.head.weight[8:] *= 1e-3
    child = prune.pruned(net, prune.Prune("", ratio=0.5), 1)
    assert torch.equal(child.head.weight, net.head.weight[:8])


def test_a_pruned_network_is_trained_on_kept_and_loaded_with_its_channels(
    prune: Any, parent: Path, tmp_path: Path
) -> None:
    how = prune.Prune(str(parent), most_parameters=150_000, taught=0.5)
    change = prune.fit(how, replace(PLAN, width=999, architecture="unknown"), squares, UNSEEN, tmp_path)
    assert change.parent.parameters > 300_000
    assert change.child.parameters <= 150_000
    assert change.child.macs < change.parent.macs
    assert change.settings["most_parameters"] == 150_000
    assert "untrainedMiou" in change.settings
    _net, plan, record = prune.train.load(tmp_path / "best.pt")
    assert (plan.architecture, plan.width) == ("unet", 16)
    assert record["parameters"] == change.child.parameters
    more = prune.fit(how, replace(PLAN, steps=4), squares, UNSEEN, tmp_path, resume=True)
    assert more.child.parameters == change.child.parameters
    again = prune.fit(prune.Prune(str(tmp_path / "best.pt"), ratio=0.5), PLAN, squares, UNSEEN, tmp_path / "again")
    assert again.child.parameters < change.child.parameters


def test_channels_go_in_rounds_with_training_between(prune: Any, parent: Path, tmp_path: Path) -> None:
    how = prune.Prune(str(parent), most_parameters=90_000, rounds=2, taught=0.0)
    change = prune.fit(how, replace(PLAN, steps=4), squares, UNSEEN, tmp_path)
    between = prune.train.load(tmp_path / "round-1" / "best.pt")[2]
    assert change.child.parameters <= 90_000 < between["parameters"] < change.parent.parameters
    assert between["step"] == change.settings["steps"] == 2


def test_training_can_begin_from_a_pruned_checkpoint(prune: Any, parent: Path, tmp_path: Path) -> None:
    prune.fit(prune.Prune(str(parent), ratio=0.5, rounds=1), PLAN, squares, UNSEEN, tmp_path / "pruned")
    start = replace(PLAN, start=str(tmp_path / "pruned" / "best.pt"))
    prune.train.fit(start, squares, UNSEEN, tmp_path / "more")
    assert widths(prune.train.load(tmp_path / "more" / "best.pt")[0])[0] == 8


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "either"),
        ({"most_parameters": 5, "ratio": 0.5}, "either"),
        ({"ratio": 1.0}, "not between"),
        ({"ratio": 0.5, "importance": "luck"}, "l2, bn"),
        ({"ratio": 0.5, "round_to": 7}, "not 7"),
        ({"ratio": 0.5, "rounds": 0}, "0 rounds"),
        ({"ratio": 0.5, "taught": -1.0}, "weight -1"),
    ],
)
def test_senseless_settings_are_refused(prune: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        prune.Prune("", **settings)


@pytest.mark.parametrize(("most", "words"), [(100, "fewest that can be left"), (10_000_000, "no more than")])
def test_targets_out_of_reach_are_refused(prune: Any, most: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        prune.pruned(made("unet", 16), prune.Prune("", most), 1)


def test_a_checkpoint_of_another_architecture_is_refused(prune: Any) -> None:
    structure = importlib.import_module("modelkit.structure")
    with pytest.raises(ValueError, match="the architecture has not"):
        structure.rebuilt(made("unet", 16), structure.structure(made("pair-unet", 24, 2)), 1)
