"""One message more: the node as it is known after it. Late, repeated and reordered messages change nothing."""

from dataclasses import replace
from datetime import datetime, timedelta

from fleet.core.roster.message import Heard
from fleet.core.roster.node import Node
from schemas.alarm import Alarm
from schemas.state import Reported, ReportedConfig, ReportedModel
from schemas.status import Info, Presence, Status
from schemas.telemetry import HostTelemetry, InspectionTelemetry, SpoolTelemetry

CLOCK_SET_BACK = timedelta(hours=1)
"""A message that is older by more is not late: the board's clock was set back."""
KEPT_BOOTS = 8
KEPT_BIRTHS = 16


def step(now: Node | None, heard: Heard) -> Node:
    """The same object where nothing changes. A node that is not known yet is made from whatever it says first."""
    node = now if now is not None else Node(heard.node)
    seen = _seen(node, heard)
    if seen != node.last_seen:
        node = replace(node, last_seen=seen)
    return _after(node, heard)


def _after(node: Node, heard: Heard) -> Node:
    changed = node
    match heard.message:
        case Status() as status:
            changed = _status(node, status, heard)
        case Info() as info:
            changed = _info(node, info)
        case ReportedModel() as report if not _is_stale_report(report, node.model):
            changed = _changed(node, model=report)
        case ReportedConfig() as report if not _is_stale_report(report, node.config):
            changed = _changed(node, config=report)
        case InspectionTelemetry() | HostTelemetry() | SpoolTelemetry() as measured:
            changed = _telemetry(node, heard.name, measured)
        case Alarm() as alarm:
            changed = _changed(node, alarms={**node.alarms, heard.name: alarm})
        case None if heard.name in node.alarms:
            kept = {code: alarm for code, alarm in node.alarms.items() if code != heard.name}
            changed = replace(node, alarms=kept)
    return changed


def _seen(node: Node, heard: Heard) -> datetime | None:
    """What the broker kept tells of the time it was written, as far as the board's clock is right; a will has none."""
    if not heard.is_retained:
        is_alive = not (isinstance(heard.message, Status) and heard.message.reason == "will")
        at = heard.at if is_alive else None
    else:
        written = getattr(heard.message, "time", None)
        at = min(written, heard.at) if isinstance(written, datetime) else None
    if at is None or (node.last_seen is not None and at <= node.last_seen):
        return node.last_seen
    return at


def _status(node: Node, status: Status, heard: Heard) -> Node:
    if _is_stale_status(node, status, is_retained=heard.is_retained):
        return node
    old = node.status
    past, births = node.past_boots, node.births
    if old is not None and old.boot_id != status.boot_id:
        past = (*(boot for boot in past if boot not in {old.boot_id, status.boot_id}), old.boot_id)[-KEPT_BOOTS:]
    is_birth = status.presence is Presence.ONLINE and not heard.is_retained
    if is_birth and (old is None or (old.session_seq, old.boot_id) != (status.session_seq, status.boot_id)):
        births = (*births, heard.at)[-KEPT_BIRTHS:]
    return _changed(node, status=status, past_boots=past, births=births)


def _is_stale_status(node: Node, status: Status, *, is_retained: bool) -> bool:
    """`sessionSeq` grows over restarts; only a board that was installed anew counts from the start again."""
    old = node.status
    if old is None:
        return False
    if status.session_seq != old.session_seq:
        return status.session_seq < old.session_seq and (is_retained or not _is_set_up_anew(node, status))
    if status.boot_id != old.boot_id:
        return status.boot_id in node.past_boots
    # Within a session the end comes after the birth, and an orderly end says more than a will.
    return _rank(status) < _rank(old)


def _is_set_up_anew(node: Node, status: Status) -> bool:
    """A birth with a lower number: of a board whose counter began again, and not one that comes late."""
    if status.presence is not Presence.ONLINE or status.boot_id in node.past_boots or status.time is None:
        return False
    return node.status is None or (
        status.boot_id != node.status.boot_id and not (node.births and _is_late(status.time, node.births[-1]))
    )


def _rank(status: Status) -> int:
    return {"birth": 0, "will": 1, "shutdown": 2}[status.reason]


def _info(node: Node, info: Info) -> Node:
    old = node.info
    if old is not None and info.boot_id == old.boot_id and _is_late(info.time, old.time):
        return node
    is_of_past_boot = info.boot_id in node.past_boots
    return node if old is not None and is_of_past_boot else _changed(node, info=info)


def _is_stale_report(new: Reported, old: Reported | None) -> bool:
    """A higher generation is newer whatever the clocks say; a lower one can only be that of a board set up anew."""
    if old is None or new.observed_generation > old.observed_generation:
        return False
    if _is_late(new.time, old.time):
        return True
    return new.time == old.time and new.observed_generation < old.observed_generation


def _telemetry(node: Node, group: str, new: InspectionTelemetry | HostTelemetry | SpoolTelemetry) -> Node:
    old = node.telemetry.get(group)
    if new.boot_id in node.past_boots or (old is not None and _is_late(new.time, old.time)):
        return node
    return _changed(node, telemetry={**node.telemetry, group: new})


def _is_late(new: datetime, old: datetime) -> bool:
    return timedelta(0) < old - new <= CLOCK_SET_BACK


def _changed(node: Node, **changes: object) -> Node:
    """`node` itself where every field has the value already, so that nothing is written for it."""
    if all(getattr(node, name) == value for name, value in changes.items()):
        return node
    return replace(node, **changes)  # type: ignore[arg-type]  # the callers name fields of Node
