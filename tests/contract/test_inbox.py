"""What the inbox does: commands and replies outlive the process."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.adapters.inbox_sqlite import InboxLimits, SqliteInbox
from agent.core.outgoing import Incoming
from agent.errors import Permanent, Retryable
from schemas.codes import FailureCode

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MESSAGES = [
    Incoming("rkfleet/v1/s/n/cmd/ping", b'{"commandId": "c1"}', START, False, "reply/to/ü", b"\x00\xff"),
    Incoming("rkfleet/v1/s/n/desired/model", b"\xff not JSON", START + timedelta(microseconds=1), True, None, None),
    Incoming("t", b"", START),
]


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., SqliteInbox]]:
    made: list[SqliteInbox] = []

    def build(**limits: int) -> SqliteInbox:
        made.append(SqliteInbox(tmp_path / "inbox.db", InboxLimits(**limits), clock))
        return made[-1]

    yield build
    for each in made:
        each.close()


def test_what_is_put_waits_in_order_over_a_restart(make: Callable[..., SqliteInbox]) -> None:
    inbox = make()
    rows = [inbox.put(each) for each in MESSAGES]
    inbox.close()
    found = make().waiting()
    assert [each.message for each in found] == MESSAGES
    assert [each.row for each in found] == rows == sorted(rows)


def test_a_finished_command_waits_no_more_and_its_reply_is_remembered(make: Callable[..., SqliteInbox]) -> None:
    inbox = make()
    rows = [inbox.put(each) for each in MESSAGES]
    assert inbox.reply_to("c1") is None
    inbox.finish(rows[0], "c1", b"done")
    inbox.finish(rows[1])
    inbox.close()
    inbox = make()
    assert [each.row for each in inbox.waiting()] == rows[2:]
    assert inbox.reply_to("c1") == b"done"
    assert inbox.put(MESSAGES[0]) > rows[2]


def test_a_command_finished_again_has_its_last_reply(make: Callable[..., SqliteInbox]) -> None:
    inbox = make()
    for reply in (b"first", b"second"):
        inbox.finish(inbox.put(MESSAGES[0]), "c1", reply)
    assert inbox.reply_to("c1") == b"second"


def test_replies_are_bounded_by_number_the_oldest_go_first(make: Callable[..., SqliteInbox]) -> None:
    inbox = make(max_replies=3)
    for number in range(6):
        inbox.finish(inbox.put(MESSAGES[0]), f"c{number}", b"reply")
    assert [inbox.reply_to(f"c{number}") is not None for number in range(6)] == [False] * 3 + [True] * 3


def test_replies_are_bounded_by_age(make: Callable[..., SqliteInbox], clock: Clock) -> None:
    inbox = make(max_reply_age_s=60)
    inbox.finish(inbox.put(MESSAGES[0]), "c1", b"reply")
    clock.now += timedelta(seconds=60)
    assert inbox.reply_to("c1") == b"reply"
    clock.now += timedelta(seconds=1)
    assert inbox.reply_to("c1") is None


def test_a_full_inbox_takes_no_more_until_one_is_finished(make: Callable[..., SqliteInbox]) -> None:
    inbox = make(max_waiting=2)
    rows = [inbox.put(each) for each in MESSAGES[:2]]
    with pytest.raises(Retryable) as error:
        inbox.put(MESSAGES[2])
    assert error.value.code is FailureCode.DISK_FULL
    inbox.finish(rows[0])
    inbox.put(MESSAGES[2])
    assert [each.message for each in inbox.waiting()] == MESSAGES[1:]


def test_sessions_grow_over_restarts_and_over_the_loss_of_the_file(
    make: Callable[..., SqliteInbox], tmp_path: Path, clock: Clock
) -> None:
    numbers = []
    for _ in range(3):
        inbox = make()
        numbers += [inbox.next_session(), inbox.next_session()]
        inbox.close()
    (tmp_path / "inbox.db").write_bytes(b"garbage" * 1000)
    clock.now += timedelta(seconds=30)
    numbers.append(make().next_session())
    assert numbers == sorted(set(numbers))
    assert numbers[1] == numbers[0] + 1


def test_a_full_disk_is_retryable_and_the_message_is_not_taken(make: Callable[..., SqliteInbox]) -> None:
    inbox = make()
    with inbox._transaction() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
    large = Incoming("t", bytes(20_000), START)
    with pytest.raises(Retryable) as error:
        inbox.put(large)
    assert error.value.code is FailureCode.DISK_FULL
    assert inbox.waiting() == []
    with inbox._transaction() as db:
        db.execute("PRAGMA max_page_count = 10000")
    inbox.put(large)
    assert [each.message for each in inbox.waiting()] == [large]


@pytest.mark.parametrize(
    "content", [b"no database at all, but longer than a header of 100 bytes" * 90, b"SQLite format 3", b""]
)
def test_an_unreadable_file_is_moved_aside_and_a_new_one_begun(
    make: Callable[..., SqliteInbox], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "inbox.db").write_bytes(content)
    inbox = make()
    assert inbox.corrupt_file is not None
    assert inbox.corrupt_file.read_bytes() == content
    assert inbox.waiting() == []
    inbox.put(MESSAGES[0])
    assert [each.message for each in inbox.waiting()] == MESSAGES[:1]


def test_a_file_of_another_shape_is_moved_aside(make: Callable[..., SqliteInbox], tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "inbox.db")
    other.execute("CREATE TABLE waiting (something_else)")
    other.close()
    inbox = make()
    assert inbox.corrupt_file is not None
    assert inbox.waiting() == []


def test_unreadable_files_do_not_pile_up_and_the_newest_stay(
    make: Callable[..., SqliteInbox], tmp_path: Path, clock: Clock
) -> None:
    for number in range(5):
        (tmp_path / "inbox.db").write_bytes(b"garbage%d" % number * 1000)
        make().close()
        clock.now += timedelta(seconds=1)
    kept = sorted(tmp_path.glob("inbox.db.corrupt-*"))
    assert [each.read_bytes()[:8] for each in kept] == [b"garbage2", b"garbage3", b"garbage4"]


def test_a_second_process_is_kept_out(make: Callable[..., SqliteInbox]) -> None:
    make().put(MESSAGES[0])
    with pytest.raises(Retryable, match="another process has it") as error:
        make()
    assert error.value.code is FailureCode.INTERNAL


def test_a_file_that_becomes_unreadable_costs_one_call(make: Callable[..., SqliteInbox]) -> None:
    inbox = make()
    inbox.put(MESSAGES[0])
    with inbox._transaction() as db:
        path = Path(db.execute("PRAGMA database_list").fetchone()[2])
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'waiting'").fetchone()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    db.execute("PRAGMA shrink_memory")
    with pytest.raises(Permanent) as error:
        inbox.waiting()
    assert error.value.code is FailureCode.SPOOL_CORRUPT
    assert inbox.corrupt_file is not None
    inbox.put(MESSAGES[1])
    assert [each.message for each in inbox.waiting()] == MESSAGES[1:2]


def test_a_closed_inbox_and_an_impossible_path_say_so(
    make: Callable[..., SqliteInbox], tmp_path: Path, clock: Clock
) -> None:
    inbox = make()
    inbox.close()
    with pytest.raises(Permanent, match="closed"):
        inbox.waiting()
    (tmp_path / "file").write_text("")
    with pytest.raises(Permanent) as error:
        SqliteInbox(tmp_path / "file" / "inbox.db", InboxLimits(), clock)
    assert error.value.code is FailureCode.CONFIG_INVALID


def test_threads_put_and_finish_at_once(make: Callable[..., SqliteInbox]) -> None:
    inbox = make()

    def work(lane: int) -> None:
        for number in range(30):
            inbox.finish(inbox.put(MESSAGES[0]), f"{lane}/{number}", b"reply")

    threads = [threading.Thread(target=work, args=(lane,)) for lane in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert inbox.waiting() == []
    assert all(inbox.reply_to(f"{lane}/{number}") for lane in range(4) for number in range(30))
