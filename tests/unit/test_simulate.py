"""Simulated boards: what is drawn, what is kept in memory, and the thread that drives them."""

import random
import socket
import threading
from collections import Counter
from datetime import UTC, datetime

import pytest

from agent.core.outgoing import Incoming, Kind, Outgoing, Place
from agent.core.update import ModelRef
from agent.errors import Permanent, Retryable
from agent.simulate.config import Badness, Simulation, read
from agent.simulate.liar import Liar, Lie
from agent.simulate.manner import character
from agent.simulate.memory import MemoryInbox, MemorySpool
from agent.simulate.models import INSTALLED, NoStore, SimulatedModels
from agent.simulate.pictures import CAMERA, Inspection, Moment, frame_of, origin_of, result_of
from agent.simulate.reactor import Reactor
from schemas.codes import FailureCode
from schemas.recipe import Evaluation
from schemas.result import Result, ResultState
from schemas.state import Phase, ReportedModel
from schemas.status import Location
from schemas.target import Target
from schemas.topics import Topics

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD, BAD = ModelRef("pcb", "1", "1" * 64), ModelRef("pcb", "2", "2" * 64)
TOPICS = Topics("s", "n")


def simulation(**changed: object) -> Simulation:
    return Simulation.model_validate({"nodes": 400, **changed})


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", "configuration"),
        ('{"nodes": 0}', "nodes"),
        ('{"nodes": 1, "socs": {"rk9999": 1}}', "socs"),
        ('{"nodes": 1, "socs": {"rk3588": 0}}', "socs"),
        ('{"nodes": 1, "socs": {"rk3588": 2, "cpu": -1}}', "socs"),
        ('{"nodes": 1, "badModels": {"pcb": "ng"}}', "badModels"),
        ('{"nodes": 1, "badModels": {"pcb@1": "sad"}}', "badModels.pcb@1"),
        ('{"nodes": 1, "shares": {"lie": 2}}', "shares.lie"),
        ('{"nodes": 1, "trust": {"root": "/r"}}', "trust"),
        ('{"nodes": 1, "noods": 2}', "noods"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_with_the_field(text: str, field: str) -> None:
    with pytest.raises(Permanent) as caught:
        read(text)
    assert caught.value.code is FailureCode.CONFIG_INVALID
    assert field in caught.value.text


def test_a_board_is_the_same_in_every_process() -> None:
    whole, part = simulation(), simulation(first=101, nodes=100)
    assert part.names() == whole.names()[100:200]
    assert [character(part, name) for name in part.names()] == [character(whole, name) for name in part.names()]
    other = simulation(seed=2)
    assert [character(other, name) for name in part.names()] != [character(part, name) for name in part.names()]


def test_socs_and_misbehaviour_come_in_the_shares_that_were_asked_for() -> None:
    asked = simulation(socs={"rk3588": 3, "rk3576": 1}, shares={"flap": 0.2, "silent": 0.1, "lie": 0.1})
    boards = [character(asked, name) for name in asked.names()]
    targets = Counter(board.target for board in boards)
    assert set(targets) == {Target.RK3588, Target.RK3576}
    assert 230 < targets[Target.RK3588] < 370
    counts = [sum(getattr(b, f"is_{how}") for b in boards) for how in ("flapping", "silent", "lying")]
    assert all(low < count < high for count, (low, high) in zip(counts, [(50, 110), (20, 62), (20, 62)], strict=True))
    assert all(b.is_flapping + b.is_silent + b.is_lying <= 1 for b in boards)


@pytest.mark.parametrize(
    ("badness", "evaluation", "share"),
    [
        (None, Evaluation.OK, 0.85),
        (Badness.NG, Evaluation.NOT_OK, 0.8),
        (Badness.FAULT, Evaluation.UNDEFINED, 0.1),
        (Badness.SLOW, Evaluation.OK, 0.85),
    ],
)
def test_a_bad_model_does_badly_and_the_others_do_not(
    badness: Badness | None, evaluation: Evaluation, share: float
) -> None:
    bad = {} if badness is None else {"pcb@2": badness}
    board = character(simulation(badModels=bad), "sim-1")
    drawn = board.manner_of(BAD).draw(random.Random(1), 1000)
    assert sum(each is evaluation for each, _ in drawn) > share * 1000
    well = board.manner_of(GOOD).draw(random.Random(1), 1000)
    assert sum(each is Evaluation.UNDEFINED for each, _ in well) == 0
    ratio = sum(ms for _, ms in drawn) / sum(ms for _, ms in well)
    assert ratio == pytest.approx(3.0 if badness is Badness.SLOW else 1.0, rel=0.05)


@pytest.mark.parametrize(
    ("evaluation", "state", "defects"),
    [
        (Evaluation.OK, ResultState.COMPLETED, range(1)),
        (Evaluation.NOT_OK, ResultState.COMPLETED, range(1, 4)),
        (Evaluation.NOT_DECIDABLE, ResultState.COMPLETED, range(1, 2)),
        (Evaluation.UNDEFINED, ResultState.FAILED, range(1)),
    ],
)
def test_a_result_is_one_that_an_mes_can_read(evaluation: Evaluation, state: ResultState, defects: range) -> None:
    models = SimulatedModels(character(simulation(), "sim-1"), NoStore(), are_whole=False)
    station = Location(site="s", node="n")
    chance = random.Random(7)
    for number in range(1, 30):
        frame = frame_of(Moment(NOW, 1.0, number))
        fitted = result_of(Inspection(evaluation, 9.0), frame, models.info(GOOD), origin_of(station), chance)
        result = Result.model_validate_json(fitted.placed("boot", number))
        assert (result.result_evaluation, result.result_state) == (evaluation, state)
        assert result.summary.defect_count in defects
        assert (result.sequence_number, result.station.camera, result.is_simulated) == (number, CAMERA, True)


def message(text: str) -> Outgoing:
    return Outgoing("t", text.encode())


def test_the_spool_gives_results_again_as_long_as_it_remembers_them() -> None:
    spool = MemorySpool(lambda: NOW)
    rows = [spool.append(Kind.RESULT, message(f"{n}"), Place("boot", n)) for n in range(1, 301)]
    spool.sent(rows[:-1])
    assert [each.message.payload for each in spool.pending(0, 9)] == [b"300"]
    assert spool.depth().pending_results == 1
    assert spool.replay("boot", 99, 101) == [100, 101]
    assert spool.replay("boot", 300, 400) == [300]
    assert spool.replay("other", 1, 400) == []
    assert {each.message.payload for each in spool.pending(rows[-1], 9)} == {b"100", b"101"}
    assert spool.pending(0, 1)[0].row == rows[-1]


def test_a_spool_that_nobody_empties_drops_telemetry_then_events_and_never_a_result() -> None:
    spool = MemorySpool(lambda: NOW)
    for kind, count in ((Kind.EVENT, 1), (Kind.TELEMETRY, 1), (Kind.RESULT, 1998)):
        for number in range(count):
            spool.append(kind, message("m"), Place("boot", number + 1) if kind is Kind.RESULT else None)
    spool.append(Kind.RESULT, message("m"), Place("boot", 1999))
    assert Kind.TELEMETRY not in {each.kind for each in spool.pending(0, 5000)}
    spool.append(Kind.RESULT, message("m"), Place("boot", 2000))
    with pytest.raises(Retryable) as caught:
        spool.append(Kind.RESULT, message("m"), Place("boot", 2001))
    assert caught.value.code is FailureCode.SPOOL_FULL
    assert (spool.depth().pending_results, spool.depth().dropped_telemetry) == (2000, 2)


def test_the_inbox_keeps_messages_until_they_are_answered_and_counts_sessions_on() -> None:
    inbox = MemoryInbox(1000)
    rows = [inbox.put(Incoming("t", b"%d" % n, NOW)) for n in range(3)]
    inbox.finish(rows[1], "id", b"reply")
    assert [each.row for each in inbox.waiting()] == [rows[0], rows[2]]
    assert (inbox.reply_to("id"), inbox.reply_to("other")) == (b"reply", None)
    assert [inbox.next_session() for _ in range(2)] == [1001, 1002]
    for _ in range(998):
        inbox.put(Incoming("t", b"", NOW))
    with pytest.raises(Retryable):
        inbox.put(Incoming("t", b"", NOW))


@pytest.mark.parametrize("seed", range(12))
def test_a_liar_says_what_is_not_so_and_only_of_its_model(seed: int) -> None:
    said: list[Outgoing] = []
    liar = Liar(random.Random(seed), TOPICS, said.append)
    first = ReportedModel(
        observed_generation=0, phase=Phase.COMMITTED, time=NOW, name="old", version="1", sha256="0" * 64
    )
    truth = first.model_copy(
        update={"observed_generation": 3, "phase": Phase.ROLLED_BACK, "measured": {"shadowAgreement": 0.4}}
    )
    for report in (first, truth):
        liar.publish(Outgoing(TOPICS.reported("model"), report.to_json(), retain=True))
    other = Outgoing(TOPICS.info, b"{}", retain=True)
    liar.publish(other)
    told = ReportedModel.model_validate_json(said[1].payload)
    assert told != truth
    assert said[1].retain
    assert said[2] is other


def test_all_lies_are_told_by_somebody() -> None:
    assert {random.Random(seed).choice(list(Lie)) for seed in range(12)} == set(Lie)


def test_a_model_whose_golden_frames_do_not_agree_sees_nothing_in_them() -> None:
    board = character(simulation(badModels={"pcb@2": "selftest"}), "sim-1")
    models = SimulatedModels(board, NoStore(), are_whole=False)
    (golden,) = models.golden(models.open(INSTALLED))
    good, bad = (models.load("core-0", ref, models.open(ref)).segmenter for ref in (GOOD, BAD))
    assert (good.segment(golden.inputs).class_map == golden.class_map).all()
    assert not bad.segment(golden.inputs).class_map.any()


def test_the_reactor_runs_calls_of_any_thread_times_and_sockets_on_its_own() -> None:
    reactor, stop, threads = Reactor(), threading.Event(), []
    seen: list[str] = []
    ours, theirs = socket.socketpair()

    def note(what: str) -> None:
        threads.append(threading.get_ident())
        seen.append(what)

    def read_all(_events: int) -> None:
        note(ours.recv(10).decode())
        reactor.forget(ours)
        ours.close()
        reactor.later(0.02, lambda: note("late"))
        reactor.later(0.01, lambda: note("soon"))
        reactor.later(0.03, stop.set)

    reactor.watch(ours, read_all)
    thread = threading.Thread(target=reactor.run, args=(stop,))
    thread.start()
    reactor.call(lambda: note("call"))
    reactor.call(lambda: theirs.sendall(b"bytes"))
    thread.join(10)
    reactor.close()
    theirs.close()
    assert not thread.is_alive()
    assert seen == ["call", "bytes", "soon", "late"]
    assert set(threads) == {thread.ident}


def test_a_socket_that_is_closed_already_can_be_forgotten() -> None:
    reactor = Reactor()
    ours, theirs = socket.socketpair()
    reactor.watch(ours, lambda _events: None)
    ours.close()
    reactor.forget(ours)
    reactor.forget(ours)
    theirs.close()
    reactor.close()
