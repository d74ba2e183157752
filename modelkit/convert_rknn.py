"""Int8 models for every Rockchip target, built in an environment of their own, and what the simulator says of them.

The converter (rknn-toolkit2) needs old versions of what the trainer needs new, so the two never share an environment.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from schemas.target import Target

TOOLKIT: Final = "2.5.0"
TARGETS: Final = tuple(target.value for target in Target if target is not Target.CPU)
LOCK: Final = Path(__file__).with_name("requirements-convert.lock")
_ROOT: Final = Path(__file__).resolve().parent.parent


class ConversionFailed(Exception):
    """The environment could not be made, or the converter gave up; its own words are above in the output."""


@dataclass(frozen=True, slots=True)
class Job:
    """Paths are absolute. `mean` and `deviation` are baked into the models, for each of `inputs` pictures;
    `calibration` is a text file with the PNG paths of one sample a line, `simulate` the PNG files of each sample to run
    through the simulator of the first target. `algorithm` is the toolkit's: normal, mmse or kl_divergence.
    """

    onnx: str
    mean: float
    deviation: float
    targets: tuple[str, ...]
    calibration: str
    simulate: tuple[tuple[str, ...], ...]
    out: str
    inputs: int = 1
    algorithm: str = "normal"


def make_environment(folder: Path) -> Path:
    """Return the environment's Python; makes the environment from the lock if it is not there.

    `--no-deps`, because the converter's own pins ask for a CUDA build of torch that it works without.
    """
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    _run([sys.executable, "-m", "venv", str(folder)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(LOCK)])
    (folder / "complete").touch()
    return python


def convert(job: Job, environment: Path) -> None:
    """Write `TARGET.rknn` for each target, and `NAME.map.png` and `NAME.score.png` for each simulated
    sample, NAME being that of its first picture.

    Raises ConversionFailed.
    """
    out = Path(job.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "job.json").write_text(json.dumps(asdict(job), indent=1))
    python = make_environment(environment)
    _run([str(python), "-m", "modelkit.rknn_worker", str(out / "job.json")], log=out / "convert.log")
    missing = [target for target in job.targets if not (out / f"{target}.rknn").exists()]
    if missing:
        raise ConversionFailed(f"no model for {', '.join(missing)}")


def _run(command: list[str], log: Path | None = None) -> None:
    """Run it at the project's root; with `log`, keep its output there."""
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    if log is None:
        result = subprocess.run(command, cwd=_ROOT, env=environment, check=False)  # noqa: S603 # our own words alone
    else:
        with log.open("wb") as sink:
            result = subprocess.run(  # noqa: S603 # our own words alone
                command, cwd=log.parent, env=environment, check=False, stdout=sink, stderr=subprocess.STDOUT
            )
    if result.returncode != 0:
        tail = "" if log is None else "\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise ConversionFailed(f"{' '.join(command[:4])} ended with {result.returncode}{tail}")
