"""The registry as its keepers use it, judged by the very code that a board runs."""

import json
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.trust_tuf import child
from fleet.adapters.registry_tuf import KeyRing, KeysMissing, Registry, disk, keep_fresh, metadata, revoke_key, rotate
from fleet.adapters.registry_tuf import controllers as controller_file
from fleet.adapters.registry_tuf.sealed_key import WrongPassphrase, seal, unseal
from fleet.core.registry import Lifetimes
from fleet.errors import Conflict, FleetError, NotFound, Permanent
from schemas.registry import ISSUED_FIELD, target_path
from tests.contract.file_server import FileServer, file_server
from tests.contract.tuf_world import NOW, PASSPHRASE, keys_in_environment
from tests.scenario.bundle import make_bundle

VERSIONS = ("1.0.0", "1.1.0")


Work = Callable[[Registry, Path], object]


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(tmp_path / "registry", KeyRing(tmp_path / "keys", keys_in_environment(), lambda _what: PASSPHRASE))
    made.folder.mkdir()
    made.init(NOW)
    return made


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {version: make_bundle(folder / version, version) for version in VERSIONS}


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def seen(registry: Registry, server: FileServer, folder: Path, now: datetime = NOW) -> set[str]:
    """The versions that a board with this folder takes; it fails where the board does not trust the registry."""
    server.serve_folder("", registry.folder)
    taken = set()
    for version in VERSIONS:
        request = {
            "metadata_dir": str(folder / "tuf"),
            "metadata_url": f"{server.url}/metadata",
            "root": (registry.folder / "metadata" / "1.root.json").read_text(),
            "target": target_path("probe", version),
            "now": now.isoformat(),
            "pace": {},
            "most_targets_bytes": 1_000_000,
        }
        answer = child.answer(request)
        assert "error" not in answer, answer
        if answer["ok"]["length"]:
            taken.add(version)
    return taken


def test_what_is_published_can_be_taken_and_what_is_revoked_cannot(
    registry: Registry, bundles: dict[str, Path], server: FileServer, tmp_path: Path
) -> None:
    assert seen(registry, server, tmp_path) == set()
    done = [registry.publish(bundle, NOW) for bundle in bundles.values()]
    assert all(each.is_new and each.is_live for each in done)
    assert seen(registry, server, tmp_path) == set(VERSIONS)
    for each in done:
        served = registry.folder / each.path
        assert sorted(path.name for path in served.iterdir()) == sorted(
            path.name for path in bundles[each.version].iterdir()
        )
    assert registry.revoke("probe", "1.0.0", NOW)
    assert seen(registry, server, tmp_path) == {"1.1.0"}
    assert not (registry.folder / done[0].path).exists()
    assert (registry.folder / done[1].path / "cpu.onnx").read_bytes() == (bundles["1.1.0"] / "cpu.onnx").read_bytes()
    assert [each.manifest.version for each in registry.listed()] == ["1.1.0"]
    with pytest.raises(NotFound):
        registry.revoke("probe", "1.0.0", NOW)


def test_publishing_the_same_again_changes_nothing(registry: Registry, bundles: dict[str, Path]) -> None:
    registry.publish(bundles["1.0.0"], NOW)
    before = sorted(path.name for path in (registry.folder / "metadata").iterdir())
    assert not registry.publish(bundles["1.0.0"], NOW + timedelta(hours=1)).is_new
    assert sorted(path.name for path in (registry.folder / "metadata").iterdir()) == before


def test_a_version_never_changes_its_content(registry: Registry, bundles: dict[str, Path], tmp_path: Path) -> None:
    registry.publish(bundles["1.0.0"], NOW)
    other = make_bundle(tmp_path / "other", "1.0.0")
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "description": "better"}))
    with pytest.raises(Conflict):
        registry.publish(other, NOW)


def wrong_bytes(bundle: Path) -> None:
    (bundle / "cpu.onnx").write_bytes(b"x")


def golden_missing(bundle: Path) -> None:
    (bundle / "golden.png").unlink()


def no_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()


def nonsense(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("[" * 10_000)


def too_large(bundle: Path) -> None:
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text + " " * 300_000)


def way_out(bundle: Path) -> None:
    manifest = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(manifest.replace('"file": "cpu.onnx"', '"file": "../cpu.onnx"'))


