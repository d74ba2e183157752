"""From the push of a desired model to COMMITTED on every board, against the broker's own fan-out of the same messages.

Boards are those of `agent.simulate`: the agent's own MQTT connection, mailroom, signature check, update machine,
workshop and desk, with a journal in memory and a model that loads at once. Baseline: as many plain paho subscribers in
as many processes, which receive the same signed, retained messages and do nothing. Same broker, same publisher, rounds
alternate, nothing is downloaded on either side. All boards share this machine's cores with the broker, which no factory
has them do: `cpu_ms_a_board` is what an update costs one of them.
"""

import argparse
import base64
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from fleet.adapters.signer_ed25519 import STATE_LIFE, ControllerSigner
from schemas.envelope import ControllerKey, ControllerKeys, keyid_of
from schemas.state import DesiredModel, ProbationPlan
from schemas.topics import Topics
from tests.bench.plain_subscribers import topic as plain_topic
from tests.contract.brokers import BrokerProcess, Iotcore, Mosquitto, MosquittoSettings, mosquitto_path

NODES = 1000
_BOARDS_A_PROCESS = 1000
_LEAST_PROCESSES = 2
_SINGLES = 20
_DEADLINE_S = 120.0
_QUIET_S = 3.0
_PROBATION = ProbationPlan(frames=30, max_ng_drift=1.0)
"""The least; of 30 results a drift by chance would take some board of a thousand back."""
_SITE = "bench"
_MOSQUITTO = ("max_inflight_messages 100", "max_connections -1")


def run(nodes: int = NODES, rounds: int = 3) -> Mapping[str, Any]:
    with tempfile.TemporaryDirectory() as folder, _broker(Path(folder)) as broker:
        return _measure(broker, Path(folder), nodes, rounds)


def _broker(folder: Path) -> BrokerProcess:
    if mosquitto_path() is None:
        return Iotcore(folder / "broker")
    settings = MosquittoSettings(lines=_MOSQUITTO)
    return Mosquitto(folder / "broker", settings=settings)


def _measure(broker: BrokerProcess, folder: Path, nodes: int, rounds: int) -> Mapping[str, Any]:
    key = Ed25519PrivateKey.generate()
    signer = ControllerSigner(key.private_bytes_raw())
    keys = folder / "controller-keys.json"
    keys.write_bytes(_keys(key))
    counts = _counts(nodes)
    with (
        _observer(broker.port) as observer,
        _plain(broker.port, counts) as plain,
        _boards(broker.port, counts, keys, observer) as boards,
    ):
        fan_out_s, push_s, cpu_s = [], [], []
        for generation in range(1, rounds + 1):
            messages = _messages(signer, nodes, generation)
            time.sleep(_QUIET_S)
            fan_out_s.append(_fan_out(observer, plain, messages))
            time.sleep(_QUIET_S)
            before_s = _cpu_s(boards)
            push_s.append(_push(observer, messages, generation))
            cpu_s.append(_cpu_s(boards) - before_s)
        memory = [psutil.Process(each.pid).memory_info().rss for each in boards]
        reports = observer.reports
        single_s = [_push(observer, messages, g) for g, messages in _singles(signer, rounds)]
    return {
        "nodes": nodes,
        "processes": len(counts),
        "broker": broker.name,
        "message_bytes": len(messages[0][1]),
        "fan_out_s": statistics.median(fan_out_s),
        "push_to_applied_s": statistics.median(push_s),
        "ratio": statistics.median(push / fan for push, fan in zip(push_s, fan_out_s, strict=True)),
        "cpu_ms_a_board": statistics.median(cpu_s) / nodes * 1e3,
        "single_push_p50_ms": statistics.median(single_s) * 1e3,
        "reports_a_board": reports / (nodes * rounds),
        "memory_a_board_kb": sum(memory) / nodes / 1e3,
        "memory_a_process_mb": sum(memory) / len(memory) / 1e6,
    }


