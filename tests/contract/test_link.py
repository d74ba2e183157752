"""The `Link` port on real brokers, and on a scripted one for what no real broker does on demand."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client

from agent.adapters.mqtt_paho import LinkOptions, PahoLink, Tls, wire
from agent.adapters.mqtt_paho.connection import Connection
from agent.core.outgoing import Incoming, Outgoing
from agent.errors import Permanent, Retryable
from agent.ports import Connected, Delivered, Disconnected, Link, LinkEvent, Refused, Reset
from schemas.codes import FailureCode
from tests.contract.brokers import (
    BrokerProcess,
    Iotcore,
    Mosquitto,
    MosquittoSettings,
    ScriptedBroker,
    broker,
    make_certificates,
    needs_mosquitto,
)
from tests.contract.raw_client import RawClient

__all__ = ["broker"]
DEADLINE_S = 15.0
STATUS = "t/status"
CONNACK = b"\x20\x03\x00\x00\x00"


def on_mosquitto(test: Callable[..., None]) -> Callable[..., None]:
    for mark in needs_mosquitto:
        test = mark(test)
    return test


def status(session_seq: int, *, is_online: bool = False) -> Outgoing:
    return Outgoing(STATUS, json.dumps({"online": is_online, "sessionSeq": session_seq}).encode(), retain=True)


class Owner:
    """Plays the control loop: keeps all events and messages, and lets a test wait for them."""

    def __init__(self, options: LinkOptions, uniform: Callable[[], float] = lambda: 0.5) -> None:
        self.events: list[LinkEvent] = []
        self.at_s: list[float] = []
        self.messages: list[Incoming] = []
        self.oversized: list[tuple[str, int]] = []
        self.raise_on_accept: list[Exception] = []
        self.raise_on_report: list[Exception] = []
        self.sessions = 0
        self._changed = threading.Condition()
        self.link = PahoLink(options, self._next_session, status, self._on_oversized, uniform)

    def _next_session(self) -> int:
        with self._changed:
            self.sessions += 1
            self._changed.notify_all()
            return self.sessions

    def _on_oversized(self, topic: str, size_bytes: int) -> None:
        with self._changed:
            self.oversized.append((topic, size_bytes))
            self._changed.notify_all()

    def report(self, event: LinkEvent) -> None:
        with self._changed:
            self.events.append(event)
            self.at_s.append(time.monotonic())
            self._changed.notify_all()
        if self.raise_on_report:
            raise self.raise_on_report.pop()

    def accept(self, message: Incoming) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()
        if self.raise_on_accept:
            raise self.raise_on_accept.pop()

    def start(self) -> None:
        self.link.start(self.report, self.accept)

    def wait(self, holds: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
        with self._changed:
            assert self._changed.wait_for(holds, timeout_s), f"{self.events[-5:]}, {len(self.messages)} messages"
            return holds()

    def wait_subscribed(self) -> None:
        """The subscriptions are in force when a first publish after Connected has its outcome."""
        self.wait_event(Connected)
        assert self.link.publish(Outgoing("t/ready", b""), -1)
        self.wait(lambda: Delivered(-1) in self.events)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def wait_event(self, kind: type[Any], count: int = 1) -> Any:
        return self.wait(lambda: self.of(kind)[count - 1 : count])[0]

    def delivered(self) -> set[int]:
        return {event.token for event in self.of(Delivered)}


@pytest.fixture
def own() -> Iterator[Callable[..., Owner]]:
    """Makes started owners from a broker and options, and stops their links."""
    made: list[Owner] = []

    def make(at: Any, **options: Any) -> Owner:
        uniform = options.pop("uniform", lambda: 0.5)
        given: dict[str, Any] = {
            "client_id": "board",
            "reconnect_min_s": 0.1,
            "reconnect_max_s": 0.5,
            "keepalive_s": 10,
        } | options
        owner = Owner(LinkOptions(host=at.host, port=at.port, **given), uniform)
        made.append(owner)
        owner.start()
        return owner

    yield make
    for owner in made:
        owner.link.stop(None, 5.0)


def test_the_adapter_is_a_link() -> None:
    link: Link = PahoLink(LinkOptions("127.0.0.1", "board"), lambda: 1, status, lambda *_: None)
    link.stop(None, 1.0)


def test_connecting_tells_the_session_and_its_number(broker: BrokerProcess, own: Callable[..., Owner]) -> None:
    connected = own(broker).wait_event(Connected)
    assert connected.session_seq == 1
    assert not connected.session_present
    assert connected.receive_maximum > 0


def test_a_publish_arrives_with_its_properties_and_is_delivered(
    broker: BrokerProcess, own: Callable[..., Owner]
) -> None:
    owner = own(broker)
    owner.wait_event(Connected)
    with RawClient(broker.host, broker.port, "t/#") as reader:
        assert owner.link.publish(Outgoing("t/a", b"{}", expiry_s=60, correlation=b"\x00\xff", retain=True), 7)
        assert owner.wait_event(Delivered) == Delivered(7)
        got = reader.wait_topic("t/a")
    assert (bytes(got.payload), got.qos) == (b"{}", 1)
    properties: Any = got.properties
    assert properties.ContentType == "application/json"
    assert properties.CorrelationData == b"\x00\xff"
    assert 55 <= properties.MessageExpiryInterval <= 60
    with RawClient(broker.host, broker.port, "t/a") as late:
        assert late.wait_topic("t/a").retain


def test_a_message_at_qos_0_is_delivered_when_written(broker: BrokerProcess, own: Callable[..., Owner]) -> None:
    owner = own(broker)
    owner.wait_event(Connected)
    with RawClient(broker.host, broker.port, "t/#") as reader:
        assert owner.link.publish(Outgoing("t/zero", b"0", qos=0), 3)
        assert owner.wait_event(Delivered) == Delivered(3)
        assert reader.wait_topic("t/zero").payload == b"0"


def test_a_command_comes_with_its_response_topic_and_correlation(
    broker: BrokerProcess, own: Callable[..., Owner]
) -> None:
    owner = own(broker, subscriptions=(("t/cmd/+", 1),))
    owner.wait_subscribed()
    with RawClient(broker.host, broker.port) as caller:
        caller.publish("t/cmd/ping", b"{}", response_topic="t/answers", correlation=b"\x01", expiry_s=30)
    got = owner.wait(lambda: owner.messages[:1])[0]
    assert (got.topic, got.payload) == ("t/cmd/ping", b"{}")
    assert (got.response_topic, got.correlation) == ("t/answers", b"\x01")
    assert not got.retain
    assert got.received_at.utcoffset() is not None


def test_the_window_is_never_exceeded_and_nothing_is_lost(broker: BrokerProcess, own: Callable[..., Owner]) -> None:
    owner = own(broker, window=20)
    owner.wait_event(Connected)
    most_out = refused = 0
    with RawClient(broker.host, broker.port, "t/#") as reader:
        for token in range(500):
            while not owner.link.publish(Outgoing("t/many", str(token).encode()), token):
                refused += 1
                owner.wait_event(Delivered, max(1, token - 19))
            most_out = max(most_out, token + 1 - len(owner.delivered()))
        owner.wait(lambda: len(owner.delivered()) == 500)
        got = reader.wait_for(lambda messages: len(messages) >= 500)
    assert [int(message.payload) for message in got] == list(range(500))
    assert most_out <= 20 + 1  # a slot is free just before its Delivered is told
    assert refused > 0


def test_what_was_taken_survives_a_restart_of_the_broker(broker: BrokerProcess, own: Callable[..., Owner]) -> None:
    owner = own(broker, window=10, subscriptions=(("t/cmd/+", 1),))
    owner.wait_subscribed()
    broker.pause()
    taken = [owner.link.publish(Outgoing(f"t/out/{token}", b"x", retain=True), token) for token in range(12)]
    assert taken == [True] * 10 + [False] * 2
    assert owner.delivered() == {-1}
    broker.kill()
    lost = owner.wait_event(Disconnected)
    assert lost.code is FailureCode.BROKER_UNREACHABLE
    assert not owner.link.publish(Outgoing("t/out/no", b"x"), 99)
    broker.start()
    assert owner.wait_event(Connected, 2).session_seq > 1
    owner.wait(lambda: owner.delivered() == set(range(-1, 10)))
    with RawClient(broker.host, broker.port, "t/out/#") as reader:  # retained: each that arrived is still there
        reader.wait_for(lambda messages: {message.topic for message in messages} >= {f"t/out/{n}" for n in range(10)})
        reader.publish("t/cmd/ping", b"{}")
        owner.wait(lambda: [message.topic for message in owner.messages] == ["t/cmd/ping"])  # subscribed again
    assert owner.of(Reset) == []


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(Retryable(FailureCode.DISK_FULL, "the disk is full", delay_s=0.05), id="the disk was full"),
        pytest.param(ZeroDivisionError("a bug"), id="a bug"),
    ],
)
def test_a_message_that_could_not_be_accepted_comes_again_in_its_place(
    broker: BrokerProcess, own: Callable[..., Owner], error: Exception
) -> None:
    owner = own(broker, subscriptions=(("t/cmd/+", 1),))
    owner.wait_subscribed()
    owner.raise_on_accept.append(error)
    with RawClient(broker.host, broker.port, STATUS) as caller:
        for name in ("one", "two", "three"):
            caller.publish(f"t/cmd/{name}", name.encode())
        owner.wait(lambda: [message.payload for message in owner.messages][-3:] == [b"one", b"two", b"three"])
        assert [message.payload for message in owner.messages] == [b"one", b"one", b"two", b"three"]
        assert [bytes(message.payload) for message in caller.messages] == []  # no will: we left in order
    assert owner.wait_event(Connected, 2).session_present
    assert "given a message again" in owner.of(Disconnected)[0].reason


def test_an_oversized_message_is_reported_once_and_acknowledged(
    broker: BrokerProcess, own: Callable[..., Owner]
) -> None:
    owner = own(broker, subscriptions=(("t/cmd/+", 1),), max_payload_bytes=100)
    owner.wait_subscribed()
    with RawClient(broker.host, broker.port) as caller:
        caller.publish("t/cmd/large", b"x" * 101)
        caller.publish("t/cmd/fits", b"x" * 100)
        owner.wait(lambda: owner.messages)
        owner.link.stop(None, 5.0)
        again = own(broker, subscriptions=(("t/cmd/+", 1),), max_payload_bytes=100)
        again.wait_subscribed()
        caller.publish("t/cmd/next", b"")
        again.wait(lambda: again.messages)
    assert owner.oversized == [("t/cmd/large", 101)]
    assert [message.topic for message in owner.messages] == ["t/cmd/fits"]
    assert again.oversized == []
    assert [message.topic for message in again.messages] == ["t/cmd/next"]


HOSTILE_LEVELS = ["", " ", "x" * 5000, "\u202eevil", "a/../../etc", "'; drop table inbox; --", "\U0001f4a5"]


def test_hostile_topics_arrive_as_they_are(broker: BrokerProcess, own: Callable[..., Owner]) -> None:
    owner = own(broker, subscriptions=(("t/cmd/#", 1),))
    owner.wait_subscribed()
    topics = [f"t/cmd/{level}" for level in HOSTILE_LEVELS]
    with RawClient(broker.host, broker.port) as caller:
        for topic in topics:
            caller.publish(topic, b"{}")
    owner.wait(lambda: [message.topic for message in owner.messages] == topics)


def test_stopping_says_goodbye_after_all_else_and_sends_no_will(
    broker: BrokerProcess, own: Callable[..., Owner]
) -> None:
    owner = own(broker)
    owner.wait_event(Connected)
    goodbye = Outgoing(STATUS, b"goodbye", retain=True)
    with RawClient(broker.host, broker.port, "t/#") as reader:
        owner.link.publish(Outgoing("t/last", b"x"), 1)
        owner.link.stop(goodbye, 5.0)
        assert not owner.link.is_alive
        assert not owner.link.publish(Outgoing("t/late", b"x"), 2)
        reader.publish("t/end", b"")
        got = [
            message.topic
            for message in reader.wait_for(lambda messages: "t/end" in [message.topic for message in messages])
        ]
    assert got == ["t/last", STATUS, "t/end"]
    assert owner.of(Disconnected) == []


def test_a_stop_between_two_connections_says_goodbye_where_no_will_did(
    broker: BrokerProcess, own: Callable[..., Owner]
) -> None:
    owner = own(broker, subscriptions=(("t/cmd/+", 1),), reconnect_min_s=60.0, reconnect_max_s=60.0)
    owner.wait_subscribed()
    owner.raise_on_accept.append(Retryable(FailureCode.DISK_FULL, "the disk is full", delay_s=0.0))
    with RawClient(broker.host, broker.port, STATUS) as reader:
        reader.publish("t/cmd/a", b"{}")
        assert owner.wait_event(Disconnected).code is FailureCode.DISK_FULL
        owner.link.stop(Outgoing(STATUS, b"goodbye", retain=True), DEADLINE_S)
        assert reader.wait_topic(STATUS).payload == b"goodbye"


def test_a_stop_ends_in_time_when_the_broker_hangs(broker: BrokerProcess, own: Callable[..., Owner]) -> None:
    owner = own(broker)
    owner.wait_event(Connected)
    broker.pause()
    began_s = time.monotonic()
    owner.link.stop(status(1), 1.0)
    assert time.monotonic() - began_s < 3.0
    owner.link._thread.join(DEADLINE_S)  # type: ignore[union-attr]
    assert not owner.link.is_alive
    broker.resume()
    with RawClient(broker.host, broker.port, STATUS) as reader:
        assert json.loads(reader.wait_topic(STATUS).payload)["online"] is False


def test_a_stop_comes_back_in_time_when_a_handshake_hangs(own: Callable[..., Owner]) -> None:
    with ScriptedBroker(hold(b"")) as scripted:
        owner = own(scripted, tls=Tls(), connect_timeout_s=DEADLINE_S)
        owner.wait(lambda: owner.sessions >= 1)
        began_s = time.monotonic()
        owner.link.stop(None, 0.2)
        assert time.monotonic() - began_s < DEADLINE_S / 2


_CHILD = """
import sys, threading
from agent.adapters.mqtt_paho import LinkOptions, PahoLink
from agent.core.outgoing import Outgoing
link = PahoLink(LinkOptions("127.0.0.1", "board", int(sys.argv[1])), lambda: 41,
                lambda n: Outgoing("t/status", b"session %d" % n, retain=True), lambda *_: None)
