"""The process that speaks TUF: one request on stdin, one answer on stdout, both a line of JSON.

Metadata come from wherever an attacker sits. Whatever they do to a parser or to memory ends with this process, which
also gives back the 25 MB that python-tuf takes.

Request: `metadata_dir`, `metadata_url`, `root` (its text), `target`, `now` (ISO 8601), `pace`, `most_targets_bytes`.
Answer: `{"ok": {"length", "sha256", "custom", "issued", "bound"}}`, the first three null where there is no such
target, or `{"error": kind, "text": ...}`. `issued`: the latest time that root or targets say they were signed at;
`bound`: when the first of the four roles expires.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Root, Signed, Targets
from tuf.ngclient import Updater
from tuf.ngclient.config import UpdaterConfig

from agent.adapters.trust_tuf.fetch import BoundedFetcher
from agent.adapters.trust_tuf.pace import Pace

_ISSUED_FIELD = "x-rkfleet-issued"  # as in schemas.registry, which would load pydantic
_MOST_TEXT = 500


def main() -> None:
    sys.stdout.write(json.dumps(answer(json.loads(sys.stdin.readline()))) + "\n")


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Never raises what metadata or a server can cause."""
    try:
        return {"ok": _look_up(request)}
    except ExpiredMetadataError as error:
        return _error("expired", error)
    except RepositoryError as error:
        return _error("refused", error)
    except DownloadError as error:
        return _error("download", error)
    except (RecursionError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        # What a parser makes of a document that is none.
        return _error("refused", error)
    except OSError as error:
        return _error("disk", error)


def _look_up(request: Mapping[str, Any]) -> dict[str, Any]:
    folder = Path(request["metadata_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("tmp*"):
        left.unlink()  # by a child that was ended while it wrote
    updater = Updater(
        metadata_dir=str(folder),
        metadata_base_url=request["metadata_url"],
        fetcher=BoundedFetcher(Pace(**request["pace"])),
        config=UpdaterConfig(max_root_rotations=64, targets_max_length=request["most_targets_bytes"]),
        bootstrap=request["root"].encode(),
    )
    trusted = updater._trusted_set  # noqa: SLF001  the time to measure expiry by has no other door
    trusted.reference_time = datetime.fromisoformat(request["now"])
    updater.refresh()
    _sync(folder)
    info = updater.get_targetinfo(request["target"])
    roles: list[Signed] = [trusted.root, trusted.timestamp, trusted.snapshot, trusted.targets]
    return {
        "length": info.length if info else None,
        "sha256": info.hashes.get("sha256") if info else None,
        "custom": info.custom if info else None,
        "issued": _issued(trusted.root, trusted.targets),
        "bound": min(role.expires for role in roles).isoformat(),
    }


def _issued(root: Root, targets: Targets) -> str | None:
    """Only roles whose keys are offline: whoever takes the server's keys cannot push the board's time."""
    times = []
    for role in (root, targets):
        said = role.unrecognized_fields.get(_ISSUED_FIELD)
        if isinstance(said, str):
            time = datetime.fromisoformat(said)
            if time.tzinfo is not None and time < min(root.expires, targets.expires):
                times.append(time)
    return max(times).isoformat() if times else None


def _sync(folder: Path) -> None:
    """python-tuf renames without waiting for the disk; what guards against rollback must survive a power cut."""
    for path in _below(folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _below(folder: Path) -> Iterable[Path]:
    yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    yield from (folder / "root_history", folder)


def _error(kind: str, error: Exception) -> dict[str, Any]:
    cause = error.__cause__
    text = f"{error} ({cause})" if cause is not None and str(cause) not in str(error) else str(error)
    return {"error": kind, "text": (text or type(error).__name__)[:_MOST_TEXT]}


if __name__ == "__main__":
    main()
