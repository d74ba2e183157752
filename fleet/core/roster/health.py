"""How a node does, in one word, the gravest first."""

from datetime import datetime, timedelta
from enum import StrEnum

from fleet.core.roster.node import Node
from schemas.alarm import AlarmSeverity

SILENT_AFTER_S = 180.0
"""An online board sends telemetry every few seconds, every minute at the slowest."""
FLAPS = 5
FLAP_WINDOW_S = 600.0


class Health(StrEnum):
    OFFLINE = "offline"
    """It said so itself, or the broker did for it."""
    SILENT = "silent"
    """Online by its birth, and yet nothing comes."""
    CRITICAL = "critical"
    """An alarm of this severity is active."""
    FLAPPING = "flapping"
    """It has connected again and again within minutes."""
    WARNING = "warning"
    OK = "ok"


def health(node: Node, now: datetime, silent_after_s: float = SILENT_AFTER_S) -> Health:
    if not node.is_online:
        return Health.OFFLINE
    if node.last_seen is None or (now - node.last_seen).total_seconds() > silent_after_s:
        return Health.SILENT
    severities = {alarm.severity for alarm in node.alarms.values()}
    if AlarmSeverity.CRITICAL in severities:
        return Health.CRITICAL
    since = now - timedelta(seconds=FLAP_WINDOW_S)
    if sum(birth > since for birth in node.births) >= FLAPS:
        return Health.FLAPPING
    return Health.WARNING if AlarmSeverity.WARNING in severities else Health.OK
