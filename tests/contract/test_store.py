import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.adapters.bundle_fs import read_bundle
from agent.adapters.store_fs import FolderStore, StoreLimits
from agent.core.fetch_plan import FetchPlan, parse_manifest, plan
from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode
from schemas.target import Target

MODEL_BYTES = 100_000
ROOMY = StoreLimits(quota_bytes=100 * MODEL_BYTES, reserve_bytes=0)
NOBODY: frozenset[str] = frozenset()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Source:
    """A bundle in memory, as a server would have it. All versions share one golden picture."""

    def __init__(self, version: str, model_bytes: int = MODEL_BYTES) -> None:
        model = (version.encode() * model_bytes)[:model_bytes]
        self.content = {"m/cpu.onnx": model, "golden/0.png": b"picture", "golden/0.map.png": f"map {version}".encode()}
        raw = json.dumps(self._document(version)).encode()
        self.content["manifest.json"] = raw
        self.digest = sha(raw)

    def plan(self) -> FetchPlan:
        raw = self.content["manifest.json"]
        return plan(parse_manifest(raw), self.digest, Target.CPU, len(raw))

    def of(self, path: str) -> str:
        return sha(self.content[path])

    def _document(self, version: str) -> dict[str, object]:
        files = self.content
        model = files["m/cpu.onnx"]
        golden = {path: sha(data) for path, data in files.items() if path.startswith("golden/")}
        variant = {"runtime": "onnx", "toolkitVersion": "1", "dtype": "int8", "file": "m/cpu.onnx"}
        frame = {"inputs": ["golden/0.png"], "classMap": "golden/0.map.png", "sha256": golden}
        return {
            "schema": "rkfleet.manifest/1",
            "name": "probe",
            "version": version,
            "createdAt": "2026-01-01T00:00:00Z",
            "classes": [{"id": i, "name": f"c{i}", "colour": "#00ff00", "severity": "none"} for i in range(2)],
            "inputs": [{"name": "image", "shapes": [[8, 8]]}],
            "preprocess": [{"op": "letterbox"}],
            "output": "logits",
            "variants": [{"target": "cpu", "bytes": len(model), "sha256": sha(model), **variant}],
            "golden": {"frames": [frame], "leastAgreement": 0.9},
            "accuracy": {"dataset": "d", "images": 1, "float32": {"miou": 1.0, "iou": {}}},
            "lineage": {"architecture": "a", "parameters": 1},
        }


A, B, C, D = (Source(version) for version in "abcd")


def download(store: FolderStore, source: Source) -> None:
    """What a fetcher would do: fill the partial file of all that is missing, and have it taken in."""
    by_digest = {sha(data): data for data in source.content.values()}
    for file in store.missing(source.plan()):
        store.partial(file.sha256).write_bytes(by_digest[file.sha256])
        store.add(file.sha256)


def install(store: FolderStore, source: Source, pinned: frozenset[str] = NOBODY) -> Path:
    store.make_room(source.plan(), pinned)
    download(store, source)
    return store.open_bundle(source.digest)


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stored(root: Path) -> set[str]:
    return {path.name for path in (root / "files").iterdir()}


def shown(root: Path) -> set[str]:
    return {path.name for path in (root / "bundles").iterdir()}


def refusal(call: Callable[[], object]) -> AgentError:
    with pytest.raises(AgentError) as caught:
        call()
    return caught.value


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> FolderStore:
    return FolderStore(root, Target.CPU, ROOMY)


# ---- what is put in comes out


def test_a_bundle_is_a_folder_that_the_agent_can_read(store: FolderStore) -> None:
    folder = install(store, A)
    assert content_of(folder) == A.content
    assert read_bundle(folder, Target.CPU).manifest.version == "a"
    assert store.open_bundle(A.digest) == folder
    assert store.missing(A.plan()) == ()


def test_what_two_bundles_share_is_stored_and_downloaded_once(store: FolderStore, root: Path) -> None:
    install(store, A)
    assert {file.path for file in store.missing(B.plan())} == set(B.content) - {"golden/0.png"}
    install(store, B)
    assert len(stored(root)) == 7
    assert content_of(root / "bundles" / B.digest) == B.content


