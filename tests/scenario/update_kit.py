"""A hall with one station, its broker, a reader and a server of models: what the tests of updates share."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from agent.adapters.journal_fs import FileJournal
from schemas.codes import FailureCode
from schemas.result import Result, ResultState
from schemas.state import DesiredModel, Phase, ProbationPlan, ReportedModel
from tests.contract.brokers import Iotcore
from tests.contract.file_server import FileServer, file_server
from tests.scenario.bad_bundle import seal
from tests.scenario.bundle import digest, make_bundle
from tests.scenario.station import TOPICS, Mes, Station, gaps

PROBATION = ProbationPlan(frames=30, max_p95_ratio=50.0)
"""Short, and no judge of latency: machines that run tests are busy."""


@dataclass
class Hall:
    """`generation` counts what was wanted, so that one station can serve several tests."""

    folder: Path
    broker: Iotcore
    mes: Mes
    server: FileServer
    station: Station
    generation: int = 0
    _names: list[str] = field(default_factory=list)

    def bundle(self, version: str) -> Path:
        """A good bundle in a folder of its own, which is not served yet."""
        self._names.append(version)
        return make_bundle(self.folder / f"bundle-{len(self._names)}", version)

    def large_bundle(self, version: str, ballast_bytes: int = 200_000) -> Path:
        """Its model is unlike every other, so that the store does not have it already."""
        folder = self.bundle(version)
        model = onnx.load(folder / "cpu.onnx")
        model.doc_string = random.Random(len(self._names)).randbytes(ballast_bytes // 2).hex()
        (folder / "cpu.onnx").write_bytes(model.SerializeToString())
        return seal(folder)

    def desired(self, bundle: Path, **more: Any) -> DesiredModel:
        """Serve the bundle and say that it should run, in the next generation unless told."""
        prefix = f"/{bundle.name}"
        self.server.serve_folder(prefix, bundle)
        document = json.loads((bundle / "manifest.json").read_text())
        self.generation += 1
        said = {
            "generation": self.generation,
            "name": document["name"],
            "version": document["version"],
            "manifest_sha256": digest(bundle / "manifest.json"),
            "urls": [f"{self.server.url}{prefix}"],
            "probation": PROBATION,
        }
        return DesiredModel(**{**said, **more})

    def want(self, message: DesiredModel) -> DesiredModel:
        self.mes.publish(TOPICS.desired("model"), message.to_json(), retain=True)
        return message

    def tell(self, name: str, document: Mapping[str, Any]) -> None:
        """A command that nobody waits for."""
        self.mes.publish(TOPICS.command(name), json.dumps(document).encode())

    def reported(self) -> ReportedModel | None:
        messages = self.mes.of("reported/model")
        return ReportedModel.model_validate_json(messages[-1].payload) if messages else None

    def is_in(self, generation: int, *phases: Phase) -> bool:
        now = self.reported()
        return now is not None and now.observed_generation == generation and now.phase in phases

    def wait_phase(self, generation: int, *phases: Phase) -> ReportedModel:
        """The report that says so, which must be the latest."""
        try:
            self.mes.wait(f"{phases} of {generation}", lambda: self.is_in(generation, *phases))
        except AssertionError as error:
            raise AssertionError(f"{error}; reported: {self.reported()}; log: {self.station.log[-3000:]}") from error
        now = self.reported()
        assert now is not None
        return now

    def wait_error(self, generation: int, phase: Phase, code: FailureCode) -> ReportedModel:
        """In `phase`, with this as the last error."""

        def is_so() -> bool:
            now = self.reported()
            return self.is_in(generation, phase) and now is not None and now.last_error is not None

        self.mes.wait(f"an error in {phase} of {generation}", is_so)
        now = self.reported()
        assert now is not None
        assert now.last_error is not None
        assert now.last_error.code is code, now.last_error
        return now

    def wait_more(self, count: int = 10) -> None:
        """Results that come from now on."""
        before = len(self.mes.results())
        self.mes.wait("more results", lambda: len(self.mes.results()) >= before + count)

    def wait_boot(self, before: str | None) -> str:
        """The agent has been started anew, and results of it have come; returns its boot."""
        self.mes.wait("another boot", lambda: bool(self.mes.statuses()) and self.boot() != before)
        boot = self.boot()
        self.mes.wait("its results", lambda: any(each.boot_id == boot for each in self.mes.results().values()))
        return boot

    def boot(self) -> str:
        births = [status for status in self.mes.statuses() if status.reason == "birth"]
        return births[-1].boot_id if births else ""

    def in_order(self, boot: str | None = None) -> list[Result]:
        """The results of a boot, the latest unless told."""
        found = self.mes.results()
        meant = boot or self.boot()
        return sorted((each for each in found.values() if each.boot_id == meant), key=lambda each: each.sequence_number)

    def events(self, code: FailureCode) -> list[dict[str, Any]]:
        return [json.loads(message.payload) for message in self.mes.of(f"event/{code.value}")]

    def journal(self) -> dict[str, Any]:
        """What the agent remembers of updates."""
        content = FileJournal(self.station.folder / "data" / "update.journal").read()
        assert content is not None
        document: dict[str, Any] = json.loads(content)
        return document

    def assert_nothing_lost(self) -> None:
        """Of each boot every number up to the last that was seen, and no result that failed."""
        results = self.mes.results()
        for boot in {result.boot_id for result in results.values()}:
            last = max(result.sequence_number for result in results.values() if result.boot_id == boot)
            assert gaps(results, boot, last) == []
        failed = [result.to_json() for result in results.values() if result.result_state is not ResultState.COMPLETED]
        assert failed == []


@contextmanager
def open_hall(folder: Path, make: Callable[[Path, int], Station] = Station) -> Iterator[Hall]:
    """The station is not started; it is killed at the end where it runs."""
    place = folder / "station"
    place.mkdir()
    with Iotcore(folder / "broker") as broker, Mes(broker.host, broker.port) as mes, file_server() as server:
        station = make(place, broker.port)
        try:
            yield Hall(folder, broker, mes, server, station)
        finally:
            if station.process is not None:
                station.kill()


@contextmanager
def running_hall(folder: Path, make: Callable[[Path, int], Station] = Station) -> Iterator[Hall]:
    """The installed model has given enough results to compare a new one with."""
    with open_hall(folder, make) as hall, hall.station:
        hall.mes.wait("results of the first model", lambda: len(hall.mes.results()) >= 40)
        yield hall
