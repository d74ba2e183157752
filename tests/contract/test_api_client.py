"""The client of the server's API, against a real HTTP server that answers as it is told and records its requests."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fleet.adapters.api_http import ApiHttp, ApiLimits, Live, Rejected, path
from fleet.errors import ErrorCode, FleetError, Permanent, Retryable
from tests.contract.asgi_server import serving

TOKEN = "rkf_" + "t" * 43
PROBLEM = "application/problem+json"


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Scripted:
    """Gives its answers in their order, the last one again and again."""

    url: str = ""
    answers: list[Response] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        query, body = dict(request.query_params), await request.body()
        self.asked.append(Asked(request.method, request.url.path, query, dict(request.headers), body))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def client(self, **limits: Any) -> ApiHttp:
        return ApiHttp(self.url, TOKEN, ApiLimits(**limits), sleep=self.waits.append)


@pytest.fixture(scope="module")
def running() -> Iterator[Scripted]:
    script = Scripted()
    routes = [Route("/{rest:path}", script.answer, methods=["GET", "POST", "PATCH", "DELETE"])]
    with serving(Starlette(routes=routes)) as web:
        script.url = web.url
        yield script


@pytest.fixture
def server(running: Scripted) -> Scripted:
    running.answers, running.asked, running.waits = [said({})], [], []
    return running


def said(document: Any, status: int = 200, **headers: str) -> Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(json.dumps(document), status, names, "application/json")


def problem(status: int, **more: Any) -> Response:
    document = {"type": "about:blank", "title": "Title", "status": status, "detail": "why not", "code": "x", **more}
    return Response(json.dumps(document), status, media_type=PROBLEM)


def events(text: str) -> Response:
    return Response(text, media_type="text/event-stream")


@contextmanager
def raw(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that sends these bytes, one answer a connection, and hangs up."""
    requests: list[bytes] = []

    def run() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536)
                requests.append(head)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
        thread.join(20)
        assert not thread.is_alive()


def chunked(*parts: bytes, is_whole: bool) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + (b"0\r\n\r\n" if is_whole else b"")


def test_a_request_has_the_token_the_parameters_and_the_body(server: Scripted) -> None:
    with server.client() as api:
        server.answers = [said({"ok": 1})]
        assert api.get("/nodes", {"filter": "a=b c", "limit": 5, "flag": True, "none": None}) == {"ok": 1}
        server.answers = [Response(status_code=204)]
        assert api.send("PATCH", path("nodes", "p", "b"), {"labels": {"a": None}}) is None
        api.post_text("/rollouts", b"name: x", "application/yaml", {"dryRun": True})
    listed, patched, posted = server.asked
    assert (listed.method, listed.path) == ("GET", "/api/v1/nodes")
    assert listed.query == {"filter": "a=b c", "limit": "5", "flag": "true"}
    assert listed.headers["authorization"] == f"Bearer {TOKEN}"
    assert (patched.path, json.loads(patched.body)) == ("/api/v1/nodes/p/b", {"labels": {"a": None}})
    assert (posted.headers["content-type"], posted.body, posted.query) == (
        "application/yaml", b"name: x", {"dryRun": "true"})  # fmt: skip


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_only_reads_is_tried_again_and_waits_as_it_is_told(server: Scripted, status: int) -> None:
    server.answers = [said({}, status, Retry_After="4"), said({}, status), said({"at": "last"})]
    with server.client() as api:
        assert api.get("/nodes") == {"at": "last"}
    assert len(server.asked) == 3
    assert server.waits == [4.0, 1.0]


def test_a_wait_is_bounded_whatever_the_server_says(server: Scripted) -> None:
    server.answers = [said({}, 503, Retry_After="999999999"), said({})]
    with server.client() as api:
        api.get("/nodes")
    assert server.waits == [5.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500])
def test_what_will_not_pass_is_not_tried_again(server: Scripted, status: int) -> None:
    server.answers = [problem(status)]
    with server.client() as api, pytest.raises(Rejected, match="why not") as caught:
        api.get("/nodes")
    assert caught.value.status == status
    assert (len(server.asked), server.waits) == (1, [])


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_what_changes_something_is_asked_once(server: Scripted, method: str) -> None:
    server.answers = [problem(503)]
    with server.client() as api, pytest.raises(Retryable, match="why not"):
        api.send(method, "/nodes/p/b", {})
    assert len(server.asked) == 1


