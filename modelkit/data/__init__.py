"""One dataset port, its adapters, and what training does to their samples."""

from modelkit.data.sample import DataError, Dataset, Mask, Sample, read_all

__all__ = ["DataError", "Dataset", "Mask", "Sample", "read_all"]
