"""A reader of one node's messages, as an MES or a dashboard would be; it shares no code with the agent."""

import queue
from dataclasses import dataclass

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode


@dataclass(frozen=True, slots=True)
class Received:
    topic: str
    payload: bytes


class Subscriber:
    """Puts every message of `topic_filter` on `inbox`. Reconnects and subscribes again by itself."""

    def __init__(self, host: str, port: int, client_id: str, topic_filter: str) -> None:
        self.inbox: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self.subscribed: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._filter = topic_filter
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.suppress_exceptions = True
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_args: self.subscribed.put(None)
        self._client.connect_async(host, port)

    def start(self, timeout_s: float = 10.0) -> None:
        """Returns when subscribed; raises TimeoutError when the broker does not answer."""
        self._client.loop_start()
        try:
            self.subscribed.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError("the broker did not take the subscription") from None

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """At QoS 1; sent once connected."""
        self._client.publish(topic, payload, qos=1, retain=retain)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Client, _data: object, _flags: ConnectFlags, _reason: ReasonCode, _properties: Properties | None
    ) -> None:
        client.subscribe(self._filter, qos=1)

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.inbox.put(Received(message.topic, bytes(message.payload)))