def test_a_partial_file_outlives_the_process(store: FolderStore, root: Path) -> None:
    digest = A.of("m/cpu.onnx")
    path = store.partial(digest)
    path.write_bytes(b"aaa")
    again = FolderStore(root, Target.CPU, ROOMY)
    again.make_room(A.plan(), NOBODY)
    assert again.partial(digest) == path
    assert path.read_bytes() == b"aaa"
    assert not again.has(digest)


def test_adding_again_does_nothing_and_adding_nothing_is_an_error(store: FolderStore) -> None:
    install(store, A)
    store.add(A.of("m/cpu.onnx"))
    assert store.has(A.of("m/cpu.onnx"))
    assert refusal(lambda: store.add(B.digest)).code is FailureCode.MODEL_MISSING


def test_a_small_file_is_read_up_to_a_bound(store: FolderStore) -> None:
    install(store, A)
    assert store.read(A.digest, 100_000) == A.content["manifest.json"]
    assert refusal(lambda: store.read(A.digest, 10)).code is FailureCode.MODEL_INVALID
    assert refusal(lambda: store.read(B.digest, 10)).code is FailureCode.MODEL_MISSING


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "F" * 64, "f" * 63, "f" * 64 + "\n", "f" * 64 + "/x"])
def test_only_a_digest_is_a_name(store: FolderStore, digest: str) -> None:
    for call in (store.has, store.partial, store.add, store.open_bundle, lambda name: store.read(name, 10)):
        with pytest.raises(ValueError, match="no SHA-256"):
            call(digest)


def test_a_bundle_for_another_target_is_refused(root: Path) -> None:
    other = FolderStore(root, Target.RK3588, ROOMY)
    download(other, A)
    assert refusal(lambda: other.open_bundle(A.digest)).code is FailureCode.MODEL_WRONG_TARGET


# ---- bit rot and meddling


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [spoil, truncate])
@pytest.mark.parametrize("path", ["manifest.json", "m/cpu.onnx", "golden/0.png"])
def test_what_decayed_is_put_aside_and_can_be_had_anew(
    store: FolderStore, root: Path, path: str, damage: Callable[[Path], None]
) -> None:
    folder = install(store, A)
    damage(root / "files" / A.of(path))
    error = refusal(lambda: store.open_bundle(A.digest))
    assert isinstance(error, Permanent)
    assert error.code is FailureCode.MODEL_DIGEST_MISMATCH
    assert (root / "quarantine" / A.of(path)).exists()
    assert not folder.exists(), "no folder may show the damaged file"
    assert refusal(lambda: store.open_bundle(A.digest)).code is FailureCode.MODEL_MISSING
    assert [file.path for file in store.missing(A.plan())] == [path]
    assert content_of(install(store, A)) == A.content


def test_damage_in_a_shared_file_does_not_stay_in_the_other_bundle(store: FolderStore, root: Path) -> None:
    install(store, A)
    install(store, B)
    spoil(root / "files" / A.of("golden/0.png"))
    assert refusal(lambda: store.open_bundle(A.digest)).code is FailureCode.MODEL_DIGEST_MISMATCH
    assert refusal(lambda: store.open_bundle(B.digest)).code is FailureCode.MODEL_MISSING
    for source in (A, B):
        assert content_of(install(store, source)) == source.content


def test_the_quarantine_is_bounded(store: FolderStore, root: Path) -> None:
    for source in (A, B, C, D):
        install(store, source)
        spoil(root / "files" / source.digest)
        refusal(lambda digest=source.digest: store.open_bundle(digest))  # type: ignore[misc]
    assert {path.name for path in (root / "quarantine").iterdir()} == {B.digest, C.digest, D.digest}


def replace_by_link(path: Path, victim: Path) -> None:
    path.unlink()
    path.symlink_to(victim)


