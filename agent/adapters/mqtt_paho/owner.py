"""What the link's owner gave it, and how its code is run on our thread."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec

from agent.core.outgoing import Incoming, Outgoing
from agent.errors import AgentError, Retryable
from agent.ports import Connected, Disconnected, LinkEvent
from schemas.codes import FailureCode

_LOG = logging.getLogger(__name__)
_Args = ParamSpec("_Args")


@dataclass(frozen=True, slots=True)
class Owner:
    report: Callable[[LinkEvent], None]
    accept: Callable[[Incoming], None]
    oversized: Callable[[str, int], None]

    def tell(self, event: LinkEvent) -> None:
        shielded(self.report, event)


def told_once(report: Callable[[LinkEvent], None]) -> Callable[[LinkEvent], None]:
    """Of an outage each reason is told when it is news, however often the link tries."""
    down: Disconnected | None = None

    def tell(event: LinkEvent) -> None:
        nonlocal down
        if isinstance(event, Disconnected):
            if event == down:
                return
            down = event
        elif isinstance(event, Connected):
            down = None
        report(event)

    return tell


@dataclass(frozen=True, slots=True)
class Farewell:
    """A stop under way: by when the goodbye must be acknowledged, on the monotonic clock."""

    goodbye: Outgoing | None
    acknowledged_by_s: float


class Crash(Retryable):
    """Somebody's bug, met on the link's thread; its traceback is in the log."""


def shielded(call: Callable[_Args, object], *args: _Args.args, **kwargs: _Args.kwargs) -> AgentError | None:
    """Run the call and return what it raised.

    An exception that leaves a callback ends paho's loop while `is_connected()` stays True (paho-mqtt issues 365 and
    504), and bytes from a hostile broker make paho's decoder raise what it likes. The thread that keeps the board
    reachable must outlive both.
    """
    try:
        call(*args, **kwargs)
    except AgentError as error:
        return error
    except Exception as error:  # noqa: BLE001  # the reason is the docstring's second paragraph
        _LOG.exception("the MQTT link met a bug and goes on")
        return Crash(FailureCode.INTERNAL, f"{type(error).__name__}: {error}")
    return None
