"""What the link costs over plain paho, on an embedded broker over loopback.

Baseline: paho-mqtt as it comes, QoS 1, the same window, payload and broker, in the same run. Rounds alternate, so that
a machine that gets slower does so for both.
"""

import argparse
import json
import queue
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from agent.adapters.mqtt_paho import LinkOptions, PahoLink
from agent.core.outgoing import Incoming, Outgoing
from agent.ports import Connected, Delivered, LinkEvent
from tests.contract.brokers import BrokerProcess, Iotcore, Mosquitto, mosquitto_path
from tests.contract.raw_client import RawClient

_DEADLINE_S = 60.0
_WINDOW = 100
_PAYLOAD = b"x" * 1024


def _send_at_once(_client: Client, _data: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _link(
    broker: BrokerProcess, report: Callable[[LinkEvent], None], accept: Callable[[Incoming], None], *filters: str
) -> PahoLink:
    """A link that is connected."""
    connected = threading.Event()

    def reported(event: LinkEvent) -> None:
        if isinstance(event, Connected):
            connected.set()
        report(event)

    options = LinkOptions(
        broker.host, "bench", broker.port, window=_WINDOW, subscriptions=tuple((name, 1) for name in filters)
    )
    link = PahoLink(options, lambda: 1, lambda number: Outgoing("bench/status", b"%d" % number), lambda *_: None)
    link.start(reported, accept)
    if not connected.wait(_DEADLINE_S):
        raise TimeoutError("the link did not connect")
    return link


def round_trip_ms(broker: BrokerProcess, count: int) -> list[float]:
    """From a caller's command to the reply at the caller. The reply is published by the owner's thread, as it is in
    the agent: the link's thread only passes the command on.
    """
    commands: queue.SimpleQueue[Incoming | None] = queue.SimpleQueue()
    replies: queue.SimpleQueue[float] = queue.SimpleQueue()
    ready = threading.Event()

    def report(event: LinkEvent) -> None:
        if isinstance(event, Delivered):
            ready.set()

    link = _link(broker, report, commands.put, "bench/cmd/+")

    def control() -> None:
        while (command := commands.get()) is not None:
            link.publish(Outgoing(command.response_topic or "", b"{}", correlation=command.correlation), 1)

    thread = threading.Thread(target=control)
    thread.start()
    link.publish(Outgoing("bench/ready", b""), 0)
    ready.wait(_DEADLINE_S)
    caller = RawClient(broker.host, broker.port, "bench/reply")
    caller.client.on_message = lambda *_: replies.put(time.perf_counter())
    caller.client.on_socket_open = _send_at_once
    taken_ms = []
    with caller:
        for number in range(count):
            began = time.perf_counter()
            caller.publish("bench/cmd/ping", b"{}", response_topic="bench/reply", correlation=b"%d" % number)
            taken_ms.append(1000.0 * (replies.get(timeout=_DEADLINE_S) - began))
    commands.put(None)
    thread.join()
    link.stop(None, 5.0)
    return taken_ms


def link_rate(broker: BrokerProcess, count: int) -> float:
    """Acknowledged messages a second through the link, with the window kept full."""
    slots = threading.Semaphore(_WINDOW)
    done = threading.Event()
    delivered = 0

    def report(event: LinkEvent) -> None:
        nonlocal delivered
        if isinstance(event, Delivered):
            delivered += 1
            slots.release()
            if delivered == count:
                done.set()

    link = _link(broker, report, lambda _: None)
    began = time.perf_counter()
    for token in range(count):
        slots.acquire()
        if not link.publish(Outgoing("bench/out", _PAYLOAD), token):
            raise RuntimeError("the link took no message though its window had room")
    if not done.wait(_DEADLINE_S):
        raise TimeoutError(f"{delivered} of {count} delivered")
    rate = count / (time.perf_counter() - began)
    link.stop(None, 5.0)
    return rate


def paho_rate(broker: BrokerProcess, count: int) -> float:
    """The same through `loop_start` and `publish`."""
    slots = threading.Semaphore(_WINDOW)
    done, connected = threading.Event(), threading.Event()
    delivered = 0

    def on_publish(*_: Any) -> None:
        nonlocal delivered
        delivered += 1
        slots.release()
        if delivered == count:
            done.set()

    client = Client(CallbackAPIVersion.VERSION2, client_id="plain", protocol=MQTTv5)
    client.max_inflight_messages_set(_WINDOW)
    client.on_connect = lambda *_: connected.set()
    client.on_publish = on_publish
    client.connect(broker.host, broker.port)
    client.loop_start()
    if not connected.wait(_DEADLINE_S):
        raise TimeoutError("paho did not connect")
    began = time.perf_counter()
    for _ in range(count):
        slots.acquire()
        client.publish("bench/out", _PAYLOAD, 1)
    if not done.wait(_DEADLINE_S):
        raise TimeoutError(f"{delivered} of {count} delivered")
    rate = count / (time.perf_counter() - began)
    client.disconnect()
    client.loop_stop()
    return rate


def run(rounds: int = 5, count: int = 10_000, round_trips: int = 300) -> dict[str, float | str]:
    """Units in the names; rates in messages a second, medians over the rounds. Targets: p50 under 2 ms, ratio at least
    0.9. iotcore does not set TCP_NODELAY, which costs it 40 ms a round trip, so mosquitto is taken where it is there.
    """
    kind = Mosquitto if mosquitto_path() else Iotcore
    with tempfile.TemporaryDirectory() as directory, kind(Path(directory)) as broker:
        taken_ms = sorted(round_trip_ms(broker, round_trips))
    with tempfile.TemporaryDirectory() as directory, Iotcore(Path(directory)) as broker:
        link_rate(broker, count // 10)
        pairs = [(link_rate(broker, count), paho_rate(broker, count)) for _ in range(rounds)]
    return {
        "roundTripBroker": kind.name,
        "roundTripP50Ms": statistics.median(taken_ms),
        "roundTripP99Ms": taken_ms[int(0.99 * len(taken_ms))],
        "linkPerS": statistics.median(link for link, _ in pairs),
        "pahoPerS": statistics.median(paho for _, paho in pairs),
        "linkToPaho": statistics.median(link / paho for link, paho in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=10_000)
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.rounds, arguments.count), indent=2))


if __name__ == "__main__":
    main()
