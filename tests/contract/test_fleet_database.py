"""The fleet's stores, the same suite on SQLite and on PostgreSQL."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from fleet.adapters.db import (
    Database,
    DbAudit,
    DbLock,
    DbResults,
    DbRollouts,
    DbRoster,
    DbUsers,
    check,
    newest,
    upgrade,
)
from fleet.adapters.db.tables import Base
from fleet.core.access import Role, Token, User
from fleet.core.audit import Entry
from fleet.core.rollout import BoardPlan, Effect, Placement, Rollout, RolloutSpec, SetDesired, Ticked, new, step
from fleet.core.rollout.events import Enrolled
from fleet.core.roster import Gap, Heard, NodeId
from fleet.errors import Conflict, LeaseLost, NotFound, Permanent, Retryable
from fleet.ports import Arrival, Audit, Lock, Query, Results, Rollouts, Roster, Users
from schemas.alarm import Alarm, AlarmSeverity, AlarmSource, Event
from schemas.codes import FailureCode
from schemas.recipe import Evaluation
from tests.contract.fleet_databases import Postgres, postgres, why_no_postgres
from tests.unit.fleet_board import NEW, OLD, T0, at, heard, info, node_id, report, result, status, telemetry

A, B = node_id(1), node_id(2)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Postgres]:
    if reason := why_no_postgres():
        pytest.skip(reason)
    with postgres() as running:
        yield running


@pytest.fixture(scope="session")
def template(cluster: Postgres) -> str:
    """The name of a database with our tables, to be copied."""
    url = cluster.create()
    made = Database(url)
    upgrade(made)
    made.close()
    return url.removeprefix("postgresql://postgres@/").partition("?")[0]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/fleet.db"
    made: Postgres = request.getfixturevalue("cluster")
    return made.create()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """With our tables."""
    if request.param == "sqlite":
        path = f"sqlite:///{tmp_path}/fleet.db"
        made = Database(path)
        upgrade(made)
        made.close()
        return path
    running: Postgres = request.getfixturevalue("cluster")
    return running.create(request.getfixturevalue("template"))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    made = Database(url)
    yield made
    made.close()


@pytest.fixture
def roster(database: Database) -> Roster:
    return DbRoster(database)


@pytest.fixture
def rollouts(database: Database) -> Rollouts:
    return DbRollouts(database)


@pytest.fixture
def results(database: Database) -> Results:
    return DbResults(database)


@pytest.fixture
def audit(database: Database) -> Audit:
    return DbAudit(database)


@pytest.fixture
def users(database: Database) -> Users:
    return DbUsers(database)


@pytest.fixture
def lock(database: Database) -> Lock:
    return DbLock(database)


def together(*calls: Callable[[], object]) -> list[BaseException]:
    """Runs them at once; returns what was raised."""
    raised: list[BaseException] = []
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        barrier.wait(30)
        try:
            call()
        except (Permanent, Retryable) as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return raised


# the tables


def test_migrations_make_the_tables_of_the_code(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_an_upgrade_twice_or_by_two_at_once_is_one(empty_url: str) -> None:
    first, second = Database(empty_url), Database(empty_url)
    assert together(lambda: upgrade(first), lambda: upgrade(second)) == []
    assert upgrade(first) == newest()
    check(first)
    first.close()
    second.close()


def test_a_database_without_tables_is_told_how_to_get_them(empty_url: str) -> None:
    database = Database(empty_url)
    with pytest.raises(Permanent, match="rkfleet db upgrade"):
        check(database)
    database.close()


def test_a_database_of_a_newer_version_is_left_alone(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for act in (upgrade, check):
        with pytest.raises(Permanent, match="newer"):
            act(database)


@pytest.mark.parametrize("bad", ["", "nothing", "mysql://x/y", "sqlite+aiosqlite:///x"])
def test_other_databases_are_refused(bad: str) -> None:
    with pytest.raises(Permanent):
        Database(bad)


def test_a_database_that_cannot_be_reached_may_come_back() -> None:
    database = Database("postgresql://postgres@/fleet?host=/nonexistent")
    with pytest.raises(Retryable), database.read():
        pass


# the roster


def alarm() -> Alarm:
    source = AlarmSource(source="top", text="no frames", since=T0)
    return Alarm(code=FailureCode.CAMERA_LOST, severity=AlarmSeverity.CRITICAL, since=T0, sources=[source])


def event(event_id: str = "e1") -> Event:
    return Event(
        event_id=event_id, code=FailureCode.CAMERA_LOST, severity=AlarmSeverity.WARNING, source="top", kind="raised",
        text="gone\0", time=at(1),
    )  # fmt: skip


def all_of_a_board() -> list[Heard]:
    return [
        heard(A, status(), 0),
        heard(A, info(A), 1),
        heard(A, report(generation=3), 2, name="model"),
        heard(A, telemetry(3, OLD, {"OK": 50}), 3, name="inspection"),
        Heard(A, "alarm", "camera-lost", alarm(), at(4)),
        heard(A, event(), 5),
    ]


def test_a_board_is_found_again_as_it_was_heard(roster: Roster) -> None:
    changed = roster.heard(all_of_a_board())
    assert [node.id for node in changed] == [A]
    assert roster.nodes() == changed
    assert roster.node(A) == changed[0]
    assert changed[0].alarms["camera-lost"] == alarm()


def test_batches_of_one_and_a_whole_batch_end_in_the_same(roster: Roster) -> None:
    for message in all_of_a_board():
        roster.heard([message])
    one_by_one = roster.node(A)
    roster.remove(A)
    assert roster.heard(all_of_a_board()) == [one_by_one]


def test_what_changes_nothing_is_not_reported(roster: Roster) -> None:
    roster.heard(all_of_a_board())
    assert roster.heard(all_of_a_board()) == []


def test_events_are_kept_once_each_and_per_board(roster: Roster) -> None:
    roster.heard([heard(A, event(), 5), heard(A, event(), 6), heard(B, event(), 5)])
    roster.heard([heard(A, event(), 7)])
    found = roster.events(10)
    assert {(one.node, one.event_id) for one in found} == {(A, "e1"), (B, "e1")}
    assert len(found) == 2


def test_a_cleared_alarm_is_gone(roster: Roster) -> None:
    roster.heard(all_of_a_board())
    roster.heard([Heard(A, "alarm", "camera-lost", None, at(9))])
    assert roster.node(A).alarms == {}


def test_labels_and_group_are_the_operators_and_outlive_messages(roster: Roster) -> None:
    roster.heard(all_of_a_board())
    roster.label(A, {"rack": "7", "row": "b"}, "canary", at(10))
    labelled = roster.label(A, {"row": None}, None, at(11))
    roster.heard([heard(A, report(generation=4, seconds=12), 12, name="model")])
    found = roster.node(A)
    assert (labelled.labels, labelled.group) == ({"rack": "7"}, "canary")
    assert (found.labels, found.group, found.observed_generation) == ({"rack": "7"}, "canary", 4)


def test_who_asks_for_changes_gets_those(roster: Roster) -> None:
    roster.heard([heard(A, status(), 0)])
    roster.heard([heard(B, status(), 100)])
    assert [node.id for node in roster.changed_since(at(50))] == [B]


def test_a_removed_board_is_gone_and_may_come_back(roster: Roster) -> None:
    roster.heard(all_of_a_board())
    roster.label(A, {"rack": "7"}, "canary", at(1))
    roster.remove(A)
    with pytest.raises(NotFound):
        roster.node(A)
    with pytest.raises(NotFound):
        roster.remove(A)
    with pytest.raises(NotFound):
        roster.label(A, {"a": "b"}, None, at(1))
    assert roster.heard(all_of_a_board())[0].labels == {}


def test_two_processes_that_hear_different_messages_lose_none(url: str, roster: Roster) -> None:
    other = Database(url)
    many = [node_id(number) for number in range(40)]
    births = [heard(node, status(), 0) for node in many]
    reports = [heard(node, report(generation=1), 1, name="model") for node in reversed(many)]
    raised = together(
        lambda: [roster.heard(births[at : at + 8]) for at in range(0, 40, 8)],
        lambda: [DbRoster(other).heard(reports[at : at + 8]) for at in range(0, 40, 8)],
    )
    other.close()
    assert raised == []
    assert all(node.is_online and node.observed_generation == 1 for node in roster.nodes())


# rollouts


def a_rollout(rollout_id: str = "r1", count: int = 2) -> tuple[Rollout, tuple[Effect, ...]]:
    spec = RolloutSpec.model_validate(
        {"name": "better", "model": NEW.model_dump(), "target": "all", "waves": [{"name": "everything"}]}
    )
    rollout = new(rollout_id, spec, T0, "anna")
    placements = tuple(Placement(node_id(number), 0, 3, OLD) for number in range(1, count + 1))
    return step(rollout, Enrolled(placements), T0)


def test_a_rollout_is_found_again_with_its_boards(rollouts: Rollouts) -> None:
    rollout, _ = a_rollout()
    rollouts.create(rollout)
    assert rollouts.load("r1") == rollout
    assert rollouts.unfinished() == [rollout]
    assert [(one.id, dict(one.members)) for one in rollouts.summaries()] == [("r1", {"IN_PROGRESS": 2})]
    with pytest.raises(Conflict):
        rollouts.create(rollout)
    with pytest.raises(NotFound):
        rollouts.load("r2")


def test_state_and_orders_are_committed_together(rollouts: Rollouts, roster: Roster) -> None:
    spec = a_rollout()[0].spec
    before = new("r1", spec, T0, "anna")
    rollouts.create(before)
    after, effects = step(before, Enrolled((Placement(A, 0, 3, OLD), Placement(B, 0, 0, OLD))), T0)
    rollouts.commit(before, after, effects, None, T0)
    assert rollouts.load("r1") == after
    assert {one.order.node: one.order.generation for one in rollouts.unsent()} == {A: 4, B: 1}
    assert {one.kind for one in roster.events(10)} == {"happened"}
    assert rollouts.floors() == {A: 4, B: 1}
    assert rollouts.floors([B]) == {B: 1}


def test_a_step_made_from_what_is_no_longer_true_is_refused_whole(rollouts: Rollouts) -> None:
    before, _ = a_rollout()
    rollouts.create(before)
    first, _ = step(before, Ticked(), at(10))
    rollouts.commit(before, first, (), None, at(10))
    stale, _ = step(before, Ticked(), at(20))
    order = SetDesired(A, 9, NEW, BoardPlan())
    with pytest.raises(Conflict):
        rollouts.commit(before, stale, (order,), None, at(20))
    assert rollouts.load("r1") == first
    assert rollouts.desired(A) is None


def test_an_order_that_is_not_newer_undoes_the_whole_step(rollouts: Rollouts) -> None:
    before, _ = a_rollout()
    rollouts.create(before)
    rollouts.order(SetDesired(A, 9, OLD, BoardPlan()), "by-hand", T0)
    after, _ = step(before, Ticked(), at(10))
    orders = (SetDesired(B, 4, NEW, BoardPlan()), SetDesired(A, 9, NEW, BoardPlan()))
    with pytest.raises(Conflict):
        rollouts.commit(before, after, orders, None, at(10))
    assert rollouts.load("r1") == before
    assert rollouts.desired(B) is None


def test_the_same_order_again_changes_nothing(rollouts: Rollouts) -> None:
    order = SetDesired(A, 4, NEW, BoardPlan())
    rollouts.order(order, "r1", T0)
    rollouts.sent({A: 4})
    rollouts.order(order, "r1", at(5))
    assert rollouts.unsent() == []


def test_only_the_newest_order_of_a_board_waits_to_be_sent(rollouts: Rollouts) -> None:
    rollouts.order(SetDesired(A, 4, NEW, BoardPlan()), "r1", T0)
    rollouts.order(SetDesired(A, 5, OLD, BoardPlan(), is_revert=True), "r1", at(1))
    rollouts.sent({A: 4})  # the answer of the broker comes late
    assert [(one.order.generation, one.order.is_revert) for one in rollouts.unsent()] == [(5, True)]
    rollouts.sent({A: 5})
    assert rollouts.unsent() == []
    found = rollouts.desired(A)
    assert found is not None
    assert found.is_sent
    assert rollouts.resend_all() == 1
    assert len(rollouts.unsent()) == 1


# the lock


def test_one_process_decides_at_a_time_and_the_next_takes_over(lock: Lock, rollouts: Rollouts) -> None:
    before, _ = a_rollout()
    rollouts.create(before)
    first = lock.acquire("controller", "one", 30, T0)
    assert first is not None
    assert lock.acquire("controller", "two", 30, at(29)) is None
    renewed = lock.acquire("controller", "one", 30, at(20))
    assert renewed is not None
    assert renewed.epoch == first.epoch
    second = lock.acquire("controller", "two", 30, at(51))
    assert second is not None
    assert second.epoch > first.epoch
    after, _ = step(before, Ticked(), at(52))
    with pytest.raises(LeaseLost):
        rollouts.commit(before, after, (), first, at(52))
    rollouts.commit(before, after, (), second, at(52))


def test_a_released_lock_is_free_at_once(lock: Lock) -> None:
    lease = lock.acquire("controller", "one", 30, T0)
    assert lease is not None
    lock.release(lease)
    assert lock.acquire("controller", "two", 30, at(1)) is not None
    lock.release(lease)  # not its own any more
    assert lock.acquire("controller", "three", 30, at(2)) is None


def test_of_many_that_reach_for_the_lock_one_gets_it(url: str, lock: Lock) -> None:
    databases = [Database(url) for _ in range(4)]
    got: list[object] = []
    together(
        *(lambda db=db, at=at: got.append(DbLock(db).acquire("c", f"o{at}", 30, T0)) for at, db in enumerate(databases))
    )
    for each in databases:
        each.close()
    assert sum(lease is not None for lease in got) == 1


# results


def arrivals(numbers: list[int], key: NodeId = A, **changes: Any) -> list[Arrival]:
    made = [result(number, key=key, **changes) for number in numbers]
    return [Arrival(one, one.to_json(), at(one.sequence_number)) for one in made]


def test_each_result_is_kept_once_and_byte_for_byte(results: Results) -> None:
    batch = arrivals([1, 2, 3])
    counted = results.ingest([*batch, batch[1]])
    assert (counted.new, counted.duplicates) == (3, 1)
    again = results.ingest(arrivals([3, 4]))
    assert (again.new, again.duplicates) == (1, 1)
    found = results.find(Query(), limit=10)
    assert [one.document for one in found][:3] == [one.document for one in batch]
    assert [one.result().sequence_number for one in found] == [1, 2, 3, 4]


def test_two_processes_that_get_the_same_results_keep_each_once(url: str, results: Results) -> None:
    other = Database(url)
    batch = arrivals(list(range(1, 301)))
    turned = list(reversed(batch))
    raised = together(
        lambda: [results.ingest(batch[at : at + 50]) for at in range(0, 300, 50)],
        lambda: [DbResults(other).ingest(turned[at : at + 50]) for at in range(0, 300, 50)],
    )
    other.close()
    assert raised == []
    assert len(results.find(Query(), limit=1000)) == 300
    assert results.missing(10) == []


@pytest.mark.parametrize(("query", "numbers"), [
    pytest.param(Query(), [1, 2, 3], id="all"),
    pytest.param(Query(since=at(2)), [2, 3], id="from a time on"),
    pytest.param(Query(until=at(2)), [1], id="before a time"),
    pytest.param(Query(line="line-3", camera="top", site="plant1", node="board-001"), [1, 2, 3], id="place"),
    pytest.param(Query(line="line-4"), [], id="another line"),
    pytest.param(Query(part="P2"), [2], id="part"),
    pytest.param(Query(lot="L3"), [3], id="lot"),
    pytest.param(Query(class_name="short"), [1, 2], id="class"),
    pytest.param(Query(evaluation=Evaluation.OK), [3], id="evaluation"),
])  # fmt: skip
def test_results_are_found_by(results: Results, query: Query, numbers: list[int]) -> None:
    results.ingest(arrivals([1]))
    results.ingest(arrivals([2], part_id="P2"))
    results.ingest(arrivals([3], lot_id="L3", defects=[], result_evaluation=Evaluation.OK))
    assert [one.result().sequence_number for one in results.find(query, limit=10)] == numbers
    assert [one.result().sequence_number for one in results.export(query, batch=1)] == numbers


def test_newest_first_and_from_a_row_on(results: Results) -> None:
    results.ingest(arrivals([1, 2, 3]))
    newest_two = results.find(Query(), limit=2, newest_first=True)
    assert [one.result().sequence_number for one in newest_two] == [3, 2]
    assert results.find(Query(), limit=9, after_row=newest_two[0].row) == []


def test_results_are_counted_by_class_line_and_hour(results: Results) -> None:
    results.ingest(arrivals([1, 2]))
    results.ingest(arrivals([3], defects=[], result_evaluation=Evaluation.OK))
    results.ingest(arrivals([4], defects=[], result_evaluation=Evaluation.UNDEFINED, creation_time=at(7200)))
    (line,) = results.stats(Query(), "line")
    assert (line.key, line.results, line.ok, line.not_ok, line.faults) == ("line-3", 4, 1, 2, 1)
    assert {one.key: one.results for one in results.stats(Query(), "class")}["short"] == 2
    assert [one.results for one in results.stats(Query(), "hour")] == [3, 1]
    with pytest.raises(ValueError, match="counted by"):
        results.stats(Query(), "document; DROP TABLE results")


def test_hostile_names_are_kept_without_harm(results: Results) -> None:
    made = result(1)
    station = made.station.model_copy(update={"line": "l\0" + "ü" * 1900})
    bad = made.model_copy(update={"station": station})
    assert results.ingest([Arrival(bad, bad.to_json(), T0)]).new == 1
    assert results.find(Query(), limit=1)[0].result() == bad


def test_gaps_are_found_filled_and_given_up(results: Results) -> None:
    results.ingest(arrivals([1, 2, 7]))
    results.ingest(arrivals([12]))
    assert [one.gap for one in results.missing(10)] == [Gap(3, 6), Gap(8, 11)]
    results.asked(results.missing(10), at(60))
    assert results.missing(10, not_asked_since=at(60)) == []
    assert len(results.missing(10, not_asked_since=at(61))) == 2
    results.ingest(arrivals([4, 8, 9, 10, 11]))
    left = results.missing(10)
    assert [(one.gap, one.times_asked) for one in left] == [(Gap(3, 3), 1), (Gap(5, 6), 1)]
    results.given_up(A, "boot1", Gap(1, 5), at(70))
    assert [one.gap for one in results.missing(10)] == [Gap(6, 6)]
    results.ingest(arrivals([6]))
    assert results.missing(10) == []


def test_the_end_of_a_boot_shows_what_is_missing_at_its_end(results: Results) -> None:
    results.ingest(arrivals([1]))
    results.boot_ended(A, "boot1", 3, at(9))
    results.boot_ended(B, "boot9", 2, at(9))
    assert {(one.node, one.gap) for one in results.missing(10)} == {(A, Gap(2, 3)), (B, Gap(1, 2))}


def test_old_results_go_in_bounded_batches(results: Results) -> None:
    results.ingest(arrivals(list(range(1, 21))))
    assert results.prune(at(11), None, batch=6) == 6
    assert results.prune(at(11), None, batch=6) == 4
    assert results.prune(at(11), None, batch=6) == 0
    assert results.prune(None, 4, batch=100) == 6
    assert results.prune(None, 4, batch=100) == 0
    left = [one.result().sequence_number for one in results.find(Query(), limit=99)]
    assert left == [17, 18, 19, 20]
    assert {one.key: one.results for one in results.stats(Query(), "class")}["short"] == 4


# audit, users, tokens


def entry(action: str) -> Entry:
    return Entry(T0, "anna", action, "r1", {"why": "ü\0", "n": 1})


def test_the_chain_holds_and_two_writers_do_not_fork_it(url: str, audit: Audit) -> None:
    other = Database(url)
    raised = together(
        lambda: [audit.append(entry("pause")) for _ in range(10)],
        lambda: [DbAudit(other).append(entry("resume")) for _ in range(10)],
    )
    other.close()
    assert raised == []
    assert [record.number for record in audit.records()] == list(range(1, 21))
    assert audit.verify() is None


def test_the_audit_cannot_be_changed(database: Database, audit: Audit) -> None:
    audit.append(entry("abort"))
    for attack in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit"):
        with pytest.raises((Permanent, Retryable)), database.write() as connection:
            connection.execute(text(attack))
    assert audit.records()[0].actor == "anna"


def test_whoever_takes_the_guard_away_is_seen(database: Database, audit: Audit) -> None:
    for action in ("a", "b", "c"):
        audit.append(entry(action))
    with database.write() as connection:
        guards = ["audit_no_update"] if database.is_sqlite else ["audit_append_only ON audit"]
        for guard in guards:
            connection.execute(text(f"DROP TRIGGER {guard}"))
        connection.execute(text("UPDATE audit SET actor = 'nobody' WHERE number = 2"))
    broken = audit.verify()
    assert broken is not None
    assert broken.number == 2


def test_users_and_their_tokens(users: Users) -> None:
    anna = User("anna", Role.OPERATOR, is_active=True, created_at=T0)
    users.add(anna, "hash1")
    with pytest.raises(Conflict):
        users.add(anna, None)
    assert users.user("anna") == anna
    assert users.password_hash("anna") == "hash1"
    assert users.password_hash("bob") is None
    changed = users.change("anna", role=Role.ADMIN, is_active=False, password_hash="hash2")
    assert (changed, users.password_hash("anna")) == (replace(anna, role=Role.ADMIN, is_active=False), "hash2")
    token = Token("t1", "anna", Role.VIEWER, "for the MES", T0, T0 + timedelta(days=1))
    users.add_token(token, "d" * 64)
    assert users.token("d" * 64) == token
    assert users.token("e" * 64) is None
    users.used("t1", at(5))
    users.revoke("t1", at(6))
    users.revoke("t1", at(7))
    assert users.tokens("anna") == [replace(token, last_used_at=at(5), revoked_at=at(6))]
    with pytest.raises(NotFound):
        users.revoke("t9", at(6))
    with pytest.raises(NotFound):
        users.change("bob", role=Role.ADMIN)
    with pytest.raises(Conflict):
        users.add_token(replace(token, id="t2", user="bob"), "f" * 64)
