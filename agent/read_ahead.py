"""Bring the model's file into the page cache while this process still imports its libraries.

The file is read by the child that loads it, seconds later on a board. One posix_fadvise(WILLNEED) does not do it: the
kernel takes no more than a few hundred kilobytes at a time for it. sendfile to /dev/null reads all, copies nothing and
leaves the interpreter to the imports. This is a hint: it trusts nothing that it reads, and nobody waits for it. It
imports next to nothing, so that it can begin at once.
"""

import json
import os
import re
import threading
from pathlib import Path

from agent.config import Settings

SWITCH = "NO_RKFLEET_READ_AHEAD"
"""In the environment, whatever its value, it turns this off: for measurements."""
_PIECE_BYTES = 64 * 2**20
_MOST_MANIFEST_BYTES = 1_000_000
_DEVICE_TREE = Path("/proc/device-tree/compatible")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def begin(settings: Settings) -> None:
    """In a thread of its own."""
    threading.Thread(target=_run, args=(settings,), name="read-ahead", daemon=True).start()


def likely_file(settings: Settings, device_tree: Path = _DEVICE_TREE) -> Path | None:
    """The file that the lanes will most likely load: of the bundle used last in the store, else of the installed one.

    None where no manifest names a file for this machine inside its folder.
    """
    folder = _used_last(settings.storage.data_dir / "models" / "bundles") or settings.model.bundle
    try:
        with (folder / "manifest.json").open("rb") as file:
            variants = json.loads(file.read(_MOST_MANIFEST_BYTES))["variants"]
        files = {str(variant["target"]): str(variant["file"]) for variant in variants}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    name = files.get(settings.model.target if settings.model.target != "auto" else _soc(files, device_tree))
    return folder / name if name and not Path(name).is_absolute() and ".." not in Path(name).parts else None


def bring(path: Path) -> int:
    """Read the whole file into the page cache; returns its size in bytes. Errors: OSError."""
    at = 0
    with path.open("rb") as file, Path(os.devnull).open("wb") as nowhere:
        while sent := os.sendfile(nowhere.fileno(), file.fileno(), at, _PIECE_BYTES):
            at += sent
    return at


def _run(settings: Settings) -> None:
    path = likely_file(settings)
    if path is None or not path.is_file():
        return
    try:
        bring(path)
    except OSError:
        return  # the lane that loads it tells what is wrong


def _used_last(folder: Path) -> Path | None:
    """The store keeps the order of use in the folders' time stamps."""
    try:
        used = {entry: entry.stat().st_mtime_ns for entry in folder.iterdir() if _DIGEST.fullmatch(entry.name)}
    except OSError:
        return None
    return max(used, key=lambda entry: used[entry], default=None)


def _soc(targets: dict[str, str], device_tree: Path) -> str:
    try:
        chips = device_tree.read_text(errors="replace")
    except OSError:
        return "cpu"
    return next((target for target in targets if f"rockchip,{target}" in chips), "cpu")
