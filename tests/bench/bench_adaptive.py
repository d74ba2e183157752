"""What adaptive input gains and costs: always large, always small and adaptive, frame by frame in one run.

Drawn scenes with exact masks: empty belt, coarse boards with large faults, fine boards with small ones, each for a
while. The zoo's better model of drawn boards on the CPU, its input made free in size.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx

from agent.adapters.bundle_fs import read_manifest
from agent.adapters.segmenter_onnx import OnnxSegmenter
from agent.core.frame import Layout, Picture, Pixels
from agent.core.model import ModelSpec
from agent.core.vision import Choice, ShapeRule, View, complexity, prepare
from agent.core.vision.boards import artwork, shoot
from agent.core.vision.boards.defects import Defect, flaw
from modelkit.evaluate import Tally
from schemas.recipe import ClassRules
from schemas.target import Target

BUNDLE = Path(__file__).parents[2] / "modelkit" / "zoo" / "pcb-unet-1.1.0"
LARGE, SMALL = (448, 448), (224, 224)
RULES = {name: ShapeRule((SMALL, LARGE), (at,), 0.05, 3, 1) for name, at in (("careful", 0.1), ("bold", 0.3))}
"""The careful one lets only the belt have the small input, the bold one coarse boards too."""
SIDE = LARGE[0]
SCENES: Mapping[str, tuple[float, float] | None] = {"belt": None, "coarse": (40.0, 2.1), "fine": (17.0, 1.3)}
"""Pitch of the traces and size of a fault's detail, in pixels."""
FRAMES = 12
"""Of each scene in a row."""
ROUNDS = 2
"""Each with a camera, light and colours of its own."""


@dataclass(frozen=True, slots=True)
class Shot:
    scene: str
    rgb: Pixels
    mask: Pixels


@dataclass(slots=True)
class Mode:
    """One way to choose the shape. `rule` is None where the shape is fixed."""

    tallies: dict[str, Tally]
    shape: tuple[int, int] = LARGE
    rule: ShapeRule | None = None
    choice: Choice = field(default_factory=lambda: Choice(1, 1))
    times_ms: list[float] = field(default_factory=list)
    large: int = 0


def run() -> dict[str, Any]:
    """Times are means in ms of a whole frame (prepare, complexity, segment); mIoU is against the drawn masks."""
    manifest, _ = read_manifest(BUNDLE)
    view = View.of(manifest, None, ClassRules())
    view = replace(view, tile_hw=LARGE)
    classes = len(manifest.classes)
    modes = {name: Mode({scene: Tally(classes) for scene in (*SCENES, "all")}) for name in ("large", "small", *RULES)}
    modes["small"].shape = SMALL
    for name, rule in RULES.items():
        modes[name].rule = rule
    costs_ms = []
    with tempfile.TemporaryDirectory() as folder:
        spec = _any_size(BUNDLE, Path(folder) / "model.onnx", classes)
        segmenter = OnnxSegmenter(spec)
        for shot in _shots():
            picture = Picture(shot.rgb, Layout.RGB)
            costs_ms.append(_complexity_ms(picture, view))
            for mode in modes.values():
                _see(shot, picture, mode, view, segmenter)
        segmenter.close()
    return _figures(modes, statistics.median(costs_ms))


def _see(shot: Shot, picture: Picture, mode: Mode, view: View, segmenter: OnnxSegmenter) -> None:
    began_s = time.perf_counter()
    prepared = prepare(picture, view.at(mode.shape))
    if mode.rule is not None:
        mode.choice = mode.choice.saw(mode.rule, complexity(prepared))
        shape = mode.rule.shapes[mode.choice.index]
        if shape != mode.shape:
            mode.shape, prepared = shape, prepare(picture, view.at(shape))
    class_map = segmenter.segment(prepared.inputs[0]).class_map
    mode.times_ms.append((time.perf_counter() - began_s) * 1e3)
    mode.large += mode.shape == LARGE
    whole = np.asarray(cv2.resize(class_map, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST), np.uint8)
    for scene in (shot.scene, "all"):
        mode.tallies[scene].add(whole, shot.mask)


def _complexity_ms(picture: Picture, view: View) -> float:
    prepared = prepare(picture, view)
    began_s = time.perf_counter()
    complexity(prepared)
    return (time.perf_counter() - began_s) * 1e3


def _figures(modes: Mapping[str, Mode], cost_ms: float) -> dict[str, Any]:
    mean = {name: statistics.fmean(mode.times_ms) for name, mode in modes.items()}
    figures: dict[str, Any] = {"frames": len(modes["large"].times_ms)}
    for name, mode in modes.items():
        figures[name] = {"msPerFrame": round(mean[name], 2), "shareLarge": round(mode.large / len(mode.times_ms), 3)}
        for scene, tally in mode.tallies.items():
            recall = tally.recall()
            figures[name] |= {f"{scene}Miou": round(tally.miou(), 4), f"{scene}FalseRegions": tally.false}
            figures[name] |= {} if recall is None else {f"{scene}Recall": round(recall, 4)}
    for name in (each for each in modes if each != "large"):
        figures[name]["timesFasterThanLarge"] = round(mean["large"] / mean[name], 3)
        lost = modes["large"].tallies["all"].miou() - modes[name].tallies["all"].miou()
        figures[name]["miouLostToLarge"] = round(lost, 4)
    return figures | {
        "complexityMs": round(cost_ms, 3),
        "complexityShareOfLarge": round(cost_ms / mean["large"], 4),
    }


def _shots() -> Iterator[Shot]:
    for number in range(ROUNDS * len(SCENES) * FRAMES):
        turn, scene = divmod(number // FRAMES, len(SCENES))
        look = shoot.random_look(np.random.default_rng((7, turn)))
        yield _shot(list(SCENES)[scene], look, np.random.default_rng((7, number)))


def _shot(scene: str, look: shoot.Look, rng: np.random.Generator) -> Shot:
    drawn = SCENES[scene]
    still = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    ground = mask = np.zeros((SIDE, SIDE), np.uint8)
    if drawn is not None:
        pitch_px, detail_px = drawn
        art = artwork.draw(rng, SIDE, SIDE, pitch_px)
        flawed = flaw(art, rng, [Defect(int(kind)) for kind in rng.integers(1, 7, 6)], detail_px)
        ground, mask = shoot.materials(art, flawed.copper), flawed.mask
    return Shot(scene, shoot.expose(shoot.paint(ground, still, look, SIDE, SIDE), look, rng), mask)


def _any_size(bundle: Path, out: Path, classes: int) -> ModelSpec:
    """A fully convolutional model written for one size computes any: only its description says otherwise."""
    manifest, _ = read_manifest(bundle)
    variant = manifest.variant(Target.CPU)
    if variant is None:
        raise SystemExit(f"{bundle.name} has no variant cpu")
    model = onnx.load(bundle / variant.file)
    del model.graph.value_info[:]
    channels = 3, classes
    for tensor in (*model.graph.input, *model.graph.output):
        for dim, name in zip(tensor.type.tensor_type.shape.dim[1:], "ABC", strict=True):
            if dim.dim_value not in channels:
                dim.ClearField("dim_value")
                dim.dim_param = name
    onnx.save(model, out)
    return ModelSpec(str(out), len(manifest.inputs), (LARGE, SMALL), classes, manifest.output)


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
