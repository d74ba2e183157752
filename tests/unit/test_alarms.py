from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.alarms import TEXT_CHARS, Alarms, Change, Changed, Cleared, Raised
from schemas.alarm import Alarm, AlarmSeverity, AlarmSource
from schemas.codes import FailureCode

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LOST, FULL, HOT = FailureCode.CAMERA_LOST, FailureCode.SPOOL_FULL, FailureCode.TEMPERATURE_HIGH
INFO, WARNING, CRITICAL = AlarmSeverity.INFO, AlarmSeverity.WARNING, AlarmSeverity.CRITICAL


class Story:
    """Sets and clears with a clock that goes on a second with each step."""

    def __init__(self) -> None:
        self.alarms = Alarms()
        self.now = NOON

    def set(
        self, source: str, severity: AlarmSeverity = WARNING, text: str = "gone", code: FailureCode = LOST
    ) -> Change | None:
        self.now += timedelta(seconds=1)
        return self.alarms.set(code, source, text, severity, self.now)

    def clear(self, source: str, code: FailureCode = LOST) -> Change | None:
        self.now += timedelta(seconds=1)
        return self.alarms.clear(code, source)


def test_the_first_source_raises_the_alarm() -> None:
    change = Story().set("cam1", text="no picture for 5 s")
    assert isinstance(change, Raised)
    assert (change.alarm.code, change.alarm.severity, change.alarm.since) == (
        LOST,
        WARNING,
        NOON + timedelta(seconds=1),
    )
    assert change.alarm.sources == (change.source,)
    assert (change.source.source, change.source.text) == ("cam1", "no picture for 5 s")


@pytest.mark.parametrize(
    ("again", "changes"),
    [
        pytest.param((WARNING, "gone"), False, id="the same: nothing"),
        pytest.param((WARNING, "gone, try 7"), False, id="another text: nothing, so that nothing flaps"),
        pytest.param((CRITICAL, "gone"), True, id="worse: changed"),
        pytest.param((INFO, "gone"), True, id="better: changed"),
    ],
)
def test_setting_a_source_again(again: tuple[AlarmSeverity, str], changes: bool) -> None:
    story = Story()
    story.set("cam1", WARNING, "gone")
    change = story.set("cam1", *again)
    assert isinstance(change, Changed) is changes
    (alarm,) = story.alarms.active()
    assert (alarm.severity, alarm.sources[0].text) == again
    assert alarm.since == alarm.sources[0].since == NOON + timedelta(seconds=1)
    assert change is None or change.alarm == alarm


def test_an_alarm_lasts_while_any_source_is_set() -> None:
    story = Story()
    kinds = [
        type(change).__name__
        for change in (
            story.set("cam2"),
            story.set("cam1"),
            story.clear("cam2"),
            story.clear("cam1"),
            story.set("cam1"),
        )
    ]
    assert kinds == ["Raised", "Changed", "Changed", "Cleared", "Raised"]


def test_a_change_tells_the_source_and_the_state_after_it() -> None:
    story = Story()
    story.set("cam2")
    came = story.set("cam1", CRITICAL)
    assert isinstance(came, Changed)
    assert [one.source for one in came.alarm.sources] == ["cam1", "cam2"]
    assert (came.source.source, came.alarm.severity) == ("cam1", CRITICAL)
    went = story.clear("cam1")
    assert isinstance(went, Changed)
    assert [one.source for one in went.alarm.sources] == ["cam2"]
    assert (went.source.source, went.alarm.severity) == ("cam1", WARNING)
    assert went.alarm.since == NOON + timedelta(seconds=1)


def test_cleared_tells_what_the_alarm_was() -> None:
    story = Story()
    story.set("cam1", CRITICAL, "cable")
    change = story.clear("cam1")
    assert isinstance(change, Cleared)
    assert (change.alarm.code, change.source.text, change.alarm.severity) == (LOST, "cable", CRITICAL)
    assert story.alarms.active() == ()


def test_clearing_what_is_not_set_is_nothing() -> None:
    story = Story()
    assert story.clear("cam1") is None
    story.set("cam1")
    assert story.clear("cam2") is None
    assert story.clear("cam1", code=FULL) is None
    assert len(story.alarms.active()) == 1


@pytest.mark.parametrize(
    ("severities", "worst"),
    [
        ((INFO, WARNING), WARNING),
        ((CRITICAL, INFO), CRITICAL),
        ((WARNING, CRITICAL, INFO), CRITICAL),
        ((INFO, INFO), INFO),
    ],
)
def test_an_alarm_is_as_severe_as_its_worst_source(severities: tuple[AlarmSeverity, ...], worst: AlarmSeverity) -> None:
    story = Story()
    for number, severity in enumerate(severities):
        story.set(f"cam{number}", severity)
    assert [alarm.severity for alarm in story.alarms.active()] == [worst]


def test_active_lists_all_alarms_in_order_and_fits_the_wire() -> None:
    story = Story()
    story.set("board", CRITICAL, "x" * 5000, code=HOT)
    story.set("spool", code=FULL)
    story.set("cam1")
    active = story.alarms.active()
    assert [alarm.code for alarm in active] == [LOST, FULL, HOT]
    assert len(active[2].sources[0].text) == TEXT_CHARS
    for alarm in active:
        sources = [AlarmSource(source=one.source, text=one.text, since=one.since) for one in alarm.sources]
        wire = Alarm(code=alarm.code, severity=alarm.severity, since=alarm.since, sources=sources)
        assert Alarm.model_validate_json(wire.to_json()) == wire


def test_a_source_that_is_taken_away_clears_all_that_it_held_up() -> None:
    story = Story()
    story.set("cam1")
    story.set("cam2")
    story.set("cam1", code=FailureCode.CAMERA_FROZEN)
    story.set("spool", code=FULL)
    changes = story.alarms.clear_source("cam1")
    assert {(type(change), change.alarm.code) for change in changes} == {
        (Changed, LOST),
        (Cleared, FailureCode.CAMERA_FROZEN),
    }
    assert [alarm.code for alarm in story.alarms.active()] == [LOST, FULL]
    assert story.alarms.clear_source("cam1") == ()


steps = st.lists(
    st.tuples(
        st.booleans(), st.sampled_from([LOST, FULL]), st.sampled_from("abc"), st.sampled_from(list(AlarmSeverity))
    ),
    max_size=40,
)


@given(steps)
def test_a_reader_of_the_changes_knows_what_is_active(
    story: list[tuple[bool, FailureCode, str, AlarmSeverity]],
) -> None:
    alarms, seen = Alarms(), {}
    held: dict[tuple[FailureCode, str], AlarmSeverity] = {}
    for on, code, source, severity in story:
        change = alarms.set(code, source, "text", severity, NOON) if on else alarms.clear(code, source)
        if on:
            held[code, source] = severity
        else:
            held.pop((code, source), None)
        match change:
            case Raised(alarm):
                assert code not in seen
                seen[code] = alarm
            case Changed(alarm):
                assert seen[code] != alarm
                seen[code] = alarm
            case Cleared():
                del seen[code]
    assert alarms.active() == tuple(seen[code] for code in sorted(seen))
    assert {(code, one.source): one.severity for code, alarm in seen.items() for one in alarm.sources} == held
