"""The acts of the demonstration: a better model, a corrupted one, a bad one."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.state import DesiredModel, Phase, ProbationPlan

BAD_MODEL = Path(__file__).resolve().parent / "bad-model"
PROBATION_RESULTS = 60


@dataclass(frozen=True, slots=True)
class Act:
    """A model that the board is told to run, and how that should end."""

    generation: int
    title: str
    desired: DesiredModel
    ends: Phase


def acts(better: Path, folder: Path, url: str) -> Sequence[Act]:
    """Lay out the three bundles below `folder`, which is served at `url`."""
    shutil.rmtree(folder, ignore_errors=True)
    good, corrupted, bad = (folder / name for name in ("better", "corrupted", "bad"))
    shutil.copytree(better, good)
    shutil.copytree(better, corrupted)
    shutil.copytree(BAD_MODEL, bad)
    _rename(corrupted, "corrupted")
    _flip_a_bit(corrupted / _model_file(corrupted))
    return (
        # The better model is meant to judge otherwise than the first one: how often it finds something is no gate here.
        Act(1, "a better model", _desired(1, good, url, ProbationPlan(frames=PROBATION_RESULTS, max_p95_ratio=3.0,
                                                                      max_ng_drift=1.0)), Phase.COMMITTED),
        Act(2, "a corrupted model", _desired(2, corrupted, url, ProbationPlan()), Phase.REJECTED),
        Act(3, "a model that marks every part defective", _desired(3, bad, url, ProbationPlan(
            frames=PROBATION_RESULTS, max_p95_ratio=3.0, max_ng_drift=0.2)), Phase.ROLLED_BACK),
    )  # fmt: skip


def _desired(generation: int, folder: Path, url: str, probation: ProbationPlan) -> DesiredModel:
    raw = (folder / "manifest.json").read_bytes()
    manifest = json.loads(raw)
    return DesiredModel(
        generation=generation,
        name=manifest["name"],
        version=manifest["version"],
        manifest_sha256=hashlib.sha256(raw).hexdigest(),
        urls=[f"{url}/{folder.name}"],
        probation=probation,
    )


def _rename(folder: Path, suffix: str) -> None:
    """Another manifest, so that the board has to fetch it."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["version"] += f"-{suffix}"
    variant = next(each for each in manifest["variants"] if each["target"] == "cpu")
    # The honest file is in the board's store by now: the damaged one must have a digest of its own.
    content = bytearray((folder / variant["file"]).read_bytes())
    content += b"\0"
    (folder / variant["file"]).write_bytes(content)
    variant["bytes"], variant["sha256"] = len(content), hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(manifest))


def _model_file(folder: Path) -> str:
    manifest = json.loads((folder / "manifest.json").read_text())
    return str(next(each["file"] for each in manifest["variants"] if each["target"] == "cpu"))


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
