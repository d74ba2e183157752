"""The models of the zoo, for the board and for the laptop."""

from functools import cache

from agent.adapters.bundle_fs import read_bundle
from agent.adapters.golden_fs import read_golden
from agent.adapters.segmenter_onnx import OnnxSegmenter
from agent.core.bundle import Bundle, GoldenFrame
from agent.ports import Segmentation
from schemas.target import Target
from tests.board.emulated_npu import ZOO

NEWEST = "pcb-unet-1.1.0"
NAMES = sorted(path.parent.name for path in ZOO.glob("*/manifest.json"))


@cache
def bundle(name: str, target: Target) -> Bundle:
    return read_bundle(ZOO / name, target)


@cache
def golden(name: str) -> list[GoldenFrame]:
    return read_golden(bundle(name, Target.CPU))


@cache
def twin(name: str) -> OnnxSegmenter:
    """The same model on the CPU of this machine; its answers are valid until its next call."""
    return OnnxSegmenter(bundle(name, Target.CPU).spec)


def expected(name: str, frame: GoldenFrame) -> Segmentation:
    return twin(name).segment(frame.inputs)
