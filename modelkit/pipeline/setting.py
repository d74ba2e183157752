"""What the steps of one run share: the file, the pictures, and the places."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from modelkit.measure import Thresholds
from modelkit.pipeline.data import Supply
from modelkit.pipeline.spec import Pipeline
from modelkit.sources import Source


@dataclass(frozen=True)
class Setting:
    """`environment` is where the converter lives, `out` where the bundle goes, `file` the pipeline file."""

    spec: Pipeline
    environment: Path
    out: Path
    file: Path

    @cached_property
    def supply(self) -> Supply:
        return Supply(self.spec.data, next(iter(self.spec.preprocess), None))

    @cached_property
    def source(self) -> Source:
        """With the file's own thresholds and texts. Errors: DataError for data that are not there or broken."""
        spec, source = self.spec, self.supply.source
        least_score, least_area_px = source.thresholds.least_score, source.thresholds.least_area_px
        return replace(
            source,
            thresholds=Thresholds(
                least_score=least_score if spec.least_score is None else spec.least_score,
                least_area_px=least_area_px if spec.least_area_px is None else spec.least_area_px,
            ),
            licence=spec.licence or source.licence,
            description=spec.description or source.description,
        )

    @property
    def names(self) -> tuple[str, ...]:
        return self.supply.names

    @property
    def title(self) -> str:
        return f"{self.spec.name}-{self.spec.version}"

    @property
    def bundle(self) -> Path:
        return self.out / self.title

    @property
    def network(self) -> str:
        """The step that leaves the network to export."""
        parts = self.spec.compression
        chain = (("qat", parts.qat), ("prune", parts.prune), ("distil", parts.distil))
        return next((name for name, part in chain if part is not None), "train")
