"""Configuration from afar: its messages, its table, and a world in which it crashes after every step."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.core import desired_config as c
from agent.core.command import Refusal
from agent.core.desired_config import Configuration, Effect, Version, step
from agent.core.outgoing import Incoming
from schemas.codes import FailureCode
from schemas.command import Failure
from schemas.state import DesiredConfig, Phase

AT = datetime(2026, 1, 1, tzinfo=UTC)
V, P, C, R, B = Phase.VERIFYING, Phase.PROBATION, Phase.COMMITTED, Phase.REJECTED, Phase.ROLLED_BACK


def message(payload: bytes) -> Incoming:
    return Incoming("rkfleet/v1/a/b/desired/config", payload, AT, retain=True)


def config(number: int) -> dict[str, Any]:
    return {"telemetry": {"interval_s": number}}


def desired(generation: int, number: int | None = None) -> DesiredConfig:
    return DesiredConfig(generation=generation, config=config(generation if number is None else number))


def version(generation: int) -> Version:
    return Version.of(desired(generation))


@pytest.mark.parametrize(
    ("payload", "code", "said"),
    [
        pytest.param(b"", FailureCode.MESSAGE_MALFORMED, "not JSON", id="nothing"),
        pytest.param(b"\xff\xfe", FailureCode.MESSAGE_MALFORMED, "not JSON", id="no text"),
        pytest.param(b'{"generation":1,"config":{"a":"\\ud800"}}', FailureCode.MESSAGE_MALFORMED, "", id="surrogate"),
        pytest.param(b'{"generation":1,"config":' + b'{"a":' * 500 + b"1" + b"}" * 501,
                     FailureCode.MESSAGE_MALFORMED, "recursion", id="deep"),
        pytest.param(b"[]", FailureCode.CONFIG_INVALID, "no JSON object", id="a list"),
        pytest.param(b'{"config":{}}', FailureCode.CONFIG_INVALID, "generation: Field required", id="no number"),
        pytest.param(b'{"generation":0,"config":{}}', FailureCode.CONFIG_INVALID, "generation:", id="number zero"),
        pytest.param(b'{"generation":1,"config":[]}', FailureCode.CONFIG_INVALID, "config:", id="config is a list"),
        pytest.param(b'{"generation":1,"config":{},"x":1}', FailureCode.CONFIG_INVALID, "x: Extra", id="misspelt"),
        pytest.param(b'{"generation":1,"config":{"a":NaN}}', FailureCode.CONFIG_INVALID, "NaN", id="NaN"),
        pytest.param(b'{"generation":1,"config":{"a":[1e999]}}', FailureCode.CONFIG_INVALID, "Infinity", id="infinite"),
        pytest.param(b" " * (c.MAX_BYTES + 1), FailureCode.MESSAGE_TOO_LARGE, "at most", id="too large"),
        pytest.param(b'{"generation":1,"config":{"a":[' + b"1e9," * 50_000 + b"1]}}",
                     FailureCode.MESSAGE_TOO_LARGE, "config:", id="grows when it is written"),
    ],
)  # fmt: skip
def test_what_is_no_desired_configuration_is_refused_in_words(payload: bytes, code: FailureCode, said: str) -> None:
    refusal = c.read(message(payload))
    assert isinstance(refusal, Refusal)
    assert refusal.code is code
    assert said in refusal.text


def test_a_desired_configuration_is_read_as_it_is() -> None:
    payload = b'{"schema":"rkfleet.desired.config/1","generation":3,"config":{"timezone":"UTC"}}'
    assert c.read(message(payload)) == DesiredConfig(generation=3, config={"timezone": "UTC"})


@given(st.binary(max_size=200))
def test_no_bytes_make_reading_raise(payload: bytes) -> None:
    assert isinstance(c.read(message(payload)), (Refusal, DesiredConfig))


def test_the_fingerprint_is_that_of_canonical_json() -> None:
    assert c.fingerprint({"b": 1, "a": "ü"}) == c.fingerprint({"a": "ü", "b": 1})
    assert c.fingerprint({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # sha256 of {}


REFUSED = c.Refused(FailureCode.CONFIG_INVALID, "camera.0.source: no")
FAILED = c.Failed(FailureCode.PROBATION_FAILED, "camera side: camera-absent \udce4")
KILLED, STOPPED = c.Booted(is_clean=False), c.Booted(is_clean=True)
UNUSABLE = c.Unusable(FailureCode.CONFIG_INVALID, "the board's own file has changed")
ONE, TWO = c.Desired(desired(1)), c.Desired(desired(2))
KEPT: list[c.Event] = [ONE, c.Verified(), c.Passed()]


def drive(*events: c.Event) -> tuple[Configuration, tuple[Effect, ...]]:
    now, effects = Configuration(), tuple[Effect, ...]()
    for event in events:
        now, effects = step(c.load(c.dump(now)), event)
    return now, effects


@pytest.mark.parametrize(
    ("events", "phase", "runs", "effects"),
    [
        pytest.param([ONE], V, 0, ["Verify"], id="looked at first"),
        pytest.param([ONE, REFUSED], R, 0, [], id="invalid: never runs"),
        pytest.param([ONE, c.Verified()], P, 1, ["Apply"], id="valid: on probation"),
        pytest.param([ONE, c.Verified(), REFUSED], R, 0, ["Restore"], id="does not fit the model"),
        pytest.param([ONE, c.Verified(), FAILED], B, 0, ["Restore"], id="unhealthy"),
        pytest.param(KEPT, C, 1, [], id="healthy: kept"),
        pytest.param([*KEPT, STOPPED], C, 1, ["Restore"], id="kept over restarts"),
        pytest.param([*KEPT, KILLED, KILLED], C, 1, ["Restore"], id="kept over two crashes"),
        pytest.param([*KEPT, *[KILLED] * 3], B, 0, ["Restore"], id="crash loop of what is not proved"),
        pytest.param([*KEPT, KILLED, KILLED, STOPPED, KILLED, KILLED], C, 1, ["Restore"], id="crashes not in a row"),
        pytest.param([*KEPT, c.Settled(), *[KILLED] * 9], C, 1, ["Restore"], id="crashes of what is proved"),
        pytest.param([*KEPT, c.Settled(), TWO, c.Verified(), c.Passed(), *[KILLED] * 3], B, 1, ["Restore"],
                     id="a crash loop goes back to the last that was proved"),
        pytest.param([*KEPT, TWO, c.Verified(), KILLED], B, 1, ["Restore"], id="killed on probation"),
        pytest.param([*KEPT, TWO, c.Verified(), STOPPED], P, 2, ["Apply"], id="stopped on probation: begins again"),
        pytest.param([ONE, KILLED], V, 0, ["Verify"], id="killed while it was looked at"),
        pytest.param([ONE, KILLED, KILLED, KILLED], B, 0, ["Restore"], id="looking at it kills"),
        pytest.param([ONE, c.Verified(), TWO], V, 0, ["Restore", "Verify"], id="newer: the old one comes back first"),
        pytest.param([*KEPT, TWO, c.Verified(), c.Desired(desired(3, 1))], C, 1, ["Restore"], id="newer names current"),
        pytest.param([*KEPT, c.Desired(desired(9, 1))], C, 1, [], id="the same configuration under a new number"),
        pytest.param([TWO, REFUSED, ONE], R, 0, [], id="stale"),
        pytest.param([ONE, REFUSED, ONE], R, 0, [], id="rejected is rejected"),
        pytest.param([ONE, c.Verified(), FAILED, c.Desired(desired(1, 7))], B, 0, [], id="another under its number"),
        pytest.param([*KEPT, UNUSABLE], B, 0, ["Restore"], id="own file changed under it"),
        pytest.param([*KEPT, TWO, c.Verified(), UNUSABLE], P, 2, [], id="own file changed, candidate fits"),
        pytest.param([STOPPED], C, 0, ["Restore"], id="a board that never heard of it"),
        pytest.param([c.Settled()], C, 0, [], id="nothing to settle"),
    ],
)  # fmt: skip
def test_a_configuration_ends(events: list[c.Event], phase: Phase, runs: int, effects: list[str]) -> None:
    now, last = drive(*events)
    running = c.running(now)
    assert (now.phase, running.generation if running else 0, list(last)) == (phase, runs, effects)


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([ONE, REFUSED], FailureCode.CONFIG_INVALID),
        ([ONE, c.Verified(), FAILED], FailureCode.PROBATION_FAILED),
        ([ONE, c.Verified(), KILLED], FailureCode.PROBATION_FAILED),
        ([*KEPT, *[KILLED] * 3], FailureCode.CRASH_LOOP),
        ([ONE, REFUSED, TWO], None),
        (KEPT, None),
    ],
)
def test_the_report_says_why(events: list[c.Event], code: FailureCode | None) -> None:
    now, _ = drive(*events)
    report = c.report(now, AT)
    assert (report.last_error.code if report.last_error else None) == code
    assert report.observed_generation == now.generation
    running = c.running(now)
    assert report.sha256 == (running.sha256 if running else None)
    assert report.to_json()


@pytest.mark.parametrize("event", [c.Verified(), c.Passed(), REFUSED, FAILED, UNUSABLE])
def test_what_cannot_happen_is_the_callers_bug(event: c.Event) -> None:
    with pytest.raises(c.IllegalMove):
        step(Configuration(), event)


GOOD = c.dump(drive(*KEPT, TWO)[0])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"VERIFYING"', b'"COMMITTED"'),
        (b'"VERIFYING"', b'"SHADOW"'),
        (b'"VERIFYING"', b'"DANCING"'),
        (b'"interval_s":2', b'"interval_s":3'),
        (b'"interval_s":1', b'"interval_s":NaN'),
        (b'"generation":2,"sha256"', b'"generation":3,"sha256"'),
        (b'"unclean_starts":0', b'"unclean_starts":-1'),
        (b'"unclean_starts":0', b'"unclean_starts":0,"later":1'),
        (b"rkfleet.configuration/1", b"rkfleet.configuration/2"),
        (b"}", b"}" + b" " * 1_000_001),
        (b"{", b""),
    ],
)
def test_a_journal_that_contradicts_itself_is_refused(old: bytes, new: bytes) -> None:
    assert old in GOOD
    with pytest.raises(c.BadJournal, match=r".+"):
        c.load(GOOD.replace(old, new))


@given(st.binary(max_size=200))
def test_no_bytes_make_loading_raise_anything_else(content: bytes) -> None:
    with pytest.raises(c.BadJournal):
        c.load(content)


def test_three_configurations_of_the_greatest_size_fit_in_a_journal() -> None:
    texts = [f"{number}" * (c.MAX_BYTES - 20) for number in range(3)]
    wanted = [c.read(message(b'{"generation":%d,"config":{"a":"%s"}}' % (number + 1, text[:-60].encode())))
              for number, text in enumerate(texts)]  # fmt: skip
    versions = [Version.of(one) for one in wanted if isinstance(one, DesiredConfig)]
    state = Configuration(
        current=versions[1],
        last_good=versions[0],
        candidate=versions[2],
        generation=3,
        sha256=versions[2].sha256,
        phase=P,
        last_error=Failure(code=FailureCode.CRASH_LOOP, text="x" * 500),
    )
    assert c.load(c.dump(state)) == state


class Killed(Exception):
    pass


@dataclass
class World:
    """The board around the machine. `crash_in` steps from now (a write or an effect) the process dies before it."""

    journal: bytes | None = None
    now: Configuration | None = None
    runs: int = 0
    """The number of the configuration; 0 is the board's own."""
    crash_in: int | None = None

    def boot(self, *, clean: bool) -> None:
        self.runs = -1
        self.now = Configuration() if self.journal is None else c.load(self.journal)
        self.happen(c.Booted(is_clean=clean))
        if self.runs == -1:  # VERIFYING has no effect that makes anything run
            self.runs = number(self.now.current)

    def happen(self, event: c.Event) -> tuple[Effect, ...]:
        assert self.now is not None
        later, effects = step(self.now, event)
        if later != self.now:
            self.die_perhaps()
            self.journal = c.dump(later)
        self.now = later
        for effect in effects:
            self.die_perhaps()
            self.perform(effect)
        return effects

    def perform(self, effect: Effect) -> None:
        assert self.now is not None
        if effect is Effect.APPLY:
            assert self.now.candidate is not None
            self.runs = number(self.now.candidate)
        if effect is Effect.RESTORE:
            self.runs = number(self.now.current)

    def die_perhaps(self) -> None:
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                self.crash_in = None
                raise Killed


