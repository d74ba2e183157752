"""Nodes as the fleet knows them: messages in any order, any number of times."""

import json
from contextlib import suppress
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.core.roster import BadMessage, Gap, Health, Heard, Node, Stream, health, read, step
from schemas.alarm import Alarm, AlarmSeverity, AlarmSource
from schemas.codes import FailureCode
from schemas.state import Phase
from tests.unit.fleet_board import NEW, OLD, T0, at, heard, info, node, node_id, report, result, status, telemetry

A = node_id(1)


def after(*messages: Heard) -> Node:
    found: Node | None = None
    for message in messages:
        found = step(found, message)
    assert found is not None
    return found


BIRTH = status("online", 7)
WILL = status("offline", 7, reason="will")
NEXT = status("online", 8, boot="boot2")
ANEW = status("online", 0, boot="new", seconds=3600)
AT_1970 = status("online", 0, boot="new", seconds=-1e9)


@pytest.mark.parametrize(("messages", "online", "seq"), [
    pytest.param([BIRTH, WILL], False, 7, id="birth and will"),
    pytest.param([WILL, BIRTH], False, 7, id="in the wrong order"),
    pytest.param([BIRTH, NEXT, WILL], True, 8, id="the late will of a replaced connection"),
    pytest.param([BIRTH, WILL, NEXT], True, 8, id="back again"),
    pytest.param([NEXT, BIRTH], True, 8, id="an old birth comes late"),
    pytest.param([NEXT, BIRTH, WILL], True, 8, id="and its will"),
    pytest.param([BIRTH, ANEW], True, 0, id="installed anew: counts from the start"),
    pytest.param([BIRTH, AT_1970], True, 0, id="with its clock at 1970"),
    pytest.param([BIRTH, ANEW, BIRTH], True, 7, id="higher is newer in any case"),
    pytest.param([BIRTH, status("offline", 7, reason="shutdown"), WILL], False, 7, id="an orderly end"),
])  # fmt: skip
def test_presence(messages: list[Any], online: bool, seq: int) -> None:
    found = after(*(heard(A, message, at) for at, message in enumerate(messages)))
    assert found.status is not None
    assert (found.is_online, found.status.session_seq) == (online, seq)


def test_birth_will_and_next_birth_end_the_same_in_every_order() -> None:
    ends = {after(*(heard(A, message) for message in order)).is_online for order in permutations([BIRTH, WILL, NEXT])}
    assert ends == {True}


def test_an_old_boot_that_is_kept_by_the_broker_does_not_come_back() -> None:
    found = after(heard(A, NEXT), heard(A, status("online", 0, boot="older"), is_retained=True))
    assert found.status == NEXT


