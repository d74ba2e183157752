"""A crowd of simulated boards on a real broker, as a controller and an MES see it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import MQTTMessage

from fleet.web.files import files_app
from schemas.result import Result
from schemas.state import DesiredModel, Phase, ReportedModel
from schemas.status import Info, Presence, Status
from schemas.telemetry import InspectionTelemetry
from schemas.topics import Topics
from tests.contract.asgi_server import serving
from tests.contract.brokers import BrokerProcess, Iotcore, Mosquitto, mosquitto_path, needs_mosquitto
from tests.contract.file_server import FileServer, file_server
from tests.contract.raw_client import RawClient
from tests.contract.tuf_world import world
from tests.scenario.bundle import digest, make_bundle

BOARDS = 20
SITE = "hall"
DEADLINE_S = 40.0
NAMES = [f"sim-{number:06d}" for number in range(1, BOARDS + 1)]


class Reader(RawClient):
    """What was said last on each topic."""

    def __init__(self, broker: BrokerProcess, *filters: str) -> None:
        super().__init__(broker.host, broker.port, *(filters or (f"rkfleet/v1/{SITE}/#",)))

    def last(self, topic: str) -> bytes:
        return next((bytes(each.payload) for each in reversed(self.messages) if each.topic == topic), b"")

    def reported(self, node: str) -> ReportedModel | None:
        payload = self.last(Topics(SITE, node).reported("model"))
        return ReportedModel.model_validate_json(payload) if payload else None

    def all_of(self, what: str, parse: Callable[[bytes], Any]) -> dict[str, Any]:
        """The last of each board, of the topics that end so."""
        return {
            each.topic.split("/")[3]: parse(bytes(each.payload))
            for each in list(self.messages)
            if each.topic.endswith(f"/{what}") and each.payload
        }

    def until(self, holds: Callable[[], bool]) -> None:
        self.wait_for(lambda _messages: holds(), DEADLINE_S)

    def until_all(self, phase: Phase, generation: int, nodes: Sequence[str] = NAMES) -> None:
        def holds() -> bool:
            reports = self.all_of("reported/model", ReportedModel.model_validate_json)
            said = [reports[node] for node in nodes if node in reports]
            return len(said) == len(nodes) and all(
                each.phase is phase and each.observed_generation == generation for each in said
            )

        self.until(holds)


@dataclass
class Crowd:
    process: "subprocess.Popen[str]"
    lines: list[dict[str, Any]] = field(default_factory=list)

    def end(self) -> int:
        """In order; what it said is in `lines`."""
        said, _ = self.process.communicate(timeout=DEADLINE_S)
        self.lines += [json.loads(line) for line in said.splitlines()]
        return self.process.returncode


@contextmanager
def crowd(broker: BrokerProcess, **config: Any) -> Iterator[Crowd]:
    settings = {"port": broker.port, "site": SITE, "nodes": BOARDS, "startsPerS": 200, "telemetryS": 1,
                "reportS": 0.2, "trust": {"manifests": False}, **config}  # fmt: skip
    command = [sys.executable, "-m", "agent.simulate", "--config", json.dumps(settings)]
    environ = {**os.environ, "TMPDIR": str(broker.directory)}  # it is killed, and leaves its folder behind
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)
    try:
        yield Crowd(process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def iotcore(tmp_path: Path) -> Iterator[Iotcore]:
    with Iotcore(tmp_path / "broker") as running:
        yield running


@pytest.fixture(params=["iotcore", pytest.param("mosquitto", marks=needs_mosquitto)])
def any_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    kind = Iotcore if request.param == "iotcore" else Mosquitto
    with kind(tmp_path / "broker") as running:
        yield running


def desired(generation: int, version: str = "1.0", /, **changed: Any) -> bytes:
    said = {"generation": generation, "name": "pcb", "version": version, "manifest_sha256": f"{generation:064x}",
            "urls": ["http://registry.example/bundles/1"], **changed}  # fmt: skip
    return DesiredModel.model_validate(said).to_json()


def push(reader: Reader, payload: bytes, nodes: Sequence[str] = NAMES) -> None:
    for node in nodes:
        reader.publish(Topics(SITE, node).desired("model"), payload, retain=True)


def test_boards_are_born_update_and_say_goodbye(any_broker: BrokerProcess) -> None:
    with Reader(any_broker) as reader, crowd(any_broker, socs={"rk3588": 3, "rk3576": 1}) as boards:
        reader.until_all(Phase.COMMITTED, 0)
        born = reader.all_of("status", Status.model_validate_json)
        assert {each.presence for each in born.values()} == {Presence.ONLINE}
        reader.until(lambda: len(reader.all_of("info", Info.model_validate_json)) == BOARDS)
        infos = reader.all_of("info", Info.model_validate_json)
        assert {each.target.value for each in infos.values()} == {"rk3588", "rk3576"}
        assert all(each.is_simulated for each in infos.values())

        push(reader, desired(5, shadow={"frames": 150, "least_agreement": 0.8}))
        reader.until_all(Phase.COMMITTED, 5)
        for node in NAMES:
            report = reader.reported(node)
            assert report is not None
            assert (report.name, report.version, report.sha256) == ("pcb", "1.0", f"{5:064x}")
            assert report.measured["shadowFrames"] >= 150
            assert report.measured["selfTestAgreement"] == 1.0
        assert boards.process.stdin is not None
        boards.process.stdin.close()
        boards.process.stdin = None
        assert boards.end() == 0
        assert boards.lines[-1]["models"] == {"pcb@1.0": BOARDS}
        reader.until(
            lambda: {s.reason for s in reader.all_of("status", Status.model_validate_json).values()} == {"shutdown"}
        )


def test_an_older_generation_is_ignored_and_told(iotcore: Iotcore) -> None:
    with Reader(iotcore) as reader, crowd(iotcore):
        reader.until_all(Phase.COMMITTED, 0)
        push(reader, desired(7, "7.0"))
        reader.until_all(Phase.COMMITTED, 7)
        push(reader, desired(6, "6.0"))
        reader.until(lambda: len(reader.all_of("event/stale-generation", bytes)) == BOARDS)
        push(reader, desired(8, "8.0"), NAMES[:1])
        reader.until_all(Phase.COMMITTED, 8, NAMES[:1])
        reader.until_all(Phase.COMMITTED, 7, NAMES[1:])


def test_a_bad_model_is_rolled_back_by_each_board(iotcore: Iotcore) -> None:
    with Reader(iotcore) as reader, crowd(iotcore, badModels={"pcb@2.0": "ng", "pcb@3.0": "selftest"}):
        reader.until_all(Phase.COMMITTED, 0)
        push(reader, desired(2, "2.0"))
        reader.until_all(Phase.ROLLED_BACK, 2)
        push(reader, desired(3, "3.0"))
        reader.until_all(Phase.REJECTED, 3)


def test_a_bad_model_that_probation_lets_pass_shows_in_telemetry(iotcore: Iotcore) -> None:
    """So that a rollout's gates have something to stop."""
    lenient = {"frames": 30, "max_ng_drift": 1.0}
    with Reader(iotcore) as reader, crowd(iotcore, rate=50, nodes=3, badModels={"pcb@2.0": "ng"}):
        reader.until_all(Phase.COMMITTED, 0, NAMES[:3])
        push(reader, desired(2, "2.0", probation=lenient), NAMES[:3])
        reader.until_all(Phase.COMMITTED, 2, NAMES[:3])

        def is_seen() -> bool:
            last = reader.all_of("telemetry/inspection", InspectionTelemetry.model_validate_json)
            return len(last) == 3 and all(
                each.results_by_evaluation.get("NOT_OK", 0) > 0.7 * sum(each.results_by_evaluation.values())
                for each in last.values()
            )

        reader.until(is_seen)


