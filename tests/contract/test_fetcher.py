import hashlib
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.adapters.fetcher_http import FetchOptions, HttpFetcher
from agent.core.fetch_plan import Wanted
from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode
from tests.contract.brokers import make_certificates
from tests.contract.file_server import Answer, FileServer, file_server, refused_url

BODY = bytes(range(256)) * 1000
OTHER = bytes(reversed(BODY))
CAP = 300_000
DEADLINE_S = 20.0
PATIENT = FetchOptions()
QUICK = FetchOptions(read_timeout_s=0.3)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "partial"


def wanted(body: bytes = BODY, *, size: bool = True, path: str = "model.rknn") -> Wanted:
    digest = hashlib.sha256(body).hexdigest()
    return Wanted(path, digest, len(body) if size else None, len(body) if size else CAP)


def fetch(urls: str | list[str], into: Path, file: Wanted | None = None, options: FetchOptions = PATIENT) -> list[int]:
    """Fetch with one call and return what progress said."""
    seen: list[int] = []
    urls = [urls] if isinstance(urls, str) else urls
    HttpFetcher(options).fetch(file or wanted(), urls, into, threading.Event(), progress=seen.append)
    return seen


def failure(
    urls: str | list[str], into: Path, file: Wanted | None = None, options: FetchOptions = PATIENT
) -> AgentError:
    with pytest.raises(AgentError) as caught:
        fetch(urls, into, file, options)
    return caught.value


# ---- what works


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [True, False], ids=["size announced", "size unknown"])
def test_a_file_comes_whole(server: FileServer, into: Path, framing: str, size: bool) -> None:
    server.script("/b/model.rknn", Answer(BODY, framing=framing))  # type: ignore[arg-type]
    seen = fetch(f"{server.url}/b", into, wanted(size=size))
    assert into.read_bytes() == BODY
    assert seen == sorted(seen)
    assert seen[-1] == len(BODY)
    assert [each.name for each in into.parent.iterdir()] == [into.name], "no note is left"


def test_a_whole_file_on_the_disk_needs_no_server(into: Path) -> None:
    into.write_bytes(BODY)
    fetch(refused_url(), into)
    fetch(refused_url(), into, wanted(size=False))
    assert into.read_bytes() == BODY


@pytest.mark.parametrize("path", ["golden/0 ä#?%.png", "a+b&c=d;e.png"])
def test_names_are_quoted(server: FileServer, into: Path, path: str) -> None:
    server.script(f"/b/{path}", Answer(BODY))
    fetch(f"{server.url}/b/", into, wanted(path=path))
    assert into.read_bytes() == BODY


@pytest.mark.parametrize("file", [wanted(), wanted(size=False)], ids=["size announced", "size unknown"])
def test_a_server_that_closes_early_is_asked_for_the_rest(server: FileServer, into: Path, file: Wanted) -> None:
    for framing in ("length", "chunked", "close"):
        into.unlink(missing_ok=True)
        server.asked.clear()
        server.script(
            "/b/model.rknn", Answer(BODY, etag='"1"', send=100_000, framing=framing), Answer(BODY, etag='"1"')
        )
        error = failure(f"{server.url}/b", into, file)
        assert isinstance(error, Retryable)
        assert error.code is FailureCode.DOWNLOAD_FAILED
        assert into.stat().st_size == 100_000
        fetch(f"{server.url}/b", into, file)
        assert into.read_bytes() == BODY
        assert server.asked[1].start == 100_000
        assert server.asked[1].headers["if-range"] == '"1"'


CHILD = """
import sys, threading
from pathlib import Path
from agent.adapters.fetcher_http import HttpFetcher
from agent.core.fetch_plan import Wanted
url, into, sha256, size, half = sys.argv[1:]
def told(count):
    if count >= int(half):
        print(count, flush=True)
HttpFetcher().fetch(Wanted("model.rknn", sha256, int(size), int(size)), [url], Path(into), threading.Event(),
                    progress=told)
"""


