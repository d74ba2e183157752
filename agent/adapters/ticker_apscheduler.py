"""Schedules by APScheduler 3: each tick only calls `put`, which hands it to a loop's queue.

APScheduler counts wall-clock time. When the clock is set forward, an overdue tick fires once; when it is set back, the
next tick waits until the clock is there again.
"""

import contextlib
import threading
from collections.abc import Callable
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from agent.core.rate import Cron, Interval
from agent.errors import Permanent
from schemas.codes import FailureCode

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SHORTEST_INTERVAL_S = 0.01
"""APScheduler lists every tick that it was late for: at microseconds it does nothing else any more."""
_LONGEST_INTERVAL_S = 366 * 24 * 3600.0


class ApschedulerTicker:
    """Ticks by name, in one time zone (IANA name). All but `start` may be called from any thread.

    A tick that is late, however much, fires once. A `put` that still runs when its next tick is due misses that tick.
    Errors: Permanent(CONFIG_INVALID) for a time zone, interval or cron expression that can't be, with the reason.
    """

    def __init__(self, zone: str = "UTC") -> None:
        self._zone = _zone(zone)
        self._crons: dict[str, tuple[Cron, Callable[[], None]]] = {}
        self._lock = threading.Lock()
        self._scheduler = BackgroundScheduler(
            timezone=self._zone,
            executors={"default": ThreadPoolExecutor(1)},
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
        )

    def check(self, schedule: Interval | Cron, zone: str) -> None:
        """Whether `add` would take the schedule in that zone; changes nothing."""
        _trigger(schedule, _zone(zone))

    def add(self, name: str, schedule: Interval | Cron, put: Callable[[], None]) -> None:
        """Call `put` at each tick, from the next on. A schedule of the same name is replaced."""
        with self._lock:
            self._add(name, schedule, put)
            if isinstance(schedule, Cron):
                self._crons[name] = schedule, put
            else:
                self._crons.pop(name, None)

    def remove(self, name: str) -> None:
        """No tick of that name starts from now on. An unknown name does nothing."""
        with self._lock:
            self._crons.pop(name, None)
            with contextlib.suppress(JobLookupError):
                self._scheduler.remove_job(name)

    def set_zone(self, zone: str) -> None:
        """Cron expressions are meant in this zone from now on, also those that are there; intervals go on."""
        with self._lock:
            self._zone = _zone(zone)
            for name, (schedule, put) in self._crons.items():
                self._add(name, schedule, put)

    def start(self) -> None:
        if not self._scheduler.running:
            self._scheduler.start()

    def stop(self) -> None:
        """Return when no `put` runs any more. A second call does nothing."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)

    def _add(self, name: str, schedule: Interval | Cron, put: Callable[[], None]) -> None:
        trigger = _trigger(schedule, self._zone)
        self._scheduler.add_job(put, trigger, id=name, name=name, replace_existing=True)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # the last two: not a name at all
        raise Permanent(FailureCode.CONFIG_INVALID, f"time zone {name[:100]!r} is not known") from error


def _trigger(schedule: Interval | Cron, zone: tzinfo) -> BaseTrigger:
    return _cron(schedule, zone) if isinstance(schedule, Cron) else _interval(schedule, zone)


def _interval(schedule: Interval, zone: tzinfo) -> BaseTrigger:
    if not _SHORTEST_INTERVAL_S <= schedule.seconds <= _LONGEST_INTERVAL_S:
        text = (
            f"an interval of {schedule.seconds} s is not possible, only one from {_SHORTEST_INTERVAL_S:g} s to a year"
        )
        raise Permanent(FailureCode.CONFIG_INVALID, text)
    return IntervalTrigger(seconds=schedule.seconds, timezone=zone)


def _cron(schedule: Cron, zone: tzinfo) -> BaseTrigger:
    """Return the trigger with crontab's meaning, which is not that of APScheduler's own `from_crontab`: 0 and 7 are
    Sunday, and a day of the month and a day of the week, both given, are alternatives.
    """
    fields = schedule.expression.split()
    if len(fields) != 5:
        raise _invalid(schedule, f"it has {len(fields)} fields, not 5")
    minute, hour, day, month, weekday = fields
    try:
        weekdays = _weekdays(weekday)
        both = day.startswith("*") or weekday.startswith("*")
        pairs = [(day, weekdays)] if both else [(day, "*"), ("*", weekdays)]
        triggers = [
            CronTrigger(minute=minute, hour=hour, day=one, month=month, day_of_week=other, timezone=zone)
            for one, other in pairs
        ]
    except ValueError as error:
        raise _invalid(schedule, str(error)) from error
    trigger = triggers[0] if len(triggers) == 1 else OrTrigger(triggers)
    if trigger.get_next_fire_time(None, datetime.now(zone)) is None:
        raise _invalid(schedule, "that time never comes")
    return trigger


def _weekdays(field: str) -> str:
    """Return a crontab's field of days of the week as the names of its days; ValueError where it is none."""
    days: set[int] = set()
    for item in field.lower().split(","):
        span, slash, every = item.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            low, high = 0, 6
        else:
            low = _weekday(first)
            high = _weekday(last) if dash else 6 if slash else low
        pace = int(every) if slash else 1
        if pace < 1 or low > high:
            raise ValueError(f"{item!r} is no range of days of the week")
        days.update(day % 7 for day in range(low, high + 1, pace))
    return "*" if len(days) == 7 else ",".join(_DAYS[day] for day in sorted(days))


def _weekday(word: str) -> int:
    if word in _DAYS:
        return _DAYS.index(word)
    if word.isdecimal() and int(word) <= 7:
        return int(word)
    raise ValueError(f"{word!r} is no day of the week")


def _invalid(schedule: Cron, why: str) -> Permanent:
    return Permanent(FailureCode.CONFIG_INVALID, f"cron expression {schedule.expression!r}: {why}")
