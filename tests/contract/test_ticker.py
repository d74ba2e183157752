"""What every Ticker must do, on APScheduler; and what its schedules mean."""

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from agent.adapters.ticker_apscheduler import ApschedulerTicker, _cron
from agent.core.rate import Cron, Interval
from agent.errors import Permanent
from schemas.codes import FailureCode

LONG_S = 20.0
THURSDAY = datetime(2026, 1, 1, tzinfo=UTC)


class Ticks:
    """Counts, and can hold a tick."""

    def __init__(self) -> None:
        self.came = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()

    def put(self) -> None:
        self.came.release()
        self.open.wait(LONG_S)

    def wait(self, count: int = 1) -> bool:
        return all(self.came.acquire(timeout=LONG_S) for _ in range(count))


@pytest.fixture
def ticker() -> Iterator[ApschedulerTicker]:
    made = ApschedulerTicker()
    yield made
    made.stop()


def test_an_interval_ticks_again_and_again(ticker: ApschedulerTicker) -> None:
    ticks = Ticks()
    ticker.add("often", Interval(0.02), ticks.put)
    ticker.start()
    assert ticks.wait(5)


def test_nothing_ticks_before_the_start_or_after_the_stop(ticker: ApschedulerTicker) -> None:
    ticks = Ticks()
    ticker.add("often", Interval(0.02), ticks.put)
    assert not ticks.came.acquire(timeout=0.1)
    ticker.start()
    assert ticks.wait()
    ticker.stop()
    while ticks.came.acquire(blocking=False):
        pass
    assert not ticks.came.acquire(timeout=0.1)


def test_a_schedule_is_removed_by_name_and_an_unknown_name_does_nothing(ticker: ApschedulerTicker) -> None:
    gone, kept = Ticks(), Ticks()
    ticker.add("gone", Interval(0.02), gone.put)
    ticker.add("kept", Interval(0.02), kept.put)
    ticker.start()
    assert gone.wait()
    ticker.remove("gone")
    ticker.remove("never there")
    assert kept.wait(3)
    while gone.came.acquire(blocking=False):
        pass
    assert kept.wait(5)
    assert not gone.came.acquire(blocking=False)


def test_a_schedule_of_the_same_name_is_replaced(ticker: ApschedulerTicker) -> None:
    old, new = Ticks(), Ticks()
    ticker.start()
    ticker.add("same", Interval(3600.0), old.put)
    ticker.add("same", Interval(0.02), new.put)
    assert new.wait(2)


def test_ticks_that_came_late_fire_once(ticker: ApschedulerTicker) -> None:
    """Twenty ticks fall due while none can run; a start-up that took long looks the same."""
    ticks = Ticks()
    ticker.add("late", Interval(30.0), ticks.put)
    ticker.start()
    ticker._scheduler.modify_job("late", next_run_time=datetime.now(UTC) - timedelta(seconds=600))
    assert ticks.wait()
    assert not ticks.came.acquire(timeout=0.2)


def test_a_tick_that_is_still_handled_does_not_pile_up(
    ticker: ApschedulerTicker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "apscheduler")  # it tells of each tick that it skips
    ticks = Ticks()
    ticks.open.clear()
    ticker.add("slow", Interval(0.02), ticks.put)
    ticker.start()
    assert ticks.wait()
    assert not ticks.came.acquire(timeout=0.2)
    ticks.open.set()
    assert ticks.wait()


def test_stop_is_safe_twice_and_without_a_start() -> None:
    ticker = ApschedulerTicker("Europe/Berlin")
    ticker.stop()
    ticker.start()
    ticker.start()
    ticker.stop()
    ticker.stop()


def fires(expression: str, count: int, zone: str = "UTC") -> list[str]:
    trigger, now, last, found = _cron(Cron(expression), ZoneInfo(zone)), THURSDAY, None, []
    for _ in range(count):
        last = trigger.get_next_fire_time(last, now)
        found.append(last.strftime("%a %d %H:%M"))
        now = last
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param("*/20 * * * *", ["Thu 01 00:00", "Thu 01 00:20", "Thu 01 00:40"], id="minutes"),
        pytest.param("30 6 * * 1", ["Mon 05 06:30", "Mon 12 06:30"], id="1 is Monday"),
        pytest.param("0 0 * * 0", ["Sun 04 00:00", "Sun 11 00:00"], id="0 is Sunday"),
        pytest.param("0 0 * * 7", ["Sun 04 00:00", "Sun 11 00:00"], id="7 is Sunday too"),
        pytest.param("0 0 * * 5-7", ["Fri 02 00:00", "Sat 03 00:00", "Sun 04 00:00", "Fri 09 00:00"], id="to Sunday"),
        pytest.param("0 0 * * mon-fri/2", ["Fri 02 00:00", "Mon 05 00:00", "Wed 07 00:00"], id="names and a step"),
        pytest.param("0 0 * * 4/2", ["Thu 01 00:00", "Sat 03 00:00", "Thu 08 00:00"], id="a step from a day on"),
        pytest.param("0 0 2 * 0", ["Fri 02 00:00", "Sun 04 00:00", "Sun 11 00:00"], id="either kind of day"),
        pytest.param("0 0 * * 0-6", ["Thu 01 00:00", "Fri 02 00:00"], id="every day"),
    ],
)
def test_cron_means_what_crontab_means(expression: str, expected: list[str]) -> None:
    assert fires(expression, len(expected)) == expected