def _counts(nodes: int) -> list[int]:
    processes = min(nodes, max(_LEAST_PROCESSES, -(-nodes // _BOARDS_A_PROCESS)))
    return [nodes * (at + 1) // processes - nodes * at // processes for at in range(processes)]


def _singles(signer: ControllerSigner, rounds: int) -> Iterator[tuple[int, list[tuple[str, bytes, str]]]]:
    """Pushes to one board alone, one after the other."""
    for generation in range(rounds + 1, rounds + 1 + _SINGLES):
        yield generation, _messages(signer, 1, generation)


def _cpu_s(processes: Sequence["subprocess.Popen[str]"]) -> float:
    times = [psutil.Process(each.pid).cpu_times() for each in processes]
    return float(sum(each.user + each.system for each in times))


def _keys(key: Ed25519PrivateKey) -> bytes:
    raw = key.public_key().public_bytes_raw()
    one = ControllerKey(keyid=keyid_of(raw), name="bench", public=base64.b64encode(raw).decode())
    return ControllerKeys(keys=[one]).to_json()


def _name(number: int) -> str:
    return f"sim-{number:06d}"


def _messages(signer: ControllerSigner, nodes: int, generation: int) -> list[tuple[str, bytes, str]]:
    """Topic of the board, the signed message, and the plain subscriber's topic."""
    desired = DesiredModel(
        generation=generation,
        name="pcb",
        version=f"{generation}.0",
        manifest_sha256=f"{generation:064x}",
        urls=["http://registry.example/bundles/0"],
        probation=_PROBATION,
    ).to_json()
    now = datetime.now(UTC)
    topics = [Topics(_SITE, _name(number)).desired("model") for number in range(1, nodes + 1)]
    return [
        (topic, signer.sign(topic, desired, now, STATE_LIFE), plain_topic(number))
        for number, topic in enumerate(topics, start=1)
    ]


def _send_at_once(_client: Client, _data: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Observer:
    """Publishes, and sees what boards report, as the controller does."""

    def __init__(self, port: int) -> None:
        self._committed = b""
        self._waiting: set[str] = set()
        self.reports = 0
        self.last_s = 0.0
        self.done = threading.Event()
        self.online: set[str] = set()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id="bench-observer", protocol=MQTTv5)
        self.client.max_inflight_messages_set(100)
        self.client.on_message = self._on_message
        self.client.on_connect = lambda client, *_: client.subscribe(
            [(f"rkfleet/v1/{_SITE}/+/reported/model", 1), (f"rkfleet/v1/{_SITE}/+/status", 1)]
        )
        self.client.on_socket_open = _send_at_once
        self.client.connect("127.0.0.1", port, keepalive=600)
        self.client.loop_start()

    def expect(self, nodes: Sequence[str], generation: int) -> None:
        self.done.clear()
        self._waiting = set(nodes)
        self._committed = b'"observedGeneration":%d,"phase":"COMMITTED"' % generation

    def publish(self, messages: Sequence[tuple[str, bytes]]) -> float:
        began_s = time.monotonic()
        for topic, payload in messages:
            self.client.publish(topic, payload, qos=1, retain=True)
        return began_s

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        *_, node, family, _name = (
            f"{message.topic}/-".split("/") if message.topic.endswith("status") else (message.topic.split("/"))
        )
        if family == "status":
            self.online.add(node)
            return
        if not self._committed:
            return
        self.reports += 1
        if self._committed in message.payload:
            self._waiting.discard(node)
            if not self._waiting and not self.done.is_set():
                self.last_s = time.monotonic()
                self.done.set()


@contextlib.contextmanager
def _observer(port: int) -> Iterator[Observer]:
    observer = Observer(port)
    try:
        yield observer
    finally:
        observer.client.disconnect()
        observer.client.loop_stop()


def _fan_out(
    observer: Observer, plain: Sequence["subprocess.Popen[str]"], messages: Sequence[tuple[str, bytes, str]]
) -> float:
    began_s = observer.publish([(topic, payload) for _, payload, topic in messages])
    return max(float(_line(each)) for each in plain) - began_s


def _push(observer: Observer, messages: Sequence[tuple[str, bytes, str]], generation: int) -> float:
    observer.expect([_name(number) for number in range(1, len(messages) + 1)], generation)
    began_s = observer.publish([(topic, payload) for topic, payload, _ in messages])
    if not observer.done.wait(_DEADLINE_S):
        raise TimeoutError("not all boards have committed")
    return observer.last_s - began_s


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@contextlib.contextmanager
def _children(commands: Sequence[Sequence[str]]) -> Iterator[list["subprocess.Popen[str]"]]:
    made = [
        subprocess.Popen([sys.executable, "-m", *each], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for each in commands
    ]
    try:
        yield made
    finally:
        for each in made:
            each.terminate()
        for each in made:
            each.communicate()


@contextlib.contextmanager
def _plain(port: int, counts: Sequence[int]) -> Iterator[list["subprocess.Popen[str]"]]:
    firsts = [1 + sum(counts[:at]) for at in range(len(counts))]
    commands = [
        ["tests.bench.plain_subscribers", str(port), str(first), str(count)]
        for first, count in zip(firsts, counts, strict=True)
    ]
    with _children(commands) as made:
        for each in made:
            assert _line(each) == "ready\n"
        yield made


@contextlib.contextmanager
def _boards(
    port: int, counts: Sequence[int], keys: Path, observer: Observer
) -> Iterator[list["subprocess.Popen[str]"]]:
    firsts = [1 + sum(counts[:at]) for at in range(len(counts))]
    configs = [
        {"port": port, "site": _SITE, "first": first, "nodes": count, "telemetryS": 3600, "reportS": 3600,
         "startsPerS": 200, "trust": {"controllerKeys": str(keys), "manifests": False}}
        for first, count in zip(firsts, counts, strict=True)
    ]  # fmt: skip
    with _children([["agent.simulate", "--config", json.dumps(each)] for each in configs]) as made:
        deadline_s = time.monotonic() + _DEADLINE_S
        while len(observer.online) < sum(counts):
            if time.monotonic() > deadline_s or any(each.poll() is not None for each in made):
                raise TimeoutError(f"{len(observer.online)} of {sum(counts)} boards are online")
            time.sleep(0.2)
        yield made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="push to applied, against the broker's own fan-out")
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(json.dumps(run(given.nodes, given.rounds), indent=2))