def test_a_server_that_is_away_is_named_after_some_tries() -> None:
    waits: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with ApiHttp(url, TOKEN, ApiLimits(tries=3), sleep=waits.append) as api:
        with pytest.raises(Retryable, match=f"no server at {url}.*RKFLEET_SERVER") as caught:
            api.get("/nodes")
        assert caught.value.code is ErrorCode.UNAVAILABLE
        assert len(waits) == 2
        with pytest.raises(Retryable):
            api.send("POST", "/jobs", {})
    assert len(waits) == 2


def test_an_answer_that_breaks_off_is_none() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
    whole = b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"a": 1}'
    with raw(half, whole) as (url, asked), ApiHttp(url, sleep=lambda _: None) as api:
        assert api.get("/nodes") == {"a": 1}
        assert len(asked) == 2
    with raw(half) as (url, _), ApiHttp(url) as api, pytest.raises(Retryable, match="no whole answer"):
        api.send("POST", "/jobs", {})


def test_a_server_that_takes_too_long_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with ApiHttp(url, "", ApiLimits(read_s=0.1)) as api, pytest.raises(Retryable, match="took too long"):
            api.send("POST", "/jobs", {})


def test_a_redirect_is_not_followed_as_the_token_is_for_one_server(server: Scripted) -> None:
    server.answers = [Response(status_code=307, headers={"Location": "https://evil.example/api/v1/nodes"})]
    with server.client() as api, pytest.raises(Rejected, match=r"redirected to https://evil\.example"):
        api.get("/nodes")
    assert len(server.asked) == 1


FILTER = {"detail": "expected and", "at": 2, "pointed": "a=b adn\n    ^ expected and"}
SPOTS = [{"at": "waves.0", "text": "bad\nsite=\n     ^"}, {"at": "", "text": "worse"}]


SPOTS_TEXT = "why not\n  waves.0: bad\n    site=\n         ^\n  document: worse"


@pytest.mark.parametrize(
    ("more", "text"),
    [
        pytest.param({}, "why not", id="the detail"),
        pytest.param({"detail": None}, "Title", id="without one the title"),
        pytest.param(FILTER, "a=b adn\n    ^ expected and", id="a filter with the caret"),
        pytest.param({**FILTER, "detail": "no"}, "no\na=b adn\n    ^ expected and", id="and a detail"),
        pytest.param({"problems": SPOTS}, SPOTS_TEXT, id="fields"),
        pytest.param({"problems": [{"at": "a", "text": "b"}], "detail": "a: b"}, "a: b", id="one field said once"),
        pytest.param({"problems": [{"at": "a", "text": "b"}] * 25}, None, id="many"),
        pytest.param({"problems": "nonsense", "pointed": 7}, "why not", id="not as they should be"),
    ],
)  # fmt: skip
def test_a_problem_is_told_with_its_spot(server: Scripted, more: dict[str, Any], text: str | None) -> None:
    server.answers = [problem(422, **more)]
    with server.client() as api, pytest.raises(Rejected) as caught:
        api.get("/nodes")
    assert caught.value.code is ErrorCode.INVALID
    if text is None:
        assert caught.value.text.endswith("and 5 more")
    else:
        assert caught.value.text == text


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"[" * 100_000, b"\xff"])
def test_an_error_without_a_problem_still_has_a_text(server: Scripted, body: bytes) -> None:
    server.answers = [Response(body, 403)]
    with server.client() as api, pytest.raises(Rejected, match="status 403"):
        api.get("/nodes")


@pytest.mark.parametrize("body", [b"<html>", b"[" * 100_000, b"\xff"])
def test_an_answer_that_is_no_json_comes_from_no_server_of_ours(server: Scripted, body: bytes) -> None:
    server.answers = [Response(body)]
    with server.client() as api, pytest.raises(Permanent, match="is that an rkfleet server"):
        api.get("/nodes")


def test_an_answer_without_end_is_cut(server: Scripted) -> None:
    server.answers = [Response(b"1" * 3000)]
    with server.client(most_bytes=2000) as api, pytest.raises(Permanent, match="more than"):
        api.get("/nodes")


def test_lines_come_one_by_one_and_breaks_inside_of_them_are_none() -> None:
    odd = '{"a":"x\u2028y\u0085z"}'.encode()
    with (
        raw(chunked(odd[:5], odd[5:] + b'\r\n\n{"b"', b':2}\n{"c":3}', is_whole=True)) as (url, _),
        ApiHttp(url) as api,
    ):
        assert list(api.each("/results/export")) == [{"a": "x\u2028y\u0085z"}, {"b": 2}, {"c": 3}]


