"""A model, or a stage of one, on a Rockchip NPU, through rknn-toolkit-lite2."""

from agent.adapters.segmenter_rknn.context import CORES, CoreMask
from agent.adapters.segmenter_rknn.segmenter import RknnFactory, RknnSegmenter
from agent.adapters.segmenter_rknn.stage import RknnStage, RknnStageFactory

__all__ = ["CORES", "CoreMask", "RknnFactory", "RknnSegmenter", "RknnStage", "RknnStageFactory"]
