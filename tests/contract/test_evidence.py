import hashlib
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from agent.adapters.evidence_fs import FolderEvidence
from agent.errors import Retryable


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_can_be_found_and_checked(tmp_path: Path) -> None:
    evidence = FolderEvidence(tmp_path / "a b", 1000).save("x.jpg", b"picture")
    assert Path(unquote(urlparse(evidence.uri).path)).read_bytes() == b"picture"
    assert evidence.sha256 == hashlib.sha256(b"picture").hexdigest()
    assert evidence.format == "image/jpeg"


def test_the_oldest_go_when_the_bound_is_reached_over_restarts_too(tmp_path: Path) -> None:
    store = FolderEvidence(tmp_path, 250)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        store.save(name, b"x" * 100)
    assert names(tmp_path) == ["b.jpg", "c.jpg"]
    FolderEvidence(tmp_path, 250).save("d.jpg", b"x" * 150)
    assert names(tmp_path) == ["c.jpg", "d.jpg"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    store = FolderEvidence(tmp_path / "gone", 1000)
    (tmp_path / "gone").rmdir()
    with pytest.raises(Retryable, match="evidence"):
        store.save("x.png", b"1")
