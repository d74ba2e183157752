"""Any segmenter, or each stage of one, in a child process of its own: a hang, a crash or a leak of the NPU's library
ends with the child.
"""

from agent.adapters.segmenter_process.chain import ChainLink, ProcessChain
from agent.adapters.segmenter_process.process import Interpreter
from agent.adapters.segmenter_process.segmenter import ProcessSegmenter

__all__ = ["ChainLink", "Interpreter", "ProcessChain", "ProcessSegmenter"]