def test_a_download_goes_on_where_the_killed_process_was(server: FileServer, into: Path) -> None:
    half = len(BODY) // 2
    version = {"etag": 'W/"weak"', "last_modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
    server.script("/b/model.rknn", Answer(BODY, send=half, then="stall", **version), Answer(BODY, **version))  # type: ignore[arg-type]
    file = wanted()
    command = [sys.executable, "-c", CHILD, f"{server.url}/b", str(into), file.sha256, str(file.bytes), str(half)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"%d\n" % half
        child.send_signal(signal.SIGKILL)
    assert into.read_bytes() == BODY[:half]
    fetch(f"{server.url}/b", into)
    assert into.read_bytes() == BODY
    assert [each.start for each in server.asked] == [0, half]
    assert server.asked[1].headers["if-range"] == version["last_modified"], "a weak tag must not be used"


def test_a_file_that_changed_begins_anew(server: FileServer, into: Path) -> None:
    server.script("/b/model.rknn", Answer(OTHER, etag='"old"', send=1000), Answer(BODY, etag='"new"'))
    failure(f"{server.url}/b", into)
    fetch(f"{server.url}/b", into)
    assert into.read_bytes() == BODY
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("left", "answers"),
    [
        pytest.param(b"?" * 1000, [Answer(BODY)], id="a part of something else, no note"),
        pytest.param(BODY[:1000], [Answer(BODY, ranges=False)], id="Range is ignored"),
        pytest.param(b"?" * len(BODY), [Answer(BODY)], id="all bytes, but wrong ones"),
        pytest.param(BODY + b"?", [Answer(BODY)], id="too many bytes"),
        pytest.param(BODY[:1000], [Answer(BODY, content_range="bytes 7-9/10"), Answer(BODY)], id="another range"),
        pytest.param(BODY[:1000], [Answer(BODY, content_range="bytes 1000-1999/2000"), Answer(BODY)], id="other size"),
        pytest.param(BODY[:1000], [Answer(BODY, content_range="nonsense"), Answer(BODY)], id="no range at all"),
        pytest.param(BODY[:1000], [Answer(OTHER), Answer(BODY)], id="the rest of another file"),
    ],
)
@pytest.mark.parametrize("size", [True, False], ids=["size announced", "size unknown"])
def test_a_bad_beginning_costs_one_more_request_and_no_failure(
    server: FileServer, into: Path, left: bytes, answers: list[Answer], size: bool
) -> None:
    into.write_bytes(left)
    server.script("/b/model.rknn", *answers)
    fetch(f"{server.url}/b", into, wanted(size=size))
    assert into.read_bytes() == BODY
    assert len(server.asked) <= 2


@pytest.mark.parametrize(
    "note", [b"", b"[" * 5000, b"[]", b'{"source": 1}', b'{"source": "X", "version": "\\"1\\"\\r\\nX: y"}', b"\xff"]
)
def test_a_spoilt_note_is_no_obstacle(server: FileServer, into: Path, note: bytes) -> None:
    into.write_bytes(BODY[:1000])
    into.with_name("partial.notes").write_bytes(note.replace(b"X", f"{server.url}/b/model.rknn".encode(), 1))
    server.script("/b/model.rknn", Answer(BODY, etag='"1"'))
    fetch(f"{server.url}/b", into)
    assert server.asked[0].start == 1000
    assert "if-range" not in server.asked[0].headers


def test_mirrors_are_asked_in_order_and_share_the_work(server: FileServer, into: Path) -> None:
    server.script("/dying/model.rknn", Answer(BODY, send=1000))
    server.script("/good/model.rknn", Answer(BODY))
    fetch([refused_url(), f"{server.url}/none", f"{server.url}/dying", f"{server.url}/good", "unused://"], into)
    assert into.read_bytes() == BODY
    assert [(each.path.split("/")[1], each.start) for each in server.asked] == [
        ("none", 0), ("dying", 0), ("good", 1000)]  # fmt: skip


def test_a_mirror_with_another_file_does_no_harm(server: FileServer, into: Path) -> None:
    server.script("/bad/model.rknn", Answer(OTHER))
    server.script("/good/model.rknn", Answer(BODY))
    fetch([f"{server.url}/bad", f"{server.url}/good"], into)
    assert into.read_bytes() == BODY


# ---- what fails, and as what


def slow(answer: Answer, window_s: float = 0.3) -> tuple[Answer, FetchOptions]:
    return answer, FetchOptions(read_timeout_s=DEADLINE_S, rate_window_s=window_s, least_bytes_per_s=10_000)


def quick(answer: Answer) -> tuple[Answer, FetchOptions]:
    return answer, QUICK


@pytest.mark.parametrize("size", [True, False], ids=["size announced", "size unknown"])
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(quick(Answer(BODY, send=1000, then="stall")), id="stalls in the body"),
        pytest.param(quick(Answer(raw=b"", then="stall")), id="never answers"),
        pytest.param(quick(Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Le", then="stall")), id="stalls in the header"),
        pytest.param(slow(Answer(BODY, send=0, then="drip")), id="drips the body"),
        pytest.param(slow(Answer(raw=b"HTTP/1.1 200 OK\r\nX: ", framing="close", then="drip")), id="drips the header"),
        pytest.param(slow(Answer(raw=b"HTTP/1.1 100 Go\r\n\r\n" * 9, then="stall")), id="continue, and nothing more"),
        pytest.param(quick(Answer(raw=b"SSH-2.0-OpenSSH_9\r\n")), id="does not speak HTTP"),
        pytest.param(quick(Answer(raw=b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500)), id="too many headers"),
        pytest.param(
            quick(Answer(raw=b"HTTP/1.1 200 OK\r\nX: ", framing="close", then="endless")), id="endless header"
        ),
        pytest.param(
            quick(Answer(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")), id="bad chunks"
        ),
        pytest.param(quick(Answer(raw=b"")), id="closes without an answer"),
        pytest.param(quick(Answer(BODY, status=204, framing="close")), id="no content"),
        pytest.param(quick(Answer(BODY, status=206)), id="a range nobody asked for"),
        pytest.param(quick(Answer(BODY, send=1000)), id="closes early"),
    ],
)
def test_what_may_pass_is_retryable(
    server: FileServer, into: Path, case: tuple[Answer, FetchOptions], size: bool
) -> None:
    answer, options = case
    server.script("/b/model.rknn", answer)
    error = failure(f"{server.url}/b", into, wanted(size=size), options)
    assert isinstance(error, Retryable)
    assert error.code is FailureCode.DOWNLOAD_FAILED
    assert len(error.text) < 500


@pytest.mark.parametrize(
    ("answer", "size"),
    [
        pytest.param(Answer(OTHER), True, id="wrong digest"),
        pytest.param(Answer(OTHER), False, id="wrong digest, size unknown"),
        pytest.param(Answer(b""), True, id="zero bytes"),
        pytest.param(Answer(b""), False, id="zero bytes, size unknown"),
        pytest.param(Answer(BODY[:-1]), True, id="truncated"),
        pytest.param(Answer(BODY[:-1]), False, id="truncated, size unknown"),
        pytest.param(Answer(BODY[:-1], framing="chunked"), True, id="truncated, in chunks"),
        pytest.param(Answer(BODY + b"?"), True, id="one byte more"),
        pytest.param(Answer(BODY, announce=10 * 2**30), True, id="says 10 GiB"),
        pytest.param(Answer(BODY, announce=10 * 2**30), False, id="says 10 GiB, size unknown"),
        pytest.param(Answer(BODY, announce=1000), True, id="says less than it has"),
        pytest.param(Answer(b"", framing="close", then="endless"), True, id="endless zeros"),
        pytest.param(Answer(b"", framing="close", then="endless"), False, id="endless zeros, size unknown"),
        pytest.param(Answer(b"", framing="chunked", then="endless"), True, id="endless chunks"),
        pytest.param(Answer(b"", framing="chunked", then="endless"), False, id="endless chunks, size unknown"),
        pytest.param(Answer(BODY, framing="close", then="endless"), False, id="the file and then endless zeros"),
    ],
)
def test_another_file_is_refused_for_good_and_never_written_beyond_its_size(
    server: FileServer, into: Path, answer: Answer, size: bool
) -> None:
    server.script("/b/model.rknn", answer)
    file = wanted(size=size)
    written: list[int] = []
    with pytest.raises(Permanent) as caught:
        HttpFetcher(PATIENT).fetch(file, [f"{server.url}/b"], into, threading.Event(), progress=written.append)
    assert caught.value.code is FailureCode.MODEL_DIGEST_MISMATCH
    assert max(written, default=0) <= file.max_bytes
    assert into.stat().st_size == 0, "what is wrong is not kept"


def test_what_follows_the_right_bytes_is_not_read(server: FileServer, into: Path) -> None:
    server.script("/b/model.rknn", Answer(BODY, framing="close", then="endless"))
    fetch(f"{server.url}/b", into)
    assert into.read_bytes() == BODY


DATED = {"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2015 07:29:30 GMT"}


@pytest.mark.parametrize(
    ("status", "headers", "delay_s"),
    [
        (503, {"Retry-After": "17"}, 17.0),
        (429, {"Retry-After": "17"}, 17.0),
        (503, {"Retry-After": "9" * 5000}, 3600.0),
        (503, DATED, 90.0),
        (503, {"Retry-After": "soon"}, 5.0),
        (500, {}, 5.0),
    ],
)
def test_a_server_says_when_to_come_again(
    server: FileServer, into: Path, status: int, headers: dict[str, str], delay_s: float
) -> None:
    if "Date" in headers:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        server.script("/b/model.rknn", Answer(raw=f"HTTP/1.1 {status} Busy\r\n{lines}\r\n".encode()))
    else:
        server.script("/b/model.rknn", Answer(status=status, headers=headers))
    error = failure(f"{server.url}/b", into)
    assert isinstance(error, Retryable)
    assert (error.code, error.delay_s) == (FailureCode.DOWNLOAD_FAILED, delay_s)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416])
def test_what_no_mirror_has_is_permanent(server: FileServer, into: Path, status: int) -> None:
    server.script("/a/model.rknn", Answer(status=status))
    error = failure([f"{server.url}/a", f"{server.url}/b"], into)
    assert isinstance(error, Permanent) == (status != 416)
    assert error.code is FailureCode.DOWNLOAD_FAILED


def test_one_mirror_that_may_recover_keeps_hope(server: FileServer, into: Path) -> None:
    server.script("/wrong/model.rknn", Answer(OTHER))
    server.script("/busy/model.rknn", Answer(status=503, headers={"Retry-After": "60"}))
    error = failure([f"{server.url}/none", f"{server.url}/wrong", f"{server.url}/busy"], into)
    assert isinstance(error, Retryable)
    assert error.delay_s == 60.0


def test_a_wrong_file_weighs_more_than_a_missing_one(server: FileServer, into: Path) -> None:
    server.script("/wrong/model.rknn", Answer(OTHER))
    assert failure([f"{server.url}/none", f"{server.url}/wrong"], into).code is FailureCode.MODEL_DIGEST_MISMATCH


@pytest.mark.parametrize(
    "url",
    ["", "ftp://h/x", "file:///etc/passwd", "http://", "http://[::1", "http://h:99999", "http://h:x", "nonsense",
     "http://a\r\nb/", "http://a b/", "http://h/\ud800", "http://" + "a" * 70 + ".test", "http://ä.test", "//h/x"],
)  # fmt: skip
def test_a_hostile_url_is_a_failure_like_any_other(into: Path, url: str) -> None:
    error = failure(url, into)
    assert isinstance(error, Permanent)
    assert error.code is FailureCode.DOWNLOAD_FAILED


def test_no_url_at_all_is_a_failure(into: Path) -> None:
    assert failure([], into).code is FailureCode.DOWNLOAD_FAILED


# ---- redirects


def redirect(location: str, status: int = 302) -> Answer:
    return Answer(status=status, headers={"Location": location})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_with_the_range(server: FileServer, into: Path, status: int) -> None:
    into.write_bytes(BODY[:1000])
    server.script("/b/model.rknn", redirect("../c/file?x=1", status))
    server.script("/c/file", redirect(f"{server.url}/d", status))
    server.script("/d", Answer(BODY))
    fetch(f"{server.url}/b", into)
    assert into.read_bytes() == BODY
    assert server.asked[-1].start == 1000


@pytest.mark.parametrize(
    "location", ["/b/model.rknn", "ftp://127.0.0.1/x", "file:///etc/passwd", "", "http://[", "http://h:x/", "\x01"]
)
def test_redirects_that_lead_nowhere_end(server: FileServer, into: Path, location: str) -> None:
    server.script("/b/model.rknn", redirect(location))
    error = failure(f"{server.url}/b", into)
    assert isinstance(error, Permanent)
    assert error.code is FailureCode.DOWNLOAD_FAILED
    assert len(server.asked) <= PATIENT.max_redirects + 1


def test_credentials_stay_with_their_server_and_out_of_sight(
    server: FileServer, into: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = server.url.replace("http://", "http://user:pa%3Ass@") + "/b?token=hidden"
    server.script("/b/model.rknn", Answer(BODY, send=1000), redirect("/c"), Answer(status=503))
    with file_server() as stranger:
        server.script("/c", redirect(f"{stranger.url}/d"))
        stranger.script("/d", Answer(BODY, send=1000))
        errors = [failure(secret, into) for _ in range(3)]
        assert "authorization" not in stranger.asked[0].headers
    assert all(each.headers["authorization"] == "Basic dXNlcjpwYTpzcw==" for each in server.asked)
    seen = caplog.text + "".join(each.text for each in errors) + into.with_name("partial.notes").read_text()
    for word in ("user", "pa%3Ass", "pa:ss", "token", "hidden"):
        assert word not in seen


# ---- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    made = make_certificates(tmp_path_factory.mktemp("tls"), "board")
    return made.ca, made.server, made.server_key


def test_https_is_verified(certificates: tuple[Path, Path, Path], server: FileServer, into: Path) -> None:
    ca, certificate, key = certificates
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    known = FetchOptions(read_timeout_s=5, tls=ssl.create_default_context(cafile=ca))
    with file_server(context) as secure:
        secure.script("/b/model.rknn", Answer(BODY))
        error = failure(f"{secure.url}/b", into)
        assert isinstance(error, Retryable), "the clock of the board may be what is wrong"
        fetch(f"{secure.url}/b", into, options=known)
        assert into.read_bytes() == BODY
        secure.script("/b/model.rknn", redirect(f"{server.url}/b/model.rknn"))
        into.unlink()
        assert isinstance(failure(f"{secure.url}/b", into, options=known), Permanent), "no way back to http"
        assert server.asked == []


def test_a_server_that_is_silent_in_the_handshake_is_left(into: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = failure(f"https://127.0.0.1:{silent.getsockname()[1]}", into, options=QUICK)
    assert isinstance(error, Retryable)


# ---- stop


def full_backlog(resources: list[socket.socket]) -> str:
    """A port whose queue of connections is full: the next SYN gets no answer."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    resources.append(listener)
    for _ in range(3):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        resources.append(filler)
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("phase", ["connect", "header", "body", "drip"])
def test_stop_is_honoured_at_once_and_keeps_what_came(server: FileServer, into: Path, phase: str) -> None:
    patient = FetchOptions(connect_timeout_s=60, read_timeout_s=60, rate_window_s=60)
    resources: list[socket.socket] = []
    url = full_backlog(resources) if phase == "connect" else f"{server.url}/b"
    then = "drip" if phase == "drip" else "stall"
    server.script("/b/model.rknn", Answer(raw=b"", then="stall") if phase == "header" else Answer(
        BODY, send=1000, then=then))  # type: ignore[arg-type]  # fmt: skip
    stop = threading.Event()
    reached = threading.Event()
    outcome: list[AgentError] = []

    def run() -> None:
        with pytest.raises(AgentError) as caught:
            HttpFetcher(patient).fetch(wanted(), [url], into, stop, progress=lambda _: reached.set())
        outcome.append(caught.value)

    thread = threading.Thread(target=run)
    thread.start()
    ready: dict[str, Callable[[], bool]] = {
        "header": lambda: server.stalled.wait(DEADLINE_S), "connect": lambda: True}  # fmt: skip
    assert ready.get(phase, lambda: reached.wait(DEADLINE_S))()
    began = time.monotonic()
    stop.set()
    thread.join(DEADLINE_S)
    assert time.monotonic() - began < DEADLINE_S / 2, "far from the 60 s that the other bounds would take"
    for each in resources:
        each.close()
    assert isinstance(outcome[0], Retryable)
    assert outcome[0].code is FailureCode.CANCELED
    assert into.stat().st_size >= (1000 if phase in {"body", "drip"} else 0)


def test_a_connection_that_is_not_answered_ends_in_time(into: Path) -> None:
    resources: list[socket.socket] = []
    error = failure(full_backlog(resources), into, options=FetchOptions(connect_timeout_s=0.3))
    for each in resources:
        each.close()
    assert isinstance(error, Retryable)
    assert "no connection within 0.3 s" in error.text


def test_no_thread_is_left(server: FileServer, into: Path) -> None:
    server.script("/b/model.rknn", Answer(BODY, send=1000), Answer(BODY))
    failure(f"{server.url}/b", into)
    fetch(f"{server.url}/b", into)
    for thread in threading.enumerate():
        if thread.name.startswith("fetch-"):
            thread.join(DEADLINE_S)
            assert not thread.is_alive()


# ---- the disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small disk needs root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_said_and_no_other_mirror_is_asked(server: FileServer, small_disk: Path) -> None:
    server.script("/b/model.rknn", Answer(BODY))
    error = failure([f"{server.url}/b", f"{server.url}/b"], small_disk / "partial")
    assert isinstance(error, Retryable)
    assert error.code is FailureCode.DISK_FULL
    assert len(server.asked) == 1


@pytest.mark.parametrize("kind", ["symlink", "folder", "fifo", "no folder"])
def test_only_a_plain_file_is_written(server: FileServer, tmp_path: Path, kind: str) -> None:
    server.script("/b/model.rknn", Answer(BODY))
    into, victim = tmp_path / "partial", tmp_path / "victim"
    victim.write_bytes(b"precious")
    if kind == "symlink":
        into.symlink_to(victim)
    elif kind == "folder":
        into.mkdir()
    elif kind == "fifo":
        os.mkfifo(into)
    else:
        into = tmp_path / "none" / "partial"
    assert failure(f"{server.url}/b", into).code is FailureCode.INTERNAL
    assert victim.read_bytes() == b"precious"
    assert server.asked == []


@pytest.mark.parametrize("bounds", [{"connect_timeout_s": 0}, {"least_bytes_per_s": -1}, {"max_redirects": -1}])
def test_options_that_bound_nothing_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(Permanent) as caught:
        FetchOptions(**bounds)  # type: ignore[arg-type]
    assert caught.value.code is FailureCode.CONFIG_INVALID
