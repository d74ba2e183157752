"""Messages that nobody should send: bytes that are none of ours, and documents that are valid but absurd."""

import copy
import json
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from schemas.command import CommandName
from schemas.topics import Topics

_NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 2**31, 2**53 - 1, 2**53, 2**63, 10**30, 10**400, 10**4200, 0.5, 1e-320, 1e-9, 1e200, 1e308, -1e308,
    float("nan"), float("inf"),
)  # fmt: skip
_EDGES: tuple[Any, ...] = (
    *_NUMBERS, None, True, False, "", "a", "a/b", "..", "\0", "\ufffd\u202e", "x" * 200, "x" * 3000, "NaN", "1e999",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
    "2026-01-01", [], {}, [[]], {"a": None}, ["top"], [0, 0, 10**9, 10**9], [-1, 5, 0, 0], [0.4, 0.1],
    [63, 63, 10**30, 1],
)  # fmt: skip
_ODD = (
    b"", b"null", b"[]", b"7", b'"x"', b"\xff\xfe\0\0", b'{"commandId":"\\ud800"}', b'{"\\udfff":1}', b"NaN", b"1e999",
    b'{"generation":1e400}', b'{"config":{"a":1,"a":2},"generation":1,"generation":2}', b"9", b'{"generation":9}',
    b'{"commandId":"big","pad":"9"}', b'{"generation":1,"config":{"timezone":"9"}}',
)  # fmt: skip
"""A 9 stands for very many."""
_LEFT_OUT = object()
_NEXT = 1_000_000_000_007
"""Stands for a generation that is newer than all before it in the batch."""

_URLS = (
    "http://127.0.0.1:1", "http://127.0.0.1:1/a/../../etc", "ftp://nowhere.invalid", "file:///etc/passwd", "http://",
    "http://[::1", "http://user:secret@127.0.0.1:1/x?token=y", "//nowhere", "http://127.0.0.1:99999", "",
)  # fmt: skip

MODEL: dict[str, Any] = {
    "generation": 7, "name": "probe", "version": "9.9.9", "manifestSha256": "0" * 64, "urls": [_URLS[0]],
    "defer": {"until": "window", "windowStart": "00:00", "windowEnd": "00:00"},
    "shadow": {"frames": 10, "leastAgreement": 0.9},
    "probation": {"frames": 30, "maxP95Ratio": 1.5, "maxNgDrift": 0.2},
}  # fmt: skip

CONFIG: dict[str, Any] = {
    "generation": 7,
    "config": {
        "camera": [
            {"id": "top", "kind": "folder", "source": "pictures", "pattern": "*.png", "loop": True,
             "recipe": "strict", "roi": [0, 0, 64, 64], "pixel_size_mm": 0.02, "source_rate_hz": 5.0,
             "trigger": {"kind": "continuous", "rate_hz": 5.0}},
            {"id": "side", "kind": "synthetic", "seed": 3, "width_px": 320, "height_px": 240,
             "trigger": {"kind": "interval", "every_s": 60.0, "within_s": 2.0, "delay_s": 0.1}},
            {"id": "back", "kind": "rtsp", "source": "rtsp://127.0.0.1:1/x", "open_timeout_s": 1.0,
             "trigger": {"kind": "cron", "expression": "*/5 6-22 * * 1-6"}},
        ],
        "recipe": {
            "strict": {"id": "strict", "external_recipe_id": "PCB-4711", "description": "for fine pitch",
                       "rules": {"default": {"certain_score": 0.6, "min_score": 0.2, "least_area_px": 3},
                                 "per_class": {"open": {"max_total_area_px": 40, "max_count": 2, "ignore": False}}},
                       "picture": {"min_brightness": 3, "max_saturated_share": 0.2, "min_sharpness": 1.0}}
        },
        "timezone": "Europe/Berlin",
        "telemetry": {"interval_s": 10.0},
        "log_level": "INFO",
    },
}  # fmt: skip

