"""A model bundle that has been read."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from schemas.manifest import Manifest, Variant
from schemas.status import ModelInfo


@dataclass(frozen=True, slots=True)
class Bundle:
    """`path` is the model file of `variant`, which whoever loads it verifies; `folder` is what the manifest's paths are
    relative to.
    """

    manifest: Manifest
    variant: Variant
    path: str
    folder: str
    manifest_sha256: str

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(
            path=self.path,
            inputs=len(self.manifest.inputs),
            shapes=tuple(self.manifest.inputs[0].shapes),
            classes=len(self.manifest.classes),
            output=self.manifest.output,
            batch=self.variant.batch,
        )

    def info(self, generation: int, runtime_version: str, driver_version: str | None) -> ModelInfo:
        return ModelInfo(
            name=self.manifest.name,
            version=self.manifest.version,
            sha256=self.variant.sha256,
            generation=generation,
            runtime=self.variant.runtime,
            runtime_version=runtime_version,
            driver_version=driver_version,
            target=self.variant.target,
        )


@dataclass(frozen=True, slots=True)
class GoldenFrame:
    """Inputs at the model's size, (H, W, 3) uint8 RGB each, and the class map (H, W) uint8 that is to come of them."""

    inputs: tuple[Pixels, ...]
    class_map: npt.NDArray[np.uint8]
