"""A model, or a stage of one, on ONNX Runtime."""

from agent.adapters.segmenter_onnx.segmenter import OnnxFactory, OnnxSegmenter
from agent.adapters.segmenter_onnx.stage import OnnxStage, OnnxStageFactory

__all__ = ["OnnxFactory", "OnnxSegmenter", "OnnxStage", "OnnxStageFactory"]
