"""What every spool does, and the bounds and failures of the one on SQLite."""

import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.adapters.spool_sqlite import SpoolLimits, SqliteSpool
from agent.adapters.spool_sqlite.rows import ROW_BYTES
from agent.core.outgoing import Kind, Outgoing, Place
from agent.errors import Permanent, Retryable
from agent.ports import Spool
from schemas.codes import FailureCode
from tests.contract.fakes import MemorySpool

BOOT = "b0"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SIZE = ROW_BYTES + 1 + 744  # a row of the topic "t" and 744 bytes: 1001 bytes in the books
PAYLOAD = b"x" * 744


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def jump(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "memory"])
def spool(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Spool]:
    made: Spool = (
        SqliteSpool(tmp_path / "spool.db", SpoolLimits(), clock) if request.param == "sqlite" else MemorySpool(clock)
    )
    yield made
    made.close()


Maker = Callable[..., SqliteSpool]


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Iterator[Maker]:
    """Spools on one path, closed at the end. `rows` is how many rows of SIZE it may hold."""
    made: list[SqliteSpool] = []

    def build(rows: float = 100, *, max_age_s: float = 1000, telemetry_share: float = 1.0) -> SqliteSpool:
        limits = SpoolLimits(max_bytes=int(rows * SIZE), max_age_s=max_age_s, telemetry_share=telemetry_share)
        made.append(SqliteSpool(tmp_path / "spool.db", limits, clock))
        return made[-1]

    yield build
    for each in made:
        each.close()


def message(payload: bytes = PAYLOAD, expiry_s: int | None = None) -> Outgoing:
    return Outgoing("t", payload, expiry_s=expiry_s)


def put(spool: Spool, number: int, payload: bytes = PAYLOAD) -> int:
    return spool.append(Kind.RESULT, message(payload), Place(BOOT, number))


def waiting(spool: Spool) -> list[int]:
    return [each.row for each in spool.pending(0, 100_000)]


def fill(spool: Spool, rows: list[int]) -> None:
    """Append until it fails."""
    for number in range(len(rows) + 1, 3000):
        rows.append(put(spool, number))  # noqa: PERF401 -- what was stored before the failure counts


# The contract


def test_what_is_appended_comes_back_as_it_was_and_in_order(spool: Spool) -> None:
    messages = [
        Outgoing("a/ü", b"", 1, True, 30, "text/plain", b"\x00\xff"),
        Outgoing("b", bytes(range(256)) * 200, 0, False, None, None, None),
    ]
    rows = [spool.append(Kind.EVENT, messages[0]), spool.append(Kind.RESULT, messages[1], Place(BOOT, 1))]
    found = spool.pending(0, 10)
    assert [each.message for each in found] == messages
    assert [each.row for each in found] == rows == sorted(rows)
    assert [each.kind for each in found] == [Kind.EVENT, Kind.RESULT]
    assert {each.created_at for each in found} == {START}


def test_pending_goes_on_after_a_row_and_keeps_to_its_limit(spool: Spool) -> None:
    rows = [put(spool, number) for number in range(1, 8)]
    assert [each.row for each in spool.pending(rows[1], 3)] == rows[2:5]
    assert not spool.pending(rows[-1], 3)


def test_sent_rows_wait_no_more_and_unknown_ones_are_ignored(spool: Spool) -> None:
    rows = [put(spool, 1), spool.append(Kind.EVENT, message()), put(spool, 2)]
    spool.sent([rows[0], rows[1], 4711])
    spool.sent([rows[0]])
    assert waiting(spool) == [rows[2]]
    assert spool.depth().pending == spool.depth().pending_results == 1


def test_refused_rows_are_dead_letters_until_they_are_replayed(spool: Spool) -> None:
    rows = [put(spool, 1), put(spool, 2)]
    spool.refused(rows[0], "Not authorized")
    spool.refused(4711, "unknown rows are ignored")
    assert waiting(spool) == [rows[1]]
    assert spool.depth().dead == 1
    assert list(spool.replay(BOOT, 1, 1)) == [1]
    assert waiting(spool) == rows
    assert spool.depth().dead == 0


def test_replay_makes_a_range_of_one_boot_unsent_again(spool: Spool) -> None:
    rows = [put(spool, number) for number in range(1, 6)]
    other = spool.append(Kind.RESULT, message(), Place("another boot", 3))
    spool.sent([*rows[:4], other])
    assert list(spool.replay(BOOT, 2, 9)) == [2, 3, 4, 5]
    assert len(waiting(spool)) == 4
    assert set(rows[1:4]) < set(waiting(spool))
    assert list(spool.replay("no such boot", 1, 9)) == []


