"""Train the U-Net on procedural boards, from a seed; the best state by validation mIoU is kept."""

import time
from collections.abc import Iterator
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

from modelkit import synthesise
from modelkit.evaluate import Tally
from modelkit.plan import Plan
from modelkit.unet import Shape, UNet, normalised, parameters


def train(plan: Plan, folder: Path, *, resume: bool = False) -> float:
    """Write `best.pt` and `last.pt` to `folder` and return the best validation mIoU; `resume` goes on from `last.pt`.

    A resumed run sees other crops than an unbroken one, because the stream of crops starts from a new seed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    cv2.setNumThreads(1)  # pictures are drawn beside the network, which has the other cores
    model = (load(Path(plan.start))[0].train() if plan.start else UNet(Shape(plan.base))).to(
        memory_format=torch.channels_last
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, plan))
    first, best = 0, -1.0
    if resume:
        state = torch.load(folder / "last.pt", weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        first, best = int(state["step"]), float(state["best"])
    print(f"{parameters(model)} parameters, steps {first} to {plan.steps}", flush=True)
    unseen = synthesise.validation(plan.validation_images)
    batches = _batches(synthesise.training(plan.seed + first, plan.plates, plan.crop_px), plan.batch)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as progress:
        bar = progress.add_task("training", total=plan.steps, completed=first)
        started, losses = time.monotonic(), []
        for step in range(first + 1, plan.steps + 1):
            losses.append(_step(model, optimiser, next(batches), _emphasis(step, plan)))
            schedule.step()
            progress.update(bar, advance=1, description=f"loss {np.mean(losses[-50:]):.4f}")
            if step % plan.validate_every == 0 or step == plan.steps:
                miou = validate(model, unseen)
                print(
                    f"step {step} loss {np.mean(losses[-100:]):.4f} mIoU {miou:.4f} {time.monotonic() - started:.0f} s",
                    flush=True,
                )
                state = {"model": model.state_dict(), "plan": asdict(plan), "step": step, "miou": miou}
                if miou > best:
                    best = miou
                    torch.save(state, folder / "best.pt")
                rest = {"optimiser": optimiser.state_dict(), "schedule": schedule.state_dict(), "best": best}
                torch.save(state | rest, folder / "last.pt")
    return best


def load(checkpoint: Path) -> tuple[UNet, dict[str, Any]]:
    """The network, ready for inference, and the checkpoint's record (plan, step, miou)."""
    state = torch.load(checkpoint, weights_only=True)
    model = UNet(Shape(int(state["plan"]["base"])))
    model.load_state_dict(state.pop("model"))
    return model.eval(), state


def validate(model: UNet, samples: list[synthesise.Sample]) -> float:
    """Mean IoU over the classes, argmax alone, without thresholds."""
    tally = Tally(len(synthesise.CLASSES))
    model.eval()
    with torch.inference_mode():
        for sample in samples:
            logits = model(normalised(torch.from_numpy(sample.rgb).permute(2, 0, 1)[None]))
            tally.add(logits[0].argmax(0).numpy().astype(np.uint8), sample.mask)
    model.train()
    return tally.miou()


def _rate(step: int, plan: Plan) -> float:
    warm = max(1, plan.steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + float(np.cos(np.pi * min(1.0, (step - warm) / max(1, plan.steps - warm))))) + 0.003


def _batches(samples: Iterator[synthesise.Sample], size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches, the next one being drawn while the network works on this one."""

    def gather() -> tuple[torch.Tensor, torch.Tensor]:
        chosen = [next(samples) for _ in range(size)]
        rgb = torch.from_numpy(np.stack([s.rgb for s in chosen])).permute(0, 3, 1, 2)
        return normalised(rgb), torch.from_numpy(np.stack([s.mask for s in chosen])).long()

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(gather)
        while True:
            batch = following.result()
            following = pool.submit(gather)
            yield batch


Batch = tuple[torch.Tensor, torch.Tensor]


def _step(model: UNet, optimiser: torch.optim.Optimizer, batch: Batch, emphasis: float) -> float:
    rgb, mask = batch
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(rgb.contiguous(memory_format=torch.channels_last))
    loss = _loss(logits.float(), mask, emphasis)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimiser.step()
    return float(loss.detach())


def _emphasis(step: int, plan: Plan) -> float:
    """How much more a defect's pixel counts than another.

    One pixel in 700 is of a defect. Counted alike, they teach the network to say nothing; so they count much until
    it sees them, and little at the end, so that scores are honest and good boards stay quiet.
    """
    done = min(1.0, step / (0.8 * plan.steps))
    return float(plan.emphasis ** (1 - done) * 1.5**done)


def _loss(logits: torch.Tensor, mask: torch.Tensor, emphasis: float) -> torch.Tensor:
    """Weighted cross-entropy plus, as the emphasis goes, one minus the soft Dice of the defect classes in the batch."""
    classes = logits.shape[1]
    weight = torch.full((classes,), emphasis)
    weight[0] = 1.0
    entropy = functional.cross_entropy(logits, mask, weight=weight)
    share = logits.softmax(1)[:, 1:]
    truth = functional.one_hot(mask, classes).permute(0, 3, 1, 2)[:, 1:].float()
    overlap = (share * truth).sum((0, 2, 3))
    dice = (2 * overlap + 1) / (share.sum((0, 2, 3)) + truth.sum((0, 2, 3)) + 1)
    return entropy + (1 - dice.mean()) * 2.0 / emphasis
