"""The registry and its mirror over HTTP, asked by hand, by the agent's own fetcher and by whoever means no good."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.fetcher_http import HttpFetcher
from agent.core.fetch_plan import FetchPlan
from fleet.adapters.mirror_http import Mirror, MirrorLimits
from fleet.web.files import FOR_EVER, files_app
from fleet.web.mirror import mirror_app
from tests.contract.asgi_server import Web, serving
from tests.contract.file_server import Answer, file_server
from tests.contract.tuf_world import World, world

CONTENT = bytes(range(256)) * 400
DIGEST = hashlib.sha256(CONTENT).hexdigest()
SECRET = b"of somebody else"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "registry"
    for name in ("metadata", "files", f"bundles/{DIGEST}/golden"):
        (made / name).mkdir(parents=True)
    (made / "files" / DIGEST).write_bytes(CONTENT)
    (made / "bundles" / DIGEST / "golden" / "0.png").hardlink_to(made / "files" / DIGEST)
    (made / "metadata" / "timestamp.json").write_text("{}")
    (made / "metadata" / "2.snapshot.json").write_text('{"v":2}')
    (tmp_path / "secret").write_bytes(SECRET)
    (made / "bundles" / DIGEST / "link").symlink_to(tmp_path / "secret")
    (made / "bundles" / DIGEST / "away").symlink_to(tmp_path)
    (made / ".lock").write_bytes(SECRET)
    return made


@pytest.fixture
def web(folder: Path) -> Iterator[Web]:
    with serving(files_app(folder)) as running:
        yield running


@pytest.mark.parametrize("path", [f"/files/{DIGEST}", f"/bundles/{DIGEST}/golden/0.png"])
def test_a_file_comes_whole_in_parts_and_not_twice(web: Web, path: str) -> None:
    whole = web.get(path)
    assert (whole.status, whole.body) == (200, CONTENT)
    assert whole.headers["cache-control"] == FOR_EVER
    assert whole.headers["accept-ranges"] == "bytes"
    part = web.get(path, Range="bytes=1000-", If_Range=whole.headers["etag"])
    assert (part.status, part.body) == (206, CONTENT[1000:])
    assert part.headers["content-range"] == f"bytes 1000-{len(CONTENT) - 1}/{len(CONTENT)}"
    assert web.get(path, Range="bytes=1000-", If_Range='"another"').status == 200
    assert web.get(path, Range=f"bytes={len(CONTENT)}-").status == 416
    again = web.get(path, If_None_Match=whole.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    head = web.get(path, "HEAD")
    assert (head.headers["content-length"], head.body) == (str(len(CONTENT)), b"")


def test_only_the_timestamp_is_kept_for_a_short_time(web: Web) -> None:
    assert "immutable" not in web.get("/metadata/timestamp.json").headers["cache-control"]
    final = web.get("/metadata/2.snapshot.json")
    assert final.headers["cache-control"] == FOR_EVER
    assert web.get("/metadata/2.snapshot.json", If_None_Match=final.headers["etag"]).status == 304
    absent = web.get("/metadata/2.root.json")
    assert (absent.status, absent.headers["cache-control"]) == (404, "no-cache")


WAYS_OUT = [
    "/files/../.lock",
    "/files/%2e%2e/.lock",
    "/files/..%2f.lock",
    f"/bundles/{DIGEST}/../../../secret",
    f"/bundles/{DIGEST}/..%2f..%2f..%2fsecret",
    f"/bundles/{DIGEST}/%2e%2e/%2e%2e/%2e%2e/secret",
    f"/bundles/{DIGEST}//secret",
    f"/bundles/{DIGEST}/%2fetc%2fpasswd",
    f"/bundles/{DIGEST}/golden",
    f"/bundles/{DIGEST}/link",
    f"/bundles/{DIGEST}/away/secret",
    f"/bundles/{DIGEST}/x%00",
    f"/bundles/{DIGEST}/..%5c..%5csecret",
    f"/bundles/../bundles/{DIGEST}/golden/0.png",
    "/metadata/..%2f.lock",
    "/metadata/.lock",
    "/metadata/9999999999.root.json",
    "/.lock",
    "/controller-keys.json",
    "/",
]


@pytest.mark.parametrize("path", WAYS_OUT)
def test_there_is_no_way_out_of_the_folders(web: Web, path: str) -> None:
    said = web.get(path)
    assert said.status in {400, 404}, said
    assert SECRET not in said.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(web: Web, method: str) -> None:
    assert web.get(f"/files/{DIGEST}", method).status == 405


def take_all(there: World, url: str, name: str) -> None:
    """As a board does: look up, then fetch all files from `url`."""
    board = there.board(name)
    desired = there.desired("1.0.0", urls=[f"{url}/bundles/{there.digests['1.0.0']}"])
    board.trust._options = type(board.trust._options)(
        board.trust._options.root, f"{url}/metadata", board.trust._options.metadata_dir
    )
    chosen = board.authorise(desired)
    assert isinstance(chosen, FetchPlan), chosen
    for file in board.store.missing(chosen):
        HttpFetcher().fetch(file, desired.urls, board.store.partial(file.sha256), threading.Event())
        board.store.add(file.sha256)
    assert board.store.open_bundle(desired.manifest_sha256).is_dir()


def test_a_line_goes_on_with_its_mirror_when_the_registry_is_away(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        with serving(files_app(there.registry.folder)) as upstream:
            take_all(there, upstream.url, "near")
            mirror = Mirror(tmp_path / "mirror", upstream.url)
            with serving(mirror_app(mirror)) as web:
                take_all(there, web.url, "first")
        with serving(mirror_app(mirror)) as web:
            take_all(there, web.url, "second")
            manifest = web.get(f"/bundles/{there.digests['1.0.0']}/manifest.json")
            assert manifest.headers["cache-control"] == FOR_EVER
            assert web.get(f"/files/{DIGEST}").status == 502
            assert web.get("/health").status == 200
        mirror.close()


BRISK = MirrorLimits(wait_s=5.0, connect_s=1.0, read_s=1.0, max_file_bytes=200_000, max_metadata_bytes=1000)


def test_the_mirror_keeps_only_what_has_its_digest(tmp_path: Path) -> None:
    with file_server() as upstream:
        upstream.script(f"/files/{DIGEST}", Answer(CONTENT[:-1] + b"x"), Answer(CONTENT))
        mirror = Mirror(tmp_path, upstream.url, BRISK)
        with serving(mirror_app(mirror)) as web:
            assert web.get(f"/files/{DIGEST}").status == 502
            assert not (tmp_path / "files" / DIGEST).exists()
            assert web.get(f"/files/{DIGEST}").body == CONTENT
            assert web.get(f"/files/{DIGEST}", Range="bytes=5-").body == CONTENT[5:]
        mirror.close()


def test_the_mirror_goes_on_where_a_broken_download_ended(tmp_path: Path) -> None:
    with file_server() as upstream:
        upstream.script(f"/files/{DIGEST}", Answer(CONTENT, send=70_000), Answer(CONTENT))
        mirror = Mirror(tmp_path, upstream.url, BRISK)
        with serving(mirror_app(mirror)) as web:
            assert web.get(f"/files/{DIGEST}").status == 502
            assert web.get(f"/files/{DIGEST}").body == CONTENT
        assert "range" not in upstream.asked[0].headers
        assert "bytes=" in upstream.asked[1].headers["range"]
        mirror.close()


def test_many_boards_make_one_download_and_are_told_to_come_again_while_it_lasts(tmp_path: Path) -> None:
    with file_server() as upstream:
        upstream.script(f"/files/{DIGEST}", Answer(CONTENT, send=10, then="stall"))
        mirror = Mirror(tmp_path, upstream.url, MirrorLimits(wait_s=0.2, read_s=30.0))
        with serving(mirror_app(mirror)) as web:
            asked = [web.get(f"/files/{DIGEST}") for _ in range(3)]
        assert {each.status for each in asked} == {503}
        assert all(int(each.headers["retry-after"]) > 0 for each in asked)
        assert len(upstream.asked) == 1
        mirror.close()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(b"x", framing="close", then="endless"), id="endless"),
        pytest.param(Answer(status=500), id="broken"),
        pytest.param(Answer(raw=b"nonsense\r\n\r\n"), id="no HTTP"),
        pytest.param(Answer(CONTENT, send=5, then="stall"), id="silent"),
    ],
)
def test_an_upstream_that_misbehaves_is_an_upstream_that_is_away(tmp_path: Path, answer: Answer) -> None:
    with file_server() as upstream:
        upstream.script(f"/files/{DIGEST}", answer)
        upstream.script("/metadata/timestamp.json", Answer(b"{}"), answer)
        mirror = Mirror(tmp_path, upstream.url, BRISK)
        with serving(mirror_app(mirror)) as web:
            assert web.get(f"/files/{DIGEST}").status == 502
            assert web.get("/metadata/timestamp.json").body == b"{}"
            assert web.get("/metadata/timestamp.json").body == b"{}", "the last that was good"
            assert web.get("/metadata/7.root.json").status == 404
            assert web.get("/metadata/7.snapshot.json").status == 404
        mirror.close()


def test_what_upstream_does_not_have_is_not_there(tmp_path: Path) -> None:
    with file_server() as upstream:
        mirror = Mirror(tmp_path, upstream.url, BRISK)
        with serving(mirror_app(mirror)) as web:
            for path in (f"/files/{DIGEST}", f"/bundles/{DIGEST}/manifest.json", "/metadata/2.root.json"):
                assert web.get(path).status == 404
            for path in WAYS_OUT:
                assert web.get(path).status in {400, 404}
        assert {asked.path for asked in upstream.asked} <= {
            f"/files/{DIGEST}", f"/bundles/{DIGEST}/manifest.json", "/metadata/2.root.json"
        }  # fmt: skip
        mirror.close()


def test_the_least_recently_used_go_when_the_mirror_is_full(tmp_path: Path) -> None:
    contents = [bytes([number]) * 1000 for number in range(4)]
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    with file_server() as upstream:
        for digest, content in zip(digests, contents, strict=True):
            upstream.script(f"/files/{digest}", Answer(content))
        mirror = Mirror(tmp_path, upstream.url, MirrorLimits(max_bytes=2500))
        for digest in (digests[0], digests[1], digests[0], digests[2]):
            assert mirror.file(digest) is not None
        kept = {path.name for path in (tmp_path / "files").iterdir()}
        assert kept == {digests[0], digests[2]}
        mirror.close()