def test_a_replay_of_what_waits_is_sent_again_though_its_acknowledgement_is_on_the_way(spool: Spool) -> None:
    row = put(spool, 1)
    assert list(spool.replay(BOOT, 1, 1)) == [1]
    spool.sent([row])  # the mark of a message that the broker had before the replay
    (again,) = spool.pending(0, 10)
    assert again.row > row
    assert spool.depth().pending_results == 1
    spool.sent([again.row])
    assert waiting(spool) == []


def test_telemetry_past_its_expiry_is_left_out_and_results_are_not(spool: Spool, clock: Clock) -> None:
    spool.append(Kind.TELEMETRY, message(expiry_s=10))
    later = spool.append(Kind.TELEMETRY, message(expiry_s=60))
    result = spool.append(Kind.RESULT, message(expiry_s=10), Place(BOOT, 1))
    clock.jump(10)
    assert waiting(spool) == [later, result]
    spool.prune()
    assert spool.depth().pending == 2


def test_depth_tells_the_age_of_the_oldest_row_and_never_a_negative_one(spool: Spool, clock: Clock) -> None:
    assert spool.depth().oldest_s == 0
    put(spool, 1)
    clock.jump(5)
    put(spool, 2)
    assert spool.depth().oldest_s == 5
    clock.jump(-3600)
    assert spool.depth().oldest_s == 0