def meddle_file(root: Path, victim: Path) -> None:
    replace_by_link(root / "files" / A.of("m/cpu.onnx"), victim)


def meddle_folder(root: Path, victim: Path) -> None:
    (root / "files" / A.of("m/cpu.onnx")).unlink()
    (root / "files" / A.of("m/cpu.onnx")).mkdir()


@pytest.mark.parametrize("meddle", [meddle_file, meddle_folder])
def test_a_stored_file_that_is_no_file_is_absent(
    store: FolderStore, root: Path, tmp_path: Path, meddle: Callable[[Path, Path], None]
) -> None:
    install(store, A)
    victim = tmp_path / "victim"
    victim.write_bytes(A.content["m/cpu.onnx"])
    meddle(root, victim)
    assert not store.has(A.of("m/cpu.onnx"))
    assert refusal(lambda: store.open_bundle(A.digest)).code is FailureCode.MODEL_MISSING
    assert content_of(install(store, A)) == A.content
    assert (root / "files" / A.of("m/cpu.onnx")).lstat().st_nlink == 2
    assert victim.read_bytes() == A.content["m/cpu.onnx"]


def name_swapped(folder: Path, outside: Path) -> None:
    (folder / "m" / "cpu.onnx").unlink()
    (folder / "m" / "cpu.onnx").write_bytes(b"evil")


def name_linked(folder: Path, outside: Path) -> None:
    replace_by_link(folder / "m" / "cpu.onnx", outside / "cpu.onnx")


def folder_linked(folder: Path, outside: Path) -> None:
    shutil.rmtree(folder / "m")
    (folder / "m").symlink_to(outside)


