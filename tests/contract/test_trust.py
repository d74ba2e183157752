import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.bundle_fs import read_bundle
from agent.adapters.fetcher_http import HttpFetcher
from agent.adapters.store_fs import FolderStore
from agent.adapters.trust_pinned import PinnedTrust
from agent.core.fetch_plan import MAX_MANIFEST_BYTES
from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode
from schemas.state import DesiredModel
from schemas.target import Target
from tests.contract.file_server import Answer, FileServer, file_server
from tests.scenario.bundle import make_bundle

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("source") / "bundle")


@pytest.fixture
def server(bundle: Path) -> Iterator[FileServer]:
    with file_server() as running:
        running.serve_folder("/b", bundle)
        yield running


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store", Target.CPU)


@pytest.fixture
def trust(store: FolderStore) -> PinnedTrust:
    return PinnedTrust(HttpFetcher(), store, Target.CPU, max_bundle_bytes=50_000_000)


def desired(server: FileServer, raw: bytes, version: str = "1.0.0") -> DesiredModel:
    digest = hashlib.sha256(raw).hexdigest()
    return DesiredModel(generation=1, name="probe", version=version, manifest_sha256=digest, urls=[f"{server.url}/b"])


def manifest_of(bundle: Path) -> bytes:
    return (bundle / "manifest.json").read_bytes()


def refusal(trust: PinnedTrust, meant: DesiredModel) -> AgentError:
    with pytest.raises(AgentError) as caught:
        trust.authorise(meant, threading.Event())
    return caught.value


def test_a_desired_state_becomes_a_plan_and_the_plan_a_bundle(
    trust: PinnedTrust, store: FolderStore, server: FileServer, bundle: Path
) -> None:
    meant = desired(server, manifest_of(bundle))
    chosen = trust.authorise(meant, threading.Event())
    assert [file.path for file in chosen.files] == ["manifest.json", "cpu.onnx", "golden.png", "golden.map.png"]
    assert [each.path for each in server.asked] == ["/b/manifest.json"], "nothing else before it is authorised"
    store.make_room(chosen, ())
    for file in store.missing(chosen):
        HttpFetcher().fetch(file, meant.urls, store.partial(file.sha256), threading.Event())
        store.add(file.sha256)
    read = read_bundle(store.open_bundle(meant.manifest_sha256), Target.CPU)
    assert read.manifest == chosen.manifest
    assert read.variant == chosen.variant


def test_a_manifest_that_is_in_the_store_needs_no_server(trust: PinnedTrust, server: FileServer, bundle: Path) -> None:
    meant = desired(server, manifest_of(bundle))
    chosen = trust.authorise(meant, threading.Event())
    server.script("/b/manifest.json", Answer(status=404))
    assert trust.authorise(meant, threading.Event()) == chosen
    assert len(server.asked) == 1


def test_a_manifest_that_decayed_in_the_store_is_downloaded_again(
    trust: PinnedTrust, server: FileServer, bundle: Path, tmp_path: Path
) -> None:
    meant = desired(server, manifest_of(bundle))
    chosen = trust.authorise(meant, threading.Event())
    (tmp_path / "store" / "files" / meant.manifest_sha256).write_bytes(b"rotten")
    assert trust.authorise(meant, threading.Event()) == chosen
    assert len(server.asked) == 2


def huge_model(document: Manifest) -> None:
    document["variants"][0]["bytes"] = 10 * 2**30


def huge_model_hidden(document: Manifest) -> None:
    """A golden file of the same digest must not hide the size."""
    huge_model(document)
    document["golden"]["frames"][0]["sha256"]["golden.png"] = document["variants"][0]["sha256"]


def many_golden_files(document: Manifest) -> None:
    names = [f"{i}.png" for i in range(64)]
    document["inputs"][0]["shapes"] = [[9000, 9000]]
    document["golden"]["frames"] = [
        {"inputs": [name], "classMap": name, "sha256": {name: f"{i:064x}"}} for i, name in enumerate(names)
    ]


def other_target(document: Manifest) -> None:
    document["variants"][0]["target"] = "rk3588"


