"""What a model says of pictures: float, int8 by the converter's simulator, or through the segmenter that boards run."""

import importlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import onnxruntime as ort

from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from modelkit.build import calibration_list, simulated
from modelkit.classmap import Map, best
from modelkit.convert_rknn import Job, convert
from modelkit.data import DataError
from modelkit.measure import Reading
from modelkit.plan import DEVIATION, MEAN
from modelkit.sources import Source
from schemas.manifest import Manifest
from schemas.target import Target

Inputs = tuple[Pixels, ...]
Reader = Callable[[Iterable[Inputs]], Iterator[Reading]]
"""From the pictures of each inference, (H, W, 3) uint8 in the manifest's order, to what the model says."""


class Segmented(Protocol):
    """Shapes: (H, W) uint8 both, the score in 1/255. Valid until the next call."""

    class_map: Map
    score: Map
    inference_ms: float


class Segmenter(Protocol):
    """What a board runs; see `agent.ports.Segmenter`."""

    def segment(self, inputs: Sequence[Pixels]) -> Segmented: ...

    def close(self) -> None: ...


def cpu_reader(model: Path) -> Reader:
    """ONNX Runtime on the `cpu` variant."""

    def read(pictures: Iterable[Inputs]) -> Iterator[Reading]:
        session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        names = [spec.name for spec in session.get_inputs()]
        for each in pictures:
            feed = {name: np.ascontiguousarray(picture)[None] for name, picture in zip(names, each, strict=True)}
            started = time.perf_counter()
            answer = np.asarray(session.run(None, feed)[0])[0]
            yield _reading(answer, (time.perf_counter() - started) * 1000)

    return read


def _reading(answer: np.ndarray[Any, Any], took_ms: float) -> Reading:
    """Of logits (C, H, W), or of a class map (1, H, W) that has no softmax and so is sure of all."""
    if np.issubdtype(answer.dtype, np.floating):
        return Reading(*best(answer), took_ms)
    winner = answer[0].astype(np.uint8)
    return Reading(winner, np.where(winner > 0, np.uint8(255), np.uint8(0)).astype(np.uint8), took_ms)


def board_reader(segmenter: Segmenter) -> Reader:
    """What a board's own segmenter makes of the pictures. It is closed at the end."""

    def read(pictures: Iterable[Inputs]) -> Iterator[Reading]:
        try:
            for each in pictures:
                made = segmenter.segment([np.ascontiguousarray(picture) for picture in each])
                yield Reading(made.class_map.copy(), made.score.copy(), made.inference_ms)
        finally:
            segmenter.close()

    return read


def board_segmenter(manifest: Manifest, model: Path) -> Segmenter:
    """The segmenter of a board without an NPU. It is found by its name: the kit measures the board's adapters and is
    not built on them.
    """
    spec = ModelSpec(
        path=str(model),
        inputs=len(manifest.inputs),
        shapes=tuple(manifest.inputs[0].shapes),
        classes=len(manifest.classes),
        output=manifest.output,
    )
    made: Segmenter = importlib.import_module("agent.adapters.segmenter_onnx").OnnxSegmenter(spec, threads=2)
    return made


def int8_reader(model: Path, source: Source, environment: Path) -> Reader:
    """The converter's simulator on the `cpu` variant, quantised anew with the source's calibration pictures."""

    def read(pictures: Iterable[Inputs]) -> Iterator[Reading]:
        with tempfile.TemporaryDirectory() as made:
            work = Path(made)
            float_model = without_bytes(model, work / "conversion.onnx")
            samples = list(_written(pictures, work))
            job = Job(
                onnx=str(float_model),
                mean=MEAN,
                deviation=DEVIATION,
                targets=(Target.RK3588.value,),
                calibration=str(calibration_list(source, work)),
                simulate=tuple(samples),
                out=str(work / "rknn"),
                inputs=len(source.roles),
            )
            convert(job, environment.resolve())
            yield from simulated(work / "rknn", "sample", len(samples))

    return read


def without_bytes(model: Path, target: Path) -> Path:
    """Write what the converter reads: the `cpu` variant without its first steps, from bytes to normalised planes."""
    onnx = importlib.import_module("onnx")
    graph = onnx.load(str(model)).graph
    starts = [_after_division(graph, spec.name) for spec in graph.input]
    onnx.utils.extract_model(str(model), str(target), starts, [graph.output[0].name])
    return target


def _after_division(graph: object, name: str) -> str:
    """The tensor that the chain Transpose, Cast, Sub, Div makes of an input."""
    for operator in ("Transpose", "Cast", "Sub", "Div"):
        users = [node for node in graph.node if name in node.input]  # type: ignore[attr-defined] # onnx has no types
        if len(users) != 1 or users[0].op_type != operator:
            raise DataError(f"the cpu variant is not one that `export` wrote: {operator} does not follow {name}")
        name = users[0].output[0]
    return name


def _written(pictures: Iterable[Inputs], work: Path) -> Iterator[tuple[str, ...]]:
    for index, each in enumerate(pictures):
        paths = [str(work / f"sample-{index:04d}{'' if place == 0 else f'.{place}'}.png") for place in range(len(each))]
        for path, picture in zip(paths, each, strict=True):
            cv2.imwrite(path, picture[:, :, ::-1])
        yield tuple(paths)