def test_many_threads_append_at_once(spool: Spool) -> None:
    rows: list[int] = []

    def write(lane: int) -> None:
        rows.extend(spool.append(Kind.RESULT, message(), Place(f"lane {lane}", number)) for number in range(50))

    threads = [threading.Thread(target=write, args=(lane,)) for lane in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(rows) == waiting(spool)
    assert len(set(rows)) == 200


# Restarts


def test_an_append_waits_for_the_disk_after_a_mark_that_did_not(tmp_path: Path, clock: Clock) -> None:
    spool = SqliteSpool(tmp_path / "spool.db", SpoolLimits(), clock)
    statements: list[str] = []
    spool._file.open().set_trace_callback(statements.append)
    spool.sent([put(spool, 1)])
    put(spool, 2)
    pragmas = [each for each in statements if each.startswith("PRAGMA")]
    assert pragmas == [f"PRAGMA synchronous = {mode}" for mode in ("FULL", "NORMAL", "FULL")]
    assert spool._file.open().execute("PRAGMA journal_mode").fetchone() == ("wal",)
    spool.close()


def test_rows_states_and_totals_outlive_a_restart(make: Maker) -> None:
    spool = make()
    rows = [put(spool, number) for number in range(1, 7)]
    spool.append(Kind.TELEMETRY, message())
    spool.append(Kind.EVENT, message())
    spool.sent(rows[:2])
    spool.refused(rows[2], "no")
    spool.replay(BOOT, 1, 1)
    before, was_waiting = spool.depth(), waiting(spool)
    spool.close()
    again = make()
    assert again.depth() == before
    assert waiting(again) == was_waiting
    assert before.used_bytes == 8 * SIZE
    assert put(again, 7) > max(was_waiting)
    assert again.corrupt_file is None


def test_a_second_process_is_kept_out(make: Maker, tmp_path: Path) -> None:
    put(make(), 1)
    other = sqlite3.connect(tmp_path / "spool.db", timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT * FROM waiting")
    other.close()


def test_a_closed_spool_says_so(make: Maker) -> None:
    spool = make()
    spool.close()
    with pytest.raises(Permanent, match="closed"):
        put(spool, 1)


# Bounds


def test_history_goes_first_then_telemetry_then_events_and_results_never(make: Maker) -> None:
    spool = make(rows=6)
    history = [put(spool, 1), put(spool, 2)]
    spool.sent(history)
    event = spool.append(Kind.EVENT, message())
    telemetry = spool.append(Kind.TELEMETRY, message())
    results = [put(spool, 3), put(spool, 4)]
    seen = []
    for number in range(5, 9):
        results.append(put(spool, number))
        kept = set(waiting(spool))
        seen.append((len(spool.replay(BOOT, 1, 2)), telemetry in kept, event in kept, kept.issuperset(results)))
    assert seen == [(0, True, True, True), (0, True, True, True), (0, False, True, True), (0, False, False, True)]
    with pytest.raises(Retryable) as error:
        put(spool, 9)
    assert error.value.code is FailureCode.SPOOL_FULL
    assert waiting(spool) == results
    assert spool.depth().dropped_telemetry == 1


@pytest.mark.parametrize("kind", [Kind.TELEMETRY, Kind.EVENT])
def test_a_message_never_pushes_out_what_is_worth_more(make: Maker, kind: Kind) -> None:
    spool = make(rows=3)
    worth_more = Kind.EVENT if kind is Kind.TELEMETRY else Kind.RESULT
    rows = [spool.append(worth_more, message()) for _ in range(3)]
    with pytest.raises(Retryable) as error:
        spool.append(kind, message())
    assert error.value.code is FailureCode.SPOOL_FULL
    assert waiting(spool) == rows


def test_a_message_larger_than_the_spool_drops_nothing(make: Maker) -> None:
    spool = make(rows=3)
    event = spool.append(Kind.EVENT, message())
    with pytest.raises(Retryable, match="no room"):
        put(spool, 1, payload=bytes(4 * SIZE))
    assert waiting(spool) == [event]


def test_telemetry_keeps_to_its_share(make: Maker) -> None:
    spool = make(rows=20, telemetry_share=0.25)
    rows = [spool.append(Kind.TELEMETRY, message()) for _ in range(12)]
    assert waiting(spool) == rows[-5:]
    assert spool.depth().dropped_telemetry == 7
    with pytest.raises(Retryable):
        spool.append(Kind.TELEMETRY, message(bytes(6 * SIZE)))


def test_a_replay_does_not_push_out_new_results(make: Maker) -> None:
    spool = make(rows=4)
    spool.sent([put(spool, number) for number in range(1, 5)])
    assert len(spool.replay(BOOT, 1, 4)) == 4
    new = [put(spool, number) for number in range(5, 9)]
    assert waiting(spool) == new


def test_age_removes_history_and_events_in_batches_and_no_unsent_result(make: Maker, clock: Clock) -> None:
    spool = make(rows=5000, max_age_s=100)
    results = [put(spool, number) for number in range(1, 602)]
    spool.sent(results[:600])
    spool.append(Kind.EVENT, message())
    spool.append(Kind.TELEMETRY, message())
    dead = put(spool, 602)
    spool.refused(dead, "no")
    clock.jump(10**9)  # a clock that was wrong at first and is then set looks just like this
    spool.prune()
    assert waiting(spool) == [results[600]]
    assert list(spool.replay(BOOT, 1, 1000)) == [601, 602]
    assert spool.depth().used_bytes == 2 * SIZE


def test_a_clock_that_jumps_back_removes_nothing(make: Maker, clock: Clock) -> None:
    spool = make(max_age_s=100)
    rows = [put(spool, 1), spool.append(Kind.TELEMETRY, message(expiry_s=10)), spool.append(Kind.EVENT, message())]
    clock.jump(-(10**9))
    spool.prune()
    assert waiting(spool) == rows


def test_prune_applies_a_smaller_bound_of_bytes(make: Maker) -> None:
    spool = make(rows=50)
    spool.sent([put(spool, number) for number in range(1, 41)])
    spool.close()
    spool = make(rows=10)
    spool.prune()
    assert 9 * SIZE <= spool.depth().used_bytes <= 10 * SIZE
    kept = list(spool.replay(BOOT, 1, 100))
    assert kept == list(range(41 - len(kept), 41))


def test_the_file_stays_within_twice_its_bound(make: Maker, tmp_path: Path) -> None:
    spool = make(rows=400)
    for number in range(1, 1501):
        row = put(spool, number, payload=bytes(100 + number * 37 % 3000))
        if number % 64 == 0:
            spool.sent(range(row - 63, row + 1))
    spool.close()
    assert (tmp_path / "spool.db").stat().st_size <= 2 * 400 * SIZE + 2**20
    assert not (tmp_path / "spool.db-wal").exists()


# Failures


def test_a_full_file_is_retryable_and_the_spool_works_on(make: Maker) -> None:
    spool = make(rows=10_000)
    rows = [put(spool, number) for number in range(1, 50)]
    db = spool._file.open()
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Retryable) as error:
        fill(spool, rows)
    assert error.value.code is FailureCode.DISK_FULL
    assert waiting(spool) == rows
    used_bytes = spool.depth().used_bytes
    assert used_bytes == len(rows) * SIZE
    db.execute("PRAGMA max_page_count = 100000")
    rows.append(put(spool, len(rows) + 1))
    spool.sent(rows[:-1])
    assert waiting(spool) == rows[-1:]


def test_a_full_disk_is_retryable_and_the_spool_works_on(tmp_path: Path, clock: Clock) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        spool = SqliteSpool(disk / "spool.db", SpoolLimits(), clock)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free - 200_000))
        rows: list[int] = []
        with pytest.raises(Retryable) as error:
            fill(spool, rows)
        assert error.value.code is FailureCode.DISK_FULL
        assert waiting(spool) == rows
        ballast.unlink()
        rows.append(put(spool, 5000))
        spool.close()
        spool = SqliteSpool(disk / "spool.db", SpoolLimits(), clock)
        assert waiting(spool) == rows
        spool.close()
    finally:
        subprocess.run(["umount", disk], check=True)


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, and it is long enough to have a header of one hundred bytes" * 100)


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE waiting (something_else)")
    db.close()


