"""The update machine: how a desired model becomes the model that inspects, and what happens when it does not.

The owner (one thread) keeps one `Update` and, for each event, does in this order:

    later, effects = step(now, event)
    if later != now: journal.write(dump(later))     # durable before any effect
    now = later
    for effect in effects: perform(effect, now)

`perform` reads all that it needs from `now` (`desired`, `candidate`, `current`, `work`): that is why an effect can be
run again after a crash. Outcomes come back as events that carry `now.work`; those of abandoned work are ignored.
At start: `now = load(journal.read())`, or `first(installed)` where there is no journal; then the event `Booted`, its
journal write, then `now.current` is loaded, then its effects run. Where `now.current` cannot be loaded the event is
`Unusable`.
Where the disk is full, effects in SAFE_UNJOURNALLED may run before the write is tried again: a boot from the older
state comes to the same.
"""

from agent.core.journal import BadJournal
from agent.core.update.events import (
    SAFE_UNJOURNALLED,
    Booted,
    Canceled,
    Crowded,
    Desired,
    Due,
    Effect,
    Event,
    Failed,
    Fetched,
    Loaded,
    PassedProbation,
    SelfTested,
    Settled,
    Shadowed,
    Unusable,
    Verified,
)
from agent.core.update.machine import IllegalMove, step
from agent.core.update.state import ENDS, ModelRef, Update, dump, first, load
from agent.core.update.table import MOST_ATTEMPTS, MOST_UNCLEAN_STARTS, MOVES, TRIED, Turn
from agent.core.update.views import inspecting, is_due, kept, pause_s, report

__all__ = [
    "ENDS",
    "MOST_ATTEMPTS",
    "MOST_UNCLEAN_STARTS",
    "MOVES",
    "SAFE_UNJOURNALLED",
    "TRIED",
    "BadJournal",
    "Booted",
    "Canceled",
    "Crowded",
    "Desired",
    "Due",
    "Effect",
    "Event",
    "Failed",
    "Fetched",
    "IllegalMove",
    "Loaded",
    "ModelRef",
    "PassedProbation",
    "SelfTested",
    "Settled",
    "Shadowed",
    "Turn",
    "Unusable",
    "Update",
    "Verified",
    "dump",
    "first",
    "inspecting",
    "is_due",
    "kept",
    "load",
    "pause_s",
    "report",
    "step",
]
