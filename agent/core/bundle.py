"""A model bundle that has been read."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from agent.core.stages import StageSpec, Tensor, chain
from schemas.manifest import Manifest, Variant
from schemas.status import ModelInfo


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a model. `path` is where it is."""

    path: str
    sha256: str
    runtime: Literal["rknn", "onnx"]


@dataclass(frozen=True, slots=True)
class Bundle:
    """`path` is the model file of `variant`, of stages the last one; whoever loads it verifies it. `folder` is what the
    manifest's paths are relative to.
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

    @property
    def parts(self) -> tuple[Part, ...]:
        """The files of the variant: one, or one a stage in their order."""
        if self.variant.stages is None:
            return (Part(self.path, self.variant.sha256, self.variant.runtime),)
        return tuple(Part(f"{self.folder}/{each.file}", each.sha256, each.runtime) for each in self.variant.stages)

    @property
    def stages(self) -> tuple[StageSpec, ...]:
        """Of a model in stages, in the order of `parts`; empty for others."""
        if self.variant.stages is None:
            return ()
        crossings = [
            [Tensor(each.name, each.dtype, tuple(map(tuple, each.shapes))) for each in stage.gives]
            for stage in self.variant.stages[:-1]
        ]
        return chain(self.spec, [part.path for part in self.parts], crossings)

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