COMMANDS: dict[str, dict[str, Any]] = {
    CommandName.PING: {"commandId": "c-1", "expiresAt": "2100-01-01T00:00:00Z"},
    CommandName.REBIRTH: {"commandId": "c-2"},
    CommandName.REPLAY: {"commandId": "c-3", "bootId": "b", "firstSequenceNumber": 1, "lastSequenceNumber": 9},
    CommandName.CANCEL_UPDATE: {"commandId": "c-4", "generation": 7},
    CommandName.LOT: {"commandId": "c-5", "lotId": "lot-1", "state": "open"},
}

JOBS: tuple[dict[str, Any], ...] = (
    {"type": "inspect", "document": {"camera": "top", "partId": "p", "recipe": "strict", "lotId": "l"}},
    {"type": "collect", "deadline": "2100-01-01T00:00:00Z",
     "document": {"cameras": ["top"], "count": 5, "seconds": 60.0, "which": "uncertain", "band": [0.1, 0.9],
                  "upload": "http://127.0.0.1:1/up"}},
    {"type": "logs", "document": {"lines": 10, "level": "INFO"}},
    {"type": "restart", "document": {}},
    {"type": "inspect", "cancel": True, "document": {"camera": "top"}},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Message:
    """As a client gives it to the broker. `is_json`: whether it is a document that may be meant well."""

    topic: str
    payload: bytes
    retain: bool = False
    asks: bool = True
    """A response topic is given."""

    def __repr__(self) -> str:
        return f"Message({self.topic[:200]!r}, {self.payload[:600]!r}..., retain={self.retain}, asks={self.asks})"


def batches(topics: Topics, most: int) -> st.SearchStrategy[list[Message]]:
    """Any messages on any topics that the board listens to, one after the other."""
    each = st.one_of(_bytes(topics), _documents(topics), _documents(topics))
    return st.lists(each, min_size=most // 4, max_size=most).map(_numbered)


def _numbered(batch: list[Message]) -> list[Message]:
    def payload(number: int, message: Message) -> bytes:
        return message.payload.replace(str(_NEXT).encode(), str(number).encode())

    return [replace(message, payload=payload(number, message)) for number, message in enumerate(batch, start=1)]


def sweep(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The document with each of its values in turn replaced by each absurd one, or left out; all else stays valid."""
    for *way, key in sorted(_places(document), key=lambda place: place == ("generation",)):  # last: the greatest wins
        for edge in (*_EDGES, _LEFT_OUT):
            bent = copy.deepcopy(dict(document))
            place: Any = bent
            for step in way:
                place = place[step]
            if edge is _LEFT_OUT:
                del place[key]
            else:
                place[key] = copy.deepcopy(edge)
            yield bent


def broken_topics(topics: Topics) -> st.SearchStrategy[str]:
    """What no subscription of ours brings, and what a misconfigured bridge may bring all the same."""
    level = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), max_size=12)
    near = st.lists(level, max_size=4).map(lambda rest: "/".join([topics.base, *rest]))
    return st.one_of(near, level, st.sampled_from([f"{topics.base}/job/x/status", topics.status, "/", "x" * 60_000]))


def _inbound(topics: Topics) -> st.SearchStrategy[str]:
    names = st.text(string.printable.replace("/", "").replace("+", "").replace("#", ""), min_size=1, max_size=20)
    ids = st.one_of(st.sampled_from(["j-1", ".", "..", "j" * 128, "j" * 129, "CON", "-"]), names)
    return st.one_of(
        st.sampled_from([*CommandName, "format-disk", ""]).map(lambda name: f"{topics.base}/cmd/{name}"),
        names.map(lambda name: f"{topics.base}/cmd/{name}"),
        st.sampled_from(["model", "config", "other", "firmware", ""]).map(lambda name: f"{topics.base}/desired/{name}"),
        ids.map(lambda name: f"{topics.base}/job/{name}/request"),
    )


@st.composite
def _bytes(draw: st.DrawFn, topics: Topics) -> Message:
    topic = draw(_inbound(topics))
    payload = draw(st.sampled_from([_noise, _deep, _cut, _flipped, _odd]))(draw)
    return Message(topic, payload, retain=draw(st.booleans()), asks=draw(st.booleans()))


def _noise(draw: st.DrawFn) -> bytes:
    return draw(st.binary(max_size=300))


def _deep(draw: st.DrawFn) -> bytes:
    levels, opening = draw(st.integers(1, 3000)), draw(st.sampled_from([b"[", b'{"a":']))
    if draw(st.booleans()):
        return opening * levels
    closing = {b"[": b"]", b'{"a":': b"}"}[opening]
    inner = opening * (levels % 300) + b"7" + closing * (levels % 300)
    return b'{"generation":3,"jobId":"j-1","type":"logs","config":{"camera":%b},"document":%b}' % (inner, inner)


def _cut(draw: st.DrawFn) -> bytes:
    return _valid(draw)[: draw(st.integers(0, 2000))]


def _flipped(draw: st.DrawFn) -> bytes:
    whole, place = _valid(draw), draw(st.integers(0, 400))
    return whole[:place] + draw(st.binary(min_size=1, max_size=3)) + whole[place + 1 :]


def _odd(draw: st.DrawFn) -> bytes:
    piece = draw(st.sampled_from(_ODD))
    return piece.replace(b"9", b"9" * draw(st.sampled_from([5000, 70_000])))


def _valid(draw: st.DrawFn) -> bytes:
    documents = (MODEL, CONFIG, *COMMANDS.values(), *JOBS)
    return json.dumps(documents[draw(st.integers(0, len(documents) - 1))]).encode()


@st.composite
def _documents(draw: st.DrawFn, topics: Topics) -> Message:
    match draw(st.sampled_from(["model", "config", "config", "cmd", "job"])):
        case "model":
            return _message(topics.desired("model"), draw(_bent(MODEL)), retain=True)
        case "config":
            return _message(topics.desired("config"), draw(_bent(CONFIG)), retain=True)
        case "cmd":
            name = draw(st.sampled_from(sorted(COMMANDS)))
            return _message(topics.command(name), draw(_bent(COMMANDS[name])))
    job_id = draw(st.sampled_from(["j-1", "j-2", "j-3", "j-4", "j-5"]))
    job = draw(st.sampled_from(range(len(JOBS))))
    return _message(topics.job_request(job_id), draw(_bent({"jobId": job_id, **JOBS[job]})))


def _message(topic: str, document: Mapping[str, Any], *, retain: bool = False) -> Message:
    return Message(topic, json.dumps(document).encode(), retain=retain)


@st.composite
def _bent(draw: st.DrawFn, document: Mapping[str, Any]) -> Any:
    """The document with up to two of its values replaced, taken away or added; often it is still valid."""
    bent: Any = copy.deepcopy(dict(document))
    if "generation" in bent:
        bent["generation"] = draw(st.sampled_from([_NEXT] * 6 + [1, 2**53 - 1]))
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2]))):
        if not bent:
            break
        *way, key = draw(st.sampled_from(_places(bent)))
        place = bent
        for step in way:
            place = place[step]
        _change(draw, place, key)
    return bent


def _places(document: Any) -> list[tuple[Any, ...]]:
    """The way to each value."""
    if not isinstance(document, dict | list) or not document:
        return []
    items = list(document.items() if isinstance(document, dict) else enumerate(document))
    return [(key, *rest) for key, value in items for rest in [(), *_places(value)]]


def _change(draw: st.DrawFn, place: Any, key: Any) -> None:
    before = place[key]
    edges = _NUMBERS if isinstance(before, int | float) and draw(st.booleans()) else _EDGES
    kind = draw(st.integers(0, 9))
    if kind == 0 and isinstance(place, dict):
        del place[key]
    elif kind == 1 and isinstance(place, dict):
        place[draw(st.sampled_from(["extra", "", "broker", "storage", "model"]))] = 1
    elif key == "urls":
        place[key] = draw(st.lists(st.sampled_from(_URLS), max_size=9))
    else:
        place[key] = copy.deepcopy(draw(st.sampled_from(edges)))