def other_name(document: Manifest) -> None:
    document["name"] = "another"


def other_version(document: Manifest) -> None:
    document["version"] = "2.0.0"


def later_format(document: Manifest) -> None:
    document["schema"] = "rkfleet.manifest/2"
    document["novelty"] = True


def leaves_the_folder(document: Manifest) -> None:
    document["variants"][0]["file"] = "../../../etc/cron.d/x"


def takes_the_manifests_place(document: Manifest) -> None:
    document["variants"][0]["file"] = "manifest.json"


def misspelt(document: Manifest) -> None:
    document["goldn"] = document.pop("golden")


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (huge_model, FailureCode.MODEL_INVALID),
        (huge_model_hidden, FailureCode.MODEL_INVALID),
        (many_golden_files, FailureCode.MODEL_INVALID),
        (other_target, FailureCode.MODEL_WRONG_TARGET),
        (other_name, FailureCode.MODEL_INVALID),
        (other_version, FailureCode.MODEL_INVALID),
        (later_format, FailureCode.MODEL_TOO_NEW),
        (leaves_the_folder, FailureCode.MODEL_INVALID),
        (takes_the_manifests_place, FailureCode.MODEL_INVALID),
        (misspelt, FailureCode.MODEL_INVALID),
    ],
)
def test_a_manifest_with_the_right_digest_may_still_be_refused_before_the_model_is_asked_for(
    trust: PinnedTrust, server: FileServer, bundle: Path, edit: Callable[[Manifest], None], code: FailureCode
) -> None:
    document = json.loads(manifest_of(bundle))
    edit(document)
    raw = json.dumps(document).encode()
    server.script("/b/manifest.json", Answer(raw))
    error = refusal(trust, desired(server, raw))
    assert isinstance(error, Permanent)
    assert error.code is code
    assert {each.path for each in server.asked} == {"/b/manifest.json"}


@pytest.mark.parametrize("raw", [b"not JSON", b"[" * 100_000, b"\xff", b"null"])
def test_a_pinned_file_that_is_no_manifest_is_refused(trust: PinnedTrust, server: FileServer, raw: bytes) -> None:
    server.script("/b/manifest.json", Answer(raw))
    assert refusal(trust, desired(server, raw)).code is FailureCode.MODEL_INVALID


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(b"{}"), id="another manifest"),
        pytest.param(Answer(b""), id="zero bytes"),
        pytest.param(Answer(b"", announce=10 * 2**30), id="says 10 GiB"),
        pytest.param(Answer(b"", framing="close", then="endless"), id="endless"),
    ],
)
def test_what_is_not_the_pinned_manifest_is_refused_and_not_kept(
    trust: PinnedTrust, server: FileServer, bundle: Path, tmp_path: Path, answer: Answer
) -> None:
    server.script("/b/manifest.json", answer)
    error = refusal(trust, desired(server, manifest_of(bundle)))
    assert isinstance(error, Permanent)
    assert error.code is FailureCode.MODEL_DIGEST_MISMATCH
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) == 0


def test_a_manifest_is_bounded_even_with_the_right_digest(trust: PinnedTrust, server: FileServer) -> None:
    raw = b" " * (MAX_MANIFEST_BYTES + 1)
    server.script("/b/manifest.json", Answer(raw))
    assert refusal(trust, desired(server, raw)).code is FailureCode.MODEL_DIGEST_MISMATCH


def test_a_server_that_is_busy_is_asked_later(trust: PinnedTrust, server: FileServer, bundle: Path) -> None:
    server.script("/b/manifest.json", Answer(status=503, headers={"Retry-After": "9"}))
    error = refusal(trust, desired(server, manifest_of(bundle)))
    assert isinstance(error, Retryable)
    assert (error.code, error.delay_s) == (FailureCode.DOWNLOAD_FAILED, 9.0)


def test_it_can_be_stopped(trust: PinnedTrust, server: FileServer, bundle: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Retryable) as caught:
        trust.authorise(desired(server, manifest_of(bundle)), stop)
    assert caught.value.code is FailureCode.CANCELED
    assert server.asked == []
