"""What the filter language can ask of a node."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fleet.core.roster.health import health
from fleet.core.roster.node import Node


class Kind(StrEnum):
    """What can be compared: text with = and !=, versions and numbers in order too, an age in order alone."""

    TEXT = "text"
    VERSION = "version"
    NUMBER = "number"
    AGE = "age"


@dataclass(frozen=True, slots=True)
class Known:
    """`get` gives "" where the node has no such thing. An age is in seconds, as text."""

    kind: Kind
    get: Callable[[Node, datetime], str]


def _text(get: Callable[[Node], object]) -> Known:
    return Known(Kind.TEXT, lambda node, _now: _word(get(node)))


def _version(get: Callable[[Node], object]) -> Known:
    return Known(Kind.VERSION, lambda node, _now: _word(get(node)))


def _number(get: Callable[[Node], object]) -> Known:
    return Known(Kind.NUMBER, lambda node, _now: _word(get(node)))


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _age(node: Node, now: datetime) -> str:
    return "" if node.last_seen is None else repr(max(0.0, (now - node.last_seen).total_seconds()))


FIELDS: dict[str, Known] = {
    "site": _text(lambda node: node.id.site),
    "node": _text(lambda node: node.id.node),
    "group": _text(lambda node: node.group),
    "enterprise": _text(lambda node: node.info and node.info.station.enterprise),
    "area": _text(lambda node: node.info and node.info.station.area),
    "line": _text(lambda node: node.info and node.info.station.line),
    "cell": _text(lambda node: node.info and node.info.station.cell),
    "soc": _text(lambda node: node.info and node.info.soc),
    "target": _text(lambda node: node.info and node.info.target),
    "platform": _text(lambda node: node.info and node.info.platform),
    "simulated": _text(lambda node: node.info and node.info.is_simulated),
    "online": _text(lambda node: node.is_online),
    "health": Known(Kind.TEXT, lambda node, now: health(node, now).value),
    "model": _text(lambda node: node.running and node.running.name),
    "digest": _text(lambda node: node.running and node.running.sha256),
    "phase": _text(lambda node: node.phase),
    "agent": _version(lambda node: node.info and node.info.agent_version),
    "python": _version(lambda node: node.info and node.info.python_version),
    "version": _version(lambda node: node.running and node.running.version),
    "generation": _number(lambda node: node.observed_generation),
    "cores": _number(lambda node: node.info and node.info.npu_cores),
    "cameras": _number(lambda node: node.info and len(node.info.cameras)),
    "seen": Known(Kind.AGE, _age),
}
"""`version` is the model's, `agent` and `python` are the software's."""

LABEL = "label."


def kind_of(field: str) -> Kind:
    """Of a field, or of `label.` and a name."""
    return Kind.TEXT if field.startswith(LABEL) else FIELDS[field].kind


def value_of(field: str, node: Node, now: datetime) -> str:
    if field.startswith(LABEL):
        return node.labels.get(field.removeprefix(LABEL), "")
    return FIELDS[field].get(node, now)
