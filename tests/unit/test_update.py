"""The update machine: its table, every state it can be in, and a world in which it crashes after every step."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.core import update as u
from agent.core.update import Effect, Update, machine, step
from schemas.codes import FailureCode
from schemas.state import Defer, DesiredModel, Phase, ShadowPlan
from tools import diagram

AT = datetime(2026, 1, 1, tzinfo=UTC)
MODELS = tuple(u.ModelRef(f"m{i}", "1", f"{i}" * 64) for i in range(4))
WORK: dict[Effect, type[u.Due | u.Fetched | u.Verified | u.Loaded | u.SelfTested | u.Shadowed | u.PassedProbation]] = {
    Effect.WAIT: u.Due,
    Effect.PAUSE: u.Due,
    Effect.FETCH: u.Fetched,
    Effect.VERIFY: u.Verified,
    Effect.LOAD: u.Loaded,
    Effect.LOAD_ALONE: u.Loaded,
    Effect.SELF_TEST: u.SelfTested,
    Effect.START_SHADOW: u.Shadowed,
    Effect.FLIP: u.PassedProbation,
}
CAN_FAIL = set(WORK) - {Effect.WAIT, Effect.PAUSE}


def desired(model: int, generation: int, *, shadow: bool = False) -> DesiredModel:
    ref = MODELS[model]
    plan = ShadowPlan(frames=5, least_agreement=0.9) if shadow else None
    return DesiredModel(
        generation=generation,
        name=ref.name,
        version=ref.version,
        manifest_sha256=ref.manifest_sha256,
        urls=["http://h"],
        shadow=plan,
    )


def failed(work: int, *, retryable: bool = False) -> u.Failed:
    return u.Failed(work, {"x": float("nan"), "y": 1.0}, FailureCode.NPU_FAULT, "why \udce4", is_retryable=retryable)


def outcomes(effect: Effect, work: int) -> Iterator[u.Event]:
    yield WORK[effect](work)
    if effect in CAN_FAIL:
        yield failed(work)
        yield failed(work, retryable=True)
    if effect in {Effect.LOAD, Effect.LOAD_ALONE}:
        yield u.Crowded(work)


class Killed(Exception):
    pass


@dataclass
class World:
    """The board around the machine. `crash_in` steps from now (a write or an effect) the process dies before it."""

    journal: Update | None = None
    store: frozenset[u.ModelRef] = frozenset(MODELS[:1])
    now: Update | None = None
    children: frozenset[u.ModelRef] = frozenset()
    inspects: u.ModelRef | None = None
    pending: tuple[Effect, int] | None = None
    last_effects: tuple[Effect, ...] = ()
    crash_in: int | None = None

    def boot(self, *, clean: bool) -> None:
        self.children, self.inspects, self.pending, self.last_effects = frozenset(), None, None, ()
        before = self.journal or u.first(MODELS[0])
        self.now, effects = step(before, u.Booted(clean))
        self._write()
        assert self.now.current in self.store
        self.children, self.inspects = frozenset({self.now.current}), self.now.current
        self._perform(effects)

    def happen(self, event: u.Event) -> tuple[Effect, ...]:
        assert self.now is not None
        before = self.now
        self.now, effects = step(before, event)
        if self.now != before:
            self._write()
        self._perform(effects)
        return effects

    def succeed(self, effect: Effect) -> None:
        """What the outside did before a good outcome."""
        assert self.now is not None
        candidate = self.now.candidate
        assert candidate is not None
        if effect is Effect.FETCH:
            self.store |= {candidate}
        if effect in {Effect.LOAD, Effect.LOAD_ALONE}:
            self.children |= {candidate}

    def repeat(self) -> None:
        for effect in self.last_effects:
            self._run(effect)

    def _die_perhaps(self) -> None:
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                self.crash_in = None
                raise Killed

    def _write(self) -> None:
        assert self.now is not None
        self._die_perhaps()
        self.journal = self.now

    def _perform(self, effects: tuple[Effect, ...]) -> None:
        if effects:
            self.last_effects = effects
        for effect in effects:
            self._die_perhaps()
            self._run(effect)
        self._die_perhaps()

    def _run(self, effect: Effect) -> None:
        now = self.now
        assert now is not None
        if effect in WORK:
            assert now.candidate is not None
            self.pending = (effect, now.work)
        else:
            self.pending = None
        if effect in {Effect.VERIFY, Effect.LOAD, Effect.LOAD_ALONE}:
            assert now.candidate in self.store
        if effect in {Effect.SELF_TEST, Effect.START_SHADOW, Effect.FLIP}:
            assert now.candidate in self.children
        if effect is Effect.START_SHADOW:
            assert now.current in self.children
        if effect is Effect.LOAD_ALONE:
            self.children, self.inspects = self.children - {now.current}, None
        if effect is Effect.FLIP:
            self.inspects = now.candidate
        if effect in {Effect.COMMIT, Effect.RESTORE}:
            assert now.current in self.store
            self.children, self.inspects = frozenset({now.current}), now.current
        if effect is Effect.DISCARD:
            self.children &= {now.current}
            assert self.inspects == now.current
        if effect is Effect.COMMIT:
            self.store = frozenset(ref for ref in self.store if ref.manifest_sha256 in u.kept(now))


CRASHES = st.sampled_from([None, None, None, 0, 1, 2, 3])


class Board(RuleBasedStateMachine):
    """Ghosts: `passed` holds what may inspect unwatched, `over` the generations that must never be worked on again."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.alive = False
        self.passed = {MODELS[0]}
        self.over: set[int] = set()
        self.streak = 0
        self.generation = 0

    @initialize()
    def install(self) -> None:
        self.boot(clean=True, crash=None)

    def _do(self, event: u.Event, crash: int | None) -> tuple[Effect, ...]:
        self.world.crash_in = crash
        try:
            return self.world.happen(event)
        except Killed:
            self.alive = False
            return ()
        finally:
            self.world.crash_in = None

    @precondition(lambda self: not self.alive)
    @rule(clean=st.just(False), crash=CRASHES)
    def boot(self, clean: bool, crash: int | None) -> None:
        world, before = self.world, self.world.journal
        world.crash_in = crash
        try:
            world.boot(clean=clean)
            self.alive = True
            assert world.now is not None
            assert world.inspects in {world.now.current, world.now.last_good}
        except Killed:
            pass
        finally:
            world.crash_in = None
        if (now := world.journal) and now != before:
            self.streak = 0 if clean else self.streak + 1
            assert self.streak < u.MOST_UNCLEAN_STARTS or now.current == now.last_good

    @precondition(lambda self: self.alive)
    @rule()
    def stop_cleanly(self) -> None:
        self.alive = False
        self.boot(clean=True, crash=None)

    @precondition(lambda self: self.alive)
    @rule(model=st.integers(0, 3), newer=st.sampled_from([-1, 0, 1, 1, 1, 7]), shadow=st.booleans(), crash=CRASHES)
    def desire(self, model: int, newer: int, shadow: bool, crash: int | None) -> None:
        now = self.world.now
        assert now is not None
        wanted = desired(model, max(1, now.generation + newer), shadow=shadow)
        effects = self._do(u.Desired(wanted), crash)
        if wanted.generation < now.generation or (wanted.generation == now.generation and now.phase != Phase.FAILED):
            assert self.world.now == now
            assert effects == ()

    @precondition(lambda self: self.alive and self.world.pending)
    @rule(luck=st.sampled_from([0, 0, 0, 0, 1, 2, 2, 3]), crash=CRASHES)
    def outcome(self, luck: int, crash: int | None) -> None:
        assert self.world.pending is not None
        effect, work = self.world.pending
        events = list(outcomes(effect, work))
        event = events[luck % len(events)]
        if event == events[0]:
            self.world.succeed(effect)
        now, before = self.world.now, self.world.journal
        assert now is not None
        self._do(event, crash)
        if isinstance(event, u.PassedProbation) and self.world.journal != before:
            assert now.candidate is not None
            self.passed.add(now.candidate)
            self.streak = 0

    @precondition(lambda self: self.alive)
    @rule(older=st.integers(1, 5), effect=st.sampled_from(sorted(WORK)))
    def late_outcome(self, older: int, effect: Effect) -> None:
        now = self.world.now
        assert now is not None
        for event in outcomes(effect, now.work - older):
            assert self._do(event, None) == ()
        assert self.world.now == now

    @precondition(lambda self: self.alive)
    @rule(older=st.integers(0, 1), crash=CRASHES)
    def cancel(self, older: int, crash: int | None) -> None:
        now = self.world.now
        assert now is not None
        self._do(u.Canceled(now.generation - older), crash)

    @precondition(lambda self: self.alive)
    @rule(model=st.integers(0, 3), crash=CRASHES)
    def settle(self, model: int, crash: int | None) -> None:
        before = self.world.journal
        self._do(u.Settled(MODELS[model].manifest_sha256), crash)
        if self.world.journal != before:
            self.streak = 0

    @precondition(lambda self: self.alive and self.world.now.current != self.world.now.last_good)
    @rule(crash=CRASHES)
    def current_rots(self, crash: int | None) -> None:
        now = self.world.now
        assert now is not None
        self._do(u.Unusable(now.current.manifest_sha256, FailureCode.MODEL_MISSING, "gone"), crash)

    @precondition(lambda self: self.alive)
    @rule()
    def effects_again(self) -> None:
        before = replace(self.world)
        self.world.repeat()
        assert self.world == before

    @invariant()
    def what_is_durable_is_right(self) -> None:
        now = self.world.journal
        if now is None:
            return
        assert u.load(u.dump(now)) == now
        assert {now.current, now.last_good} <= self.passed
        assert {now.current, now.last_good} <= self.world.store
        assert now.generation >= self.generation
        self.generation = now.generation
        if now.phase in u.ENDS - {Phase.FAILED}:
            self.over.add(now.generation)
        else:
            assert now.phase is Phase.FAILED or now.generation not in self.over

    @invariant()
    def something_known_inspects(self) -> None:
        if not self.alive:
            return
        world, now = self.world, self.world.now
        assert now is not None
        assert world.inspects == u.inspecting(now)
        assert world.inspects in world.children or (now.alone and now.phase in {Phase.LOADING, Phase.SELF_TEST})
        assert (world.pending is None) == (now.phase in u.ENDS), "an update that nothing moves on"
        assert world.pending is None or world.pending[1] == now.work

    def teardown(self) -> None:
        """Every update ends, however often it fails in a way that may pass."""
        if not self.alive:
            self.boot(clean=False, crash=None)
        for _ in range(3 * u.MOST_ATTEMPTS):
            if self.world.pending is None:
                return
            effect, work = self.world.pending
            self._do(failed(work, retryable=True) if effect in CAN_FAIL else u.Due(work), None)
        raise AssertionError(f"still in {self.world.now}")


