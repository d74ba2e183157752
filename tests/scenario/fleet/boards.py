"""Boards made of one MQTT client each, that play the wire contract: no camera, no model, no code of the agent's."""

import base64
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fleet.core.rollout import ModelRef
from schemas.base import Wire
from schemas.envelope import ControllerKeys, Envelope
from schemas.job import JobExecution, JobRequest, JobStatus
from schemas.result import Result
from schemas.state import DesiredModel, Phase, ReportedModel
from schemas.status import Status
from schemas.topics import Topics, parse
from tests.unit.fleet_board import info, node_id, result

PHASES = (Phase.DOWNLOADING, Phase.SELF_TEST, Phase.PROBATION, Phase.COMMITTED)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Habits:
    """`phase_s`: how long a phase takes, once `may_begin` has let it. `measured` by version: what it reports when it
    has committed. `never_ends`: versions that it is silent about. With `keys` it obeys them alone.
    """

    phase_s: float = 0.02
    may_begin: Callable[[], None] = lambda: None
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    never_ends: frozenset[str] = frozenset()
    keys: ControllerKeys | None = None


class Board:
    """`taken` are the desired states that it has acted on, `refused` those whose signature was not right."""

    def __init__(self, number: int, address: tuple[str, int], habits: Habits, model: ModelRef) -> None:
        self.id = node_id(number)
        self.topics = Topics(self.id.site, self.id.node)
        self.boot = f"boot-{number}-{random.randrange(10**9)}"
        self.habits = habits
        self.model = model
        self.generation = 0
        self.phase = Phase.COMMITTED
        self.taken: list[DesiredModel] = []
        self.refused: list[str] = []
        self.commands: list[str] = []
        self.results: list[Result] = []
        self.is_mute = False
        self._address = address
        self._session = 0
        self._lock = threading.RLock()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=self.id.node, protocol=MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda *_: self._birth()
        self._client.on_message = lambda _client, _data, message: self._told(message)

    def start(self) -> None:
        will = Status(presence="offline", session_seq=1, boot_id=self.boot, reason="will")  # type: ignore[arg-type]
        self._client.will_set(self.topics.status, will.to_json(), 1, retain=True)
        self._client.connect_async(*self._address, keepalive=30)
        self._client.loop_start()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def say(self, topic: str, message: Wire, *, retain: bool = False, qos: int = 1) -> None:
        self._client.publish(topic, message.to_json(), qos, retain)

    def inspect(self, *numbers: int) -> None:
        """Results of these sequence numbers."""
        for number in numbers:
            made = result(number, key=self.id, boot=self.boot, result_id=f"{self.boot}.{number}", creation_time=now())
            self.results.append(made)
            self.say(self.topics.result(made.station.camera), made)

    def report(self, **more: Any) -> None:
        said = ReportedModel(
            observed_generation=self.generation,
            phase=self.phase,
            time=now(),
            name=self.model.name,
            version=self.model.version,
            sha256=self.model.manifest_sha256,
            **more,
        )
        self.say(self.topics.reported("model"), said, retain=True)

    def _birth(self) -> None:
        self._session += 1
        birth = Status(
            presence="online",  # type: ignore[arg-type]
            session_seq=self._session,
            boot_id=self.boot,
            reason="birth",
            time=now(),
        )
        capabilities = ["cmd/ping", "cmd/replay", *(["signed"] if self.habits.keys else [])]
        self.say(self.topics.status, birth, retain=True)
        about = info(self.id, boot_id=self.boot, time=now(), capabilities=capabilities)
        self.say(self.topics.info, about, retain=True)
        self.report()
        self._client.subscribe([(name, 1) for name in self.topics.inbound()])

    def _told(self, message: MQTTMessage) -> None:
        if self.is_mute or not message.payload:
            return
        payload = self._opened(message)
        parts = parse(message.topic)
        if payload is None:
            self.refused.append(message.topic)
        elif parts.family == "desired":
            threading.Thread(
                target=self._desired, args=(DesiredModel.model_validate_json(payload),), daemon=True
            ).start()
        elif parts.family == "cmd":
            self._command(parts.name, json.loads(payload), message.properties)
        else:
            self._job(JobRequest.model_validate_json(payload))

    def _opened(self, message: MQTTMessage) -> bytes | None:
        """The payload; None for what is not signed by a key of ours for this topic and this time."""
        if self.habits.keys is None:
            return bytes(message.payload)
        try:
            envelope = Envelope.model_validate_json(message.payload)
        except ValueError:
            return None
        known = {key.keyid: key.public for key in self.habits.keys.keys}
        for signature in envelope.signatures:
            public = Ed25519PublicKey.from_public_bytes(base64.b64decode(known[signature.keyid]))
            public.verify(base64.b64decode(signature.sig), envelope.signed)
        in_time = envelope.issued <= now() < envelope.expires
        return envelope.payload.encode() if in_time and envelope.topic == message.topic else None

    def _desired(self, desired: DesiredModel) -> None:
        with self._lock:
            if desired.generation <= self.generation:
                return
            self.generation = desired.generation
            self.taken.append(desired)
            silent = desired.version in self.habits.never_ends
            for phase in () if silent else PHASES:
                self.habits.may_begin()
                time.sleep(self.habits.phase_s)  # how long a board takes, not a wait for luck
                self.phase = phase
                if phase is Phase.COMMITTED:
                    self.model = ModelRef(
                        name=desired.name, version=desired.version, manifest_sha256=desired.manifest_sha256
                    )
                self.report(measured=self.habits.measured.get(desired.version, {}))

    def _command(self, name: str, asked: dict[str, Any], properties: Properties | None) -> None:
        self.commands.append(name)
        output: dict[str, Any] = {}
        if name == "replay":
            first, last = asked["firstSequenceNumber"], asked["lastSequenceNumber"]
            known = {each.sequence_number: each for each in self.results if each.boot_id == asked["bootId"]}
            found = [number for number in range(first, last + 1) if number in known]
            lost = [number for number in range(first, last + 1) if number not in known]
            output = {"found": len(found), "missing": [[number, number] for number in lost]}
            for number in found:
                self.say(self.topics.result(known[number].station.camera), known[number])
        reply = {"schema": "rkfleet.reply/1", "commandId": asked["commandId"], "ok": True,
                 "time": now().isoformat(), "output": output}  # fmt: skip
        correlated = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        correlated.CorrelationData = getattr(properties, "CorrelationData", b"")
        topic = getattr(properties, "ResponseTopic", "")
        if topic:
            self._client.publish(topic, json.dumps(reply).encode(), 1, properties=correlated)

    def _job(self, request: JobRequest) -> None:
        at = now()
        for version, status in ((1, JobStatus.IN_PROGRESS), (2, JobStatus.SUCCEEDED)):
            said = JobExecution(
                job_id=request.job_id, status=status, queued_at=at, last_updated_at=at, version_number=version
            )
            self.say(self.topics.job_status(request.job_id), said, retain=True)


def wait(
    is_true: Callable[[], bool],
    what: str,
    within_s: float = 30.0,
    every_s: float = 0.05,
    log: Callable[[], str] = str,
) -> None:
    """Until something is true; AssertionError, with the log, when it is not in time."""
    until_s = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < until_s, f"not within {within_s} s: {what}; {log()}"
        time.sleep(every_s)
