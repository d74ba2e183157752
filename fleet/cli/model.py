"""`rkfleet model`: the model kit's commands, each in an environment that has what it needs.

The kit is a program of its own: it is started, never imported. Its training needs torch, which an operator's machine
need not have.
"""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

import typer

from fleet.cli.output import Exit, fail

PASSED_ON: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Of the command: all that follows `model` is the kit's, `--help` too."""
_ROOT: Final = Path(__file__).resolve().parents[2]
_VARIABLE: Final = "RKFLEET_MODEL_PYTHON"
_NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "data": ("cv2",),
    "train": ("torch", "matplotlib"),
    "distill": ("torch", "matplotlib"),
    "prune": ("torch", "torch_pruning"),
    "qat": ("torch", "matplotlib"),
    "export": ("torch", "onnx"),
    "convert": ("cv2",),
    "pack": ("cv2", "onnxruntime"),
    "evaluate": ("cv2", "onnxruntime", "jinja2", "matplotlib"),
    "build": ("torch", "onnx", "jinja2", "matplotlib"),
}
_HOW: Final = """\
rkfleet model {command} needs {missing}, not installed here. Make an environment for the model kit (torch's CPU build
is enough):
  python3 -m venv .venv-train
  .venv-train/bin/python -m pip install {packages}
It is found as .venv-train in {root} or in the current folder; elsewhere name its Python in {variable}."""
_PYTHON: Final = Path(".venv-train") / "bin" / "python"


def model(context: typer.Context) -> None:
    """Bring a segmentation model to a Rockchip NPU, and know how good it is.

    data, train, distill, prune, qat, export, convert, pack, evaluate, inspect, build: each has its own --help.
    """
    words = list(context.args)
    python = _python(words)
    environment = os.environ | {"RKFLEET_MODEL_PROGRAM": "rkfleet model", "PYTHONPATH": _path()}
    raise typer.Exit(_run([python, "-m", "modelkit", *words], environment))


def _python(words: Sequence[str]) -> str:
    """The Python that runs the command: this one if it has all that is needed, else that of the kit's environment."""
    if named := os.environ.get(_VARIABLE):
        return named
    command = words[0] if words else "--help"
    missing = [name for name in _NEEDS.get(command, ()) if importlib.util.find_spec(name) is None]
    if "--help" in words or not missing:
        return sys.executable
    found = next((p for p in (_ROOT / _PYTHON, Path.cwd() / _PYTHON) if p.exists()), None)
    if found is None:
        lock = _ROOT / "modelkit" / "requirements-train.lock"
        packages = f"--no-deps -r {lock}" if lock.exists() else "'rkfleet[modelkit]'"
        known = {"command": command, "packages": packages, "root": _ROOT, "variable": _VARIABLE}
        text = _HOW.format(missing=", ".join(missing), **known)
        fail(text, Exit.NOT_FOUND, as_json="--json" in words)
    return str(found)


def _path() -> str:
    """The project may not be installed in the kit's environment."""
    return os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))


def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    """Return how the child ended. Ctrl-C reaches the child by itself, and it is waited for; SIGTERM is handed on."""
    with subprocess.Popen(command, env=environment) as child:  # noqa: S603  our own program, no shell

        def hand_on(number: int, _frame: FrameType | None) -> None:
            child.send_signal(number)

        before = signal.signal(signal.SIGTERM, hand_on)
        try:
            while True:
                try:
                    code = child.wait()
                    break
                except KeyboardInterrupt:
                    continue
        finally:
            signal.signal(signal.SIGTERM, before)
    return code if code >= 0 else 128 - code
