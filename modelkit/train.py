"""Train a network of `modelkit.models` on samples of `modelkit.data`, from a seed; resumes; keeps the best state.

What is evaluated, exported and kept is the running mean of the weights, which is steadier than any one step's.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from modelkit.batches import Batch, batches, normalised, tensor
from modelkit.checkpoint import load, read, save
from modelkit.curves import Log, Point
from modelkit.data import Sample
from modelkit.evaluate import Tally
from modelkit.losses import mixed_loss, parts
from modelkit.models import build
from modelkit.plan import Plan, mix
from modelkit.structure import rebuilt, structure

__all__ = ["Otherwise", "fit", "load", "mixed_loss", "normalised", "predict", "validate"]

Crops = Callable[[int], Iterator[Sample]]
Extra = Callable[[list[torch.Tensor], torch.Tensor], torch.Tensor]
_SAME_NETWORK: Final = ("architecture", "width", "classes", "roles")


@dataclass(frozen=True, slots=True)
class Otherwise:
    """What a training that is not the plan's alone changes: `net` is trained instead of the plan's network (the plan's
    `start` is then not read), and `extra` of pictures and logits is added to the loss.
    """

    net: nn.Module | None = None
    extra: Extra | None = None


class _Training:
    """The network, the running mean of its weights, and how far it has come."""

    def __init__(self, plan: Plan, otherwise: Otherwise) -> None:
        self.plan, self._extra, self._mix = plan, otherwise.extra, mix(plan.loss)
        net = _begun(plan) if otherwise.net is None else otherwise.net
        self.net = net.to(memory_format=torch.channels_last)
        decay = torch.optim.swa_utils.get_ema_multi_avg_fn(plan.mean_decay)
        self.mean = torch.optim.swa_utils.AveragedModel(self.net, multi_avg_fn=decay, use_buffers=True)
        trained = [p for p in self.net.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(trained, lr=plan.rate, weight_decay=1e-4)
        self.step, self.best, self.waited = 0, -1.0, 0

    def resume(self, path: Path) -> None:
        state = read(path)
        before, now = Plan(**state["plan"]), self.plan
        if any(getattr(before, name) != getattr(now, name) for name in _SAME_NETWORK):
            raise ValueError(f"{path} is of another network: resume with its plan, or train in another folder")
        self.net.load_state_dict(state["net"])
        self.mean.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.best, self.waited = int(state["step"]), float(state["best"]), int(state.get("waited", 0))

    @property
    def done(self) -> bool:
        return self.step >= self.plan.steps or 0 < self.plan.patience <= self.waited

    @property
    def rate(self) -> float:
        return self.plan.rate * _share(self.step, self.plan.steps)

    def learn(self, batch: Batch) -> dict[str, float]:
        """One step; returns the loss and its parts."""
        self.step += 1
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        pictures, mask = batch
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.net(*pictures).float()
        each = parts(logits, mask, _emphasis(self.step, self.plan), tuple(self._mix))
        loss = torch.stack([self._mix[name] * value for name, value in each.items()]).sum()
        if self._extra is not None:
            each["extra"] = self._extra(pictures, logits)
            loss = loss + each["extra"]
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimiser.step()
        self.mean.update_parameters(self.net)
        return {"loss": float(loss.detach())} | {name: float(value.detach()) for name, value in each.items()}

    def keep(self, miou: float, folder: Path) -> None:
        model, became = self.mean.module.state_dict(), structure(self.net)
        state = {"model": model, "structure": became, "plan": asdict(self.plan), "step": self.step, "miou": miou}
        self.waited += 1
        if miou > self.best:
            self.best, self.waited = miou, 0
            save(state, folder / "best.pt")
        rest = {"net": self.net.state_dict(), "mean": self.mean.state_dict(), "optimiser": self.optimiser.state_dict()}
        save(state | rest | {"best": self.best, "waited": self.waited}, folder / "last.pt")


def fit(
    plan: Plan,
    crops: Crops,
    unseen: Sequence[Sample],
    folder: Path,
    *,
    resume: bool = False,
    otherwise: Otherwise | None = None,
) -> float:
    """Write `best.pt`, `last.pt`, `log.jsonl` and `curves.png` to `folder`; return the best mean IoU over `unseen`.

    `crops` gives endless samples of `crop_px` from a seed. It is asked anew after each validation, with a seed of the
    plan's and the step's: so a resumed run is, on the same machine and threads, number for number the unbroken one.
    Raises ValueError when there is nothing to validate on or to resume, or that is of another network.
    """
    if not unseen:
        raise ValueError("there are no samples to validate on: the best state is chosen by them")
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    cv2.setNumThreads(1)  # crops are cut beside the network, which has the other cores
    training = _Training(plan, Otherwise() if otherwise is None else otherwise)
    if resume:
        training.resume(folder / "last.pt")
    log, started = Log(folder, training.step), time.monotonic()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as progress:
        bar = progress.add_task("training", total=plan.steps, completed=training.step)
        while not training.done:
            means = _leg(training, crops, lambda words: progress.update(bar, advance=1, description=words))
            tally = validate(training.mean.module, plan.roles, unseen)
            training.keep(tally.miou(), folder)
            log.add(_point(training, means, tally, time.monotonic() - started))
            print(_told(log.points[-1]), flush=True)
    return training.best


def _leg(training: _Training, crops: Crops, tell: Callable[[str], None]) -> dict[str, float]:
    """Learn until the next validation; return the means of loss and parts."""
    plan = training.plan
    until = min(plan.steps, (training.step // plan.validate_every + 1) * plan.validate_every)
    seed = int(np.random.SeedSequence((plan.seed, training.step)).generate_state(1)[0])
    torch.manual_seed(seed)
    sums: dict[str, float] = {}
    count = until - training.step
    with closing(batches(crops(seed), plan)) as given:
        for number in range(1, count + 1):
            for name, value in training.learn(next(given)).items():
                sums[name] = sums.get(name, 0.0) + value
            best = "" if training.best < 0 else f", best mIoU {training.best:.3f}"
            tell(f"loss {sums['loss'] / number:.4f}{best}")
    return {name: value / count for name, value in sums.items()}


def _point(training: _Training, means: dict[str, float], tally: Tally, elapsed_s: float) -> Point:
    return Point(
        step=training.step,
        loss=means["loss"],
        parts={name: value for name, value in means.items() if name != "loss"},
        rate=training.rate,
        miou=tally.miou(),
        iou=tuple(tally.iou()),
        elapsed_s=round(elapsed_s, 1),
    )


def _told(point: Point) -> str:
    ious = " ".join("-" if value is None else f"{value:.3f}" for value in point.iou)
    return f"step {point.step} loss {point.loss:.4f} mIoU {point.miou:.4f} [{ious}] {point.elapsed_s:.0f} s"


def _begun(plan: Plan) -> nn.Module:
    net = build(plan.architecture, plan.classes, len(plan.roles), plan.width)
    if plan.start:
        start = read(Path(plan.start))
        net = rebuilt(net, start.get("structure", {}), len(plan.roles))
        net.load_state_dict(start["model"])
    return net


def predict(net: nn.Module, roles: Sequence[str], sample: Sample) -> torch.Tensor:
    """Logits (classes, H, W) of one sample."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return net(*(tensor([picture]) for picture in sample.inputs(roles)))[0].float()


def validate(net: nn.Module, roles: Sequence[str], samples: Sequence[Sample]) -> Tally:
    """Argmax alone, without thresholds."""
    was_training = net.training
    net.eval()
    tally: Tally | None = None
    for sample in samples:
        logits = predict(net, roles, sample)
        tally = Tally(logits.shape[0]) if tally is None else tally
        tally.add(logits.argmax(0).numpy().astype(np.uint8), sample.mask)
    net.train(was_training)
    if tally is None:
        raise ValueError("there is nothing to validate on")
    return tally


def _share(step: int, steps: int) -> float:
    warm = max(1, steps // 50)
    if step < warm:
        return step / warm
    return 0.5 * (1 + float(np.cos(np.pi * (step - warm) / max(1, steps - warm)))) * 0.995 + 0.005


def _emphasis(step: int, plan: Plan) -> float:
    """Counted alike, the few pixels of defects teach nothing at first; counted more at the end, they swell."""
    first, last = plan.emphasis
    done = min(1.0, step / (0.7 * plan.steps))
    return float(first ** (1 - done) * last**done)
