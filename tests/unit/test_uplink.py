"""The uplink's rules, turn by turn, with a link whose outcomes the test decides."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.core.outgoing import Kind, Outgoing, Place, Spooled
from agent.errors import AgentError, Permanent, Retryable
from agent.loops.uplink import Uplink, UplinkHooks, UplinkSettings, due_now
from agent.ports import Connected, Delivered, Disconnected, LinkEvent, Refused, Reset
from schemas.codes import FailureCode
from tests.contract.fakes import FakeLink, MemorySpool

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
UP = Connected(session_present=False, receive_maximum=100, session_seq=1)
DOWN = Disconnected("away", FailureCode.BROKER_UNREACHABLE)
DISK_FULL = Retryable(FailureCode.DISK_FULL, "full", delay_s=2.0)


class Rig:
    """An uplink with a window of 4, whose clocks stand still until the test moves them."""

    def __init__(self, window: int = 4, chunk_rows: int = 5) -> None:
        self.mono_s = 1000.0
        self.utc = START
        self.link = FakeLink()
        self.spool = MemorySpool(lambda: self.utc)
        self.changes: list[LinkEvent] = []
        self.refusals: list[tuple[str, Refused]] = []
        self.failures: list[AgentError] = []
        hooks = UplinkHooks(
            self.changes.append, lambda topic, event: self.refusals.append((topic, event)), self.failures.append
        )
        settings = UplinkSettings(
            window=window, chunk_rows=chunk_rows, mark_rows=8, replies=3, unmarked_rows=20, poll_s=0.01
        )
        self.uplink = Uplink(self.link, self.spool, settings, hooks, clock=lambda: self.utc, mono=lambda: self.mono_s)
        self.seen = 0

    def rows(self, count: int, kind: Kind = Kind.RESULT) -> list[int]:
        first = self.spool.depth().pending
        rows = []
        for number in range(count):
            message = Outgoing("rows", b"")
            row = self.spool.append(kind, message, Place("b0", first + number + 1))
            rows.append(row)
        self.uplink.wake()
        return rows

    def turn(self, *events: LinkEvent) -> list[int]:
        """Report, take one turn, and tell the tokens that were published in it."""
        for event in events:
            self.uplink.report(event)
        self.uplink.turn(0)
        tokens = [token for token, _ in self.link.published[self.seen :]]
        self.seen = len(self.link.published)
        return tokens

    def deliver(self, tokens: list[int]) -> list[int]:
        return self.turn(*(Delivered(token) for token in tokens))

    def marked(self) -> list[int]:
        return [row for rows in self.spool.sent_calls for row in rows]

    def wait(self, seconds: float) -> None:
        self.mono_s += seconds
        self.utc += timedelta(seconds=seconds)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def state(topic: str, payload: bytes = b"") -> Outgoing:
    return Outgoing(topic, payload, retain=True)


def reply(payload: bytes) -> Outgoing:
    return Outgoing("reply", payload)


def test_nothing_is_published_before_the_link_is_connected(rig: Rig) -> None:
    rig.rows(3)
    rig.uplink.now(reply(b"1"))
    assert rig.turn() == []
    assert len(rig.turn(UP)) == 4
    assert rig.changes == [UP]


@pytest.mark.parametrize(("receive_maximum", "in_flight"), [(100, 4), (2, 2), (0, 1)])
def test_the_window_bounds_what_is_in_flight(rig: Rig, receive_maximum: int, in_flight: int) -> None:
    rig.rows(10)
    tokens = rig.turn(Connected(session_present=False, receive_maximum=receive_maximum, session_seq=1))
    assert len(tokens) == in_flight
    assert rig.turn() == []
    assert len(rig.deliver(tokens[:1])) == 1


def test_all_rows_go_once_and_in_order_and_are_marked_in_batches(rig: Rig) -> None:
    rows = rig.rows(23)
    out, everything = rig.turn(UP), []
    while out:
        everything += out
        out = rig.deliver(out)
    rig.wait(1)
    rig.turn()
    assert rig.marked() == rows
    assert len(everything) == 23
    assert len(rig.spool.sent_calls) <= 4
    assert rig.spool.depth().pending == 0


def test_a_row_is_marked_when_it_is_acknowledged_and_not_before(rig: Rig) -> None:
    rows = rig.rows(2)
    tokens = rig.turn(UP)
    rig.wait(1)
    rig.turn()
    assert rig.marked() == []
    rig.deliver(tokens[1:])
    rig.wait(1)
    rig.turn()
    assert rig.marked() == rows[1:]


def test_many_wakes_make_one_pass(rig: Rig) -> None:
    rig.turn(UP)
    before = rig.spool.pending_calls
    for _ in range(100):
        rig.uplink.wake()
    rig.turn()
    assert rig.spool.pending_calls == before + 1
    rig.turn()
    assert rig.spool.pending_calls == before + 1


def test_over_a_disconnect_what_is_in_flight_is_not_read_again(rig: Rig) -> None:
    rows = rig.rows(6)
    tokens = rig.turn(UP)
    assert rig.turn(DOWN) == []
    rig.wait(600)
    assert rig.turn() == []
    assert rig.turn(UP) == []
    assert len(rig.deliver(tokens)) == 2
    rig.wait(1)
    rig.turn()
    assert rig.marked() == rows[:4]
    assert rig.changes == [UP, DOWN, UP]


def test_after_a_reset_everything_in_flight_is_read_again_in_order(rig: Rig) -> None:
    rows = rig.rows(6)
    tokens = rig.turn(UP)
    rig.turn(Delivered(tokens[0]))
    rig.turn(Reset(), DOWN)
    again = rig.turn(UP)
    assert len(again) == 4
    rig.deliver(rig.deliver(again))
    assert len(rig.link.published) == 5 + 5
    rig.wait(1)
    rig.turn()
    assert sorted(rig.marked()) == rows


def test_a_reply_in_flight_is_sent_again_after_a_reset_and_state_is_not(rig: Rig) -> None:
    rig.turn(UP)
    rig.uplink.now(reply(b"1"))
    rig.uplink.now(reply(b"2"))
    rig.uplink.now(state("s"))
    rig.turn()
    rig.turn(Reset(), DOWN)
    rig.turn(UP)
    assert [message.payload for _, message in rig.link.published[3:]] == [b"1", b"2"]


def test_a_refused_row_becomes_a_dead_letter_and_is_told(rig: Rig) -> None:
    rows = rig.rows(2)
    tokens = rig.turn(UP)
    refusal = Refused(tokens[0], FailureCode.NOT_AUTHORIZED, "Not authorized")
    rig.turn(refusal)
    assert rig.spool.reasons == {rows[0]: "Not authorized"}
    assert rig.refusals == [("rows", refusal)]
    assert rig.turn(Reset(), UP) == [tokens[1] + 1]


def test_a_refusal_that_cannot_be_stored_is_stored_later(rig: Rig) -> None:
    rows = rig.rows(1)
    tokens = rig.turn(UP)
    rig.spool.failure = DISK_FULL
    rig.turn(Refused(tokens[0], FailureCode.NOT_AUTHORIZED, "no"))
    rig.spool.failure = None
    rig.wait(3)
    assert rig.turn() == []
    assert rig.spool.reasons == {rows[0]: "no"}


def test_unknown_tokens_are_ignored(rig: Rig) -> None:
    rig.rows(1)
    rig.turn(UP, Delivered(4711), Refused(4712, FailureCode.NOT_AUTHORIZED, "no"))
    rig.wait(1)
    rig.turn()
    assert rig.marked() == []
    assert rig.refusals == []


def test_acknowledged_rows_outlive_a_full_disk_and_are_not_sent_again(rig: Rig) -> None:
    rows = rig.rows(8)
    rig.deliver(rig.turn(UP))
    rig.spool.failure = DISK_FULL
    rig.wait(1)
    rig.turn()
    assert rig.failures == [DISK_FULL]
    rig.turn()
    assert rig.failures == [DISK_FULL]
    rig.spool.failure = None
    rig.wait(3)
    rig.uplink.reread()
    rig.turn()
    assert set(rows[:4]) <= set(rig.marked())
    assert len(rig.link.published) == 8


def test_with_too_many_rows_that_cannot_be_marked_publishing_stops() -> None:
    rig = Rig(window=10, chunk_rows=100)
    rig.rows(60)
    out = rig.turn(UP)
    real, rig.spool.sent = rig.spool.sent, raise_disk_full  # type: ignore[method-assign]
    for _ in range(20):
        out = rig.deliver(out)
        rig.wait(3)
    assert len(rig.link.published) <= 40
    rig.spool.sent = real  # type: ignore[method-assign]
    for _ in range(20):
        out = rig.deliver(out)
        rig.wait(3)
    assert len(rig.link.published) == 60


def raise_disk_full(rows: object) -> None:
    raise DISK_FULL


@pytest.mark.parametrize("error", [DISK_FULL, Permanent(FailureCode.SPOOL_CORRUPT, "begun anew")])
def test_a_spool_that_cannot_be_read_is_tried_again(rig: Rig, error: AgentError) -> None:
    rig.rows(1)
    rig.spool.failure = error
    assert rig.turn(UP) == []
    assert rig.failures == [error]
    rig.spool.failure = None
    assert rig.turn() == []
    rig.wait(3)
    assert len(rig.turn()) == 1


def test_a_spool_that_is_used_wrongly_ends_the_loop(rig: Rig) -> None:
    rig.spool.failure = Permanent(FailureCode.INTERNAL, "closed")
    with pytest.raises(Permanent, match="closed"):
        rig.turn(UP)


def test_what_the_link_does_not_take_is_handed_over_later_and_in_order(rig: Rig) -> None:
    rig.rows(3)
    rig.uplink.now(reply(b"1"))
    rig.link.takes = False
    assert rig.turn(UP) == []
    rig.link.takes = True
    assert len(rig.turn()) == 4
    assert rig.link.published[1][1].topic == "rows"
    rig.deliver([token for token, _ in rig.link.published])
    rig.wait(1)
    rig.turn()
    assert rig.marked() == [1, 2, 3]


def test_replayed_rows_behind_the_newest_are_picked_up(rig: Rig) -> None:
    rows = rig.rows(12)
    out = rig.turn(UP)
    while out:
        out = rig.deliver(out)
    rig.wait(1)
    rig.turn()
    rig.spool.replay("b0", 3, 9)
    rig.uplink.reread()
    out = rig.turn()
    while out:
        out = rig.deliver(out)
    rig.wait(1)
    rig.turn()
    assert rig.marked() == rows + rows[2:9]


def test_new_rows_overtake_a_long_replay(rig: Rig) -> None:
    rig.rows(30)
    out = rig.turn(UP)
    while out:
        out = rig.deliver(out)
    rig.wait(1)
    rig.turn()
    rig.spool.replay("b0", 1, 30)
    rig.uplink.reread()
    out = rig.turn()
    new = rig.spool.append(Kind.RESULT, Outgoing("new", b""), Place("b0", 31))
    rig.uplink.wake()
    rig.deliver(out[:1])
    assert rig.link.published[-1][1].topic == "new"
    assert new not in rig.marked()


def test_a_row_appended_during_a_replay_is_sent_once() -> None:
    rig = Rig(chunk_rows=20)
    rig.rows(6)
    out = rig.turn(UP)
    while out:
        out = rig.deliver(out)
    rig.wait(1)
    rig.turn()
    rig.spool.replay("b0", 1, 6)
    rig.uplink.reread()
    rig.spool.append(Kind.RESULT, Outgoing("new", b""), Place("b0", 7))
    replayed = rig.turn()
    rig.uplink.wake()
    new = rig.deliver(replayed[:1])
    rig.deliver(new)
    rig.wait(1)
    rig.turn()
    rig.deliver(replayed[1:])
    assert [message.topic for _, message in rig.link.published].count("new") == 1
    assert len(rig.link.published) == 6 + 6 + 1


def test_a_row_without_an_outcome_is_sent_again_after_the_newer_ones(rig: Rig) -> None:
    rows = rig.rows(6)
    stalled = rig.turn(UP)
    rig.wait(61)
    assert len(rig.turn()) == 4
    newer = [token for token, _ in rig.link.published[4:]]
    assert len(rig.deliver(newer)) == 2
    rig.wait(1)
    rig.turn()
    assert set(rows[4:]) <= set(rig.marked())
    assert len(stalled) == 4


def test_an_outcome_after_the_stall_still_counts(rig: Rig) -> None:
    rows = rig.rows(1)
    late = rig.turn(UP)
    rig.wait(61)
    assert len(rig.turn()) == 1
    rig.deliver(late)
    rig.wait(1)
    rig.turn()
    assert rig.marked() == rows


def test_a_reconnect_gives_what_is_in_flight_its_time_again(rig: Rig) -> None:
    rig.rows(1)
    rig.turn(UP)
    rig.wait(59)
    rig.turn(DOWN)
    rig.wait(59)
    assert rig.turn(UP) == []
    rig.wait(59)
    assert rig.turn() == []
    rig.wait(2)
    assert len(rig.turn()) == 1


def test_of_state_the_latest_wins_and_only_while_connected(rig: Rig) -> None:
    rig.uplink.now(state("early"))
    rig.turn(UP)
    for payload in (b"1", b"2", b"3"):
        rig.uplink.now(state("a", payload))
    rig.uplink.now(state("b"))
    rig.turn()
    assert [(message.topic, message.payload) for _, message in rig.link.published] == [("a", b"3"), ("b", b"")]
    rig.uplink.now(state("lost"))
    rig.turn(DOWN, UP)
    assert len(rig.link.published) == 2


def test_replies_wait_for_a_connection_and_are_bounded(rig: Rig) -> None:
    for payload in (b"1", b"2", b"3", b"4", b"5"):
        rig.uplink.now(reply(payload))
    rig.turn(UP)
    assert [message.payload for _, message in rig.link.published] == [b"3", b"4", b"5"]


def test_state_and_replies_go_before_rows(rig: Rig) -> None:
    rig.rows(9)
    tokens = rig.turn(UP)
    rig.uplink.now(reply(b"1"))
    rig.uplink.now(state("s"))
    rig.deliver(tokens[:2])
    assert [message.topic for _, message in rig.link.published[4:]] == ["s", "reply"]


def test_telemetry_goes_with_qos_0_and_not_when_it_has_expired(rig: Rig) -> None:
    telemetry = Outgoing("m", b"", qos=1, expiry_s=10)
    old = rig.spool.append(Kind.TELEMETRY, telemetry)
    rig.rows(4)
    rig.uplink.report(UP)
    rig.link.takes = False
    rig.turn()
    rig.wait(20)
    rig.spool.append(Kind.TELEMETRY, telemetry)
    rig.uplink.wake()
    rig.link.takes = True
    rig.deliver(rig.turn())
    assert [(message.topic, message.qos) for _, message in rig.link.published] == [("rows", 1)] * 4 + [("m", 0)]
    rig.wait(1)
    rig.turn()
    assert old in rig.marked()


@pytest.mark.parametrize(
    ("kind", "expiry_s", "age_s", "left_s"),
    [
        pytest.param(Kind.RESULT, None, 1e6, None, id="none stays none"),
        pytest.param(Kind.EVENT, 100, 30.7, 70, id="what is left"),
        pytest.param(Kind.EVENT, 100, 500, 1, id="an event that has expired goes all the same"),
        pytest.param(Kind.EVENT, 100, -3600, 100, id="a clock that was set back does not make it longer"),
        pytest.param(Kind.TELEMETRY, 100, 99, 1, id="telemetry at its last second"),
        pytest.param(Kind.TELEMETRY, 100, 100, 0, id="telemetry that has expired"),
    ],
)
def test_the_expiry_on_the_wire_is_what_is_left(
    kind: Kind, expiry_s: int | None, age_s: float, left_s: int | None
) -> None:
    message = due_now(Spooled(1, kind, Outgoing("t", b"", expiry_s=expiry_s), START), START + timedelta(seconds=age_s))
    if left_s == 0:
        assert message is None
    else:
        assert message is not None
        assert message.expiry_s == left_s


def test_a_stop_sends_what_is_new_and_waits_for_it(rig: Rig) -> None:
    rows = rig.rows(9)
    for token in rig.turn(UP):
        rig.uplink.report(Delivered(token))
    publish = rig.link.publish

    def answered(message: Outgoing, token: int) -> bool:
        rig.uplink.report(Delivered(token))
        return publish(message, token)

    rig.link.publish = answered  # type: ignore[method-assign]
    stop = threading.Event()
    stop.set()
    loop = threading.Thread(target=rig.uplink.run, args=(stop,))
    loop.start()
    loop.join(10)
    assert not loop.is_alive()
    assert rig.marked() == rows


def test_a_stop_does_not_wait_for_ever(rig: Rig) -> None:
    rig.rows(2)
    rig.turn(UP)
    steps = iter(range(10**6))
    rig.uplink._mono = lambda: 2000.0 + next(steps) * 0.5
    stop = threading.Event()
    stop.set()
    rig.uplink.run(stop)
    assert rig.marked() == []
    assert rig.spool.depth().pending == 2


def test_the_loop_runs_on_its_thread_until_it_is_stopped() -> None:
    rig = Rig(window=20)
    delivered = threading.Event()
    rig.link.publish = lambda message, token: answer(rig, delivered, token)  # type: ignore[method-assign]
    stop = threading.Event()
    loop = threading.Thread(target=rig.uplink.run, args=(stop,))
    loop.start()
    rig.uplink.report(UP)
    rig.rows(500)
    assert delivered.wait(10)
    stop.set()
    loop.join(10)
    assert not loop.is_alive()
    assert rig.spool.depth().pending == 0


def test_the_last_outcome_is_seen_at_once_and_ends_the_drain_with_a_mark() -> None:
    rig = Rig(window=40, chunk_rows=50)
    rig.uplink._settings = replace(rig.uplink._settings, poll_s=60.0, mark_rows=100, mark_after_s=60.0)
    marked = threading.Event()
    real = rig.spool.sent
    rig.spool.sent = lambda rows: (real(rows), marked.set())  # type: ignore[method-assign,assignment,func-returns-value]
    rows = rig.rows(17)
    tokens = rig.turn(UP)
    stop = threading.Event()
    loop = threading.Thread(target=rig.uplink.run, args=(stop,))
    loop.start()
    for token in tokens:
        rig.uplink.report(Delivered(token))
    assert marked.wait(10)
    stop.set()
    rig.uplink.wake()
    loop.join(10)
    assert not loop.is_alive()
    assert rig.marked() == rows


def test_the_next_rows_are_read_while_the_window_is_full() -> None:
    rig = Rig(window=4, chunk_rows=5)
    rig.rows(20)
    out = rig.turn(UP)
    before = rig.spool.pending_calls
    assert before == 2
    rig.deliver(out)
    assert rig.spool.pending_calls == before + 1
    rig.turn()
    assert rig.spool.pending_calls == before + 1


def answer(rig: Rig, delivered: threading.Event, token: int) -> bool:
    rig.uplink.report(Delivered(token))
    if token == 500:
        delivered.set()
    return True
