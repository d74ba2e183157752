"""Many boards in one process: the agent's own loops, without camera and NPU, driven by one thread (docs/scale.md)."""
