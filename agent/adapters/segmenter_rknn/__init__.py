"""A model on a Rockchip NPU, through rknn-toolkit-lite2."""

from agent.adapters.segmenter_rknn.segmenter import CORES, CoreMask, RknnFactory, RknnSegmenter

__all__ = ["CORES", "CoreMask", "RknnFactory", "RknnSegmenter"]