def number(one: Version | None) -> int:
    return 0 if one is None else int(one.config["telemetry"]["interval_s"])


CRASHES = st.sampled_from([None, None, None, 0, 1, 2])
BAD = 3
"""The number of the configuration that no board takes."""


class Board(RuleBasedStateMachine):
    """Ghosts: `kept` holds what has passed a probation, `over` the generations that must never run again."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.alive = False
        self.kept = {0}
        self.over: set[int] = set()
        self.streak = 0

    @initialize()
    def install(self) -> None:
        self.boot(clean=True, crash=None)

    def _do(self, event: c.Event, crash: int | None) -> bool:
        """False where the board died on the way."""
        self.world.crash_in = crash
        try:
            self.world.happen(event)
        except Killed:
            self.alive = False
        finally:
            self.world.crash_in = None
        return self.alive

    @precondition(lambda self: not self.alive)
    @rule(clean=st.just(False), crash=CRASHES)
    def boot(self, clean: bool, crash: int | None) -> None:
        world, before = self.world, self.world.journal
        world.crash_in = crash
        try:
            world.boot(clean=clean)
            self.alive = True
        except Killed:
            pass
        finally:
            world.crash_in = None
        if world.journal is not None and world.journal != before:
            self.streak = 0 if clean else self.streak + 1
            now = c.load(world.journal)
            if self.streak >= c.MOST_UNCLEAN_STARTS:
                assert now.current == now.last_good
                assert now.candidate is None

    @precondition(lambda self: self.alive)
    @rule()
    def stop_in_good_order(self) -> None:
        was_on_probation = self._now.phase is P
        runs = self.world.runs
        self.alive = False
        self.boot(clean=True, crash=None)
        assert self.world.runs == runs
        assert (self._now.phase is P) == was_on_probation

    @precondition(lambda self: self.alive)
    @rule()
    def kill(self) -> None:
        self.alive = False

    @precondition(lambda self: self.alive)
    @rule(newer=st.sampled_from([-1, 0, 1, 1, 1, 5]), which=st.integers(1, 4), crash=CRASHES)
    def desire(self, newer: int, which: int, crash: int | None) -> None:
        now, before = self._now, self.world.runs
        wanted = desired(max(1, now.generation + newer), which)
        self._do(c.Desired(wanted), crash)
        if self.world.journal is not None and c.load(self.world.journal).generation != now.generation:
            self.streak = 0 if now.current == now.last_good else self.streak
        if wanted.generation <= now.generation:
            assert (self._now, self.world.runs) == (now, before)

    @precondition(lambda self: self.alive and self._now.phase is V)
    @rule(crash=CRASHES)
    def verify(self, crash: int | None) -> None:
        assert self._now.candidate is not None
        is_bad = number(self._now.candidate) == BAD
        self._do(REFUSED if is_bad else c.Verified(), crash)

    @precondition(lambda self: self.alive and self._now.phase is P)
    @rule(outcome=st.sampled_from([c.Passed(), c.Passed(), FAILED, REFUSED]), crash=CRASHES)
    def prove(self, outcome: c.Event, crash: int | None) -> None:
        candidate, before = self._now.candidate, self.world.journal
        self._do(outcome, crash)
        if isinstance(outcome, c.Passed) and self.world.journal != before:
            self.kept.add(number(candidate))
            self.streak = 0

    @precondition(lambda self: self.alive)
    @rule(crash=CRASHES)
    def settle(self, crash: int | None) -> None:
        before = self.world.journal
        self._do(c.Settled(), crash)
        if self.world.journal != before:
            self.streak = 0

    @precondition(lambda self: self.alive)
    @rule()
    def effects_again(self) -> None:
        before = replace(self.world)
        self.world.perform(Effect.APPLY if self._now.phase is P else Effect.RESTORE)
        assert self.world == before

    @property
    def _now(self) -> Configuration:
        assert self.world.now is not None
        return self.world.now

    @invariant()
    def what_runs_is_kept_or_on_probation(self) -> None:
        if not self.alive:
            return
        assert self.world.runs == number(c.running(self._now))
        assert self.world.runs != BAD
        if self._now.phase is P:
            assert self._now.generation not in self.over
        else:
            assert self.world.runs in self.kept

    @invariant()
    def what_is_durable_is_right(self) -> None:
        if self.world.journal is None:
            return
        now = c.load(self.world.journal)
        assert {number(now.current), number(now.last_good)} <= self.kept
        if now.phase in c.ENDS:
            self.over.add(now.generation)
        else:
            assert now.generation not in self.over


TestBoard = Board.TestCase
TestBoard.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
