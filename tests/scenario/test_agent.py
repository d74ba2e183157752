"""The whole agent against a real broker: what a reader of its messages must be able to rely on."""

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.recipe import Evaluation
from schemas.result import Result, ResultState
from schemas.status import Presence
from tests.contract.brokers import Iotcore, Mosquitto, needs_mosquitto
from tests.contract.raw_client import RawClient
from tests.scenario.station import TOPICS, Mes, Station, gaps


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Iotcore]:
    with Iotcore(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def station(tmp_path: Path, broker: Iotcore) -> Station:
    folder = tmp_path / "station"
    folder.mkdir()
    return Station(folder, broker.port)


@pytest.fixture
def mes(broker: Iotcore) -> Iterator[Mes]:
    with Mes(broker.host, broker.port) as reader:
        yield reader


def shown(result: Result) -> list[str]:
    return sorted(defect.class_name for defect in result.defects)


def assert_true_to(station: Station, results: dict[str, Result]) -> None:
    """Each completed result tells what the picture at its place in the folder shows."""
    truths = set(map(tuple, station.truth.values()))
    for result in results.values():
        if result.result_state is ResultState.COMPLETED:
            assert tuple(shown(result)) in truths, result.to_json()
            expected = Evaluation.NOT_OK if result.defects else Evaluation.OK
            assert result.result_evaluation is expected


def ask(mes: Mes, name: str, document: dict[str, Any], correlation: bytes = b"c-1") -> dict[str, Any]:
    """Send a command and return its reply."""
    with RawClient(mes._address[0], mes._address[1], "replies/me") as caller:
        caller.publish(
            TOPICS.command(name), json.dumps(document).encode(), response_topic="replies/me", correlation=correlation
        )
        message = caller.wait_topic("replies/me")
    assert message.properties is not None
    assert getattr(message.properties, "CorrelationData", None) == correlation
    loaded: dict[str, Any] = json.loads(message.payload)
    return loaded


def test_a_board_inspects_its_camera_and_leaves_nothing_behind(station: Station, mes: Mes) -> None:
    with station:
        mes.wait("40 results", lambda: len(mes.results()) >= 40)
        mes.wait("telemetry of all groups", lambda: len({m.topic for m in mes.of("telemetry/")}) == 3)
        began_s = time.monotonic()
        assert station.stop() == 0
        assert time.monotonic() - began_s < 5.0
    mes.wait("the goodbye", lambda: mes.statuses()[-1].presence is Presence.OFFLINE)
    birth, goodbye = mes.statuses()[0], mes.statuses()[-1]
    assert (birth.presence, birth.reason) == (Presence.ONLINE, "birth")
    assert goodbye.reason == "shutdown"
    assert goodbye.session_seq == birth.session_seq
    assert goodbye.last_sequence_number is not None
    mes.wait("every result", lambda: not gaps(mes.results(), birth.boot_id, goodbye.last_sequence_number or 0))
    results = mes.results()
    assert_true_to(station, results)
    assert {tuple(shown(result)) for result in results.values()} == set(map(tuple, station.truth.values()))
    info = mes.latest("info")
    assert info is not None
    assert info["model"]["version"] == "1.0.0"
    assert info["target"] == "cpu"


def test_telemetry_counts_what_was_done(station: Station, mes: Mes) -> None:
    with station:
        mes.wait("results", lambda: len(mes.results()) >= 30)
        station.stop()
    mes.wait("the goodbye", lambda: mes.statuses()[-1].presence is Presence.OFFLINE)
    inspection, host, spool = (mes.latest(f"telemetry/{group}") for group in ("inspection", "host", "spool"))
    assert inspection is not None
    assert host is not None
    assert spool is not None
    counters = inspection["cameras"]["top"]
    last = mes.statuses()[-1].last_sequence_number or 0
    assert counters["inspected"] == last
    assert last <= counters["captured"] - counters["dropped"] <= last + 1
    stages = {stage for m in mes.of("telemetry/inspection") for stage in json.loads(m.payload)["latencyMs"]}
    assert stages >= {"acquire", "wait", "prepare", "segment", "inference", "regions", "judge", "spool", "total"}
    assert host["memoryBytes"] > 1_000_000
    assert host["startToFirstResultMs"] > 0
    assert spool["published"] > 0


def test_twenty_kills_at_random_lose_no_result(station: Station, mes: Mes) -> None:
    chance = random.Random(4)
    boots: list[str] = []
    for _ in range(20):
        before = len(mes.results())
        station.start()
        mes.wait("a few more results", lambda before=before: len(mes.results()) > before + chance.randint(0, 10))  # type: ignore[misc]
        station.kill()
        boots.append(mes.statuses()[-1].boot_id)
    station.start()
    mes.wait("the last boot", lambda: mes.statuses()[-1].boot_id not in boots)
    mes.wait("its results", lambda: any(r.boot_id == mes.statuses()[-1].boot_id for r in mes.results().values()))
    station.stop()
    mes.wait("the goodbye", lambda: mes.statuses()[-1].reason == "shutdown")
    results = mes.results()
    for boot in {result.boot_id for result in results.values()}:
        last = max(result.sequence_number for result in results.values() if result.boot_id == boot)
        assert gaps(results, boot, last) == []
    assert mes.statuses()[-1].pending_results == 0
    assert_true_to(station, results)
    by_place = {(result.boot_id, result.sequence_number) for result in results.values()}
    assert len(by_place) == len(results), "one place, one result"
    sessions = [status.session_seq for status in mes.statuses() if status.reason == "birth"]
    assert sessions == sorted(set(sessions)), "sessionSeq grows over restarts"


def test_results_made_while_the_broker_is_away_come_when_it_is_back(station: Station, broker: Iotcore) -> None:
    with Mes(broker.host, broker.port) as before, station:
        before.wait("results", lambda: len(before.results()) >= 10)
        boot = before.statuses()[-1].boot_id
        broker.kill()
        time.sleep(1.0)  # results are made meanwhile; nobody can be asked how many
        broker.start()
        with Mes(broker.host, broker.port) as after:
            after.wait("a new birth", lambda: bool(after.statuses()))
            after.wait("results again", lambda: len(after.results()) >= 20)
            station.stop()
            after.wait("the goodbye", lambda: after.statuses()[-1].presence is Presence.OFFLINE)
            last = after.statuses()[-1].last_sequence_number or 0
            after.wait("all results", lambda: not gaps(before.results() | after.results(), boot, last))
            assert any(json.loads(m.payload)["code"] == "broker-unreachable" for m in after.of("event/"))


def test_another_client_with_the_boards_id_is_survived(station: Station, mes: Mes) -> None:
    with station:
        mes.wait("results", lambda: len(mes.results()) >= 5)
        first = mes.statuses()[-1].session_seq
        with RawClient(mes._address[0], mes._address[1], client_id="berlin.board-1") as thief:
            mes.wait("a birth in a later session", lambda: _online_since(mes, first + 1))
            assert thief.disconnects >= 0
        station.stop()
    mes.wait("the goodbye", lambda: mes.statuses()[-1].reason == "shutdown")
    last = mes.statuses()[-1].last_sequence_number or 0
    boot = mes.statuses()[-1].boot_id
    mes.wait("all results", lambda: gaps(mes.results(), boot, last) == [])


def _online_since(mes: Mes, session: int) -> bool:
    return any(s.presence is Presence.ONLINE and s.session_seq >= session for s in mes.statuses())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_inspection_goes_on_when_the_segmenters_process_is(how: signal.Signals, station: Station, mes: Mes) -> None:
    with station:
        mes.wait("results", lambda: len(mes.results()) >= 10)
        children = station.children()
        assert len(children) == 1
        completed = _completed(mes)
        os.kill(children[0], how)
        began_s = time.monotonic()
        mes.wait("a failed result", lambda: any(r.result_state is ResultState.FAILED for r in mes.results().values()))
        failed = next(r for r in mes.results().values() if r.result_state is ResultState.FAILED)
        mes.wait("completed results again", lambda: _after(mes, failed) >= 5)
        recovered_s = time.monotonic() - began_s
        mes.wait("the alarm to clear", lambda: mes.of("alarm/npu-") != [] and mes.of("alarm/npu-")[-1].payload == b"")
        station.stop()
    assert failed.result_evaluation is Evaluation.UNDEFINED
    assert failed.fault is not None
    assert failed.fault.code.startswith("npu-")
    assert failed.defects == []
    assert len(_completed(mes)) > len(completed)
    assert_true_to(station, mes.results())
    # One deadline of 1 s, a new interpreter and the model: what is measured here is that it comes back, not how fast.
    assert recovered_s < 20


def _completed(mes: Mes) -> list[Result]:
    return [result for result in mes.results().values() if result.result_state is ResultState.COMPLETED]


def _after(mes: Mes, failed: Result) -> int:
    return sum(result.sequence_number > failed.sequence_number for result in _completed(mes))


def test_a_lost_camera_is_an_alarm_until_it_is_back(station: Station, mes: Mes) -> None:
    pictures = station.folder / "pictures"
    with station:
        mes.wait("results", lambda: len(mes.results()) >= 5)
        hidden = pictures.rename(station.folder / "unplugged")
        mes.wait("the alarm", lambda: _alarm(mes, "camera-lost") or _alarm(mes, "camera-absent"))
        boards = len(mes.results())
        hidden.rename(pictures)
        mes.wait("results again", lambda: len(mes.results()) > boards + 5)
        mes.wait("no alarm", lambda: not (_alarm(mes, "camera-lost") or _alarm(mes, "camera-absent")))
        station.stop()
    events = [json.loads(m.payload) for m in mes.of("event/camera-")]
    assert {"raised", "cleared"} <= {event["kind"] for event in events}


def _alarm(mes: Mes, code: str) -> bool:
    return mes.latest(f"alarm/{code}") is not None


def test_an_absent_camera_does_not_hold_up_the_start_or_the_stop(station: Station, mes: Mes) -> None:
    (station.folder / "pictures").rename(station.folder / "unplugged")
    with station:
        mes.wait("the alarm", lambda: _alarm(mes, "camera-absent"))
        assert ask(mes, "ping", {"commandId": "p-1"})["ok"]
        began_s = time.monotonic()
        assert station.stop() == 0
        assert time.monotonic() - began_s < 5.0


def test_a_broken_model_is_an_alarm_and_gives_no_result(station: Station, mes: Mes) -> None:
    model = station.folder / "bundle" / "cpu.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[:-10])
    with station:
        mes.wait("the alarm", lambda: _alarm(mes, "model-digest-mismatch"))
        assert mes.results() == {}
        assert station.stop() == 0


def test_commands_are_answered_once_and_the_same_each_time(station: Station, mes: Mes) -> None:
    with station:
        mes.wait("a birth", lambda: bool(mes.statuses()))
        first = ask(mes, "ping", {"commandId": "p-1"})
        again = ask(mes, "ping", {"commandId": "p-1"}, b"c-2")
        other = ask(mes, "ping", {"commandId": "p-2"})
        station.kill()
        station.start()
        mes.wait("a second birth", lambda: mes.statuses()[-1].boot_id != first["output"]["bootId"])
        after = ask(mes, "ping", {"commandId": "p-1"}, b"c-3")
        station.stop()
    assert first["ok"]
    assert first == again == after
    assert other["output"]["uptimeS"] > first["output"]["uptimeS"]


def test_a_gap_is_filled_by_replay(station: Station, mes: Mes) -> None:
    with station:
        mes.wait("results", lambda: len(mes.results()) >= 20)
        boot = mes.statuses()[-1].boot_id
        with Mes(mes._address[0], mes._address[1], "late") as late:
            reply = ask(
                mes, "replay",
                {"commandId": "r-1", "bootId": boot, "firstSequenceNumber": 3, "lastSequenceNumber": 12},
            )  # fmt: skip
            late.wait("the replay", lambda: {r.sequence_number for r in late.results().values()} >= set(range(3, 13)))
        unknown = ask(
            mes, "replay",
            {"commandId": "r-2", "bootId": "never", "firstSequenceNumber": 1, "lastSequenceNumber": 4},
        )  # fmt: skip
        station.stop()
    assert reply["output"] == {"found": 10, "missing": []}
    assert unknown["output"] == {"found": 0, "missing": [[1, 4]]}


@pytest.mark.parametrize(
    ("name", "payload", "code"),
    [
        ("ping", b"", "message-malformed"),
        ("ping", b"\xff\xfe\x00", "message-malformed"),
        ("ping", b"[" * 5000, "message-malformed"),
        ("ping", b"{}", "command-invalid"),
        ("ping", b'{"commandId": "a/b"}', "command-invalid"),
        ("ping", b'{"commandId": 7}', "command-invalid"),
        ("replay", b'{"commandId": "x", "bootId": "b", "firstSequenceNumber": -1, "lastSequenceNumber": 2}',
         "command-invalid"),
        ("format-disk", b'{"commandId": "x"}', "command-unknown"),
        ("ping", b'{"commandId": "x", "expiresAt": "2020-01-01T00:00:00Z"}', "command-expired"),
        ("ping", b'{"commandId": "y", "pad": "' + b"x" * 70_000 + b'"}', "message-too-large"),
    ],
)  # fmt: skip
def test_a_bad_command_is_refused_in_words(
    name: str, payload: bytes, code: str, quiet_station: tuple[Station, Mes]
) -> None:
    _, mes = quiet_station
    with RawClient(mes._address[0], mes._address[1], "replies/bad") as caller:
        caller.publish(TOPICS.command(name), payload, response_topic="replies/bad", correlation=b"1")
        reply = json.loads(caller.wait_topic("replies/bad").payload)
    assert reply["ok"] is False
    assert reply["failure"]["code"] == code
    assert reply["failure"]["text"]


def test_an_oversized_command_is_thrown_away_and_told(quiet_station: tuple[Station, Mes]) -> None:
    _, mes = quiet_station
    with RawClient(mes._address[0], mes._address[1]) as caller:
        caller.publish(TOPICS.command("ping"), b"x" * 500_000)
    mes.wait("the event", lambda: mes.of("event/message-too-large") != [])
    assert ask(mes, "ping", {"commandId": "still-there"})["ok"]


@pytest.fixture(scope="module")
def quiet_station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Station, Mes]]:
    """One agent for all the tests that only send commands."""
    folder = tmp_path_factory.mktemp("quiet")
    with Iotcore(folder / "broker") as running, Mes(running.host, running.port) as reader:
        (folder / "station").mkdir()
        with Station(folder / "station", running.port, rate_hz=2.0) as quiet:
            reader.wait("a birth", lambda: bool(reader.statuses()))
            yield quiet, reader


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_disk_holds_results_up_and_loses_none(station: Station, mes: Mes) -> None:
    data = station.folder / "data"
    data.mkdir()
    if os.system(f"mount -t tmpfs -o size=3m tmpfs {data}") != 0:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        with station:
            mes.wait("results", lambda: len(mes.results()) >= 10)
            ballast = data / "ballast"
            _fill(ballast)
            mes.wait("the alarm", lambda: _alarm(mes, "disk-full"))
            ballast.unlink()
            before = len(mes.results())
            mes.wait("results again", lambda: len(mes.results()) > before + 5)
            station.stop()
        mes.wait("the goodbye", lambda: mes.statuses()[-1].reason == "shutdown")
        last = mes.statuses()[-1].last_sequence_number or 0
        boot = mes.statuses()[-1].boot_id
        mes.wait("all results", lambda: gaps(mes.results(), boot, last) == [])
    finally:
        os.system(f"umount -l {data}")


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass


@pytest.mark.parametrize("_marked", [pytest.param(None, marks=needs_mosquitto)])
def test_a_reader_that_was_away_gets_everything(_marked: None, tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker:
        (tmp_path / "station").mkdir()
        station = Station(tmp_path / "station", broker.port)
        with Mes(broker.host, broker.port, "mes", session_expiry_s=3600) as early, station:
            early.wait("results", lambda: len(early.results()) >= 5)
            early.close()
            boot = early.statuses()[-1].boot_id
            with RawClient(broker.host, broker.port, TOPICS.status) as watcher:
                time.sleep(1.0)  # the reader is away; the board goes on
                station.stop()
                watcher.wait_for(lambda messages: any(b"shutdown" in m.payload for m in messages))
            with Mes(broker.host, broker.port, "mes", session_expiry_s=3600) as back:
                back.wait("the goodbye", lambda: any(s.reason == "shutdown" for s in back.statuses()))
                last = next(s for s in back.statuses() if s.reason == "shutdown").last_sequence_number or 0
                back.wait("all results", lambda: gaps(early.results() | back.results(), boot, last) == [])