TestBoard = Board.TestCase
TestBoard.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


def key(world: World, is_alive: bool) -> Hashable:
    """What decides the future: numbers that only grow are left out. A dead world is its disk."""
    disk = _form(world.journal), world.store
    if not is_alive:
        return disk
    return *disk, _form(world.now), world.children, world.inspects, world.pending and world.pending[0]


def _form(now: Update | None) -> Hashable:
    if now is None:
        return None
    refs = now.current, now.last_good, now.candidate
    wanted = now.desired and (now.desired.name, now.desired.shadow is not None)
    return *refs, wanted, now.phase, now.attempts, min(now.unclean_starts, 2), now.alone


def everything_that_can_happen(world: World) -> Iterator[tuple[u.Event, Effect | None]]:
    """With the effect whose success the event tells."""
    now = world.now
    assert now is not None
    for model, shadow in ((0, False), (1, True), (2, False)):
        yield u.Desired(desired(model, now.generation + 1, shadow=shadow)), None
    if now.desired:
        yield u.Desired(now.desired), None
    yield u.Canceled(now.generation), None
    yield u.Settled(now.current.manifest_sha256), None
    yield u.Unusable(now.current.manifest_sha256, FailureCode.MODEL_MISSING, "gone"), None
    if world.pending:
        effect, work = world.pending
        for place, event in enumerate(outcomes(effect, work)):
            yield event, None if place else effect


