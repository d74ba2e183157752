"""JSON and YAML that strangers send."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from fleet.web.body import MOST_DEPTH, MOST_NUMBER, MOST_YAML_BYTES, parse_json, parse_yaml, read
from fleet.web.problem import ApiError
from fleet.web.spec import read_spec
from tests.unit.fleet_board import NEW

LAUGHS = b"a: &a [x, x]\n" + b"".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n".encode() for n in range(20)
)


@pytest.mark.parametrize(("content", "says"), [
    (b"", "not JSON"),
    (b"{", "not JSON"),
    (b"{'a': 1}", "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b'{"a": NaN}', "not JSON"),
    (b'{"a": Infinity}', "not JSON"),
    (b'{"a": 1e999}', "beyond"),
    (b'{"a": "\\ud800"}', "not JSON"),
    (b'{"a": "\\u0000"}', "NUL"),
    (b'{"\\u0000": 1}', "NUL"),
    (b'{"a": %d}' % (MOST_NUMBER + 1), "64 bits"),
    (b'{"a": -%d}' % 10**400, "64 bits"),
    (b'{"a": ' + b"9" * 6000 + b"}", "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b"[" * (MOST_DEPTH + 2) + b"]" * (MOST_DEPTH + 2), "deeper"),
    (b'{"a":' * 100 + b"1" + b"}" * 100, "deeper"),
], ids=range(16))  # fmt: skip
def test_json_that_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(ApiError, match=says) as caught:
        parse_json(content)
    assert caught.value.problem.status == 400
    caught.value.problem.to_json()


@pytest.mark.parametrize(("content", "says"), [
    (LAUGHS, "anchors and aliases"),
    (b"a: &x 1", "anchors and aliases"),
    (b"a: *x", "anchors and aliases"),
    (b"a: !!python/object/apply:os.system [ls]", "tags"),
    (b"a: !!int x", "tags"),
    (b"a: !!timestamp x", "tags"),
    (b"!!map {a: 1}", "tags"),
    (b"a: 1\na: 2", "line 2: 'a' stands here twice"),
    (b"[a]: 1", "a key is text"),
    (b"? {a: 1}\n: 2", "a key is text"),
    (b"a: [", "not YAML"),
    (b"a: b: c", "not YAML"),
    (b"\tb", "not YAML"),
    (b"a: 1\n---\nb: 2", "not YAML"),
    (b'a: "\\0"', "NUL"),
    (b"\xff\xfe", "not UTF-8"),
    (b'"\\ud800"', "not YAML"),
    (b"a: \x07", "not YAML"),
    (b"[" * 100_000, "deeper"),
    (b"- " * 100_000, "deeper"),
    (b"a: " + b"x" * MOST_YAML_BYTES, "at most"),
    (b"%YAML 3.0\n---\na: 1", "not YAML"),
], ids=range(22))  # fmt: skip
def test_yaml_that_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(ApiError, match=says) as caught:
        parse_yaml(content)
    assert caught.value.problem.status == 400
    caught.value.problem.to_json()


@pytest.mark.parametrize(("content", "value"), [
    (b"", None),
    (b"a:\nb: ~\nc: null\nd: 'null'", {"a": None, "b": None, "c": None, "d": "null"}),
    (b"version: 1.20\nat: 22:00\nday: 2026-03-06\nyes: no", {
        "version": "1.20", "at": "22:00", "day": "2026-03-06", "yes": "no"}),
    (b"- {a: 1}\n- [b, 'c']", [{"a": "1"}, ["b", "c"]]),
    (b'{"a": [1, true, null, "x"]}', {"a": ["1", "true", None, "x"]}),
])  # fmt: skip
def test_yaml_is_text_until_a_field_reads_it(content: bytes, value: Any) -> None:
    assert parse_yaml(content) == value


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for parse in (parse_json, parse_yaml):
        try:
            json.dumps(parse(content), allow_nan=False).encode()
        except ApiError as error:
            error.problem.to_json()


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@`, \n\t01.~?\\\0\ufeff\u2028", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_yaml_is_read_or_refused(text: str) -> None:
    try:
        json.dumps(parse_yaml(text.encode()))
    except ApiError as error:
        error.problem.to_json()


ROLLOUT = f"""
schema: rkfleet.rollout/1
name: better
model: {{name: {NEW.name}, version: {NEW.version}, manifestSha256: {NEW.manifest_sha256}}}
target: site=plant1
waves:
  - {{name: canary, filter: group=canary, soakMinutes: 1.5, confirmationRequired: true}}
  - {{name: rest, percent: 50}}
scheduling:
  startTime: 2026-03-06T16:00:00Z
  maintenanceWindows: [{{startTime: 22:00, durationInMinutes: 360, days: [0, 1]}}]
board: {{shadow: null}}
"""


def test_a_rollout_in_yaml_is_what_it_is_in_json() -> None:
    spec = read_spec("application/yaml", ROLLOUT.encode())
    assert spec.waves[0].soak_minutes == 1.5
    assert spec.waves[0].confirmation_required
    assert spec.waves[1].percent == 50
    assert spec.scheduling.maintenance_windows[0].days == [0, 1]
    assert spec.model == NEW
    assert read_spec("application/json", spec.to_json()) == spec
    assert read_spec("text/yaml", spec.to_json()) == spec


@pytest.mark.parametrize(("old", "new", "at", "says"), [
    ("waves:", "wawes:", "wawes", "did you mean waves?"),
    ("soakMinutes", "soakMinute", "waves.0.soakMinute", "did you mean soakMinutes?"),
    ("group=canary", "grup=canary", "waves.0.filter", "did you mean group?"),
    ("percent: 50", "percent: 500", "waves.1.percent", "less than or equal to 100"),
    ("22:00", "25:00", "scheduling.maintenanceWindows.0.startTime", "pattern"),
])  # fmt: skip
def test_what_is_wrong_with_a_rollout_is_told_field_by_field(old: str, new: str, at: str, says: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_spec("application/yaml", ROLLOUT.replace(old, new).encode())
    assert caught.value.problem.status == 422
    found = {spot.at: spot.text for spot in caught.value.problem.problems or []}
    assert says in found[at]


def body(*chunks: bytes, ends: bool = True) -> Request:
    waiting = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if ends:
        waiting.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Any:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def test_a_body_is_bounded_in_size_and_time() -> None:
    assert asyncio.run(read(body(b"ab", b"c"), 3, 5.0)) == b"abc"
    with pytest.raises(ApiError, match="at most 3 bytes") as large:
        asyncio.run(read(body(b"ab", b"cd", ends=False), 3, 5.0))
    assert large.value.problem.status == 413
    with pytest.raises(ApiError, match="did not come") as slow:
        asyncio.run(read(body(b"ab", ends=False), 3, 0.01))
    assert slow.value.problem.status == 408