def test_cron_is_told_in_the_time_zone_of_the_factory() -> None:
    trigger = _cron(Cron("0 6 * * *"), ZoneInfo("Asia/Tokyo"))
    assert trigger.get_next_fire_time(None, THURSDAY).astimezone(UTC) == THURSDAY + timedelta(hours=21)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("* * * *", "it has 4 fields, not 5"),
        ("", "it has 0 fields, not 5"),
        ("@daily", "it has 1 fields, not 5"),
        ("60 * * * *", "higher than the maximum"),
        ("a * * * *", 'Unrecognized expression "a"'),
        ("*/0 * * * *", "Increment must be higher than 0"),
        ("* * * * 8", "'8' is no day of the week"),
        ("* * * * sat-mon", "is no range of days"),
        ("* * * * */0", "is no range of days"),
        ("* * * * 1/x", "invalid literal"),
        ("0 0 30 2 *", "that time never comes"),
    ],
)
def test_a_bad_cron_expression_is_refused_with_its_reason(
    ticker: ApschedulerTicker, expression: str, reason: str
) -> None:
    with pytest.raises(Permanent, match=r"cron expression") as caught:
        ticker.add("bad", Cron(expression), lambda: None)
    assert caught.value.code is FailureCode.CONFIG_INVALID
    assert reason in caught.value.text


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-6, float("nan"), float("inf"), 1e300])
def test_an_impossible_interval_is_refused(ticker: ApschedulerTicker, seconds: float) -> None:
    with pytest.raises(Permanent, match="interval") as caught:
        ticker.add("bad", Interval(seconds), lambda: None)
    assert caught.value.code is FailureCode.CONFIG_INVALID


def next_tick(ticker: ApschedulerTicker, name: str) -> datetime:
    at = ticker._scheduler.get_job(name).next_run_time
    assert isinstance(at, datetime)
    return at.astimezone(UTC)


def test_another_time_zone_moves_cron_schedules_and_leaves_intervals_alone(ticker: ApschedulerTicker) -> None:
    ticker.start()
    ticker.add("daily", Cron("0 6 * * *"), lambda: None)
    ticker.add("often", Interval(3600.0), lambda: None)
    often = next_tick(ticker, "often")
    assert next_tick(ticker, "daily").hour == 6
    ticker.set_zone("Asia/Tokyo")
    assert next_tick(ticker, "daily").hour == 21
    assert next_tick(ticker, "often") == often
    ticker.add("later", Cron("0 7 * * *"), lambda: None)
    assert next_tick(ticker, "later").hour == 22


def test_a_schedule_that_was_removed_or_replaced_does_not_come_back_with_another_time_zone(
    ticker: ApschedulerTicker,
) -> None:
    ticker.start()
    ticker.add("gone", Cron("0 6 * * *"), lambda: None)
    ticker.add("replaced", Cron("0 6 * * *"), lambda: None)
    ticker.remove("gone")
    ticker.add("replaced", Interval(60.0), lambda: None)
    ticker.set_zone("Asia/Tokyo")
    assert ticker._scheduler.get_job("gone") is None
    assert next_tick(ticker, "replaced") - datetime.now(UTC) < timedelta(seconds=61)


def test_the_time_zone_may_change_before_the_start(ticker: ApschedulerTicker) -> None:
    ticker.add("daily", Cron("0 6 * * *"), lambda: None)
    ticker.set_zone("Asia/Tokyo")
    ticker.start()
    assert next_tick(ticker, "daily").hour == 21


def test_a_schedule_is_checked_without_being_taken(ticker: ApschedulerTicker) -> None:
    ticker.check(Cron("0 6 * * *"), "Asia/Tokyo")
    ticker.check(Interval(1.0), "UTC")
    ticker.start()
    assert ticker._scheduler.get_jobs() == []
    for schedule, zone in ((Cron("never"), "UTC"), (Interval(0.0), "UTC"), (Interval(1.0), "Mars/Olympus")):
        with pytest.raises(Permanent) as caught:
            ticker.check(schedule, zone)
        assert caught.value.code is FailureCode.CONFIG_INVALID


def test_an_unknown_time_zone_leaves_the_one_that_is(ticker: ApschedulerTicker) -> None:
    ticker.add("daily", Cron("0 6 * * *"), lambda: None)
    with pytest.raises(Permanent, match="time zone"):
        ticker.set_zone("Mars/Olympus")
    ticker.start()
    assert next_tick(ticker, "daily").hour == 6


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime"])
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(Permanent, match="time zone") as caught:
        ApschedulerTicker(zone)
    assert caught.value.code is FailureCode.CONFIG_INVALID
