"""A whole model bundle whose answers are known: the class of a pixel follows from its grey level alone."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np

from agent.core.model import ModelSpec
from schemas.manifest import Manifest
from tests.contract import probe_model

SIZE_PX = 64
CLASSES = ("background", "open", "short", "mousebite", "spur")
GREY = {name: round(i * 255 / (len(CLASSES) - 1)) for i, name in enumerate(CLASSES)}
"""The grey level that is this class for certain."""


def make_bundle(folder: Path, version: str = "1.0.0") -> Path:
    """Write manifest, model and one golden frame; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "cpu.onnx"
    spec = ModelSpec(str(model), 1, ((SIZE_PX, SIZE_PX),), len(CLASSES), "logits")
    probe_model.build(model, spec, height_width=(SIZE_PX, SIZE_PX))
    picture = probe_model.random_inputs(spec, (SIZE_PX, SIZE_PX), 7)[0]
    cv2.imwrite(str(folder / "golden.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(folder / "golden.map.png"), probe_model.answer([picture], len(CLASSES))[0])
    (folder / "manifest.json").write_text(json.dumps(_manifest(folder, version), indent=1))
    return folder


def _manifest(folder: Path, version: str) -> dict[str, object]:
    score = {"miou": 1.0, "iou": {}}
    document: dict[str, object] = {
        "schema": "rkfleet.manifest/1",
        "name": "probe",
        "version": version,
        "createdAt": "2026-01-01T00:00:00Z",
        "classes": [
            {"id": i, "name": name, "colour": f"#{40 * i:02x}ff00", "severity": "critical" if i else "none"}
            for i, name in enumerate(CLASSES)
        ],
        "inputs": [{"name": "image", "shapes": [[SIZE_PX, SIZE_PX]]}],
        "preprocess": [{"op": "letterbox", "fill": 0}],
        "postprocess": [{"op": "threshold", "minScore": 0.4}, {"op": "leastArea", "px": 4}],
        "output": "logits",
        "variants": [
            {
                "target": "cpu",
                "runtime": "onnx",
                "toolkitVersion": "test",
                "dtype": "float32",
                "file": "cpu.onnx",
                "bytes": (folder / "cpu.onnx").stat().st_size,
                "sha256": digest(folder / "cpu.onnx"),
            }
        ],
        "golden": {
            "frames": [
                {
                    "inputs": ["golden.png"],
                    "classMap": "golden.map.png",
                    "sha256": {name: digest(folder / name) for name in ("golden.png", "golden.map.png")},
                }
            ],
            "leastAgreement": 0.99,
        },
        "accuracy": {"dataset": "grey levels", "images": 1, "float32": score},
        "lineage": {"architecture": "1x1 convolution", "parameters": 20, "quantisation": "none"},
    }
    Manifest.model_validate(document)
    return document


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_pictures(folder: Path, count: int = 8) -> dict[str, list[str]]:
    """Pictures of one to three squares each, or none; returns the classes that each picture shows, by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    truth: dict[str, list[str]] = {}
    for number in range(count):
        picture = np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)
        names = [] if number % 4 == 0 else [str(name) for name in rng.choice(CLASSES[1:], number % 4, replace=False)]
        for place, name in enumerate(names):
            picture[8 + 16 * place : 18 + 16 * place, 8 + number : 18 + number] = GREY[name]
        path = folder / f"{number:03d}.png"
        cv2.imwrite(str(path), picture)
        truth[path.name] = sorted(names)
    return truth
