"""A bundle of two classes, for tests that load no file."""

from datetime import UTC, datetime

from agent.core.bundle import Bundle
from schemas.manifest import (
    Accuracy,
    DefectClass,
    Golden,
    GoldenFrame,
    Letterbox,
    Lineage,
    Manifest,
    ModelInput,
    Score,
    Severity,
    Variant,
)
from schemas.target import Target


def a_bundle(names: tuple[str, ...] = ("background", "spot"), size_px: int = 32) -> Bundle:
    classes = [
        DefectClass(id=i, name=name, colour="#ff0000", severity=Severity.MAJOR if i else Severity.NONE)
        for i, name in enumerate(names)
    ]
    variant = Variant(
        target=Target.CPU,
        runtime="onnx",
        toolkit_version="1",
        dtype="float32",
        file="cpu.onnx",
        bytes=1,
        sha256="0" * 64,
    )
    golden = GoldenFrame(inputs=["g.png"], class_map="m.png", sha256={"g.png": "0" * 64, "m.png": "0" * 64})
    manifest = Manifest(
        name="m",
        version="1",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        classes=classes,
        inputs=[ModelInput(name="image", shapes=[(size_px, size_px)])],
        preprocess=[Letterbox()],
        output="classMap",
        variants=[variant],
        golden=Golden(frames=[golden], least_agreement=0.9),
        accuracy=Accuracy(dataset="d", images=1, float32=Score(miou=1.0, iou={})),
        lineage=Lineage(architecture="a", parameters=1),
    )
    return Bundle(manifest, variant, "cpu.onnx", ".", "0" * 64)
