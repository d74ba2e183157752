"""An independent MQTT 5 client for tests: plain paho, nothing of the agent's."""

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

_DEADLINE_S = 15.0


class RawClient:
    """Connects and subscribes on entering. Errors: TimeoutError with what was received instead."""

    def __init__(self, host: str, port: int, *filters: str, client_id: str = "", session_expiry_s: int = 0) -> None:
        self.messages: list[MQTTMessage] = []
        self.disconnects = 0
        self._address = (host, port)
        self._filters = filters
        self._session_expiry_s = session_expiry_s
        self._changed = threading.Condition()
        self._is_ready = False
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTv5)
        self.client.reconnect_delay_set(1, 2)
        self.client.on_connect = lambda *_: self._subscribe()
        self.client.on_subscribe = lambda *_: self._ready()
        self.client.on_message = lambda _client, _data, message: self._received(message)
        self.client.on_disconnect = lambda *_: self._lost()

    def tls(self, ca: str, certificate: str, key: str) -> Self:
        self.client.tls_set(ca, certificate, key)
        return self

    def _subscribe(self) -> None:
        if self._filters:
            self.client.subscribe([(name, 1) for name in self._filters])
        else:
            self._ready()

    def _ready(self) -> None:
        with self._changed:
            self._is_ready = True
            self._changed.notify_all()

    def _received(self, message: MQTTMessage) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def _lost(self) -> None:
        with self._changed:
            self._is_ready = False
            self.disconnects += 1
            self._changed.notify_all()

    def connect(self) -> None:
        """Comes back when the subscriptions are in force."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        properties.SessionExpiryInterval = self._session_expiry_s
        host, port = self._address
        self.client.connect(host, port, 60, clean_start=self._session_expiry_s == 0, properties=properties)
        self.client.loop_start()
        self.wait_ready()

    def wait_ready(self, timeout_s: float = _DEADLINE_S) -> None:
        self._wait(lambda: self._is_ready, "a connection", timeout_s)

    def wait_for(
        self, enough: Callable[[Sequence[MQTTMessage]], bool], timeout_s: float = _DEADLINE_S
    ) -> list[MQTTMessage]:
        """The messages, as soon as there are enough."""
        self._wait(lambda: enough(self.messages), "the messages", timeout_s)
        with self._changed:
            return list(self.messages)

    def wait_topic(self, topic: str, timeout_s: float = _DEADLINE_S) -> MQTTMessage:
        """The first message on this topic."""
        found = self.wait_for(lambda messages: any(each.topic == topic for each in messages), timeout_s)
        return next(each for each in found if each.topic == topic)

    def _wait(self, holds: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not holds():
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    got = [(each.topic, bytes(each.payload)[:60]) for each in self.messages[-10:]]
                    raise TimeoutError(
                        f"no {what} within {timeout_s} s; {len(self.messages)} received, the last: {got}"
                    )
                self._changed.wait(left_s)

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, response_topic: str | None = None,
        correlation: bytes | None = None, expiry_s: int | None = None,
    ) -> None:  # fmt: skip
        """At QoS 1; comes back when the broker has acknowledged."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        if response_topic is not None:
            properties.ResponseTopic = response_topic
        if correlation is not None:
            properties.CorrelationData = correlation
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        info = self.client.publish(topic, payload, 1, retain, properties)
        info.wait_for_publish(_DEADLINE_S)
        if not info.is_published():
            raise TimeoutError(f"the broker did not acknowledge a message on {topic}")

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
