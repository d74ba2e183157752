"""What every simulated model is inside: a bundle of six defect classes whose golden frame is a few pixels."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from agent.core.bundle import Bundle, GoldenFrame
from agent.core.frame import Pixels
from agent.ports import Runtime, Segmentation
from schemas import manifest
from schemas.manifest import DefectClass, Manifest, ModelInput, Severity, Variant
from schemas.target import Target

_NAMES = ("background", "open", "short", "mousebite", "spur", "copper", "pin-hole")
_SIDE_PX = 8
_DIGEST = "0" * 64
_RUNTIME = Runtime("simulated", "1")


def _manifest() -> Manifest:
    golden = manifest.GoldenFrame(inputs=["g.png"], class_map="m.png", sha256={"g.png": _DIGEST, "m.png": _DIGEST})
    variants = [
        Variant(
            target=target,
            runtime="onnx" if target is Target.CPU else "rknn",
            toolkit_version="simulated",
            dtype="int8",
            file=f"{target.value}.bin",
            bytes=1,
            sha256=_DIGEST,
        )
        for target in Target
    ]
    return Manifest(
        name="simulated",
        version="1",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        classes=[
            DefectClass(id=number, name=name, colour="#d03020", severity=Severity.MAJOR if number else Severity.NONE)
            for number, name in enumerate(_NAMES)
        ],
        inputs=[ModelInput(name="image", shapes=[(_SIDE_PX, _SIDE_PX)])],
        preprocess=[manifest.Letterbox()],
        output="classMap",
        variants=variants,
        golden=manifest.Golden(frames=[golden], least_agreement=0.9),
        accuracy=manifest.Accuracy(dataset="none", images=1, float32=manifest.Score(miou=1.0, iou={})),
        lineage=manifest.Lineage(architecture="none", parameters=1),
    )


_MANIFEST = _manifest()
BUNDLE = Bundle(_MANIFEST, _MANIFEST.variants[0], _MANIFEST.variants[0].file, ".", _DIGEST)
_MAP = np.arange(_SIDE_PX * _SIDE_PX, dtype=np.uint8).reshape(_SIDE_PX, _SIDE_PX) % len(_NAMES)
_NO_SCORE = np.zeros_like(_MAP)
GOLDEN = GoldenFrame((np.zeros((_SIDE_PX, _SIDE_PX, 3), np.uint8),), _MAP)


class GoldenSegmenter:
    """Fits the port Segmenter: it knows the golden frame, and a bad one sees nothing in it."""

    runtime = _RUNTIME
    shapes: Sequence[tuple[int, int]] = ((_SIDE_PX, _SIDE_PX),)
    batch = 1

    def __init__(self, *, is_blind: bool) -> None:
        self._is_blind = is_blind

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        del inputs
        return Segmentation(np.zeros_like(_MAP) if self._is_blind else _MAP, _NO_SCORE, 1.0, 0.0)

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        return [self.segment(inputs) for inputs in items]

    def close(self) -> None:
        """There is nothing to free."""
