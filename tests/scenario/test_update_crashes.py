"""kill -9 at every moment of an update that the journal knows, crash loops, and a journal that is gone."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.adapters.spool_sqlite import SpoolLimits, SqliteSpool
from agent.core.outgoing import Spooled
from schemas.codes import FailureCode
from schemas.result import Result
from schemas.state import Phase, ShadowPlan
from tests.scenario.bad_bundle import disagreeing
from tests.scenario.bundle import digest
from tests.scenario.station import DEADLINE_S, TOPICS, Station
from tests.scenario.update_kit import Hall, running_hall

SHADOW = ShadowPlan(frames=5, least_agreement=0.9)


@dataclass
class DeadlyStation(Station):
    """Its agent kills itself on orders; see deadly_agent.py."""

    orders: Path = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.orders = self.folder / "orders"

    def start(self) -> None:
        assert self.process is None
        command = [sys.executable, "-m", "tests.scenario.deadly_agent", str(self.orders)]
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
                env={**os.environ, **self.environ},
            )

    def order(self, text: str) -> None:
        """Whole or not at all, for the agent looks at any moment."""
        new = self.orders.with_suffix(".new")
        new.write_text(text)
        new.replace(self.orders)

    def wait_death(self) -> None:
        process, self.process = self.process, None
        assert process is not None
        assert process.wait(DEADLINE_S) == -signal.SIGKILL, self.log[-3000:]


@pytest.fixture(scope="module")
def deadly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """One station for all deaths: each begins with the model that the one before has left."""
    with running_hall(tmp_path_factory.mktemp("deadly"), DeadlyStation) as running:
        yield running


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    with running_hall(tmp_path) as running:
        yield running


@pytest.mark.parametrize("order", ["write 6", "effect Restore"])
def test_after_a_kill_what_was_rejected_stays_rejected(deadly: Hall, order: str) -> None:
    station = deadly.station
    assert isinstance(station, DeadlyStation)
    before, boot = deadly.journal(), deadly.boot()
    bundle = disagreeing(deadly.bundle(f"{deadly.generation + 2}.0.0"))
    desired = deadly.desired(bundle)
    station.order(order)
    deadly.want(desired)
    station.wait_death()
    station.start()
    deadly.wait_boot(boot)
    deadly.wait_phase(desired.generation, Phase.REJECTED)
    deadly.wait_more(5)
    assert deadly.journal()["current"] == before["current"]
    assert deadly.in_order()[-1].model.version == before["current"]["version"]
    deadly.assert_nothing_lost()


@pytest.mark.parametrize(
    ("order", "dies_in", "ends_in"),
    [
        ("write 1", Phase.QUEUED, Phase.COMMITTED),
        ("write 2", Phase.DOWNLOADING, Phase.COMMITTED),
        ("write 3", Phase.VERIFYING, Phase.COMMITTED),
        ("write 4", Phase.LOADING, Phase.COMMITTED),
        ("write 5", Phase.SELF_TEST, Phase.COMMITTED),
        ("write 6", Phase.SHADOW, Phase.COMMITTED),
        ("effect StartShadow", Phase.SHADOW, Phase.COMMITTED),
        ("write 7", Phase.PROBATION, Phase.ROLLED_BACK),
        ("effect Flip", Phase.PROBATION, Phase.ROLLED_BACK),
        ("write 8", Phase.COMMITTED, Phase.COMMITTED),
        ("effect Commit", Phase.COMMITTED, Phase.COMMITTED),
    ],
)
def test_after_a_kill_the_update_goes_on_or_is_rolled_back(
    deadly: Hall, order: str, dies_in: Phase, ends_in: Phase
) -> None:
    station = deadly.station
    assert isinstance(station, DeadlyStation)
    first = digest(station.folder / "bundle" / "manifest.json")
    before, boot = deadly.journal(), deadly.boot()
    bundle = deadly.bundle(f"{deadly.generation + 2}.0.0")
    desired = deadly.desired(bundle, shadow=SHADOW)
    station.order(order)
    deadly.want(desired)
    station.wait_death()
    assert deadly.journal()["phase"] == dies_in
    station.start()
    deadly.wait_boot(boot)
    deadly.wait_phase(desired.generation, ends_in)
    deadly.wait_more(5)
    after = deadly.journal()
    is_committed = ends_in is Phase.COMMITTED
    expected = desired.manifest_sha256 if is_committed else before["current"]["manifest_sha256"]
    assert after["current"]["manifest_sha256"] == expected
    assert after["last_good"]["manifest_sha256"] == first
    assert after["candidate"] is None
    assert deadly.in_order()[-1].model.version == after["current"]["version"]
    deadly.assert_nothing_lost()


def spooled(hall: Hall) -> list[Spooled]:
    """What waits for the broker, while no agent runs."""
    spool = SqliteSpool(hall.station.folder / "data" / "spool.db", SpoolLimits(), lambda: datetime.now(UTC))
    try:
        return list(spool.pending(0, 10**6))
    finally:
        spool.close()


def pictures(hall: Hall) -> set[str]:
    """Kept as evidence, just before the result that they belong to is."""
    return {path.name for path in (hall.station.folder / "data" / "evidence").rglob("*.*")}


def test_three_starts_that_die_bring_back_the_last_good_model_without_broker_and_server(hall: Hall) -> None:
    hall.want(hall.desired(hall.bundle("2.0.0")))
    hall.wait_phase(1, Phase.COMMITTED)
    hall.broker.kill()
    hall.server.close()
    station = hall.station
    for unclean in (1, 2):
        station.kill()
        station.start()
        hall.mes.wait("its boot", lambda unclean=unclean: hall.journal()["unclean_starts"] == unclean)  # type: ignore[misc]
        assert hall.journal()["current"]["version"] == "2.0.0"
    station.kill()
    before = pictures(hall)
    station.environ = {"RKFLEET_STORAGE__EVIDENCE_INTERVAL_S": "0"}
    station.start()
    hall.mes.wait("the way back", lambda: hall.journal()["phase"] == "ROLLED_BACK")
    hall.mes.wait("results", lambda: len(pictures(hall) - before) >= 20)
    station.kill()
    assert hall.journal()["current"]["version"] == hall.journal()["last_good"]["version"] == "1.0.0"
    rows = spooled(hall)
    events = [row for row in rows if row.message.topic == TOPICS.event(FailureCode.CRASH_LOOP)]
    assert len(events) == 1
    results = [Result.model_validate_json(row.message.payload) for row in rows if "/result/" in row.message.topic]
    last_boot = [result for result in results if result.boot_id == results[-1].boot_id]
    assert {result.model.version for result in last_boot} == {"1.0.0"}
    assert [result.sequence_number for result in last_boot] == list(range(1, len(last_boot) + 1))


def test_without_a_journal_the_installed_model_inspects(hall: Hall) -> None:
    hall.want(hall.desired(hall.bundle("2.0.0")))
    hall.wait_phase(1, Phase.COMMITTED)
    hall.mes.publish(TOPICS.desired("model"), b"", retain=True)
    before = hall.boot()
    hall.station.stop()
    for name in ("update.journal", "update.journal.previous"):
        (hall.station.folder / "data" / name).write_bytes(random.Random(1).randbytes(5_000))
    hall.station.start()
    boot = hall.wait_boot(before)
    hall.mes.wait("the event", lambda: bool(hall.events(FailureCode.JOURNAL_CORRUPT)))
    hall.wait_more(10)
    assert {result.model.version for result in hall.in_order(boot)} == {"1.0.0"}
    hall.assert_nothing_lost()
