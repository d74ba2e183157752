"""One board in words."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from fleet.cli.client import ago, dig, when


def summary(model: Any) -> str:
    """Name and version."""
    return f"{dig(model, 'name')} {dig(model, 'version')}".strip()


def shown(node: dict[str, Any], now: datetime) -> str:
    width = 12
    return "\n".join(f"{name:<{width}} {text}" if text else f"{name}" for name, text in _lines(node, now))


def _lines(node: dict[str, Any], now: datetime) -> Iterator[tuple[str, str]]:
    yield "board", str(node["id"])
    if group := dig(node, "group"):
        yield "group", group
    for name, value in sorted((node.get("labels") or {}).items()):
        yield "label", f"{name}={value}"
    reasons = (node.get("health") or {}).get("reasons") or []
    yield "health", "; ".join([dig(node, "health", "state"), *map(str, reasons)])
    if seen := dig(node, "lastSeen"):
        yield "seen", f"{ago(seen, now)} ago, {when(seen)}"
    yield "agent", " ".join(filter(None, [dig(node, "agentVersion"), dig(node, "soc"), dig(node, "info", "platform")]))
    yield from _model(node)
    for group in sorted(node.get("telemetry") or {}):
        yield from _figures(group, node["telemetry"][group])
    for alarm in node.get("alarms") or []:
        for source in alarm.get("sources") or []:
            text = f"{dig(alarm, 'severity')} {dig(alarm, 'code')} {dig(source, 'source')}: {dig(source, 'text')}"
            yield "alarm", text


def _model(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    model = node.get("model")
    if model:
        generation = dig(model, "observedGeneration")
        yield "model", f"{summary(model)}, {dig(model, 'phase')}, generation {generation}"
        if model.get("lastError"):
            yield "last error", f"{dig(model, 'lastError', 'code')}: {dig(model, 'lastError', 'text')}"
    desired = node.get("desired")
    if desired:
        sent = "" if desired["isSent"] else ", not sent yet"
        by = f", by rollout {dig(desired, 'rolloutId')}" if dig(desired, "rolloutId") != "by-hand" else ", by hand"
        yield "desired", f"{summary(desired)}, generation {dig(desired, 'generation')}{by}{sent}"


def _figures(group: str, telemetry: Any) -> Iterator[tuple[str, str]]:
    """Numbers and words of the first level; the rest is in --json."""
    plain = {
        name: value
        for name, value in (telemetry or {}).items()
        if isinstance(value, int | float | str) and not isinstance(value, bool) and name not in {"schema", "time"}
    }
    if plain:
        yield group, ", ".join(f"{name} {value}" for name, value in plain.items())
