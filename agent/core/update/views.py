"""What others may want to know of an update's state."""

from datetime import UTC, datetime

from agent.core.backoff import Backoff
from agent.core.update.state import ModelRef, Update
from schemas.state import Defer, Phase, ReportedModel

FIRST_PAUSE_S = 5.0
MOST_PAUSE_S = 900.0


def inspecting(update: Update) -> ModelRef | None:
    """Whose results go out; None in the declared gap, while the candidate is loaded in the place of `current`."""
    if update.phase is Phase.PROBATION:
        return update.candidate
    return None if update.alone else update.current


def kept(update: Update) -> frozenset[str]:
    """Manifest digests of what no clean-up may touch."""
    refs = (update.current, update.last_good, update.candidate)
    return frozenset(ref.manifest_sha256 for ref in refs if ref is not None)


def pause_s(update: Update) -> float:
    """Before the next attempt: doubles with each, and never less than the failure asked for."""
    backoff = Backoff(FIRST_PAUSE_S, MOST_PAUSE_S, failures=max(0, update.attempts - 1))
    return max(backoff.ceiling_s, update.retry_after_s)


def is_due(defer: Defer, at: datetime, *, lot_is_open: bool) -> bool:
    """May the change happen now? `at` has a zone.

    A window without a start opens at midnight UTC, one without an end closes there; it may span midnight, and one of
    no length is the whole day. The end itself is outside.
    """
    if defer.until == "now":
        return True
    if defer.until == "lotEnd":
        return not lot_is_open
    minute = at.astimezone(UTC).hour * 60 + at.astimezone(UTC).minute
    start, end = _minute(defer.window_start), _minute(defer.window_end)
    return start <= minute < end if start < end else minute >= start or minute < end


def report(update: Update, at: datetime, progress: float | None = None) -> ReportedModel:
    """`reported/model`. `sha256` is the digest of the manifest, as in `desired/model`; `progress` is the download's."""
    running = inspecting(update)
    return ReportedModel(
        observed_generation=update.generation,
        phase=update.phase,
        progress=progress if update.phase is Phase.DOWNLOADING else None,
        last_error=update.last_error,
        time=at,
        name=running.name if running else None,
        version=running.version if running else None,
        sha256=running.manifest_sha256 if running else None,
        measured=update.measured,
    )


def _minute(text: str | None) -> int:
    hours, minutes = (text or "00:00").split(":")
    return int(hours) * 60 + int(minutes)
