"""Requests that nobody should send: each is refused by a rule, none by an accident."""

import http.client
import json
from typing import Any

import pytest

from fleet.core.access import Role
from fleet.web.api import ApiSettings
from tests.contract.asgi_server import serving
from tests.contract.web.world import Making, World, spec

V1 = "/api/v1"
JSON = {"Content-Type": "application/json"}
YAML = {"Content-Type": "application/yaml"}
SECURITY = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


@pytest.mark.parametrize(("method", "target", "how", "statuses"), [
    ("GET", f"{V1}/nodes/../../etc/passwd", {}, {404}),
    ("GET", f"{V1}/nodes/..%2f..%2fetc/passwd", {}, {404, 422}),
    ("GET", f"{V1}/nodes/%2e%2e/%2e%2e", {}, {404}),
    ("GET", f"{V1}/nodes/plant1/a%00b", {}, {422}),
    ("GET", f"{V1}/nodes/plant1/a%0ab", {}, {422}),
    ("GET", f"{V1}/nodes/plant1/%ED%A0%80", {}, {422}),
    ("GET", f"{V1}/nodes/plant1/{'x' * 200}", {}, {422}),
    ("GET", f"{V1}/nodes/plant1/'%20OR%20'1'='1", {}, {422}),
    ("GET", f"{V1}/rollouts/..%5c..%5cx", {}, {422}),
    ("GET", "/registry/%2e%2e/api/v1/users", {}, {404}),
    ("GET", "//api/v1/nodes", {}, {404}),
    ("GET", f"{V1}/nodes?filter=%00", {}, {400}),
    ("GET", f"{V1}/nodes?%00=x", {}, {400}),
    ("GET", f"{V1}/nodes?filter=%ED%A0%80", {}, {422}),
    ("GET", f"{V1}/nodes?filter={'('*3000}", {}, {422}),
    ("GET", f"{V1}/nodes?filter=" + "not%20" * 500 + "all", {}, {422}),
    ("GET", f"{V1}/nodes?filter=site%3D'%3B%20DROP%20TABLE%20nodes", {}, {422}),
    ("GET", f"{V1}/nodes?limit=9" + "9" * 4000, {}, {422}),
    ("GET", f"{V1}/nodes?filter={'x' * 9000}", {}, {414}),
    ("GET", f"{V1}/{'x' * 9000}", {}, {414}),
    ("GET", f"{V1}/audit?after=-1", {}, {422}),
    ("GET", f"{V1}/audit?after={2**64}", {}, {422}),
    ("GET", f"{V1}/events?before=0001-01-01T00:00:00%2B14:00", {}, {422}),
    ("GET", f"{V1}/events?before=0001-01-01T00:00:00Z", {}, {200}),
    ("GET", f"{V1}/live?kinds=secrets", {}, {422}),
    ("GET", f"{V1}/live", {"headers": {"Last-Event-ID": "1; DROP"}}, {422}),
    ("GET", f"{V1}/live", {"headers": {"Last-Event-ID": "9" * 40}}, {422}),
    ("TRACE", f"{V1}/nodes", {}, {405}),
    ("PUT", f"{V1}/users/admin", {}, {405}),
    ("NONSENSE", f"{V1}/nodes", {}, {405}),
    ("GET", f"{V1}/nothing", {}, {404}),
    ("GET", "/", {}, {404}),
    ("GET", "/docs", {}, {404}),
    ("GET", "/openapi.json", {}, {404}),
    ("POST", f"{V1}/users", {"content": b"", "headers": JSON}, {422}),
    ("POST", f"{V1}/users", {"content": b"{", "headers": JSON}, {400}),
    ("POST", f"{V1}/users", {"content": b"[" * 50_000, "headers": JSON}, {400}),
    ("POST", f"{V1}/users", {"content": b'{"a":' * 900 + b"1" + b"}" * 900, "headers": JSON}, {400}),
    ("POST", f"{V1}/users", {"content": b'{"name":"\\ud800","role":"viewer"}', "headers": JSON}, {400}),
    ("POST", f"{V1}/users", {"content": b'{"name":"\\u0000","role":"viewer"}', "headers": JSON}, {400}),
    ("POST", f"{V1}/users", {"content": b'{"name":NaN,"role":"viewer"}', "headers": JSON}, {400}),
    ("POST", f"{V1}/users", {"content": b"\xff\xfe\x00", "headers": JSON}, {400}),
    ("POST", f"{V1}/users", {"content": b"a=b"}, {415}),
    ("POST", f"{V1}/users", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, {415}),
    ("POST", f"{V1}/users", {"data": {"name": "x"}}, {415}),
    ("POST", f"{V1}/users", {"files": {"name": b"x"}}, {415}),
    ("POST", f"{V1}/tokens", {"json": {"role": "viewer", "expiresInDays": 10**300}}, {400, 422}),
    ("POST", f"{V1}/tokens", {"json": {"role": "viewer", "expiresInDays": -1}}, {422}),
    ("POST", f"{V1}/commands", {"json": {"filter": "all", "name": "replay", "fields": {
        "bootId": "x", "firstSequenceNumber": 2**70, "lastSequenceNumber": 1}}}, {400}),
    ("POST", f"{V1}/rollouts", {"content": b"a: &a [x]\nb: [*a, *a]", "headers": YAML}, {400}),
    ("POST", f"{V1}/rollouts", {"content": b"!!python/object/apply:os.system [id]", "headers": YAML}, {400}),
    ("POST", f"{V1}/rollouts", {"content": b"- " * 200_000, "headers": YAML}, {400}),
    ("POST", f"{V1}/rollouts", {"content": b"a: 1\n" * 60_000, "headers": YAML}, {400}),
    ("POST", f"{V1}/rollouts", {"content": b"", "headers": YAML}, {422}),
    ("POST", f"{V1}/rollouts", {"json": spec(waves=[{"name": str(n)} for n in range(5000)])}, {422}),
    ("POST", f"{V1}/rollouts", {"json": spec(target="(" * 4000)}, {422}),
    ("POST", f"{V1}/rollouts/r1/pause", {"json": {"reason": {"a": 1}}}, {422}),
    ("POST", f"{V1}/login", {"json": {"name": "x" * 65, "password": "x"}}, {422}),
    ("POST", f"{V1}/login", {"json": {"name": "x", "password": "x" * 300}}, {422}),
    ("POST", f"{V1}/login", {"json": {"name": ["x"], "password": {"$ne": 1}}}, {422}),
], ids=range(60))  # fmt: skip
def test_refused_by_a_rule(world: World, method: str, target: str, how: dict[str, Any], statuses: set[int]) -> None:
    world.board(1)
    answer = world.as_().request(method, target, **how)
    assert answer.status_code in statuses, answer.text
    assert {name: answer.headers[name] for name in SECURITY} == SECURITY
    assert "access-control-allow-origin" not in answer.headers
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = json.loads(answer.content)
        assert problem["status"] == answer.status_code
        assert len(answer.content) < 20_000
        assert world.actions() == []


