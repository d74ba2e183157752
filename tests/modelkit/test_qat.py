"""Values are rounded in training as the NPU rounds them, and the ranges that were learned reach the model file."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from modelkit.classmap import best
from modelkit.convert_rknn import Job, convert
from modelkit.data import Sample
from modelkit.plan import DEVIATION, MEAN, Plan

torch = pytest.importorskip("torch", reason="the extra modelkit is not installed")
pytestmark = pytest.mark.torch
torch.set_num_threads(1)  # so small a network only waits for a second one
ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv-convert"
PLAN = Plan(
    classes=3, architecture="unet", roles=("image",), width=8, steps=2, batch=2, crop_px=32, mean_decay=0.5,
    validate_every=2,
)  # fmt: skip


def squares(seed: int) -> Iterator[Sample]:
    rng = np.random.default_rng(seed)
    while True:
        image, mask = rng.integers(60, 160, (32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
        x, y = rng.integers(24, size=2).tolist()
        mask[y : y + 8, x : x + 8] = int(rng.integers(1, 3))
        image[mask == 1], image[mask == 2] = 240, 10
        yield Sample("", image, mask)


UNSEEN = [sample for sample, _ in zip(squares(9), range(3), strict=False)]


@pytest.fixture(scope="module")
def qat() -> Any:
    return importlib.import_module("modelkit.qat")


def made(name: str = "unet", inputs: int = 1) -> Any:
    """Random, but of clear answers and with statistics of its own in each normalisation."""
    torch.manual_seed(3)
    net = importlib.import_module("modelkit.models").build(name, 3, inputs, 16)
    with torch.no_grad():
        for _ in range(3):
            net(*(torch.randn(2, 3, 64, 64) for _ in range(inputs)))
        net.head.weight *= 6
        net.head.bias.zero_()
    return net.eval()


def quantised(qat: Any, name: str = "unet", inputs: int = 1) -> Any:
    net = qat.prepared(made(name, inputs), inputs)
    qat.observe(net, replace(PLAN, roles=("image",) * inputs), squares, 3)
    return net.eval()


def picture() -> Any:
    return qat_tensor(next(squares(5)).image)


def qat_tensor(image: Any) -> Any:
    return importlib.import_module("modelkit.batches").tensor([image])


@pytest.mark.parametrize(("name", "inputs"), [("unet", 1), ("pair-unet", 2)])
def test_folding_normalisation_changes_nothing(name: str, inputs: int) -> None:
    net, pictures = made(name, inputs), [torch.randn(1, 3, 64, 64) for _ in range(inputs)]
    with torch.no_grad():
        before = net(*pictures)
        pairs = importlib.import_module("modelkit.structure").folded(net, inputs)
        assert torch.allclose(net(*pictures), before, atol=1e-4)
    assert pairs
    assert not any(isinstance(each, torch.nn.BatchNorm2d) for each in net.modules())


@pytest.mark.parametrize(("name", "inputs"), [("unet", 1), ("pair-unet", 2)])
def test_a_rounded_network_gives_much_what_the_float_one_gives_on_a_grid(qat: Any, name: str, inputs: int) -> None:
    net, pictures = quantised(qat, name, inputs), [picture()] * inputs
    with torch.no_grad():
        exact, rounded = made(name, inputs)(*pictures), net(*pictures)
    step = net.ranges[net.sites[-1]].grid()[0]
    assert float((exact - rounded).abs().mean()) < 4 * step
    assert float((rounded / step - (rounded / step).round()).abs().max()) < 1e-3


def test_training_computes_what_evaluation_computes_and_reaches_weights_and_ranges(qat: Any) -> None:
    net = quantised(qat)
    with torch.no_grad():
        wanted = net(picture())
    given = net.train()(picture())
    # A value between two steps may round to either, and one such step moves what follows by a step or two.
    assert float((given - wanted).detach().abs().mean()) < 0.2 * net.ranges[net.sites[-1]].grid()[0]
    given.square().sum().backward()
    assert all(each.grad is not None for each in net.net.parameters())
    assert all(each.high.grad is not None for each in net.ranges)
    assert not net.net.training, "dropout and the like stay off"


def test_a_range_is_learned_that_loses_least() -> None:
    """One wide outlier among narrow values: to widen the steps for it costs more than to cut it off."""
    torch.manual_seed(1)
    values = torch.cat([torch.rand(4000), torch.tensor([40.0])])
    fitted = importlib.import_module("modelkit.fake_quant").Range(0.0, 40.0)
    optimiser = torch.optim.Adam(fitted.parameters(), lr=0.5)
    for _ in range(200):
        optimiser.zero_grad()
        (fitted(values) - values)[:-1].square().sum().backward()
        optimiser.step()
    assert 0.9 < float(fitted.high.detach()) < 10


def test_calls_that_are_not_those_watched_are_refused(qat: Any) -> None:
    net = quantised(qat)
    net.sites = net.sites[:-1]
    with pytest.raises(RuntimeError, match="when it was quantised"):
        net(picture())


def test_a_network_is_trained_kept_loaded_and_exported_with_its_ranges(qat: Any, tmp_path: Path) -> None:
    qat.train.fit(PLAN, squares, UNSEEN, tmp_path / "float")
    how = qat.Qat(str(tmp_path / "float" / "best.pt"), observed=2)
    change = qat.fit(how, replace(PLAN, rate=1e-3, width=99), squares, UNSEEN, tmp_path / "qat")
    assert change.step == "qat"
    assert "unlearnedMiou" in change.settings
    assert change.parent.parameters == change.child.parameters
    net, plan, _ = qat.train.load(tmp_path / "qat" / "last.pt")
    assert plan.width == PLAN.width
    assert net.ranges[2].high.item() > 0
    qat.fit(how, replace(PLAN, steps=4), squares, UNSEEN, tmp_path / "qat", resume=True)
    assert qat.train.load(tmp_path / "qat" / "last.pt")[2]["step"] == 4
    exported = qat.export(net, plan.roles, UNSEEN[0], tmp_path / "onnx")
    scales = written_scales(exported.conversion)
    assert {each.grid() for each in [*net.pictures, *net.ranges]} <= scales
    with pytest.raises(ValueError, match="quantised already"):
        qat.fit(qat.Qat(str(tmp_path / "qat" / "best.pt")), PLAN, squares, UNSEEN, tmp_path / "twice")


def written_scales(path: Path) -> set[tuple[float, int]]:
    """Scale and zero point of each activation in the file, as the numbers that torch had them."""
    onnx = importlib.import_module("onnx")
    graph = onnx.load(str(path)).graph
    values = {each.output[0]: onnx.numpy_helper.to_array(each.attribute[0].t) for each in graph.node if each.attribute
              and each.op_type == "Constant"}  # fmt: skip
    found = set()
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and values[node.input[1]].ndim == 0:
            found.add((float(values[node.input[1]]), int(values[node.input[2]])))
    return {(near, zero) for scale, zero in found for near in (scale, _as_torch(scale))}


def _as_torch(scale: float) -> float:
    return float(np.float32(scale))


def test_ranges_must_be_observed_on_something(qat: Any) -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        qat.Qat("x", observed=0)


@pytest.mark.skipif(
    not (ENVIRONMENT / "complete").exists(),
    reason="no converter: `python -m modelkit.convert_rknn .venv-convert` makes its environment",
)
@pytest.mark.parametrize(("name", "inputs"), [("unet", 1), ("pair-unet", 2)])
def test_learned_scales_reach_the_converted_model(qat: Any, tmp_path: Path, name: str, inputs: int) -> None:
    """Ranges cut to a half, as no calibration would choose them: the simulator must cut where they cut."""
    net = quantised(qat, name, inputs)
    with torch.no_grad():
        for each in net.ranges:
            each.low *= 0.5
            each.high *= 0.5
    roles = ("image", "reference")[:inputs]
    samples = [
        Sample("", shot.image, shot.mask, shot.image[::-1].copy())
        for shot, _ in zip(squares(7), range(4), strict=False)
    ]
    exported = qat.export(net, roles, samples[0], tmp_path)
    paths = []
    for number, sample in enumerate(samples):
        files = [str(tmp_path / f"p{number}.{role}.png") for role in roles]
        for file, image in zip(files, sample.inputs(roles), strict=True):
            cv2.imwrite(file, image[:, :, ::-1])
        paths.append(tuple(files))
    job = Job(str(exported.conversion), MEAN, DEVIATION, ("rk3588",), "", tuple(paths), str(tmp_path / "out"), inputs)
    conversion = convert(job, ENVIRONMENT)
    assert conversion.quantisation == "qat"
    assert conversion.fallbacks == {"rk3588": ()}
    assert "FLOAT16" not in (tmp_path / "out" / "convert.log").read_text(), "all layers are int8"
    as_learned: list[Any] = []
    as_float: list[Any] = []
    for sample, named in zip(samples, paths, strict=True):
        score = cv2.imread(str(tmp_path / "out" / f"{Path(named[0]).stem}.score.png"), cv2.IMREAD_GRAYSCALE)
        pictures = [qat_tensor(np.ascontiguousarray(each)) for each in sample.inputs(roles)]
        with torch.no_grad():
            for answers, network in ((as_learned, net), (as_float, made(name, inputs))):
                answers.append(np.abs(best(network(*pictures)[0].numpy())[1].astype(int) - score) <= 2)
    assert np.mean(as_learned) > 0.97
    assert np.mean(as_float) < 0.9


def test_the_exporter_is_checked_against_torch(qat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = quantised(qat)
    monkeypatch.setattr(sys.modules["modelkit.qat"], "_run", lambda *_: np.full((1, 3, 32, 32), 50.0, np.float32))
    with pytest.raises(ValueError, match="differ from the trained one"):
        qat.export(net, ("image",), UNSEEN[0], tmp_path)
