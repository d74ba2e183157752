"""A writer is killed at random, time after time: what it was told to be stored is stored."""

import os
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from agent.adapters.spool_sqlite import SpoolLimits, SqliteSpool

KILLS = 12
LIMITS = SpoolLimits()

WRITER = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from agent.adapters.spool_sqlite import SpoolLimits, SqliteSpool
from agent.core.outgoing import Kind, Outgoing, Place
from agent.loops.outbox import Outbox

path, boot_id, pipe = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
spool = SqliteSpool(path, SpoolLimits(), lambda: datetime.now(UTC))
outbox = Outbox(spool, boot_id, lambda: None)

def build(place):
    number = place.sequence_number
    return Outgoing("t", b"%08d" % number * (1 + number * 7919 % 1500))

while True:
    place = outbox.result(build)
    os.write(pipe, b"%08d" % place.sequence_number)
    if place.sequence_number % 16 == 0:
        spool.sent([each.row for each in spool.pending(0, 12)])
"""


def numbers_until_killed(path: Path, boot_id: str, least: int) -> list[int]:
    """Let the writer store `least` results, kill it in the midst of the next ones, and return what it told."""
    root = Path(__file__).parents[2]
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path, boot_id, str(writing)],
        pass_fds=[writing],
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as writer:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read(8 * least)
            writer.send_signal(signal.SIGKILL)
            told += pipe.read()
    assert writer.returncode == -signal.SIGKILL
    return [int(told[at : at + 8]) for at in range(0, len(told), 8)]


def test_no_stored_result_is_lost_over_twelve_kills(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    chance = random.Random(20)
    told: dict[str, int] = {}
    for kill in range(KILLS):
        numbers = numbers_until_killed(path, f"boot {kill}", chance.randint(1, 60))
        assert numbers == list(range(1, len(numbers) + 1))
        told[f"boot {kill}"] = len(numbers)

    spool = SqliteSpool(path, LIMITS, lambda: datetime.now(UTC))
    assert spool.corrupt_file is None
    for boot_id, count in told.items():
        stored = list(spool.replay(boot_id, 1, 10**6))
        # One more may be stored than was told: the kill came between the commit and the word of it.
        assert stored in (list(range(1, count + 1)), list(range(1, count + 2)))
    waiting = spool.pending(0, 10**6)
    assert len(waiting) == spool.depth().pending_results >= sum(told.values())
    for each in waiting:
        number = int(each.message.payload[:8])
        assert each.message.payload == b"%08d" % number * (1 + number * 7919 % 1500)
    spool.close()