def test_silent_boards_are_online_and_never_answer(iotcore: Iotcore) -> None:
    with Reader(iotcore) as reader, crowd(iotcore, shares={"silent": 0.4}):
        reader.until_all(Phase.COMMITTED, 0)
        push(reader, desired(3))

        def done() -> list[str]:
            reports = reader.all_of("reported/model", ReportedModel.model_validate_json)
            return [node for node, each in reports.items() if each.observed_generation == 3]

        reader.until(lambda: len(done()) > 0)
        deaf = len(reader.messages)
        reader.until(lambda: sum("telemetry/host" in m.topic for m in reader.messages[deaf:]) >= 3 * BOARDS)
        assert 0 < len(done()) < BOARDS
        born = reader.all_of("status", Status.model_validate_json)
        assert all(each.presence is Presence.ONLINE for each in born.values())


def test_flapping_boards_lose_their_connection_come_back_and_still_commit(any_broker: BrokerProcess) -> None:
    with Reader(any_broker) as reader, crowd(any_broker, shares={"flap": 1.0}, flapS=2.0):
        reader.until(lambda: len(reader.all_of("status", Status.model_validate_json)) == BOARDS)
        wills = f'"reason":"{"will"}"'.encode()
        reader.until(lambda: sum(wills in bytes(m.payload) for m in reader.messages) >= 5)
        push(reader, desired(4))
        reader.until_all(Phase.COMMITTED, 4)
        numbers = _session_numbers(reader.messages)
        assert max(len(each) for each in numbers.values()) > 1
        assert all(each == sorted(each) for each in numbers.values())


