"""A model bundle that has been read and verified."""

from dataclasses import dataclass

from agent.core.model import ModelSpec
from schemas.manifest import Manifest, Variant
from schemas.status import ModelInfo


@dataclass(frozen=True, slots=True)
class Bundle:
    """`path` is the verified model file of `variant`."""

    manifest: Manifest
    variant: Variant
    path: str

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(
            path=self.path,
            inputs=len(self.manifest.inputs),
            shapes=tuple(self.manifest.inputs[0].shapes),
            classes=len(self.manifest.classes),
            output=self.manifest.output,
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
