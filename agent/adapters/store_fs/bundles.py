"""Folders that show stored files under the names of their manifest.

Each name is a hard link to the file of its digest: no byte is stored twice, no link can point elsewhere, and the
number of links tells whether a stored file is in use.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from agent.adapters.store_fs import disk
from agent.core.fetch_plan import Wanted

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TICK_NS = 1_000_000_000  # the coarsest time stamp of a file system in use


class BundleFolders:
    """`folder` holds one folder a bundle, named by its manifest's digest; `files` holds the files by digest.

    The order of use is kept in the folders' time stamps, as a count: the clock of a board may jump.
    """

    def __init__(self, folder: Path, files: Path) -> None:
        self._folder = folder
        self._files = files

    def tidy(self) -> None:
        """Remove what a killed process left half made or half removed."""
        for entry in self._folder.iterdir():
            if entry.name.startswith((".new-", ".old-")):
                disk.remove(entry)

    def by_use(self) -> Sequence[str]:
        """Digests of the manifests, the least recently used first."""
        names = [entry.name for entry in self._folder.iterdir() if _DIGEST.fullmatch(entry.name)]
        return sorted(names, key=self._used)

    def show(self, manifest_sha256: str, wanted: Sequence[Wanted]) -> Path:
        """The folder with exactly these files, made anew unless it is as it should be."""
        folder = self._folder / manifest_sha256
        if not self._is_as_wanted(folder, wanted):
            self.remove(manifest_sha256)
            self._make(folder, wanted)
        elif self.by_use()[-1] != manifest_sha256:
            self._mark_newest(folder)
        return folder

    def remove(self, manifest_sha256: str) -> None:
        """First the name, in one step, then the content."""
        folder = self._folder / manifest_sha256
        if disk.kind_of(folder) is None:
            return
        old = self._folder / f".old-{manifest_sha256}"
        disk.remove(old)
        disk.move(folder, old)
        disk.remove(old)

    def _make(self, folder: Path, wanted: Sequence[Wanted]) -> None:
        new = self._folder / f".new-{folder.name}"
        disk.remove(new)
        made = {new}
        new.mkdir()
        for file in wanted:
            path = new / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            made.update(parent for parent in path.parents if parent.is_relative_to(new))
            disk.link(self._files / file.sha256, path)
        for each in made:
            disk.sync(each)
        self._mark_newest(new)
        disk.move(new, folder)

    def _is_as_wanted(self, folder: Path, wanted: Sequence[Wanted]) -> bool:
        found: dict[str, tuple[int, int]] = {}
        for at, folders, names in os.walk(folder):  # does not follow links
            for name in (*folders, *names):
                path = Path(at, name)
                if name in names or path.is_symlink():
                    about = path.lstat()
                    found[path.relative_to(folder).as_posix()] = about.st_dev, about.st_ino
        stored = {file.path: (self._files / file.sha256).lstat() for file in wanted}
        return not folder.is_symlink() and found == {
            path: (about.st_dev, about.st_ino) for path, about in stored.items()
        }

    def _mark_newest(self, folder: Path) -> None:
        others = [self._used(name) for name in self.by_use() if name != folder.name]
        now = max(others, default=0) + _TICK_NS
        os.utime(folder, ns=(now, now), follow_symlinks=False)

    def _used(self, name: str) -> int:
        return (self._folder / name).lstat().st_mtime_ns