def holds(before: World, world: World, event: u.Event | None, is_alive: bool) -> None:
    """What a move may do to what inspects, and what is true of a world that lives."""
    old, new = before.journal or u.first(MODELS[0]), world.journal or u.first(MODELS[0])
    if new.current != old.current:
        assert new.current == (old.candidate if isinstance(event, u.PassedProbation) else old.last_good)
    if new.last_good != old.last_good:
        assert isinstance(event, u.Settled)
        assert new.last_good == old.current
    assert {new.current, new.last_good} <= world.store
    if is_alive:
        now = world.now
        assert now is not None
        assert world.inspects == u.inspecting(now)
        assert world.inspects in world.children or (now.alone and now.phase in {Phase.LOADING, Phase.SELF_TEST})
        assert (world.pending is None) == (now.phase in u.ENDS)
        assert event is not None or world.inspects in {now.current, now.last_good}


class Atlas:
    """All worlds that can be reached, each seen once."""

    def __init__(self) -> None:
        self.seen: set[Hashable] = set()
        self._todo: list[tuple[World, bool]] = []
        self._note(World(), False)

    def chart(self) -> None:
        while self._todo:
            world, is_alive = self._todo.pop()
            if is_alive:
                self._note(world, False)
                for event, success in everything_that_can_happen(world):
                    self._explore(world, event, success)
            else:
                self._explore(world, None, None, clean=True)
                self._explore(world, None, None, clean=False)

    def _note(self, world: World, is_alive: bool) -> None:
        if (form := key(world, is_alive)) not in self.seen:
            self.seen.add(form)
            self._todo.append((world, is_alive))

    def _explore(self, world: World, event: u.Event | None, success: Effect | None, *, clean: bool = False) -> None:
        """Once whole, then with a death before each step there is."""
        for crash in (None, 0, 1, 2, 3, 4):
            other = replace(world, crash_in=crash)
            is_alive = True
            try:
                if success:
                    other.succeed(success)
                if event:
                    other.happen(event)
                else:
                    other.boot(clean=clean)
            except Killed:
                is_alive = False
            is_past_the_end, other.crash_in = other.crash_in is not None, None
            holds(world, other, event, is_alive)
            self._note(other, is_alive)
            if is_past_the_end:
                return


