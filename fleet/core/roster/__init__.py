"""Nodes as the fleet knows them, and the language that names some of them."""

from fleet.core.roster.filter import Filter, FilterError, parse
from fleet.core.roster.health import Health, health
from fleet.core.roster.message import BadMessage, Heard, read
from fleet.core.roster.node import Node, NodeId, RunningModel
from fleet.core.roster.reducer import step
from fleet.core.roster.stream import Gap, Stream

__all__ = [
    "BadMessage",
    "Filter",
    "FilterError",
    "Gap",
    "Health",
    "Heard",
    "Node",
    "NodeId",
    "RunningModel",
    "Stream",
    "health",
    "parse",
    "read",
    "step",
]
