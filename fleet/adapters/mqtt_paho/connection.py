"""One connection, from CONNECT to its end: a fresh paho client each, so that an acknowledgement can only go to the
connection that its message came from.

paho's own reconnecting is not used: it has no jitter, and it sends acknowledgements of the last connection on the next.
Callbacks of ours only put things down, since paho calls them with a mutex held (paho-mqtt issue 346), and what leaves
one ends its thread (365, 504).
"""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTMessageInfo, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from fleet.adapters.mqtt_paho.options import LinkOptions, Tls
from fleet.errors import ErrorCode, Permanent, Retryable
from fleet.mail import Sending

log = logging.getLogger(__name__)
_TURN_S = 0.1
_MOST_IN_FLIGHT = 200
Receive = Callable[["Connection", MQTTMessage], None]


def properties_for(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves this constructor untyped


class Connection:
    """`ready` when the subscriptions are in force; `ended` with a `reason`, and then for good."""

    def __init__(self, options: LinkOptions, topics: Sequence[str], receive: Receive) -> None:
        self.ready = threading.Event()
        self.ended = threading.Event()
        self.reason = "the connection was lost"
        self._options = options
        self._topics = topics
        self._receive = receive
        self._refused: dict[int, str] = {}
        self._slots = threading.Semaphore(0)
        self.client = self._new_client()

    def _new_client(self) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._options.client_id,
            protocol=MQTTv5,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.suppress_exceptions = True
        client.connect_timeout = self._options.connect_timeout_s
        client.max_inflight_messages_set(0)  # the slots count: paho's limit cannot follow what CONNACK allows
        client.on_socket_open = _without_delay
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_message = lambda _client, _data, message: self._receive(self, message)
        return client

    def open(self) -> None:
        """Errors: Retryable(UNAVAILABLE), Permanent(INVALID) for certificates that cannot be used."""
        options, client = self._options, self.client
        if options.username is not None:
            client.username_pw_set(options.username, options.password)
        if options.tls is not None:
            client.tls_set_context(tls_context(options.tls))
        properties = properties_for(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = options.session_expiry_s
        properties.ReceiveMaximum = options.window
        properties.MaximumPacketSize = options.max_packet_bytes
        try:
            client.connect(options.host, options.port, options.keepalive_s, clean_start=False, properties=properties)
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that IDNA cannot take
            text = f"cannot reach the broker {options.host}:{options.port}: {error}"
            raise Retryable(ErrorCode.UNAVAILABLE, text) from error
        client.loop_start()

    def is_alive(self) -> bool:
        """False when the connection has ended, or paho's thread has died without a word."""
        name = f"paho-mqtt-client-{self._options.client_id}"
        return not self.ended.is_set() and any(thread.name == name for thread in threading.enumerate())

    def acknowledge(self, mid: int) -> None:
        """Does nothing once the connection has ended: the broker will send the message again."""
        if not self.ended.is_set():
            self.client.ack(mid, 1)

    def publish(self, sending: Sending, properties: Properties, until_s: float) -> MQTTMessageInfo | None:
        """At QoS 1, when the broker has room for one more. None where it had none in time, or the topic is no topic."""
        while not self._slots.acquire(timeout=_TURN_S):
            if self.ended.is_set() or time.monotonic() > until_s:
                return None
        try:
            return self.client.publish(sending.topic, sending.payload, 1, sending.retain, properties)
        except ValueError as error:
            self._slots.release()
            log.error("%s cannot be published to: %s", sending.topic, error)
            return None

    def subscribe(self, topics: Sequence[str]) -> None:
        self.client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in topics])

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self.client.unsubscribe(list(topics))

    def why_refused(self, mid: int) -> str | None:
        """What the broker said to a publish that it acknowledged and did not take."""
        return self._refused.pop(mid, None)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.ended.set()

    def _on_connect(
        self, _client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self.reason = f"the broker refused the connection: {str(reason).lower()}"
            return
        maximum = getattr(properties, "ReceiveMaximum", _MOST_IN_FLIGHT)
        self._slots.release(min(_MOST_IN_FLIGHT, maximum))
        if self._topics:
            self.subscribe(self._topics)
        else:
            self.ready.set()

    def _on_subscribe(
        self, client: Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self.reason = f"the broker refused a subscription: {', '.join(str(each).lower() for each in reasons)}"
            client.disconnect()
        else:
            self.ready.set()

    def _on_publish(
        self, _client: Client, _data: object, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._refused[mid] = str(reason).lower()
        self._slots.release()

    def _on_disconnect(
        self, _client: Client, _data: object, flags: DisconnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self.reason = f"the broker ended the connection: {str(reason).lower()}"
        self.ended.set()


def _without_delay(_client: Client, _data: object, sock: object) -> None:
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Errors: Permanent(INVALID) when a file is missing or is no certificate."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(str(path) for path in (tls.ca, tls.certificate, tls.key) if path is not None)
        raise Permanent(ErrorCode.INVALID, f"cannot use the TLS files {files}: {error}") from error
    return context
