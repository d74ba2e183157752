"""How many boards may be told now, and whether any may."""

import math
from datetime import UTC, datetime, timedelta

from fleet.core.rollout.spec import MaintenanceWindow, RolloutRate, Scheduling
from fleet.core.rollout.state import MemberState, Rollout

MINUTE_S = 60.0
MOST_STEP_S = 60.0
"""The rollout's clock moves by at most this in one step: after a long sleep, or a jump of the clock, no board must
seem silent that nobody has listened to."""


def elapsed(rollout: Rollout, now: datetime) -> float:
    if rollout.looked_at is None:
        return rollout.elapsed_s
    return rollout.elapsed_s + min(max((now - rollout.looked_at).total_seconds(), 0.0), MOST_STEP_S)


def budget(rollout: Rollout) -> int:
    """Boards that may be told at this moment, by rate and by how many are at work."""
    rate = rollout.spec.rollout_rate
    in_flight = len(rollout.in_state(MemberState.IN_PROGRESS))
    since_s = rollout.elapsed_s - MINUTE_S
    told = sum(count for at_s, count in rollout.recent if at_s > since_s)
    return max(0, min(rate.max_in_flight - in_flight, per_minute(rate, rollout) - told))


def per_minute(rate: RolloutRate, rollout: Rollout) -> int:
    """Grows by the factor with each full number of the criteria; never over the maximum."""
    growing = rate.exponential_rate
    if growing is None:
        return rate.maximum_per_minute
    criteria = growing.rate_increase_criteria
    if criteria.number_of_notified_things is not None:
        steps = rollout.notified // criteria.number_of_notified_things
    else:
        succeeded = sum(member.generation > 0 for member in rollout.in_state(MemberState.SUCCEEDED))
        steps = succeeded // (criteria.number_of_succeeded_things or 1)
    # Beyond this many steps every factor but 1 has passed the greatest maximum.
    growth = growing.increment_factor ** min(steps, 1000) if growing.increment_factor > 1 else 1.0
    ceiling = float(rate.maximum_per_minute)
    return math.floor(min(ceiling, growing.base_rate_per_minute * min(growth, ceiling)))


def is_open(scheduling: Scheduling, now: datetime) -> bool:
    """Inside a maintenance window, or none is asked for."""
    windows = scheduling.maintenance_windows
    return not windows or any(_is_in(window, now.astimezone(UTC)) for window in windows)


def _is_in(window: MaintenanceWindow, now: datetime) -> bool:
    hours, minutes = window.start_time.split(":")
    for day in (now, now - timedelta(days=1)):  # yesterday's window may span midnight
        start = day.replace(hour=int(hours), minute=int(minutes), second=0, microsecond=0)
        if start.weekday() in window.days and start <= now < start + timedelta(minutes=window.duration_in_minutes):
            return True
    return False
