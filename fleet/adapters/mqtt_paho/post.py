"""Publishes to boards and waits for their answers, and for the broker's."""

import logging
import queue
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from paho.mqtt.client import MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fleet.adapters.mqtt_paho.connection import Connection, properties_for
from fleet.adapters.mqtt_paho.link import PahoLink
from fleet.adapters.mqtt_paho.options import LinkOptions
from fleet.errors import ErrorCode, Retryable
from fleet.mail import ROOT, Sending

log = logging.getLogger(__name__)
_TURN_S = 0.1
_Key = TypeVar("_Key")


class PahoPost:
    """Fits the port Post."""

    def __init__(self, options: LinkOptions) -> None:
        self._reply_topic = f"{ROOT}/reply/{options.client_id}"
        self._answers: dict[bytes, queue.SimpleQueue[bytes]] = {}
        self._kept: dict[str, queue.SimpleQueue[bytes]] = {}
        self._one_look = threading.Lock()
        self.link = PahoLink(options, (self._reply_topic,), self._receive)

    def start(self) -> None:
        self.link.start()

    def stop(self) -> None:
        """Who waits for an answer gets none."""
        self.link.stop()

    @property
    def is_connected(self) -> bool:
        return self.link.current is not None

    @property
    def connections(self) -> int:
        return self.link.connections

    def publish(self, sendings: Sequence[Sending], timeout_s: float) -> list[bool]:
        connection = self.link.current
        if connection is None:
            return [False] * len(sendings)
        until_s = time.monotonic() + timeout_s
        sent = [connection.publish(each, _properties(each), until_s) for each in sendings]
        return [
            self._is_taken(connection, info, until_s, each.topic) for info, each in zip(sent, sendings, strict=True)
        ]

    def request(self, sending: Sending, timeout_s: float) -> bytes | None:
        connection = self._connection()
        until_s = time.monotonic() + timeout_s
        correlation = uuid.uuid4().bytes
        properties = _properties(sending)
        properties.ResponseTopic = self._reply_topic
        properties.CorrelationData = correlation
        with _waiting(self._answers, correlation) as answer:
            info = connection.publish(sending, properties, until_s)
            if not self._is_taken(connection, info, until_s, sending.topic):
                raise Retryable(ErrorCode.UNAVAILABLE, "the broker has not taken the message")
            return _next(answer, connection, until_s)

    def retained(self, topic: str, timeout_s: float) -> bytes | None:
        with self._one_look:
            connection = self._connection()
            with _waiting(self._kept, topic) as answer:
                connection.subscribe([topic])
                found = _next(answer, connection, time.monotonic() + timeout_s)
            connection.unsubscribe([topic])
            if found is None and connection.ended.is_set():
                raise Retryable(ErrorCode.UNAVAILABLE, connection.reason)
            return found

    def _connection(self) -> Connection:
        connection = self.link.current
        if connection is None:
            raise Retryable(ErrorCode.UNAVAILABLE, f"broker: {self.link.problem}", delay_s=2.0)
        return connection

    def _is_taken(self, connection: Connection, info: MQTTMessageInfo | None, until_s: float, topic: str) -> bool:
        if info is None or info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        while not info.is_published():
            left_s = until_s - time.monotonic()
            if left_s <= 0 or connection.ended.is_set():
                return False
            info.wait_for_publish(min(left_s, _TURN_S))
        refusal = connection.why_refused(info.mid)
        if refusal is not None:
            log.error("the broker refused a message on %s: %s", topic, refusal)
        return refusal is None

    def _receive(self, connection: Connection, message: MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", None)
        waiting = self._answers.get(correlation) if isinstance(correlation, bytes) else None
        if waiting is None and message.retain:
            waiting = self._kept.get(message.topic)
        if waiting is not None:
            waiting.put(bytes(message.payload))
        if message.qos:
            connection.acknowledge(message.mid)


def _properties(sending: Sending) -> Properties:
    properties = properties_for(PacketTypes.PUBLISH)
    properties.ContentType = "application/json"
    if sending.expiry_s is not None:
        properties.MessageExpiryInterval = max(1, sending.expiry_s)
    return properties


@contextmanager
def _waiting(waiters: dict[_Key, queue.SimpleQueue[bytes]], key: _Key) -> Iterator[queue.SimpleQueue[bytes]]:
    answer: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    waiters[key] = answer
    try:
        yield answer
    finally:
        waiters.pop(key, None)


def _next(answer: "queue.SimpleQueue[bytes]", connection: Connection, until_s: float) -> bytes | None:
    while (left_s := until_s - time.monotonic()) > 0 and not connection.ended.is_set():
        try:
            return answer.get(timeout=min(left_s, _TURN_S))
        except queue.Empty:
            continue
    return None