def test_lines_that_break_off_are_an_error() -> None:
    with raw(chunked(b'{"a":1}\n', is_whole=False)) as (url, _), ApiHttp(url) as api:
        coming = api.each("/results/export")
        assert next(coming) == {"a": 1}
        with pytest.raises(Retryable, match="no whole answer"):
            next(coming)


def test_a_line_without_end_is_cut(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.adapters.api_http.stream.MOST_LINE_BYTES", 1000)
    server.answers = [Response(b"1" * 3000)]
    with server.client() as api, pytest.raises(Permanent, match="a line of more than"):
        list(api.each("/results/export"))


def test_events_are_read_and_the_stream_goes_on_after_what_it_has_seen(server: Scripted) -> None:
    server.answers = [
        events(
            ': listening\n\nid: 7\nevent: node\ndata: {"a":\ndata: 1}\n\n'
            "retry: 20\nid:8\ndata:2\n\nevent: half\ndata: 3\n"
        ),
        events("data: 4\n\n"),
        events(""),
    ]
    with server.client(live_tries=4) as api:
        stream = api.live(["node", "event"], last_id="5")
        assert [next(stream) for _ in range(3)] == [None, Live("node", {"a": 1}, "7"), Live("message", 2, "8")]
        assert next(stream) == Live("message", 4, "8")
        with pytest.raises(Retryable, match="again and again"):
            list(stream)
    assert [each.headers.get("last-event-id") for each in server.asked] == ["5", "8", "8", "8"]
    assert server.asked[0].query == {"kinds": "node,event"}
    assert server.waits == [0.5, 1.0, 2.0]


def test_a_stream_that_breaks_is_opened_again_and_a_refusal_ends_it() -> None:
    refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
    with raw(chunked(b"data: 1\n\n", is_whole=False), refusal) as (url, _), ApiHttp(url, sleep=lambda _: None) as api:
        stream = api.live(["node"])
        assert next(stream) == Live("message", 1, "")
        with pytest.raises(Rejected) as caught:
            next(stream)
    assert caught.value.status == 401


def test_a_stream_without_a_sign_of_life_is_opened_again() -> None:
    opened = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                connection.recv(65536)
                connection.sendall(opened)
                held.append(connection)

        held: list[socket.socket] = []
        thread = threading.Thread(target=run)
        thread.start()
        limits = ApiLimits(silence_s=0.1, live_tries=2)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with (
            ApiHttp(url, "", limits, sleep=lambda _: None) as api,
            pytest.raises(Retryable, match="took too long"),
        ):
            list(api.live(["node"]))
        thread.join(20)
        assert len(held) == 2
        for connection in held:
            connection.close()


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("fleet.example", "no address"),
        ("ftp://fleet.example", "no address"),
        ("http://", "no address"),
        ("http://fleet.example:99999", "no address"),
        ("http://fleet.example/?token=x", "no address"),
        ("https://ada:secret@fleet.example", "no name or password"),
    ],
)
def test_an_address_that_is_none_is_refused(address: str, problem: str) -> None:
    with pytest.raises(Permanent, match=problem) as caught:
        ApiHttp(address)
    assert "secret" not in caught.value.text


def test_parts_of_a_path_lead_nowhere_else() -> None:
    assert path("nodes", "a/../b", "c?d#e f") == "/nodes/a%2F..%2Fb/c%3Fd%23e%20f"
    for part in ("", ".", ".."):
        with pytest.raises(Permanent, match="no name"):
            path("nodes", part)


def test_a_certificate_that_nobody_vouches_for_is_told_as_such(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_self_signed(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with suppress(OSError), connection, context.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.recv(1)  # TLS 1.3 tells of the client's refusal here

        thread = threading.Thread(target=run)
        thread.start()
        waits: list[float] = []
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with (
            ApiHttp(url, TOKEN, sleep=waits.append) as api,
            pytest.raises(FleetError, match="SSL_CERT_FILE") as caught,
        ):
            api.get("/nodes")
        thread.join(20)
    assert isinstance(caught.value, Permanent)
    assert waits == []


def _self_signed(folder: Path) -> Path:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    at = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(at - timedelta(days=1)).not_valid_after(at + timedelta(days=1))
    certificate = made.add_extension(names, critical=True).sign(key, hashes.SHA256())
    file = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file