link.start(lambda event: print(event, flush=True), lambda message: None)
threading.Event().wait()
"""


def test_a_killed_process_leaves_the_will_of_its_session(broker: BrokerProcess) -> None:
    with (
        RawClient(broker.host, broker.port, STATUS) as reader,
        subprocess.Popen([sys.executable, "-c", _CHILD, str(broker.port)], stdout=subprocess.PIPE, text=True) as child,
    ):
        assert child.stdout is not None
        assert "session_seq=41" in child.stdout.readline()
        child.kill()
        assert reader.wait_topic(STATUS).payload == b"session 41"


def test_another_client_with_our_id_is_reported_and_the_session_taken_back(
    broker: BrokerProcess, own: Callable[..., Owner]
) -> None:
    owner = own(broker)
    owner.wait_event(Connected)
    rival = RawClient(broker.host, broker.port, client_id="board")
    rival.client.on_disconnect = lambda client, *_: client.disconnect()
    rival.connect()
    assert owner.wait_event(Disconnected).code is FailureCode.BROKER_UNREACHABLE
    assert owner.wait_event(Connected, 2).session_seq > 1
    rival.close()


def test_a_fight_over_the_session_slows_down(own: Callable[..., Owner]) -> None:
    with ScriptedBroker(lambda sock: sock.sendall(CONNACK + b"\xe0\x02\x8e\x00")) as scripted:
        owner = own(scripted, reconnect_min_s=0.05, reconnect_max_s=60.0, uniform=lambda: 0.99)
        owner.wait_event(Connected, 5)
    at_s = [at for at, event in zip(owner.at_s, owner.events, strict=True) if isinstance(event, Connected)]
    waits = [later - sooner for sooner, later in pairwise(at_s)]
    assert all(wait >= 0.99 * 0.05 * 2**n for n, wait in enumerate(waits))
    assert "another client took the session of 'board'" in owner.of(Disconnected)[0].reason


def test_a_broker_that_is_down_is_reported_once_and_found_when_it_comes(
    own: Callable[..., Owner], tmp_path: Path
) -> None:
    running = Iotcore(tmp_path)
    began_s = time.monotonic()
    owner = own(running)
    assert time.monotonic() - began_s < 1.0
    owner.wait(lambda: owner.sessions >= 4)
    assert len(owner.events) == 1
    assert owner.events[0].code is FailureCode.BROKER_UNREACHABLE  # type: ignore[union-attr]
    assert not owner.link.publish(Outgoing("t/a", b"x"), 1)
    with running:
        assert owner.wait_event(Connected).session_seq >= 4


@pytest.mark.parametrize(
    ("reason", "code", "words"),
    [
        (0x86, FailureCode.NOT_AUTHORIZED, "bad user name or password"),
        (0x87, FailureCode.NOT_AUTHORIZED, "not authorized"),
        (0x8A, FailureCode.NOT_AUTHORIZED, "banned"),
        (0x97, FailureCode.BROKER_UNREACHABLE, "quota exceeded"),
        (0x89, FailureCode.BROKER_UNREACHABLE, "server busy"),
        (0x84, FailureCode.BROKER_UNREACHABLE, "unsupported protocol version"),
    ],
)
def test_a_refused_connection_tells_why(own: Callable[..., Owner], reason: int, code: FailureCode, words: str) -> None:
    with ScriptedBroker(lambda sock: sock.sendall(bytes([0x20, 3, 0, reason, 0]))) as scripted:
        owner = own(scripted, username="board", password="wrong")
        lost = owner.wait_event(Disconnected)
        owner.wait(lambda: owner.sessions >= 3)
    assert lost == owner.events[0]
    assert (lost.code, words in lost.reason) == (code, True)
    assert owner.of(Connected) == []


def first_publish(sock: socket.socket) -> int:
    """Read one short PUBLISH at QoS 1 and return its packet identifier."""
    packet = sock.recv(65_536)
    while packet[0] & 0xF0 != 0x30:
        packet = sock.recv(65_536)
    length = int.from_bytes(packet[2:4])
    return int.from_bytes(packet[4 + length : 6 + length])


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (0x87, FailureCode.NOT_AUTHORIZED),
        (0x90, FailureCode.PUBLISH_REJECTED),
        (0x97, FailureCode.PUBLISH_REJECTED),
        (0x80, FailureCode.PUBLISH_REJECTED),
    ],
)
def test_a_failing_acknowledgement_is_a_refusal(own: Callable[..., Owner], reason: int, code: FailureCode) -> None:
    def refuse(sock: socket.socket) -> None:
        sock.sendall(CONNACK)
        mid = first_publish(sock)
        sock.sendall(b"\x40\x04" + mid.to_bytes(2) + bytes([reason, 0]))
        scripted.over.wait(DEADLINE_S)

    with ScriptedBroker(refuse) as scripted:
        owner = own(scripted)
        owner.wait_event(Connected)
        owner.link.publish(Outgoing("t/a", b"x"), 5)
        refused = owner.wait_event(Refused)
    assert (refused.token, refused.code) == (5, code)
    assert owner.of(Delivered) == []


def hold(connack: bytes, then: bytes = b"") -> Callable[[socket.socket], None]:
    def script(sock: socket.socket) -> None:
        sock.sendall(connack + then)
        while sock.recv(65_536):
            continue

    return script


def test_the_brokers_receive_maximum_narrows_the_window(own: Callable[..., Owner]) -> None:
    with ScriptedBroker(hold(b"\x20\x06\x00\x00\x03\x21\x00\x05")) as scripted:
        owner = own(scripted, window=50)
        assert owner.wait_event(Connected).receive_maximum == 5
        assert [owner.link.publish(Outgoing("t/a", b"x"), n) for n in range(6)] == [True] * 5 + [False]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        pytest.param(Outgoing("t/a", b"x" * 500), FailureCode.MESSAGE_TOO_LARGE, id="above the broker's packet size"),
        pytest.param(Outgoing("t/#", b""), FailureCode.PUBLISH_REJECTED, id="wildcard"),
        pytest.param(Outgoing("", b""), FailureCode.PUBLISH_REJECTED, id="empty"),
        pytest.param(Outgoing("t/\0", b""), FailureCode.PUBLISH_REJECTED, id="zero byte"),
        pytest.param(Outgoing("t/\ud800", b""), FailureCode.PUBLISH_REJECTED, id="half a surrogate pair"),
    ],
)
def test_what_would_end_the_connection_is_refused_unsent(
    own: Callable[..., Owner], message: Outgoing, code: FailureCode
) -> None:
    with ScriptedBroker(hold(b"\x20\x08\x00\x00\x05\x27\x00\x00\x01\x00")) as scripted:
        owner = own(scripted)
        owner.wait_event(Connected)
        assert owner.link.publish(message, 9)
        refused = owner.wait_event(Refused)
    assert (refused.token, refused.code) == (9, code)


@pytest.mark.parametrize(
    "junk",
    [
        pytest.param(b"\x32\x04\x00\xffab", id="topic longer than its packet"),
        pytest.param(b"\x32\x00", id="empty publish"),
        pytest.param(b"\xf0\x00", id="unexpected packet"),
        pytest.param(b"\x32\xff\xff\xff\xff\xff", id="endless length"),
        pytest.param(b"\x90\x00", id="empty suback"),
    ],
)
def test_bytes_that_are_not_mqtt_do_not_end_the_thread(own: Callable[..., Owner], junk: bytes) -> None:
    with ScriptedBroker(hold(CONNACK, junk)) as scripted:
        owner = own(scripted)
        owner.wait_event(Connected, 2)
        assert owner.link.is_alive


def test_a_topic_that_is_not_utf8_is_acknowledged_and_dropped(own: Callable[..., Owner]) -> None:
    acknowledged = threading.Event()

    def script(sock: socket.socket) -> None:
        sock.sendall(CONNACK + b"\x32\x07\x00\x02\xff\xfe\x00\x07\x00")
        if sock.recv(65_536).startswith(b"\x40\x02\x00\x07"):
            acknowledged.set()
        scripted.over.wait(DEADLINE_S)

    with ScriptedBroker(script) as scripted:
        owner = own(scripted)
        assert acknowledged.wait(DEADLINE_S)
    assert owner.messages == []


def test_a_broker_that_never_answers_connect_is_given_up(own: Callable[..., Owner]) -> None:
    with ScriptedBroker(hold(b"")) as scripted:
        owner = own(scripted, connect_timeout_s=0.2)
        assert "did not answer CONNECT" in owner.wait_event(Disconnected).reason
        owner.wait(lambda: owner.sessions >= 2)


def test_a_broker_that_falls_silent_is_given_up(own: Callable[..., Owner]) -> None:
    with ScriptedBroker(hold(CONNACK)) as scripted:
        owner = own(scripted, keepalive_s=1)
        assert owner.wait_event(Disconnected).reason == "the broker no longer answers"


def test_an_exception_in_the_owners_code_does_not_end_the_thread(
    broker: BrokerProcess, own: Callable[..., Owner]
) -> None:
    owner = own(broker)
    owner.wait_event(Connected)
    owner.raise_on_report.append(ZeroDivisionError("a bug"))
    assert owner.link.publish(Outgoing("t/a", b"x"), 1)
    owner.wait_event(Delivered)
    assert owner.link.publish(Outgoing("t/a", b"x"), 2)
    assert owner.wait_event(Delivered, 2) == Delivered(2)
    assert owner.link.is_alive


def test_a_crash_in_the_client_library_resets_the_link(
    broker: BrokerProcess, own: Callable[..., Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = own(broker)
    owner.wait_event(Connected)
    plain = Client.loop_read
    crashes = [RuntimeError("a bug in the library")]

    def loop_read(client: Client, *args: Any) -> Any:
        if crashes:
            raise crashes.pop()
        return plain(client, *args)

    monkeypatch.setattr(Client, "loop_read", loop_read)
    owner.link.publish(Outgoing("t/a", b"x"), 1)
    owner.wait_event(Reset)
    assert owner.wait_event(Disconnected).code is FailureCode.INTERNAL
    owner.wait_event(Connected, 2)
    assert owner.link.publish(Outgoing("t/a", b"x"), 2)
    owner.wait(lambda: Delivered(2) in owner.events)


def test_small_packets_are_not_held_back(
    broker: BrokerProcess, own: Callable[..., Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    plain = Connection.serve

    def serve(connection: Connection, farewell: Any) -> Disconnected:
        seen.append(connection._socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return plain(connection, farewell)

    monkeypatch.setattr(Connection, "serve", serve)
    own(broker).wait_event(Connected)
    assert seen == [1]


def test_a_session_number_that_cannot_be_had_is_reported_and_tried_again(tmp_path: Path) -> None:
    failures = [Retryable(FailureCode.DISK_FULL, "the disk is full")]

    def sessions() -> int:
        if failures:
            raise failures.pop()
        return 5

    with Iotcore(tmp_path) as running:
        options = LinkOptions(running.host, "board", running.port, reconnect_min_s=0.1)
        owner = Owner(options)
        link = PahoLink(options, sessions, status, lambda *_: None)
        link.start(owner.report, owner.accept)
        assert owner.wait_event(Connected).session_seq == 5
        link.stop(None, 5.0)
        owner.link.stop(None, 1.0)
    assert owner.events[0] == Disconnected("the disk is full", FailureCode.DISK_FULL)


@on_mosquitto
def test_commands_sent_while_we_are_away_are_delivered(own: Callable[..., Owner], tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as running, RawClient(running.host, running.port) as caller:
        first = own(running, subscriptions=(("t/cmd/+", 1),))
        first.wait_subscribed()
        first.link.stop(None, 5.0)
        caller.publish("t/cmd/away", b"1")
        running.stop()
        running.start()
        second = own(running, subscriptions=(("t/cmd/+", 1),))
        assert second.wait_event(Connected).session_present
        caller.wait_ready()
        caller.publish("t/cmd/now", b"2")
        second.wait(lambda: [message.payload for message in second.messages] == [b"1", b"2"])


@on_mosquitto
def test_a_topic_that_the_acl_forbids_is_refused(own: Callable[..., Owner], tmp_path: Path) -> None:
    settings = MosquittoSettings(acl="topic readwrite t/mine/#\n")
    with Mosquitto(tmp_path, settings=settings) as running:
        owner = own(running)
        owner.wait_event(Connected)
        owner.link.publish(Outgoing("t/yours/a", b"x"), 1)
        owner.link.publish(Outgoing("t/mine/a", b"x"), 2)
        refused = owner.wait_event(Refused)
        owner.wait_event(Delivered)
    assert (refused.token, refused.code) == (1, FailureCode.NOT_AUTHORIZED)
    assert "not authorized" in refused.reason
    assert owner.of(Delivered) == [Delivered(2)]


@on_mosquitto
def test_a_message_that_ends_every_connection_is_refused_and_the_next_pass(
    own: Callable[..., Owner], tmp_path: Path
) -> None:
    with Mosquitto(tmp_path, settings=MosquittoSettings(lines=("message_size_limit 1000",))) as running:
        owner = own(running)
        owner.wait_event(Connected)
        for token, size_bytes in enumerate((10, 2000, 20)):
            assert owner.link.publish(Outgoing("t/a", b"x" * size_bytes), token)
        assert owner.wait_event(Refused).token == 1
        owner.wait(lambda: owner.delivered() == {0, 2})


@on_mosquitto
def test_a_wrong_password_is_reported(own: Callable[..., Owner], tmp_path: Path) -> None:
    with Mosquitto(tmp_path, settings=MosquittoSettings(lines=("allow_anonymous false",))) as running:
        owner = own(running, username="board", password="wrong")
        assert owner.wait_event(Disconnected).code is FailureCode.NOT_AUTHORIZED


@on_mosquitto
def test_a_client_certificate_opens_the_boards_own_topics(own: Callable[..., Owner], tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "tls", "board-7")
    settings = MosquittoSettings(acl="pattern readwrite t/%u/#\n", tls=made)
    with Mosquitto(tmp_path / "broker", settings=settings) as running:
        owner = own(running, tls=Tls(made.ca, made.client, made.client_key), subscriptions=(("t/board-7/cmd/+", 1),))
        owner.wait_event(Connected)
        for token in range(20):
            assert owner.link.publish(Outgoing("t/board-7/cmd/echo", b"x" * 20_000), token)
        owner.wait(lambda: len(owner.messages) == len(owner.delivered()) == 20)
        owner.link.publish(Outgoing("t/board-8/a", b"x"), 99)
        assert owner.wait_event(Refused).code is FailureCode.NOT_AUTHORIZED


@on_mosquitto
def test_tls_that_does_not_come_about_is_reported_in_words(own: Callable[..., Owner], tmp_path: Path) -> None:
    made, other = make_certificates(tmp_path / "tls", "board-7"), make_certificates(tmp_path / "other", "board-7")
    with Mosquitto(tmp_path / "broker", settings=MosquittoSettings(tls=made)) as running:
        cases = [
            (Tls(other.ca, made.client, made.client_key), FailureCode.BROKER_UNREACHABLE, "certificate verify failed"),
            (Tls(made.ca), FailureCode.BROKER_UNREACHABLE, "does it accept our certificate?"),
            (Tls(made.ca, tmp_path / "none.crt"), FailureCode.CONFIG_INVALID, "none.crt"),
            (Tls(made.ca, made.client, other.client_key), FailureCode.CONFIG_INVALID, "client.key"),
        ]
        for tls, code, words in cases:
            lost = own(running, tls=tls).wait_event(Disconnected)
            assert (lost.code, words in lost.reason) == (code, True), lost


@pytest.mark.parametrize(("waited_s", "left_s"), [(0.0, 10), (4.2, 6), (99.0, 1)])
def test_the_time_that_a_message_waited_is_taken_off_its_expiry(waited_s: float, left_s: int) -> None:
    properties: Any = wire.publish_properties(Outgoing("t/a", b"", expiry_s=10), waited_s)
    assert properties.MessageExpiryInterval == left_s


@pytest.mark.parametrize(
    "fault",
    [
        {"host": ""},
        {"port": 0},
        {"client_id": ""},
        {"window": 0},
        {"keepalive_s": 0},
        {"max_payload_bytes": 0},
        {"reconnect_min_s": 2.0, "reconnect_max_s": 1.0},
        {"subscriptions": (("t/#", 2),)},
        {"tls": Tls(key=Path("key.pem"))},
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(fault: dict[str, Any]) -> None:
    with pytest.raises(Permanent) as raised:
        LinkOptions(**({"host": "127.0.0.1", "client_id": "board"} | fault))
    assert raised.value.code is FailureCode.CONFIG_INVALID


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(LinkOptions("127.0.0.1", "board", password="secret"))