def whole_linked(folder: Path, outside: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(outside)


def file_in_place(folder: Path, outside: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


def name_added(folder: Path, outside: Path) -> None:
    (folder / "m" / "more").write_bytes(b"more")


def link_added(folder: Path, outside: Path) -> None:
    (folder / "more").symlink_to(outside)


@pytest.mark.parametrize(
    "meddle", [name_swapped, name_linked, folder_linked, whole_linked, file_in_place, name_added, link_added]
)
def test_a_folder_that_is_not_as_it_should_be_is_made_anew(
    store: FolderStore, tmp_path: Path, meddle: Callable[[Path, Path], None]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "cpu.onnx").write_bytes(A.content["m/cpu.onnx"])
    folder = install(store, A)
    meddle(folder, outside)
    assert store.open_bundle(A.digest) == folder
    assert not folder.is_symlink()
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert content_of(folder) == A.content
    assert content_of(outside) == {"cpu.onnx": A.content["m/cpu.onnx"]}, "what a link pointed to is untouched"


def test_links_among_the_partial_files_are_not_followed(store: FolderStore, root: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    for name in (A.digest, f"{A.digest}.notes"):
        (root / "partials" / name).symlink_to(victim)
    assert not store.partial(A.digest).is_symlink()
    (root / "partials" / A.digest).symlink_to(victim)
    assert refusal(lambda: store.add(A.digest)).code is FailureCode.MODEL_MISSING
    store.prune(NOBODY)
    assert list((root / "partials").iterdir()) == []
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["files", "partials", "bundles", "quarantine"])
@pytest.mark.parametrize("kind", ["link", "file"])
def test_the_folders_of_the_store_must_be_folders(root: Path, tmp_path: Path, name: str, kind: str) -> None:
    root.mkdir()
    if kind == "link":
        (root / name).symlink_to(tmp_path)
    else:
        (root / name).write_bytes(b"")
    assert refusal(lambda: FolderStore(root, Target.CPU)).code is FailureCode.CONFIG_INVALID


# ---- quota and clean-up


def quota_for(bundles: int) -> StoreLimits:
    """Room for so many bundles, of which the last counts with the most that it may take."""
    taken = sum(len(data) for data in A.content.values())
    return StoreLimits(quota_bytes=(bundles - 1) * taken + A.plan().max_bytes, reserve_bytes=0)


def test_the_least_recently_used_bundle_goes_first(root: Path) -> None:
    store = FolderStore(root, Target.CPU, quota_for(2))
    for source in (A, B):
        install(store, source)
    store.open_bundle(A.digest)
    install(store, C)
    assert shown(root) == {A.digest, C.digest}
    assert B.of("m/cpu.onnx") not in stored(root)
    assert content_of(store.open_bundle(A.digest)) == A.content, "what A shares with B is still there"


def test_the_order_of_use_does_not_follow_the_clock(root: Path) -> None:
    store = FolderStore(root, Target.CPU, quota_for(2))
    folder = install(store, A)
    os.utime(folder, (4_000_000_000, 4_000_000_000))  # once the clock was far ahead
    install(store, B)
    again = FolderStore(root, Target.CPU, quota_for(2))
    install(again, C)
    assert shown(root) == {B.digest, C.digest}


def test_pinned_bundles_stay_whatever_their_age(root: Path) -> None:
    store = FolderStore(root, Target.CPU, quota_for(3))
    for source in (A, B, C):
        install(store, source)
    install(store, D, frozenset({A.digest, C.digest}))
    assert shown(root) == {A.digest, C.digest, D.digest}


def test_without_room_beside_the_pinned_nothing_is_downloaded(root: Path) -> None:
    store = FolderStore(root, Target.CPU, quota_for(2))
    for source in (A, B):
        install(store, source)
    error = refusal(lambda: store.make_room(C.plan(), {A.digest, B.digest}))
    assert isinstance(error, Retryable)
    assert error.code is FailureCode.DISK_FULL
    for source in (A, B):
        assert content_of(store.open_bundle(source.digest)) == source.content


def test_a_bundle_above_the_quota_is_refused_and_costs_nothing(root: Path) -> None:
    store = FolderStore(root, Target.CPU, quota_for(2))
    install(store, A)
    error = refusal(lambda: store.make_room(Source("huge", 5 * MODEL_BYTES).plan(), NOBODY))
    assert isinstance(error, Permanent)
    assert error.code is FailureCode.DISK_FULL
    assert shown(root) == {A.digest}


def test_a_pinned_bundle_needs_no_folder_to_be_kept(store: FolderStore, root: Path) -> None:
    download(store, A)
    store.make_room(B.plan(), {A.digest})
    store.prune({A.digest})
    assert content_of(store.open_bundle(A.digest)) == A.content


def test_what_is_left_of_dead_updates_is_removed(store: FolderStore, root: Path) -> None:
    install(store, A)
    store.partial(B.of("m/cpu.onnx")).write_bytes(b"bbb")
    store.partial(C.of("m/cpu.onnx")).write_bytes(b"ccc")
    store.partial(C.digest).write_bytes(C.content["manifest.json"])
    store.add(C.digest)
    (root / "partials" / f"{B.of('m/cpu.onnx')}.notes").write_bytes(b"{}")
    (root / "bundles" / f".new-{C.digest}").mkdir()

    again = FolderStore(root, Target.CPU, ROOMY)
    again.make_room(B.plan(), {A.digest})
    assert {path.name.partition(".")[0] for path in (root / "partials").iterdir()} == {B.of("m/cpu.onnx")}
    assert stored(root) == {sha(data) for data in A.content.values()}
    assert shown(root) == {A.digest}
    again.prune({A.digest})
    assert list((root / "partials").iterdir()) == []


def test_the_reserve_of_the_disk_is_kept_free(root: Path) -> None:
    plenty = FolderStore(root, Target.CPU, ROOMY)
    install(plenty, A)
    greedy = StoreLimits(quota_bytes=ROOMY.quota_bytes, reserve_bytes=shutil.disk_usage(root).total)
    store = FolderStore(root, Target.CPU, greedy)
    error = refusal(lambda: store.make_room(B.plan(), {A.digest}))
    assert isinstance(error, Retryable)
    assert error.code is FailureCode.DISK_FULL
    assert "reserved" in error.text
    store.make_room(A.plan(), {A.digest})  # nothing to download needs no room
    assert content_of(store.open_bundle(A.digest)) == A.content


# ---- a disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB and 60 files."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k,nr_inodes=60", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small disk needs root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_room_on_the_disk_is_made_from_old_bundles(small_disk: Path) -> None:
    store = FolderStore(small_disk, Target.CPU, StoreLimits(reserve_bytes=0))
    for source in (A, B):
        install(store, source, frozenset({A.digest}))
    big = Source("big", 3 * MODEL_BYTES)
    error = refusal(lambda: store.make_room(Source("bigger", 9 * MODEL_BYTES).plan(), {A.digest, B.digest}))
    assert isinstance(error, Retryable)
    assert error.code is FailureCode.DISK_FULL
    assert content_of(install(store, big, frozenset({A.digest}))) == big.content
    assert shown(small_disk) == {A.digest, big.digest}


def test_bytes_that_have_come_already_need_no_room_again(small_disk: Path) -> None:
    big = Source("big", 3 * MODEL_BYTES)
    store = FolderStore(small_disk, Target.CPU, StoreLimits(reserve_bytes=0))
    assert refusal(lambda: store.make_room(Source("other", 4 * MODEL_BYTES).plan(), NOBODY)).text
    store.partial(big.of("m/cpu.onnx")).write_bytes(big.content["m/cpu.onnx"][: 2 * MODEL_BYTES])
    store.make_room(big.plan(), NOBODY)
    assert content_of(install(store, big)) == big.content


def fill_with_folders(disk: Path) -> list[Path]:
    made: list[Path] = []
    while True:
        path = disk / f"filler {len(made)}"
        try:
            path.mkdir()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return made
        made.append(path)


def test_a_disk_without_room_for_a_folder_is_said_and_passes(small_disk: Path) -> None:
    store = FolderStore(small_disk, Target.CPU, StoreLimits(reserve_bytes=0))
    download(store, A)
    fillers = fill_with_folders(small_disk)
    error = refusal(lambda: store.open_bundle(A.digest))
    assert isinstance(error, Retryable)
    assert error.code is FailureCode.DISK_FULL
    for each in fillers:
        each.rmdir()
    assert content_of(store.open_bundle(A.digest)) == A.content


# ---- kill -9 at every step

CHANGING = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.utime", "os.truncate"}


def killed_before_step(number: int, work: Callable[[], object]) -> bool:
    """Run `work` in a child that is killed before its change `number` of the disk; False when it had fewer."""
    child = os.fork()
    if child == 0:
        left = number

        def watch(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if event in CHANGING or writes:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        outcome = 1
        try:
            work()
            outcome = 0
        finally:
            os._exit(outcome)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}
    return code != 0


def test_a_kill_at_any_step_loses_nothing_that_is_pinned_and_stops_nothing(tmp_path: Path) -> None:
    limits = quota_for(2)
    number = 0
    while True:
        number += 1
        root = tmp_path / str(number)
        before = FolderStore(root, Target.CPU, limits)
        for source in (A, B):
            install(before, source)
        before.partial(D.digest).write_bytes(b"dead")

        def update(root: Path = root) -> None:
            store = FolderStore(root, Target.CPU, limits)
            install(store, C, frozenset({B.digest}))
            store.prune({B.digest, C.digest})

        killed = killed_before_step(number, update)
        after = FolderStore(root, Target.CPU, limits)
        for path in (root / "files").iterdir():
            assert sha(path.read_bytes()) == path.name
        for folder in (root / "bundles").iterdir():
            source = next(each for each in (A, B, C) if each.digest == folder.name)
            assert content_of(folder) == source.content
        assert content_of(after.open_bundle(B.digest)) == B.content
        update()
        assert content_of(after.open_bundle(C.digest)) == C.content
        assert shown(root) == {B.digest, C.digest}
        assert stored(root) == {sha(data) for each in (B, C) for data in each.content.values()}
        assert list((root / "partials").iterdir()) == []
        shutil.rmtree(root)
        if not killed:
            break
    assert number > 30, "the update has many steps"
