"""What a model in two stages gains when they overlap, and what it costs that tensors cross: the zoo's model, cut where
the halves take about the same time, each half on one thread of the CPU in a child of its own.

In turns: the whole model in one child, the chain with one picture a call (no overlap: its difference to the whole is
the price of the crossing), and the chain with several pictures a call. Two halves can give at most twice the rate of
one after the other, and only where two processor cores are free.
"""

import json
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime as ort

from agent.adapters.bundle_fs import read_bundle
from agent.adapters.golden_fs import read_golden
from agent.adapters.segmenter_onnx import OnnxFactory, OnnxStageFactory
from agent.adapters.segmenter_process import ChainLink, ProcessChain, ProcessSegmenter
from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from agent.core.stages import Tensor, chain
from agent.ports import Segmenter
from modelkit.split import IN_FLIGHT, Split, cuts, split
from schemas.target import Target

BUNDLE = Path("modelkit/zoo/pcb-unet-1.1.0")
TRIED = 6
ROUNDS = 12
WARM_UP = 2
DEADLINE_S = 60.0


def run() -> dict[str, float]:
    """Medians in ms a picture, and their ratios."""
    bundle = read_bundle(BUNDLE, Target.CPU)
    items = [frame.inputs for frame in read_golden(bundle)][:IN_FLIGHT]
    with tempfile.TemporaryDirectory() as folder:
        cut = _balanced(bundle.spec, items[0][0], Path(folder))
        model = replace(bundle.spec, batch=IN_FLIGHT)
        tensors = [Tensor(each.name, each.dtype, tuple(map(tuple, each.shapes))) for each in cut.crossings]
        specs = chain(model, [str(cut.shallow), str(cut.deep)], [tensors])
        links = [ChainLink(OnnxStageFactory(spec), spec) for spec in specs]
        whole = ProcessSegmenter(
            OnnxFactory(bundle.spec), bundle.spec, deadline_s=DEADLINE_S, load_deadline_s=DEADLINE_S
        )
        staged = ProcessChain(links, deadline_s=DEADLINE_S, load_deadline_s=DEADLINE_S)
        try:
            _require_same(whole, staged, items)
            rounds = [_round(whole, staged, items) for _ in range(ROUNDS)][WARM_UP:]
        finally:
            whole.close()
            staged.close()
    whole_ms, one_ms, overlapped_ms = (statistics.median(column) for column in zip(*rounds, strict=True))
    return {
        "wholeMs": round(whole_ms, 2),
        "oneAfterTheOtherMs": round(one_ms, 2),
        "overlappedMs": round(overlapped_ms, 2),
        "crossingMs": round(statistics.median(one - plain for plain, one, _ in rounds), 2),
        "crossingBytes": sum(4 * math.prod(each.shapes[0]) for each in cut.crossings),
        "crossingTensors": len(cut.crossings),
        "overlapRatio": round(one_ms / overlapped_ms, 3),
        "wholeRatio": round(whole_ms / overlapped_ms, 3),
    }


def _round(whole: Segmenter, staged: Segmenter, items: Sequence[Sequence[Pixels]]) -> tuple[float, float, float]:
    """Each in ms a picture."""
    at_s = [time.perf_counter()]
    for inputs in items:
        whole.segment(inputs)
    at_s.append(time.perf_counter())
    for inputs in items:
        staged.segment(inputs)
    at_s.append(time.perf_counter())
    staged.segment_all(items)
    at_s.append(time.perf_counter())
    plain, one, overlapped = (1_000 * (end - start) / len(items) for start, end in pairwise(at_s))
    return plain, one, overlapped


def _require_same(whole: Segmenter, staged: Segmenter, items: Sequence[Sequence[Pixels]]) -> None:
    for made, inputs in zip(staged.segment_all(items), items, strict=True):
        wanted = whole.segment(inputs)
        if not np.array_equal(made.class_map, wanted.class_map) or not np.array_equal(made.score, wanted.score):
            raise RuntimeError("the stages give something else than the whole model")


def _balanced(spec: ModelSpec, picture: Pixels, folder: Path) -> Split:
    """Of a few cuts over the model, the one whose slower half is quickest."""
    places = cuts(Path(spec.path))
    step = max(1, len(places) // TRIED)
    tried = []
    for number, tensors in enumerate(places[step // 2 :: step]):
        made = split(Path(spec.path), tensors, folder / str(number), spec.shapes)
        tried.append((max(_halves_ms(made, picture)), number, made))
    return min(tried)[2]


def _halves_ms(cut: Split, picture: Pixels) -> tuple[float, float]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    shallow, deep = (ort.InferenceSession(str(path), options) for path in (cut.shallow, cut.deep))
    given = {shallow.get_inputs()[0].name: picture[None]}
    times = []
    for _ in range(3):
        started_s = time.perf_counter()
        crossing = shallow.run(None, given)
        middle_s = time.perf_counter()
        deep.run(None, dict(zip([each.name for each in cut.crossings], crossing, strict=True)))
        times.append((1_000 * (middle_s - started_s), 1_000 * (time.perf_counter() - middle_s)))
    return min(first for first, _ in times), min(second for _, second in times)


def main() -> None:
    print(json.dumps(run(), indent=2))


if __name__ == "__main__":
    main()