@pytest.mark.parametrize(("first", "second", "wins"), [
    pytest.param(report(generation=4, seconds=5), report(generation=3, seconds=4), 0, id="late"),
    pytest.param(report(generation=4, seconds=5), report(generation=4, seconds=5), 0, id="again"),
    pytest.param(report(generation=4, seconds=5), report(Phase.QUEUED, 5, seconds=-9999), 1, id="higher generation"),
    pytest.param(report(Phase.QUEUED, 4, seconds=5), report(Phase.COMMITTED, 4, seconds=6), 1, id="next phase"),
    pytest.param(report(Phase.COMMITTED, 4, seconds=6), report(Phase.QUEUED, 4, seconds=5), 0, id="phases reordered"),
    pytest.param(report(generation=4, seconds=5), report(generation=0, seconds=6), 1, id="a board set up anew"),
    pytest.param(report(generation=4, seconds=5), report(generation=0, seconds=-1e9), 1, id="with its clock at 1970"),
])  # fmt: skip
def test_of_two_reports_the_newer_stays(first: Any, second: Any, wins: int) -> None:
    assert after(heard(A, first, name="model"), heard(A, second, name="model")).model == (first, second)[wins]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_any_order_with_repeats_ends_with_the_newest_report(order: list[int]) -> None:
    reports = [report(Phase.DOWNLOADING, 1 + number // 4, seconds=number) for number in range(10)]
    found = after(*(heard(A, reports[number], name="model") for number in order))
    assert found.model == reports[max(order)]


def test_a_repeated_message_is_the_same_object() -> None:
    one = after(heard(A, BIRTH), heard(A, info(A)), heard(A, telemetry(1, OLD, {"OK": 1}), name="inspection"))
    for message in (BIRTH, info(A)):
        assert step(one, heard(A, message)) is one


def test_telemetry_of_a_past_boot_is_left_out() -> None:
    found = after(
        heard(A, status(boot="b6f1c7d2e9a04c55")), heard(A, NEXT), heard(A, telemetry(9, OLD, {}), name="inspection")
    )
    assert found.inspection is None


@pytest.mark.parametrize(("messages", "seen"), [
    pytest.param([heard(A, BIRTH, 5)], at(5), id="a live message"),
    pytest.param([heard(A, BIRTH, 5), heard(A, WILL, 60)], at(5), id="a will is no sign of life"),
    pytest.param([heard(A, report(seconds=3), 50, name="model", is_retained=True)], at(3), id="what the broker kept"),
    pytest.param([heard(A, report(seconds=99), 50, name="model", is_retained=True)], at(50), id="a clock ahead"),
    pytest.param([heard(A, BIRTH, 9), heard(A, BIRTH, 5)], at(9), id="our own clock goes back"),
])  # fmt: skip
def test_last_seen(messages: list[Heard], seen: Any) -> None:
    assert after(*messages).last_seen == seen


def alarm(severity: AlarmSeverity) -> dict[str, Alarm]:
    sources = [AlarmSource(source="x", text="y", since=T0)]
    return {"x": Alarm(code=FailureCode.CAMERA_LOST, severity=severity, since=T0, sources=sources)}


@pytest.mark.parametrize(("board", "word"), [
    pytest.param(node(), Health.OK, id="ok"),
    pytest.param(node(status=WILL), Health.OFFLINE, id="offline"),
    pytest.param(node(status=None), Health.OFFLINE, id="never born"),
    pytest.param(node(last_seen=T0 - timedelta(minutes=9)), Health.SILENT, id="silent"),
    pytest.param(node(alarms=alarm(AlarmSeverity.CRITICAL)), Health.CRITICAL, id="critical"),
    pytest.param(node(alarms=alarm(AlarmSeverity.WARNING)), Health.WARNING, id="warning"),
    pytest.param(node(alarms=alarm(AlarmSeverity.INFO)), Health.OK, id="info is no harm"),
    pytest.param(node(births=tuple(at(-60 * number) for number in range(5))), Health.FLAPPING, id="flapping"),
    pytest.param(node(births=tuple(at(-600 * number) for number in range(5))), Health.OK, id="five in an hour"),
])  # fmt: skip
def test_health(board: Node, word: Health) -> None:
    assert health(board, T0) is word


def test_a_flapping_board_is_known_by_its_births_and_stays_bounded() -> None:
    found = after(*(heard(A, status(seq=number, boot=f"b{number}"), number) for number in range(40)))
    assert health(found, at(40)) is Health.FLAPPING
    assert (len(found.births), len(found.past_boots)) == (16, 8)


@pytest.mark.parametrize(("topic", "payload", "problem"), [
    ("nothing", b"{}", "does not begin"),
    ("rkfleet/v1/s/n/desired/model", b"{}", "nothing that the roster reads"),
    ("rkfleet/v1/s/n/telemetry/other", b"{}", "nothing that the roster reads"),
    ("rkfleet/v1/s/n/status", b"", "JSON"),
    ("rkfleet/v1/s/n/status", b"\xff", "JSON"),
    ("rkfleet/v1/s/n/status", b"[" * 5000, "JSON"),
    ("rkfleet/v1/s/n/status", b'{"presence": "asleep"}', "presence"),
    ("rkfleet/v1/s/n/status", b" " * 2_000_000, "at most"),
    ("rkfleet/v1/plant1/board-002/info", info(A).to_json(), "speaks as"),
    ("rkfleet/v1/plant1/board-002/result/top", result(1).to_json(), "speaks as"),
    ("rkfleet/v1/plant1/board-001/result/left", result(1).to_json(), "camera top"),
    ("rkfleet/v1/s/n/alarm/npu-fault", alarm(AlarmSeverity.INFO)["x"].to_json(), "on the topic of npu-fault"),
])  # fmt: skip
def test_what_is_no_message_of_a_board_is_refused(topic: str, payload: bytes, problem: str) -> None:
    with pytest.raises(BadMessage, match=problem):
        read(topic, payload, T0)


@given(st.binary(max_size=60), st.sampled_from(["status", "info", "reported/model", "telemetry/host", "result/top"]))
@settings(max_examples=80, deadline=None)
def test_hostile_bytes_are_refused_or_read(payload: bytes, tail: str) -> None:
    with suppress(BadMessage):
        read(f"rkfleet/v1/s/n/{tail}", payload, T0)


def test_an_empty_alarm_clears() -> None:
    raised = after(heard(A, BIRTH), Heard(A, "alarm", "x", alarm(AlarmSeverity.INFO)["x"], T0))
    topic = "rkfleet/v1/plant1/board-001/alarm/x"
    assert step(raised, read(topic, b"", T0)).alarms == {}


def test_fields_that_a_newer_board_sends_are_passed_over() -> None:
    payload = json.loads(BIRTH.to_json()) | {"mood": "good"}
    assert read("rkfleet/v1/plant1/board-001/status", json.dumps(payload).encode(), T0).message == BIRTH


def test_running_and_settled_model() -> None:
    found = after(heard(A, report(Phase.PROBATION, 2, NEW), name="model"))
    assert found.running is not None
    assert found.running.version == "2.0"
    assert found.settled is None
    assert after(heard(A, report(Phase.LOADING, 2, None), name="model")).running is None


# streams of results


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_gaps_are_what_is_missing_below_the_highest(numbers: list[int], batch: int) -> None:
    stream = Stream()
    for start in range(0, len(numbers), batch):
        stream = stream.arrived(numbers[start : start + batch])
    missing = [number for gap in stream.gaps for number in range(gap.first, gap.last + 1)]
    assert stream.highest == max(numbers, default=0)
    assert missing == sorted(set(range(1, stream.highest + 1)) - set(numbers))
    assert all(one.last + 1 < two.first for one, two in zip(stream.gaps, stream.gaps[1:], strict=False))


def test_a_boot_that_ends_and_a_gap_that_nobody_can_fill() -> None:
    stream = Stream().arrived([1, 5]).ended(7)
    assert stream == Stream(7, (Gap(2, 4), Gap(6, 7)))
    assert stream.ended(3) is stream
    assert stream.given_up(Gap(3, 6)) == Stream(7, (Gap(2, 2), Gap(7, 7)))


def test_a_hostile_stream_stays_bounded() -> None:
    stream = Stream().arrived(range(2, 4000, 2))
    assert len(stream.gaps) == 256
    assert stream.gaps[-1] == Gap(3997, 3997)