@pytest.mark.parametrize("spoil", [garbage, truncate, empty, foreign])
def test_an_unreadable_file_is_moved_aside_and_a_new_one_begun(
    make: Maker, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spool = make(rows=1000)
    for number in range(1, 200):
        put(spool, number)
    spool.close()
    spoil(tmp_path / "spool.db")
    spoiled = (tmp_path / "spool.db").read_bytes()
    spool = make()
    assert spool.corrupt_file is not None
    assert spool.corrupt_file.name.startswith("spool.db.corrupt-2026")
    assert spool.corrupt_file.read_bytes() == spoiled
    assert waiting(spool) == []
    assert [put(spool, 1)] == waiting(spool)


def test_corruption_at_work_is_reported_and_rows_are_not_used_twice(make: Maker) -> None:
    spool = make(rows=5000)
    last = [put(spool, number) for number in range(1, 500)][-1]
    db = spool._file.open()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'waiting'").fetchone()
    path = Path(db.execute("PRAGMA database_list").fetchone()[2])
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    db.execute("PRAGMA shrink_memory")
    db.execute("PRAGMA cache_size = 0")
    with pytest.raises(Permanent) as error:
        waiting(spool)
    assert error.value.code is FailureCode.SPOOL_CORRUPT
    assert spool.corrupt_file is not None
    assert put(spool, 500) > last
    assert spool.depth().used_bytes == SIZE


def test_unreadable_files_do_not_pile_up(make: Maker, tmp_path: Path, clock: Clock) -> None:
    for _ in range(5):
        garbage(tmp_path / "spool.db")
        make().close()
        clock.jump(1)
    assert len(list(tmp_path.glob("spool.db.corrupt-*"))) == 3


def test_a_path_that_cannot_be_is_a_matter_of_configuration(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Permanent) as error:
        SqliteSpool(tmp_path / "file" / "spool.db", SpoolLimits(), clock)
    assert error.value.code is FailureCode.CONFIG_INVALID


# Against a model


class SpoolMachine(RuleBasedStateMachine):
    """Any sequence of calls: what waits, the order and the books are those of a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.spool = SqliteSpool(Path(":memory:"), SpoolLimits(max_bytes=10**9, telemetry_share=0.5), Clock())
        self.model = MemorySpool(Clock())
        self.rows: list[int] = []
        self.numbers = 0

    @rule(kind=st.sampled_from(Kind), size_bytes=st.integers(0, 9000))
    def append(self, kind: Kind, size_bytes: int) -> None:
        self.numbers += kind is Kind.RESULT
        place = Place(BOOT, self.numbers) if kind is Kind.RESULT else None
        for spool in (self.spool, self.model):
            row = spool.append(kind, message(bytes(size_bytes)), place)
        self.rows.append(row)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def sent(self, data: st.DataObject) -> None:
        rows = data.draw(st.lists(st.sampled_from(self.rows), max_size=5))
        for spool in (self.spool, self.model):
            spool.sent(rows)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def refused(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(self.rows))
        for spool in (self.spool, self.model):
            spool.refused(row, "no")

    @rule(first=st.integers(0, 20), length=st.integers(0, 20))
    def replay(self, first: int, length: int) -> None:
        assert self.spool.replay(BOOT, first, first + length) == self.model.replay(BOOT, first, first + length)

    @invariant()
    def agree(self) -> None:
        self.spool.prune()
        assert waiting(self.spool) == waiting(self.model)
        mine, model = self.spool.depth(), self.model.depth()
        assert (mine.pending, mine.pending_results, mine.dead) == (model.pending, model.pending_results, model.dead)
        kept = len(self.model._rows)
        assert mine.used_bytes == model.used_bytes + kept * (ROW_BYTES + 1)

    def teardown(self) -> None:
        self.spool.close()


TestAgainstAModel = SpoolMachine.TestCase
TestAgainstAModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