def test_no_other_sites_script_reads_an_answer(world: World) -> None:
    how = {"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"}
    for method in ("OPTIONS", "GET"):
        answer = world.as_().request(method, f"{V1}/nodes", headers=how)
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("token", [
    "", "rkf_", "rkf_" + "é" * 43, "rkf_" + "A" * 10_000, "rkf_' OR '1'='1" + "x" * 28, "a b c", "\tx",
])  # fmt: skip
def test_tokens_that_are_none(world: World, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}".encode()}
    assert world.as_(None).request("GET", f"{V1}/nodes", headers=headers).status_code == 401


@pytest.fixture
def address(making: Making) -> Any:
    world = making(ApiSettings(body_timeout_s=0.3))
    with serving(world.app) as web:
        yield web.port, world.tokens[Role.ADMIN]


def connected(port: int, token: str, length: str | None) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("POST", f"{V1}/users")
    connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Content-Type", "application/json")
    if length is None:
        connection.putheader("Transfer-Encoding", "chunked")
    else:
        connection.putheader("Content-Length", length)
    connection.endheaders()
    return connection


@pytest.mark.parametrize("length", [str((1 << 20) + 1), "999999999999", "9" * 17])
def test_a_large_body_is_refused_before_it_is_sent(address: tuple[int, str], length: str) -> None:
    connection = connected(*address, length)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (413, "too-large")
    connection.close()


def test_a_body_without_a_length_is_counted_as_it_comes(address: tuple[int, str]) -> None:
    connection = connected(*address, None)
    sent = 0
    try:
        for _ in range(200):
            connection.send(b"10000\r\n" + b" " * 65_536 + b"\r\n")
            sent += 65_536
    except OSError:
        pass  # closed by the server: it has heard enough
    try:
        answer = connection.getresponse()
        assert answer.status == 413
    except OSError:
        assert sent >= 1 << 20
    connection.close()


def test_a_body_that_does_not_come_is_not_waited_for(address: tuple[int, str]) -> None:
    connection = connected(*address, "100")
    connection.send(b'{"name"')
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (408, "too-slow")
    connection.close()


@pytest.mark.parametrize("raw", [
    b"GET /api/v1/nodes/../../x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /registry/../api/v1/users HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/v1/nodes/%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/v1/nodes?\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://evil.example/api/v1/nodes HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /api/v1/login HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /api/v1/login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
])  # fmt: skip
def test_raw_requests_get_an_answer_of_4xx(address: tuple[int, str], raw: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", address[0], timeout=30)
    connection.connect()
    connection.sock.sendall(raw)
    answer = http.client.HTTPResponse(connection.sock)
    answer.begin()
    assert 400 <= answer.status < 500
    connection.close()
