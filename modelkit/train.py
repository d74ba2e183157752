"""Train a network of `modelkit.models` on samples of `modelkit.data`, from a seed; resumes; keeps the best state.

What is evaluated, exported and kept is the running mean of the weights, which is steadier than any one step's.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.nn import functional

from modelkit.data import Sample
from modelkit.evaluate import Tally
from modelkit.models import build
from modelkit.plan import DEVIATION, MEAN, Plan

Batch = tuple[list[torch.Tensor], torch.Tensor]
Crops = Callable[[int], Iterator[Sample]]


class _Training:
    """The network, the running mean of its weights, and how far it has come."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        net = build(plan.architecture, plan.classes, len(plan.roles), plan.width)
        self.net = net.to(memory_format=torch.channels_last)
        if plan.start:
            self.net.load_state_dict(torch.load(plan.start, weights_only=True)["model"])
        decay = torch.optim.swa_utils.get_ema_multi_avg_fn(plan.mean_decay)
        self.mean = torch.optim.swa_utils.AveragedModel(self.net, multi_avg_fn=decay, use_buffers=True)
        trained = [p for p in self.net.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(trained, lr=plan.rate, weight_decay=1e-4)
        self.step, self.best = 0, -1.0

    def resume(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.mean.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.best = int(state["step"]), float(state["best"])

    def learn(self, batch: Batch) -> float:
        self.step += 1
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate * _share(self.step, self.plan.steps)
        pictures, mask = batch
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.net(*pictures)
        loss = mixed_loss(logits.float(), mask, _emphasis(self.step, self.plan))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimiser.step()
        self.mean.update_parameters(self.net)
        return float(loss.detach())

    def keep(self, miou: float, folder: Path) -> None:
        model = self.mean.module.state_dict()
        state = {"model": model, "plan": asdict(self.plan), "step": self.step, "miou": miou}
        if miou > self.best:
            self.best = miou
            _save(state, folder / "best.pt")
        rest = {"net": self.net.state_dict(), "mean": self.mean.state_dict(), "optimiser": self.optimiser.state_dict()}
        _save(state | rest | {"best": self.best}, folder / "last.pt")


def fit(
    plan: Plan,
    crops: Callable[[int], Iterator[Sample]],
    unseen: Sequence[Sample],
    folder: Path,
    *,
    resume: bool = False,
) -> float:
    """Write `best.pt` and `last.pt` to `folder`; return the best mean IoU over `unseen`.

    `crops` gives endless samples of `crop_px` from a seed. A resumed run sees other crops than an unbroken one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    cv2.setNumThreads(1)  # crops are cut beside the network, which has the other cores
    training = _Training(plan)
    if resume:
        training.resume(folder / "last.pt")
    batches = _batches(crops(plan.seed + training.step), plan)
    started, losses = time.monotonic(), deque[float](maxlen=200)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as progress:
        bar = progress.add_task("training", total=plan.steps, completed=training.step)
        while training.step < plan.steps:
            losses.append(training.learn(next(batches)))
            progress.update(bar, advance=1, description=f"loss {np.mean(losses):.4f}")
            if training.step % plan.validate_every == 0 or training.step == plan.steps:
                tally = validate(training.mean.module, plan.roles, unseen)
                ious = " ".join("-" if value is None else f"{value:.3f}" for value in tally.iou())
                print(
                    f"step {training.step} loss {np.mean(losses):.4f} mIoU {tally.miou():.4f} [{ious}]"
                    f" {time.monotonic() - started:.0f} s",
                    flush=True,
                )
                training.keep(tally.miou(), folder)
    return training.best


def load(checkpoint: Path) -> tuple[nn.Module, Plan, dict[str, Any]]:
    """The network, ready for inference, its plan, and the record (plan, step, miou, parameters)."""
    state = torch.load(checkpoint, weights_only=True)
    plan = Plan(**state["plan"])
    net = build(plan.architecture, plan.classes, len(plan.roles), plan.width)
    net.load_state_dict(state["model"])
    record = {key: state[key] for key in ("plan", "step", "miou")}
    return net.eval(), plan, record | {"parameters": sum(p.numel() for p in net.parameters())}


def normalised(pictures: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) of 0 to 255 to what the network takes; the converter bakes in the same two numbers."""
    return (pictures.float() - MEAN) / DEVIATION


def predict(net: nn.Module, roles: Sequence[str], sample: Sample) -> torch.Tensor:
    """Logits (classes, H, W) of one sample."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return net(*(_tensor([picture]) for picture in sample.inputs(roles)))[0].float()


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


def _tensor(pictures: list[Any]) -> torch.Tensor:
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return normalised(stacked).contiguous(memory_format=torch.channels_last)


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


def _batches(samples: Iterator[Sample], plan: Plan) -> Iterator[Batch]:
    """Batches, the next ones being cut while the network works on this one."""

    def gather() -> Batch:
        chosen = [next(samples) for _ in range(plan.batch)]
        by_input = zip(*(sample.inputs(plan.roles) for sample in chosen), strict=True)
        return [_tensor(list(each)) for each in by_input], torch.from_numpy(np.stack([s.mask for s in chosen])).long()

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(gather)
        while True:
            batch = following.result()
            following = pool.submit(gather)
            yield batch


def mixed_loss(logits: torch.Tensor, mask: torch.Tensor, emphasis: float) -> torch.Tensor:
    """Weighted cross-entropy plus one minus the soft Dice of the defect classes over the batch."""
    classes = logits.shape[1]
    weight = torch.full((classes,), emphasis)
    weight[0] = 1.0
    entropy = functional.cross_entropy(logits, mask, weight=weight)
    share = logits.softmax(1)[:, 1:]
    truth = functional.one_hot(mask, classes).permute(0, 3, 1, 2)[:, 1:].float()
    overlap = (share * truth).sum((0, 2, 3))
    dice = (2 * overlap + 1) / (share.sum((0, 2, 3)) + truth.sum((0, 2, 3)) + 1)
    return entropy + 0.5 * (1 - dice.mean())


def _save(state: dict[str, Any], path: Path) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)
