"""All that lies on the disk of one agent."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.config import Storage
from agent.core.outgoing import Incoming, Kind, Outgoing
from agent.errors import Permanent
from agent.stores import Stores
from schemas.codes import FailureCode
from schemas.command import Lot
from schemas.target import Target

AT = datetime(2026, 1, 1, tzinfo=UTC)


def opened(folder: Path, **storage: int) -> Stores:
    return Stores(Storage(data_dir=folder / "data" / "deeper", **storage), Target.CPU, lambda: AT)


def test_the_next_process_finds_what_this_one_left(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.spool.append(Kind.EVENT, Outgoing("t", b"1"))
    first.inbox.put(Incoming("t", b"2", AT))
    first.update_journal.write(b"3")
    first.config_journal.write(b"4")
    first.lots.take(Lot(command_id="c", lot_id="lot-1", state="open"))
    first.stop_mark.leave()
    first.close()
    second = opened(tmp_path)
    assert [each.message.payload for each in second.spool.pending(0, 10)] == [b"1"]
    assert [each.message.payload for each in second.inbox.waiting()] == [b"2"]
    assert (second.update_journal.read(), second.config_journal.read()) == (b"3", b"4")
    assert second.lots.is_open
    assert second.stop_mark.take()
    assert second.corrupt() == []
    second.close()


@pytest.mark.parametrize("name", ["spool", "inbox"])
def test_a_database_that_cannot_be_read_begins_anew_and_is_named(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "deeper"
    folder.mkdir(parents=True)
    (folder / f"{name}.db").write_bytes(b"no database" * 1000)
    stores = opened(tmp_path)
    ((named, aside),) = stores.corrupt()
    assert named == name
    assert aside.read_bytes() == b"no database" * 1000
    stores.close()


def test_lanes_share_what_pictures_may_take_up(tmp_path: Path) -> None:
    stores = opened(tmp_path, evidence_max_bytes=1000)
    shares = [stores.evidence(name, 2) for name in ("core-0", "core-1")]
    for share in shares:
        assert share is not None
        for number in range(3):
            share.save(f"{number}.jpg", b"x" * 300)
    kept = list((stores.folder / "evidence").rglob("*.jpg"))
    assert sum(path.stat().st_size for path in kept) <= 1000
    assert {path.parent.name for path in kept} == {"core-0", "core-1"}
    stores.close()


def test_no_picture_is_kept_where_none_may_be(tmp_path: Path) -> None:
    stores = opened(tmp_path, evidence_max_bytes=0)
    assert stores.evidence("core-0", 1) is None
    stores.close()


def test_a_folder_that_cannot_be_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(Permanent, match=r"storage\.data_dir: .*deeper: Not a directory") as refused:
        opened(tmp_path)
    assert refused.value.code is FailureCode.CONFIG_INVALID
