"""Cut an exported ONNX model in two, so that a board runs the parts in different places: see `stages` of a manifest.

The parts give together, number for number, what the whole gives; `split` refuses the cut where they do not.
"""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from schemas.manifest import Manifest, Variant
from schemas.stages import Crossing, Stage
from schemas.target import Target

IN_FLIGHT: Final = 4
"""Pictures of one call that are under way at once, unless told."""
_TYPES: Final[dict[str, Literal["uint8", "float16", "float32"]]] = {
    "uint8": "uint8",
    "float16": "float16",
    "float32": "float32",
}
_TRIALS: Final = 3


class CannotSplit(ValueError):
    """The model cannot be cut there; the text says why."""


@dataclass(frozen=True, slots=True)
class Split:
    """`shallow` takes the pictures and gives `crossings`, `deep` takes these and gives the model's answer."""

    shallow: Path
    deep: Path
    crossings: tuple[Crossing, ...]


@dataclass(frozen=True, slots=True)
class StageFile:
    """One part as a board runs it, such as `deep` after its conversion to `.rknn`."""

    path: Path
    runtime: Literal["rknn", "onnx"]


def cuts(model: Path) -> list[tuple[str, ...]]:
    """Where the model can be cut: the tensors that pass after each of its nodes, in the order of the file, without the
    places that a picture itself would have to pass.
    """
    graph = onnx.load(model).graph
    inputs = {value.name for value in graph.input}
    last_use = {name: at for at, node in enumerate(graph.node) for name in node.input}
    last_use.update({value.name: len(graph.node) for value in graph.output})
    live = dict.fromkeys(inputs)
    found: list[tuple[str, ...]] = []
    for at, node in enumerate(graph.node[:-1]):
        if any(name in live for name in node.input):
            live.update(dict.fromkeys(node.output))
        passing = tuple(name for name in live if last_use.get(name, -1) > at)
        if passing and not inputs & set(passing) and (not found or found[-1] != passing):
            found.append(passing)
    return found


def split(model: Path, tensors: Sequence[str], folder: Path, shapes: Sequence[tuple[int, int]]) -> Split:
    """Write `shallow.onnx` and `deep.onnx` to `folder`, cut at these tensors, which must carry all that passes.

    `shapes` are (height, width) of the model's inputs in pixels, all of them (1, H, W, 3) uint8. Errors: CannotSplit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = onnx.load(model)
    known = {name for node in whole.graph.node for name in node.output}
    if unknown := [name for name in tensors if name not in known]:
        raise CannotSplit(f"{model}: no tensor {', '.join(unknown)}")
    if not tensors:
        raise CannotSplit(f"{model}: no tensor to cut at is named")
    inputs, outputs = ([value.name for value in side] for side in (whole.graph.input, whole.graph.output))
    if set(tensors) & set(outputs):
        raise CannotSplit(f"{model}: {', '.join(set(tensors) & set(outputs))} is what the model gives, nothing is left")
    shallow, deep = folder / "shallow.onnx", folder / "deep.onnx"
    try:
        onnx.utils.extract_model(str(model), str(shallow), inputs, list(tensors))
        onnx.utils.extract_model(str(model), str(deep), list(tensors), outputs)
    except (ValueError, onnx.checker.ValidationError) as error:
        raise CannotSplit(f"{model}: {error}") from error
    crossings = _crossings(model, (shallow, deep), tensors, shapes)
    return Split(shallow, deep, crossings)


def staged(
    bundle: Path, target: Target, parts: Sequence[StageFile], crossings: Sequence[Crossing], in_flight: int = IN_FLIGHT
) -> Manifest:
    """Put the two parts in the place of the variant's file: they are copied into the bundle and its manifest is
    written anew. Errors: ValueError where the bundle has no such variant, or the parts do not fit its manifest.
    """
    path = bundle / "manifest.json"
    manifest = Manifest.model_validate_json(path.read_bytes())
    old = manifest.variant(target)
    if old is None:
        raise ValueError(f"{bundle}: no variant for {target.value}")
    stages = []
    for number, part in enumerate(parts):
        content = part.path.read_bytes()
        stages.append(
            Stage(
                file=f"model-{target.value}-{number + 1}{part.path.suffix}",
                bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                runtime=part.runtime,
                gives=[] if number == len(parts) - 1 else list(crossings),
            )
        )
    last = stages[-1]
    fields = {"file": last.file, "bytes": last.bytes, "sha256": last.sha256, "runtime": last.runtime}
    changed = Variant.model_validate({**old.model_dump(), **fields, "stages": stages, "batch": in_flight})
    variants = [changed if variant is old else variant for variant in manifest.variants]
    made = Manifest.model_validate({**manifest.model_dump(by_alias=True), "variants": variants})
    for stage, part in zip(stages, parts, strict=True):
        shutil.copyfile(part.path, bundle / stage.file)
    path.write_text(made.model_dump_json(by_alias=True, exclude_none=True, indent=1) + "\n")
    if not any(old.file == file.file for variant in variants for file in variant.files()):
        (bundle / old.file).unlink(missing_ok=True)
    return made


def _crossings(
    model: Path, parts: tuple[Path, Path], tensors: Sequence[str], shapes: Sequence[tuple[int, int]]
) -> tuple[Crossing, ...]:
    """What crosses for each shape, from runs of all three; raises CannotSplit where the answers differ."""
    whole, shallow, deep = (
        ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in (model, *parts)
    )
    missing = {item.name for item in deep.get_inputs()} ^ set(tensors)
    if missing:
        raise CannotSplit(f"{model}: {', '.join(sorted(missing))} passes the cut, or nothing passes it there")
    rng = np.random.default_rng(1)
    dims: dict[str, list[list[int]]] = {name: [] for name in tensors}
    kinds: dict[str, str] = {}
    for shape in shapes:
        for trial in range(_TRIALS):
            feed = {item.name: rng.integers(0, 256, (1, *shape, 3), np.uint8) for item in whole.get_inputs()}
            crossing = dict(zip(tensors, _run(shallow, feed), strict=True))
            if not np.array_equal(_run(deep, crossing)[0], _run(whole, feed)[0]):
                raise CannotSplit(f"{model}: cut at {', '.join(tensors)} it gives something else at {shape}")
            for name, value in crossing.items():
                kinds[name] = str(value.dtype)
                if trial == 0:
                    dims[name].append(list(value.shape))
    if odd := [f"{name} ({kind})" for name, kind in kinds.items() if kind not in _TYPES]:
        raise CannotSplit(f"{model}: {', '.join(odd)} is of no type that may cross")
    return tuple(Crossing(name=name, dtype=_TYPES[kinds[name]], shapes=dims[name]) for name in tensors)


def _run(session: ort.InferenceSession, feed: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    names = {item.name for item in session.get_inputs()}
    made: list[npt.NDArray[Any]] = session.run(None, {name: value for name, value in feed.items() if name in names})
    return made
