"""Configuration from afar: how `desired/config` becomes the configuration that runs, and what happens when it does not.

The owner (one thread) keeps one `Configuration` and, for each event, does in this order:

    later, effects = step(now, event)
    if later != now: journal.write(dump(later))     # durable before any effect
    now = later
    for effect in effects: perform(effect, now)

At start: `now = load(journal.read())`, or `Configuration()` where there is no journal; then the event `Booted`, its
journal write, and the agent starts with the settings of `running(now)`: its effects tell no more than that.
Where the disk is full, what follows an event in SAFE_UNJOURNALLED may run before the write is tried again.
"""

from agent.core.desired_config.events import (
    SAFE_UNJOURNALLED,
    Booted,
    Desired,
    Effect,
    Event,
    Failed,
    Passed,
    Refused,
    Settled,
    Unusable,
    Verified,
)
from agent.core.desired_config.machine import MOST_UNCLEAN_STARTS, MOVES, IllegalMove, Move, Turn, step
from agent.core.desired_config.message import MAX_BYTES, fingerprint, read
from agent.core.desired_config.state import ENDS, Configuration, Version, dump, load, report, running
from agent.core.journal import BadJournal

__all__ = [
    "ENDS",
    "MAX_BYTES",
    "MOST_UNCLEAN_STARTS",
    "MOVES",
    "SAFE_UNJOURNALLED",
    "BadJournal",
    "Booted",
    "Configuration",
    "Desired",
    "Effect",
    "Event",
    "Failed",
    "IllegalMove",
    "Move",
    "Passed",
    "Refused",
    "Settled",
    "Turn",
    "Unusable",
    "Verified",
    "Version",
    "dump",
    "fingerprint",
    "load",
    "read",
    "report",
    "running",
    "step",
]