def test_no_reachable_world_with_a_death_at_any_point_breaks_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three models, two attempts; every event in every state, and a death before each write and each effect."""
    monkeypatch.setattr(machine, "MOST_ATTEMPTS", 2)
    atlas = Atlas()
    atlas.chart()
    assert {form[1] for form in atlas.seen if isinstance(form, tuple)} >= {frozenset(MODELS[:3])}, "it went nowhere"


def drive(*turns: str | u.Event, shadow: bool = False) -> World:
    """From the first boot: `ok`, `bad`, `retry` or `crowded` for what is under way, `crash` or `stop`, or an event."""
    world = World()
    world.boot(clean=True)
    for turn in (u.Desired(desired(1, 1, shadow=shadow)), *turns):
        if not isinstance(turn, str):
            world.happen(turn)
        elif turn in {"crash", "stop"}:
            world.boot(clean=turn == "stop")
        else:
            assert world.pending is not None
            effect, work = world.pending
            if turn == "ok":
                world.succeed(effect)
                world.happen(WORK[effect](work))
            else:
                world.happen(u.Crowded(work) if turn == "crowded" else failed(work, retryable=turn == "retry"))
    return world


TO_LOADING = ["ok"] * 3
TO_PROBATION = ["ok"] * 5
USED_UP = ["ok", *["retry", "ok"] * 9, "retry"]
COMMITTED = [*TO_PROBATION, "ok"]
OLD, NEW, OTHER = MODELS[:3]


@pytest.mark.parametrize(
    ("turns", "phase", "current", "code"),
    [
        pytest.param(COMMITTED, "COMMITTED", NEW, None, id="healthy: committed"),
        pytest.param(["ok", "bad"], "REJECTED", OLD, "npu-fault", id="fails for good: rejected"),
        pytest.param(USED_UP, "FAILED", OLD, "npu-fault", id="attempts used up: failed"),
        pytest.param(["ok", "retry", *COMMITTED], "COMMITTED", NEW, None, id="a retry that works leaves no error"),
        pytest.param([*TO_PROBATION, "bad"], "ROLLED_BACK", OLD, "npu-fault", id="unhealthy: rolled back"),
        pytest.param([*TO_PROBATION, "retry"], "ROLLED_BACK", OLD, "npu-fault", id="a fault in probation: rolled back"),
        pytest.param([*TO_PROBATION, "stop"], "ROLLED_BACK", OLD, "probation-failed", id="restart in probation"),
        pytest.param([*TO_PROBATION, u.Canceled(1)], "CANCELED", OLD, "canceled", id="canceled in probation"),
        pytest.param([u.Canceled(2)], "QUEUED", OLD, None, id="another generation's cancel"),
        pytest.param([*TO_PROBATION, u.Desired(desired(2, 2))], "QUEUED", OLD, None, id="superseded in probation"),
        pytest.param([*TO_PROBATION, u.Desired(desired(0, 2))], "COMMITTED", OLD, None, id="the old one is wanted"),
        pytest.param(["ok", "bad", u.Desired(desired(1, 1))], "REJECTED", OLD, "npu-fault", id="rejected, sent again"),
        pytest.param(["ok", "bad", u.Desired(desired(1, 2))], "QUEUED", OLD, None, id="rejected, named by a newer one"),
        pytest.param([*USED_UP, u.Desired(desired(1, 1))], "QUEUED", OLD, None, id="failed, sent again"),
        pytest.param([*USED_UP, u.Desired(desired(2, 1))], "FAILED", OLD, "npu-fault", id="failed, another sent"),
        pytest.param([*COMMITTED, "crash", "crash"], "COMMITTED", NEW, None, id="two unclean starts"),
        pytest.param([*COMMITTED, *["crash"] * 3], "ROLLED_BACK", OLD, "crash-loop", id="three unclean starts"),
        pytest.param([*COMMITTED, "crash", "crash", "stop", "crash"], "COMMITTED", NEW, None, id="not in a row"),
        pytest.param(
            [*COMMITTED, u.Settled(NEW.manifest_sha256), *["crash"] * 3], "COMMITTED", NEW, None, id="settled: no loop"
        ),
        pytest.param(
            [*COMMITTED, u.Desired(desired(2, 2)), "ok", *["crash"] * 3],
            "DOWNLOADING", OLD, "crash-loop", id="the cure is still fetched after a crash loop",
        ),
        pytest.param([*TO_LOADING, *["crash"] * 3], "ROLLED_BACK", OLD, "crash-loop", id="kills the agent at load"),
        pytest.param([*TO_LOADING, "crowded", "ok", "ok", "ok"], "COMMITTED", NEW, None, id="in the other's place"),
        pytest.param([*TO_LOADING, "crowded", "crowded"], "REJECTED", OLD, "npu-out-of-memory", id="does not fit"),
        pytest.param([*TO_LOADING, "crowded", "bad"], "REJECTED", OLD, "npu-fault", id="alone, and the old is back"),
    ],
)  # fmt: skip
def test_an_update_ends(turns: list[str | u.Event], phase: str, current: u.ModelRef, code: str | None) -> None:
    world = drive(*turns)
    assert world.now is not None
    told = u.report(world.now, AT)
    assert (told.phase, world.now.current, told.last_error and told.last_error.code) == (phase, current, code)
    assert (world.inspects, told.sha256) == (current, current.manifest_sha256)


def test_a_shadow_that_was_asked_for_is_not_skipped_for_want_of_memory() -> None:
    assert drive("ok", "ok", "ok", "ok", "ok", shadow=True).pending == (Effect.START_SHADOW, 7)
    now = drive("ok", "ok", "ok", "crowded", shadow=True).now
    assert now is not None
    assert now.phase is Phase.REJECTED


def test_the_gap_is_declared_and_progress_and_figures_are_reported() -> None:
    alone = drive("ok", "ok", "ok", "crowded").now
    fetching = drive("ok", "retry", "ok").now
    assert alone is not None
    assert fetching is not None
    assert u.report(alone, AT).name is None
    told = u.report(fetching, AT, 0.5)
    assert (told.progress, told.measured, told.observed_generation) == (0.5, {"y": 1.0}, 1)
    assert u.report(alone, AT, 0.5).progress is None


def test_pauses_grow_to_a_bound_and_respect_the_failure() -> None:
    now = u.first(OLD)
    pauses = [u.pause_s(replace(now, attempts=n)) for n in range(1, 30)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[1], pauses[-1]) == (5.0, 10.0, 900.0)
    assert u.pause_s(replace(now, attempts=1, retry_after_s=77.0)) == 77.0


def test_an_outcome_that_the_effect_under_way_cannot_have_is_the_callers_bug() -> None:
    now = drive("ok").now
    assert now is not None
    with pytest.raises(u.IllegalMove, match="Loaded in DOWNLOADING"):
        step(now, u.Loaded(now.work))


def test_every_move_of_the_table_is_between_an_update_and_its_end() -> None:
    for (phase, _), move in u.MOVES.items():
        works = [effect for effect in move.effects if effect in WORK]
        assert len(works) <= 1
        assert move.effects[-1:] == tuple(works)[-1:] or not works, "what brings the next event comes last"
        assert not (phase in u.ENDS and move.phase not in u.ENDS) or works == [Effect.WAIT] or move.phase == phase


@pytest.mark.parametrize(
    ("defer", "open_at"),
    [
        (Defer(), {0, 6, 12, 23}),
        (Defer(until="window", window_start="06:00", window_end="12:00"), {6}),
        (Defer(until="window", window_start="23:00", window_end="06:00"), {0, 23}),
        (Defer(until="window", window_start="12:00"), {12, 23}),
        (Defer(until="window"), {0, 6, 12, 23}),
    ],
)
def test_a_window_opens_and_closes(defer: Defer, open_at: set[int]) -> None:
    hours = {hour for hour in (0, 6, 12, 23) if u.is_due(defer, AT.replace(hour=hour), lot_is_open=True)}
    assert hours == open_at


def test_the_end_of_a_lot_is_waited_for() -> None:
    assert u.is_due(Defer(until="lotEnd"), AT, lot_is_open=False)
    assert not u.is_due(Defer(until="lotEnd"), AT, lot_is_open=True)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_any_bytes_are_a_state_or_a_bad_journal(content: bytes) -> None:
    with pytest.raises(u.BadJournal):
        u.load(content)


GOOD = u.dump(drive("ok", "retry").now or u.first(OLD))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"DOWNLOADING"', b'"COMMITTED"'),
        (b'"DOWNLOADING"', b'"DANCING"'),
        (b'"generation":1,"phase"', b'"generation":2,"phase"'),
        (b'"alone":false', b'"alone":true'),
        (b'"alone":false', b'"alone":false,"later":1'),
        (b"rkfleet.update/1", b"rkfleet.update/2"),
        (b'"attempts":1', b'"attempts":-1'),
        (b'"attempts":1', b'"attempts":1e999'),
        (b"1" * 64, b"x" * 64),
        (b'"candidate":{"name":"m1"', b'"candidate":{"name":"m2"'),
        (b"{", b"[" * 5000 + b"{"),
        (b"}", b"}" + b" " * 1_000_001),
    ],
)
def test_a_journal_that_contradicts_itself_is_refused(old: bytes, new: bytes) -> None:
    assert old in GOOD
    with pytest.raises(u.BadJournal, match=r".+"):
        u.load(GOOD.replace(old, new))


@pytest.mark.parametrize("break_page", [str, lambda page: page.replace("FAILED --> QUEUED", "FAILED --> LOADING")])
def test_the_page_shows_the_table(break_page: Callable[[str], str]) -> None:
    page = diagram.PAGE.read_text()
    assert diagram.drawn(break_page(page)) == page


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the lines"):
        diagram.drawn("# Update")
