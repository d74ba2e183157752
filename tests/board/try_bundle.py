"""`python -m tests.board.try_bundle BUNDLE [TARGET...]`: does this bundle load and answer on emulated boards?

For each target with a `.rknn` in the bundle: the file is loaded by rknn-toolkit-lite2 on an emulated board with that
chip and answers the bundle's golden frames. Exit code 0 when every answer is the ONNX twin's, pixel for pixel, and
agrees with the golden class maps as much as the manifest asks for.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.adapters.bundle_fs import read_bundle
from agent.adapters.golden_fs import read_golden
from agent.adapters.segmenter_onnx import OnnxSegmenter
from agent.adapters.segmenter_rknn import CORES, CoreMask, RknnFactory
from agent.core.bundle import Bundle
from agent.core.health import Healthy, agreement, self_test
from agent.errors import AgentError
from schemas.target import Target
from tests.board.emulated import Board, EmulatedSegmenter, missing, own_root
from tests.board.emulated_npu import EmulatedNpu, started


@dataclass(frozen=True, slots=True)
class Tried:
    """`said` is empty where all is well."""

    target: Target
    worst_agreement: float = 0.0
    other_pixels: int = 0
    said: str = ""

    @property
    def line(self) -> str:
        if not self.worst_agreement:
            return f"{self.target.value:8s} cannot be used: {self.said}"
        numbers = f"{self.other_pixels} pixels other than the twin's, worst agreement {self.worst_agreement:.3f}"
        return f"{self.target.value:8s} {numbers}{': ' if self.said else ''}{self.said}"


def try_target(board: Board, folder: Path, target: Target) -> Tried:
    """One chip. A bundle or a file that is refused is told in `said`."""
    board.become(target.value)
    try:
        bundle, twin = read_bundle(folder, target), OnnxSegmenter(read_bundle(folder, Target.CPU).spec)
        core_mask = CoreMask.CORE_0 if CORES[target] > 1 else CoreMask.AUTO
        segmenter = EmulatedSegmenter(board, RknnFactory(bundle.spec, target, core_mask))
    except AgentError as error:
        return Tried(target, said=error.text)
    try:
        return _compare(segmenter, twin, bundle, target)
    except AgentError as error:
        return Tried(target, said=error.text)
    finally:
        segmenter.close()


def _compare(segmenter: EmulatedSegmenter, twin: OnnxSegmenter, bundle: Bundle, target: Target) -> Tried:
    agreements, other_pixels = [], 0
    for frame in read_golden(bundle):
        made = segmenter.segment(frame.inputs).class_map
        other_pixels += int(np.count_nonzero(made != twin.segment(frame.inputs).class_map))
        agreements.append(agreement(made, frame.class_map, len(bundle.manifest.classes)))
    verdict = self_test(agreements, bundle.manifest.golden.least_agreement)
    said = "" if isinstance(verdict, Healthy) else verdict.text
    if other_pixels:
        said = f"the answers are not the twin's; {said}" if said else "the answers are not the twin's"
    return Tried(target, min(agreements, default=0.0), other_pixels, said)


def try_bundle(npu: EmulatedNpu, folder: Path, targets: list[Target]) -> list[Tried]:
    """All chips on one emulated board, whose device tree names one after the other. `folder` is absolute."""
    npu.add(folder)
    with tempfile.TemporaryDirectory() as scratch:
        board = Board(Path(scratch), own_root(Path(scratch, "root")), npu.environment)
        try:
            return [try_target(board, folder, target) for target in targets]
        finally:
            board.kill()


def main() -> int:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if reason := missing():
        sys.exit(reason)
    folder = Path(sys.argv[1]).resolve()
    with started() as npu:
        tried = try_bundle(npu, folder, [Target(word) for word in sys.argv[2:]] or list(CORES))
    for one in tried:
        print(one.line)
    return 1 if any(one.said for one in tried) else 0


if __name__ == "__main__":
    sys.exit(main())