@pytest.mark.parametrize("spoil", [wrong_bytes, golden_missing, no_manifest, nonsense, too_large, way_out])
def test_a_bundle_that_is_not_whole_is_not_published(
    registry: Registry, spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    spoil(bundle)
    with pytest.raises(Permanent):
        registry.publish(bundle, NOW)
    assert registry.listed() == []


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda registry, bundle: registry.publish(bundle, NOW), id="publish"),
        pytest.param(lambda registry, _bundle: registry.revoke("probe", "1.0.0", NOW), id="revoke"),
        pytest.param(lambda registry, _bundle: registry.refresh(NOW + timedelta(days=5)), id="refresh"),
        pytest.param(lambda registry, _bundle: rotate(registry, "root", NOW), id="rotate root"),
        pytest.param(lambda registry, _bundle: rotate(registry, "targets", NOW), id="rotate targets"),
        pytest.param(lambda registry, _bundle: rotate(registry, "snapshot", NOW), id="rotate snapshot"),
        pytest.param(lambda registry, _bundle: rotate(registry, "timestamp", NOW), id="rotate timestamp"),
    ],
)
def test_a_command_that_is_killed_between_two_writes_leaves_a_registry_that_boards_trust(
    registry: Registry, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Work
) -> None:
    registry.publish(make_bundle(tmp_path / "1.0.0", "1.0.0"), NOW)
    second = make_bundle(tmp_path / "1.1.0", "1.1.0")
    write, writes = disk.write_whole, 0

    def fragile(path: Path, content: bytes) -> None:
        nonlocal writes
        writes += 1
        if writes == survived + 1:
            raise Killed
        write(path, content)

    monkeypatch.setattr(metadata, "write_whole", fragile)
    for survived in range(10):
        writes = 0
        is_done = False
        try:
            work(registry, second)
            is_done = writes <= survived
        except Killed:
            pass
        except FleetError:  # what is done already, by the half that came through
            is_done = True
        taken = seen(registry, server, tmp_path, NOW + timedelta(hours=1))
        assert taken, "boards still see a whole registry"
        if is_done:
            break
    assert is_done
    registry.refresh(NOW)
    seen(registry, server, tmp_path)
    seen(registry, server, tmp_path / "a new board")


def test_an_init_that_was_killed_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Registry(tmp_path / "r", KeyRing(tmp_path / "k", keys_in_environment(), lambda _what: PASSPHRASE))
    write = disk.write_whole

    def killed(path: Path, content: bytes) -> None:
        if path.name == "1.root.json":
            raise Killed
        write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(metadata, "write_whole", killed)
        with pytest.raises(Killed):
            made.init(NOW)
    made.init(NOW)
    assert made.listed() == []
    with pytest.raises(Conflict):
        made.init(NOW)


@pytest.mark.parametrize(
    ("after", "is_renewed"), [(timedelta(hours=1), False), (timedelta(hours=25), True), (timedelta(days=30), True)]
)
def test_what_is_due_is_renewed(
    registry: Registry, server: FileServer, tmp_path: Path, after: timedelta, is_renewed: bool
) -> None:
    assert registry.refresh(NOW + after) is is_renewed
    assert not registry.refresh(NOW + after)
    seen(registry, server, tmp_path, NOW + after + timedelta(hours=1))


