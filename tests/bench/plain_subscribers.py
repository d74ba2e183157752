"""Subscribers that do nothing but receive: the broker's own fan-out, for comparison.

`python -m tests.bench.plain_subscribers PORT FIRST COUNT`: paho clients, one topic each, all on one thread. Prints
`ready`, then for each round the monotonic time at which the last of them had its message.
"""

import selectors
import socket
import sys
import time
from typing import Any

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion


def topic(number: int) -> str:
    return f"bench/plain/{number:06d}/desired/model"


class Plain:
    """A crowd of clients and how many messages of a round are still to come."""

    def __init__(self, port: int, first: int, count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._count = count
        self.subscribed = 0
        self.received = 0
        for number in range(first, first + count):
            self._add(port, number)

    def _add(self, port: int, number: int) -> None:
        client = Client(CallbackAPIVersion.VERSION2, client_id=f"plain-{number}", protocol=MQTTv5)
        client.on_connect = lambda client, *_: client.subscribe(topic(number), qos=1)
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.connect("127.0.0.1", port, keepalive=600)
        sock = client.socket()
        assert isinstance(sock, socket.socket)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(sock, selectors.EVENT_READ, client)
        self.turn(0.0)

    def turn(self, wait_s: float) -> None:
        for key, _ in self._selector.select(wait_s):
            key.data.loop_read()
            while key.data.want_write():
                key.data.loop_write()

    def _on_subscribe(self, *_: Any) -> None:
        self.subscribed += 1

    def _on_message(self, *_: Any) -> None:
        self.received += 1
        if self.received % self._count == 0:
            sys.stdout.write(f"{time.monotonic()!r}\n")
            sys.stdout.flush()


def main() -> None:
    port, first, count = map(int, sys.argv[1:])
    plain = Plain(port, first, count)
    while plain.subscribed < count:
        plain.turn(1.0)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        plain.turn(60.0)


if __name__ == "__main__":
    main()