@pytest.mark.mosquitto
@pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed: apt-get install mosquitto")
def test_boards_come_back_after_the_broker(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Reader(broker) as reader, crowd(broker):
        reader.until_all(Phase.COMMITTED, 0)
        broker.kill()
        reader.until(lambda: reader.disconnects > 0)
        reader.messages.clear()
        broker.start()
        reader.wait_ready(DEADLINE_S)
        reader.until(
            lambda: (
                {s.presence for s in reader.all_of("status", Status.model_validate_json).values()} == {Presence.ONLINE}
                and len(_session_numbers(reader.messages)) == BOARDS
            )
        )
        push(reader, desired(2))
        reader.until_all(Phase.COMMITTED, 2)


def test_a_folder_that_cannot_be_used_ends_it_with_the_reason(iotcore: Iotcore, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / NAMES[0]).write_text("a file where a folder is to be")
    settings = {"port": iotcore.port, "nodes": 1, "data": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-m", "agent.simulate", "--config", json.dumps(settings)],
        stdin=subprocess.PIPE, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert NAMES[0] in done.stderr


def _session_numbers(messages: Sequence[MQTTMessage]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for each in messages:
        if each.topic.endswith("/status"):
            status = Status.model_validate_json(each.payload)
            if status.presence is Presence.ONLINE:
                numbers.setdefault(each.topic, []).append(status.session_seq)
    return numbers


def test_lying_boards_report_what_is_not_so(iotcore: Iotcore) -> None:
    with Reader(iotcore) as reader, crowd(iotcore, shares={"lie": 1.0}):
        reader.until(lambda: len(reader.all_of("reported/model", bytes)) == BOARDS)
        at = len(reader.messages)
        push(reader, desired(2))
        reader.until(lambda: sum(m.topic.endswith("reported/model") for m in reader.messages[at:]) >= BOARDS)
        reports = reader.all_of("reported/model", ReportedModel.model_validate_json).values()
        honest = [
            each for each in reports
            if each.observed_generation == 2 and each.sha256 == f"{2:064x}" and "shadowAgreement" not in each.measured
        ]  # fmt: skip
        assert not honest


def test_results_are_whole_and_come_again_when_asked_for(iotcore: Iotcore) -> None:
    with Reader(iotcore, f"rkfleet/v1/{SITE}/+/result/+", "reply") as reader, crowd(iotcore, nodes=2, rate=20):
        reader.until(lambda: len(reader.messages) >= 120)
        results = [Result.model_validate_json(m.payload) for m in reader.messages if "/result/" in m.topic]
        mine = [each for each in results if each.station.node == NAMES[0]]
        assert [each.sequence_number for each in mine] == list(range(1, len(mine) + 1))
        assert len({each.result_id for each in results}) == len(results)
        assert any(each.defects for each in results)
        topic = Topics(SITE, NAMES[0]).command("replay")
        command = {"commandId": "again", "bootId": mine[0].boot_id, "firstSequenceNumber": 3, "lastSequenceNumber": 4}
        reader.publish(topic, json.dumps(command).encode(), response_topic="reply", expiry_s=60)
        third = mine[2].result_id.encode()
        reader.until(lambda: sum(third in bytes(m.payload) for m in reader.messages) == 2)
        assert json.loads(reader.wait_topic("reply").payload)["output"] == {"found": 2, "missing": []}


def test_boards_download_and_verify_by_digest(iotcore: Iotcore, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    sha256 = digest(bundle / "manifest.json")
    with file_server() as server, Reader(iotcore) as reader:
        server.serve_folder("/good", bundle)
        with crowd(iotcore, nodes=4, socs={"cpu": 1}, trust={}, download=True):
            _offer(reader, server, sha256)
    assert sum(each.path == "/good/cpu.onnx" for each in server.asked) == 4


def _offer(reader: Reader, server: FileServer, sha256: str) -> None:
    nodes = NAMES[:4]
    reader.until_all(Phase.COMMITTED, 0, nodes)
    urls = [f"{server.url}/good"]
    push(reader, desired(1, "1.0.0", name="probe", urls=urls, manifest_sha256="1" * 64), nodes)
    reader.until_all(Phase.REJECTED, 1, nodes)
    push(reader, desired(2, "1.0.0", name="probe", urls=urls, manifest_sha256=sha256), nodes)
    reader.until_all(Phase.COMMITTED, 2, nodes)


def test_boards_believe_the_registry_alone(iotcore: Iotcore, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with (
        world(tmp_path / "world") as there,
        serving(files_app(there.registry.folder)) as web,
        Reader(iotcore) as reader,
    ):
        there.registry.refresh(now, force=True)
        there.registry.resign(now)
        there.publish("1.1.0", now)
        trust = {"root": str(there.metadata / "1.root.json"), "metadataUrl": f"{web.url}/metadata"}
        sha256 = there.digests["1.1.0"]
        urls = [f"{web.url}/bundles/{sha256}"]
        with crowd(iotcore, nodes=4, socs={"cpu": 1, "rk3588": 1}, seed=3, trust=trust):
            reader.until(lambda: len(reader.all_of("info", Info.model_validate_json)) == 4)
            targets = {
                node: info.target.value for node, info in reader.all_of("info", Info.model_validate_json).items()
            }
            push(reader, desired(1, "1.1.0", name="probe", urls=urls, manifest_sha256="1" * 64), NAMES[:4])
            reader.until_all(Phase.REJECTED, 1, NAMES[:4])
            push(reader, desired(2, "1.1.0", name="probe", urls=urls, manifest_sha256=sha256), NAMES[:4])
            reader.until_all(Phase.COMMITTED, 2, [node for node, target in targets.items() if target == "cpu"])
            reader.until_all(Phase.REJECTED, 2, [node for node, target in targets.items() if target != "cpu"])
            assert set(targets.values()) == {"cpu", "rk3588"}


def test_with_a_disk_boards_remember_over_a_restart(iotcore: Iotcore, tmp_path: Path) -> None:
    data = {"data": str(tmp_path / "boards"), "nodes": 3}
    with Reader(iotcore) as reader:
        with crowd(iotcore, **data):
            reader.until_all(Phase.COMMITTED, 0, NAMES[:3])
            push(reader, desired(9), NAMES[:3])
            reader.until_all(Phase.COMMITTED, 9, NAMES[:3])
        reader.messages.clear()
        with crowd(iotcore, **data):
            reader.until_all(Phase.COMMITTED, 9, NAMES[:3])


def test_the_command_says_how_boards_stand_and_what_is_wrong(iotcore: Iotcore) -> None:
    command = [sys.executable, "-m", "fleet.cli", "simulate", "--no-trust", "--json"]
    done = subprocess.run(
        [*command, "--nodes", "20", "--broker", f"{iotcore.host}:{iotcore.port}", "--duration", "3"],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["boards"] == lines[-1]["everOnline"] == 20
    assert lines[-1]["phases"] == {"COMMITTED": 20}
    iotcore.stop()
    gone = subprocess.run(
        [*command, "--nodes", "1", "--broker", f"{iotcore.host}:{iotcore.port}", "--duration", "1"],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert gone.returncode == 5
    assert json.loads(gone.stderr)["exitCode"] == 5