def test_the_servers_loop_renews_what_is_due_and_outlives_missing_keys(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keyless = Registry(registry.folder, KeyRing(tmp_path / "none", {}, lambda _what: PASSPHRASE))
    for each, renewed in ((keyless, False), (registry, True)):
        before = registry.metadata.signed("timestamp", registry.metadata.root().signed)
        rounds = [NOW + timedelta(days=5)] * 2
        stop = threading.Event()

        def clock(rounds: list[datetime] = rounds, stop: threading.Event = stop) -> datetime:
            now = rounds.pop()
            if not rounds:
                stop.set()
            return now

        keep_fresh(each, stop, clock, every=timedelta(0))
        after = registry.metadata.signed("timestamp", registry.metadata.root().signed)
        assert before is not None
        assert after is not None
        assert (after.version > before.version) is renewed
    assert "not renewed" in caplog.text


def test_without_the_online_keys_a_model_waits_for_the_server(
    registry: Registry, bundles: dict[str, Path], server: FileServer, tmp_path: Path
) -> None:
    environment = dict(registry.keys._environ)
    publisher = {name: key for name, key in environment.items() if name == "RKFLEET_KEY_TARGETS"}
    machine = Registry(registry.folder, KeyRing(tmp_path / "none", publisher, lambda _what: PASSPHRASE))
    assert not machine.publish(bundles["1.0.0"], NOW).is_live
    assert seen(registry, server, tmp_path) == set()
    assert registry.refresh(NOW)
    assert seen(registry, server, tmp_path) == {"1.0.0"}


def test_a_new_root_needs_as_many_old_keys_as_the_threshold(registry: Registry, tmp_path: Path) -> None:
    environment = dict(registry.keys._environ)
    environment["RKFLEET_KEY_ROOT"] = environment["RKFLEET_KEY_ROOT"].split(",")[0]
    keeper = Registry(registry.folder, KeyRing(tmp_path / "usb", environment, lambda _what: PASSPHRASE))
    with pytest.raises(KeysMissing, match="1 of the 2"):
        rotate(keeper, "timestamp", NOW)
    assert not list((tmp_path / "usb").rglob("*.key")), "no key is left that nothing names"
    assert registry.metadata.root().signed.version == 1


def test_a_lost_targets_key_is_replaced_by_the_root_alone(
    registry: Registry, bundles: dict[str, Path], server: FileServer, tmp_path: Path
) -> None:
    registry.publish(bundles["1.0.0"], NOW)
    environment = {name: key for name, key in registry.keys._environ.items() if name != "RKFLEET_KEY_TARGETS"}
    keeper = Registry(registry.folder, KeyRing(tmp_path / "k", environment, lambda _what: PASSPHRASE))
    rotate(keeper, "targets", NOW)
    assert seen(keeper, server, tmp_path) == {"1.0.0"}
    with pytest.raises(KeysMissing):
        registry.publish(bundles["1.1.0"], NOW)


def test_a_revoked_root_key_signs_nothing_more_and_needs_no_replacement_while_others_are_enough(
    registry: Registry, server: FileServer, tmp_path: Path
) -> None:
    keyids = registry.metadata.root().signed.roles["root"].keyids
    assert revoke_key(registry, keyids[0], NOW) is None
    assert registry.metadata.root().signed.roles["root"].keyids == keyids[1:]
    made = revoke_key(registry, keyids[1], NOW)
    assert made is not None
    assert sorted(registry.metadata.root().signed.roles["root"].keyids) == sorted([keyids[2], made])
    seen(registry, server, tmp_path)
    with pytest.raises(NotFound):
        revoke_key(registry, keyids[0], NOW)


def test_controller_keys_are_added_and_revoked_but_never_the_last(registry: Registry) -> None:
    first = controller_file.read(registry.folder)[0].keyid
    with pytest.raises(Permanent):
        revoke_key(registry, first, NOW)
    second = rotate(registry, "controller", NOW)
    assert [each.keyid for each in controller_file.read(registry.folder)] == [first, second]
    revoke_key(registry, first, NOW)
    assert [each.keyid for each in controller_file.read(registry.folder)] == [second]
    assert len(controller_file.signing_key(registry.folder, registry.keys)) == 32


def test_a_second_registry_is_not_made_over_the_first(registry: Registry) -> None:
    with pytest.raises(Conflict):
        registry.init(NOW)


@pytest.mark.parametrize(("root_keys", "threshold"), [(1, 2), (3, 0)])
def test_a_threshold_that_cannot_be_is_refused(tmp_path: Path, root_keys: int, threshold: int) -> None:
    made = Registry(tmp_path / "r", KeyRing(tmp_path / "k", {}, lambda _what: PASSPHRASE))
    with pytest.raises(Permanent):
        made.init(NOW, root_keys=root_keys, threshold=threshold)


def test_keys_lie_sealed_in_their_keepers_folders_and_open_with_the_passphrase(tmp_path: Path) -> None:
    said = {"now": PASSPHRASE}
    ring = KeyRing(tmp_path, {}, lambda _what: said["now"])
    signer = ring.make("root")
    [file] = (tmp_path / "root").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    raw = ring.raw("root", signer.public_key.keyid)
    assert raw is not None
    assert raw.hex() not in file.read_text()
    assert ring.signers("root", []) == []
    said["now"] = "another passphrase"
    with pytest.raises(KeysMissing, match="passphrase"):
        ring.signers("root", [signer.public_key.keyid])
    said["now"] = "short"
    with pytest.raises(KeysMissing, match="12 characters"):
        ring.make("root")


def test_an_altered_key_file_does_not_open() -> None:
    document: dict[str, Any] = json.loads(seal(bytes(32), PASSPHRASE))
    box = document["box"]
    document["box"] = ("A" if box[0] != "A" else "B") + box[1:]
    with pytest.raises(WrongPassphrase):
        unseal(json.dumps(document).encode(), PASSPHRASE)
    with pytest.raises(ValueError, match="not a key"):
        unseal(b"{}", PASSPHRASE)


def test_a_key_in_the_environment_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(KeysMissing, match="32 bytes"):
        KeyRing(tmp_path, {"RKFLEET_KEY_ROOT": "AAAA"}, lambda _what: PASSPHRASE).obtain("root", 1)


def test_the_board_and_the_registry_speak_of_the_same_field() -> None:
    assert child._ISSUED_FIELD == ISSUED_FIELD
    assert Lifetimes().of("root") > Lifetimes().of("targets") > Lifetimes().of("snapshot") > Lifetimes().of("timestamp")
