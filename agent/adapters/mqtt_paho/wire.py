"""Between paho's words and ours: properties, messages, reasons."""

import math
import ssl
from datetime import UTC, datetime
from functools import lru_cache

from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.adapters.mqtt_paho.options import LinkOptions, Tls
from agent.core.outgoing import Incoming, Outgoing
from agent.errors import Permanent
from agent.ports import Disconnected
from schemas.codes import FailureCode

_LONGEST_TOPIC_BYTES = 65_535
_PACKET_HEADROOM_BYTES = 64  # fixed header, packet identifier and the fixed part of the properties
_NOT_ALLOWED = {0x85, 0x86, 0x87, 0x8A, 0x8C}  # client id, user or password, not authorized, banned, method
_SESSION_TAKEN_OVER = 0x8E
_KEEPALIVE_TIMEOUT = 0x8D
_OVER_A_MESSAGE = {0x81, 0x82, 0x90, 0x95, 0x99}  # malformed, protocol, topic, size, payload
_REFUSALS = {0x87: FailureCode.NOT_AUTHORIZED, 0x95: FailureCode.MESSAGE_TOO_LARGE}


def properties_for(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves this constructor untyped


def connect_properties(options: LinkOptions) -> Properties:
    """No Topic Alias Maximum: the broker then uses no aliases, and each message can be read by itself."""
    properties = properties_for(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = options.session_expiry_s
    properties.ReceiveMaximum = options.window
    properties.MaximumPacketSize = options.max_packet_bytes
    return properties


class _ClosingSocket(ssl.SSLSocket):
    """paho leaves the socket open when the handshake fails."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  # the signature is ssl's
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Errors: Permanent(CONFIG_INVALID) when a file is missing or is no certificate."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        context.sslsocket_class = _ClosingSocket
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(str(path) for path in (tls.ca, tls.certificate, tls.key) if path is not None)
        raise Permanent(FailureCode.CONFIG_INVALID, f"MQTT: cannot use the TLS files {files}: {error}") from error
    return context


class _PlainProperties(Properties):
    """A content type at most, as most messages have it. Packed once: paho takes a tenth of a publish's time for it."""

    @lru_cache(maxsize=16)  # noqa: B019  # the instances are themselves cached for good
    def pack(self) -> bytes:
        packed = super().pack()  # type: ignore[no-untyped-call]  # paho leaves it untyped
        return bytes(packed)


@lru_cache(maxsize=16)
def _plain_properties(content_type: str | None) -> Properties:
    """Shared: paho only packs them."""
    properties = _PlainProperties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it untyped
    if content_type is not None:
        properties.ContentType = content_type
    return properties


def publish_properties(message: Outgoing, waited_s: float) -> Properties:
    """`waited_s` is taken off the expiry; what is late gets one second, so that the broker drops it."""
    if message.expiry_s is None and message.correlation is None:
        return _plain_properties(message.content_type)
    properties = properties_for(PacketTypes.PUBLISH)
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = max(1, message.expiry_s - math.floor(waited_s))
    if message.content_type is not None:
        properties.ContentType = message.content_type
    if message.correlation is not None:
        properties.CorrelationData = message.correlation
    return properties


def will_properties(message: Outgoing) -> Properties:
    properties = publish_properties(message, 0.0)
    will = properties_for(PacketTypes.WILLMESSAGE)
    for name in ("MessageExpiryInterval", "ContentType", "CorrelationData"):
        if hasattr(properties, name):
            setattr(will, name, getattr(properties, name))
    return will


@lru_cache(maxsize=128)  # a board has few topics and uses them all the time
def _topic(topic: str) -> tuple[int, str | None]:
    """Its size in bytes, and why nothing can be published to it."""
    try:
        encoded = topic.encode()
    except UnicodeEncodeError:
        return 0, f"the topic {topic[:200]!r} is not Unicode"
    if not 0 < len(encoded) <= _LONGEST_TOPIC_BYTES or any(sign in encoded for sign in (b"+", b"#", b"\0")):
        return 0, f"{topic[:200]!r} is no topic to publish to"
    return len(encoded), None


def fault(message: Outgoing, max_packet_bytes: int | None) -> tuple[FailureCode, str] | None:
    """Why this message cannot be sent. A broker would end the connection for it, again after each reconnect."""
    topic_bytes, why = _topic(message.topic)
    if why is not None:
        return FailureCode.PUBLISH_REJECTED, why
    extra = len((message.content_type or "").encode()) + len(message.correlation or b"")
    size_bytes = len(message.payload) + topic_bytes + extra + _PACKET_HEADROOM_BYTES
    if max_packet_bytes is not None and size_bytes > max_packet_bytes:
        return FailureCode.MESSAGE_TOO_LARGE, f"{size_bytes} bytes, and the broker takes {max_packet_bytes}"
    return None


def incoming(message: MQTTMessage) -> Incoming:
    """Errors: UnicodeDecodeError for a topic that is not UTF-8."""
    return Incoming(
        topic=message.topic,
        payload=bytes(message.payload),
        received_at=datetime.now(UTC),
        retain=message.retain,
        response_topic=getattr(message.properties, "ResponseTopic", None),
        correlation=getattr(message.properties, "CorrelationData", None),
    )


def in_words(reason: ReasonCode, properties: Properties | None) -> str:
    """The name of the code, and the broker's own text where it sent one."""
    text = getattr(properties, "ReasonString", None)
    return f"{str(reason).lower()} ({text})" if text else str(reason).lower()


def refusal(reason: ReasonCode, properties: Properties) -> tuple[FailureCode, str]:
    """Of a PUBACK with a failing reason."""
    code = _REFUSALS.get(reason.value, FailureCode.PUBLISH_REJECTED)
    return code, f"the broker refused it: {in_words(reason, properties)}"


def connack(reason: ReasonCode, properties: Properties) -> Disconnected:
    """Of a CONNACK with a failing reason."""
    code = FailureCode.NOT_AUTHORIZED if reason.value in _NOT_ALLOWED else FailureCode.BROKER_UNREACHABLE
    return Disconnected(f"the broker refused the connection: {in_words(reason, properties)}", code)


def server_disconnect(reason: ReasonCode, properties: Properties, client_id: str) -> Disconnected:
    if reason.value == _SESSION_TAKEN_OVER:
        text = f"another client took the session of {client_id!r}: client ids must be unique"
        return Disconnected(text, FailureCode.BROKER_UNREACHABLE)
    code = FailureCode.NOT_AUTHORIZED if reason.value in _NOT_ALLOWED else FailureCode.BROKER_UNREACHABLE
    return Disconnected(f"the broker ended the connection: {in_words(reason, properties)}", code)


def is_over_a_message(reason: ReasonCode) -> bool:
    """Whether the connection ended for what was sent on it. paho too ends it so, when it does not know the code of an
    acknowledgement: mosquitto 2.0 answers what is above its message_size_limit with one that PUBACK does not have.
    """
    return reason.value in _OVER_A_MESSAGE


def lost(reason: ReasonCode, *, was_connected: bool, tls: bool) -> Disconnected:
    """Of a connection that ended without a word from the broker."""
    if reason.value == _KEEPALIVE_TIMEOUT:
        text = "the broker no longer answers"
    elif was_connected:
        text = "the connection was lost"
    else:
        text = "the broker closed the connection before it answered CONNECT"
        text += ": does it accept our certificate?" if tls else ""
    return Disconnected(text, FailureCode.BROKER_UNREACHABLE)
