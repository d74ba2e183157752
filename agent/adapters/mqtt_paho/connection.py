"""One connection, from CONNECT to its end: a fresh paho client, driven by the link's thread and by no other.

The loop is ours and not paho's `loop_start`, so that a stop wakes it at once, the thread can be watched, and each
reconnect waits with jitter and grows also when connections are short (a session fought over by two clients).
"""

import logging
import selectors
import socket
import ssl
import time
from collections.abc import Callable

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.adapters.mqtt_paho import wire
from agent.adapters.mqtt_paho.bell import Bell
from agent.adapters.mqtt_paho.client import BatchingClient
from agent.adapters.mqtt_paho.options import LinkOptions
from agent.adapters.mqtt_paho.outbox import Outbox
from agent.adapters.mqtt_paho.owner import Farewell, Owner, shielded
from agent.core.outgoing import Outgoing
from agent.errors import AgentError, Retryable
from agent.ports import Connected, Delivered, Disconnected, Refused
from schemas.codes import FailureCode

_LOG = logging.getLogger(__name__)
_LONGEST_SELECT_S = 1.0  # paho's keepalive is looked at once a turn
_AGAIN_S = 1.0
_MOST_BLAMES = 5
_WITH_WILL = ReasonCode(PacketTypes.DISCONNECT, identifier=0x04)


class Connection:
    """`serve` runs until the connection has ended, for whatever reason, and says why.

    `left_quietly`: we ended it without a goodbye in a way that keeps the broker from sending the will; None while it
    has not come about.
    """

    def __init__(self, options: LinkOptions, session_seq: int, owner: Owner, outbox: Outbox, bell: Bell) -> None:
        self._options = options
        self._session_seq = session_seq
        self._owner = owner
        self._outbox = outbox
        self._bell = bell
        self._client = self._new_client()
        self._opened_s = time.monotonic()
        self._is_connected = False
        self._max_packet_bytes: int | None = None
        self._end: Disconnected | None = None
        self._is_over = False
        self._unaccepted: AgentError | None = None
        self._again_at_s = 0.0
        self.left_quietly: bool | None = None
        self._has_goodbye = False
        self._is_acknowledged = False

    def _new_client(self) -> BatchingClient:
        client = BatchingClient(
            CallbackAPIVersion.VERSION2, client_id=self._options.client_id, protocol=MQTTv5, manual_ack=True
        )
        client.max_inflight_messages_set(0)  # the outbox counts
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        # Without this callback paho writes inside publish(), and on_publish comes before publish() has told the mid.
        client.on_socket_register_write = lambda *_: None
        return client

    def open(self, will: Outgoing) -> None:
        """Errors: Retryable(BROKER_UNREACHABLE), Permanent(CONFIG_INVALID). Blocks for at most the connect timeout."""
        options, client = self._options, self._client
        if options.username is not None:
            client.username_pw_set(options.username, options.password)
        if options.tls is not None:
            client.tls_set_context(wire.tls_context(options.tls))
        client.will_set(will.topic, will.payload, will.qos, will.retain, wire.will_properties(will))
        client.connect_timeout = options.connect_timeout_s
        properties = wire.connect_properties(options)
        client.connect_async(options.host, options.port, options.keepalive_s, clean_start=False, properties=properties)
        try:
            client.reconnect()
            self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that IDNA cannot take
            text = f"cannot reach {options.host}:{options.port}: {error}"
            raise Retryable(FailureCode.BROKER_UNREACHABLE, text) from error
        self._opened_s = time.monotonic()

    def _socket(self) -> socket.socket:
        sock = self._client.socket()
        if not isinstance(sock, socket.socket):
            raise ConnectionError("closed while it was opened")
        return sock

    def serve(self, farewell: Callable[[], Farewell | None]) -> Disconnected:
        sock = self._socket()
        with selectors.DefaultSelector() as selector:
            selector.register(self._bell, selectors.EVENT_READ)
            selector.register(sock, selectors.EVENT_READ)
            while self._client.socket() is sock and not self._is_over:
                self._write()
                if self._client.socket() is not sock:
                    break
                self._wait(selector, sock, farewell())
                self._check_time(farewell())
        return self._end or Disconnected("the connection was lost", FailureCode.BROKER_UNREACHABLE)

    def close(self) -> None:
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _write(self) -> None:
        while self._is_connected and (taken := self._outbox.next()) is not None:
            message = taken.message
            if (why := wire.fault(message, self._max_packet_bytes)) is not None:
                self._outbox.drop()
                self._refuse(taken.token, *why)
                continue
            properties = wire.publish_properties(message, time.monotonic() - taken.at_s)
            info = self._client.publish(message.topic, message.payload, message.qos, message.retain, properties)
            if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:  # the mid is in use: the next one is another
                self._outbox.give_back(taken)
                continue
            self._outbox.sent(info.mid, taken)
        if self._client.want_write():
            self._client.loop_write()

    def _wait(self, selector: selectors.BaseSelector, sock: socket.socket, farewell: Farewell | None) -> None:
        wants = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._client.want_write() else 0)
        if selector.get_key(sock).events != wants:
            selector.modify(sock, wants)
        has_buffered = self._client.has_unread or (isinstance(sock, ssl.SSLSocket) and sock.pending() > 0)
        timeout_s = 0.0 if has_buffered else self._patience_s(farewell)
        ready = {key.fileobj: events for key, events in selector.select(timeout_s)}
        if self._bell in ready:
            self._bell.answer()
        if has_buffered or ready.get(sock, 0) & selectors.EVENT_READ:
            self._client.loop_read()
        self._client.loop_misc()

    def _patience_s(self, farewell: Farewell | None) -> float:
        """Until the next moment at which `_check_time` has something to do."""
        if farewell is not None:
            until_s = farewell.acknowledged_by_s
        elif not self._is_connected:
            until_s = self._opened_s + self._options.connect_timeout_s
        elif self._unaccepted is not None:
            until_s = self._again_at_s
        else:
            return _LONGEST_SELECT_S
        return min(_LONGEST_SELECT_S, max(0.0, until_s - time.monotonic()))

    def _check_time(self, farewell: Farewell | None) -> None:
        now_s = time.monotonic()
        if farewell is not None:
            self._leave(farewell, now_s)
        elif not self._is_connected:
            if now_s > self._opened_s + self._options.connect_timeout_s:
                text = f"the broker did not answer CONNECT within {self._options.connect_timeout_s:g} s"
                self._finish(Disconnected(text, FailureCode.BROKER_UNREACHABLE))
                self._is_over = True
        elif self._unaccepted is not None and now_s >= self._again_at_s:
            text = f"connecting again to be given a message again that we could not take: {self._unaccepted.text}"
            self.left_quietly = True
            self._disconnect(Disconnected(text, self._unaccepted.code))

    def _leave(self, farewell: Farewell, now_s: float) -> None:
        if not self._is_connected:
            self._is_over = self._end is not None or now_s >= farewell.acknowledged_by_s
            return
        if farewell.goodbye is not None and not self._has_goodbye:
            self._has_goodbye = True
            self._outbox.put_last(farewell.goodbye)
        if farewell.goodbye is None or self._is_acknowledged:
            self._disconnect(Disconnected("stopped", FailureCode.BROKER_UNREACHABLE))
        elif now_s >= farewell.acknowledged_by_s:
            # The broker may not have the goodbye: its will says the same.
            self._disconnect(Disconnected("stopped", FailureCode.BROKER_UNREACHABLE), _WITH_WILL)

    def _disconnect(self, end: Disconnected, reason: ReasonCode | None = None) -> None:
        """None is the normal reason, left out: rumqttd takes any code, 0 too, for a request to send the will."""
        self._finish(end)
        self._client.disconnect(reason)

    def _finish(self, end: Disconnected) -> None:
        """The first reason is the cause, what follows are its consequences."""
        self._is_connected = False
        self._end = self._end or end

    def _refuse(self, token: int | None, code: FailureCode, reason: str) -> None:
        if token is None:
            _LOG.error("the goodbye was refused: %s", reason)
        else:
            self._owner.tell(Refused(token, code, reason))

    def _on_connect(
        self, client: Client, _data: object, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        given = properties or wire.properties_for(PacketTypes.CONNACK)
        if reason.is_failure:
            self._finish(wire.connack(reason, given))
            return
        self._is_connected = True
        self.left_quietly = False
        receive_maximum = getattr(given, "ReceiveMaximum", 65_535)
        self._max_packet_bytes = getattr(given, "MaximumPacketSize", None)
        # Also when the session is present: an older release may have subscribed to something else, a broker may have
        # lost the subscriptions, and retained desired states come once more, which does no harm.
        if self._options.subscriptions:
            client.subscribe([(name, SubscribeOptions(qos=qos)) for name, qos in self._options.subscriptions])
        self._outbox.open(receive_maximum)
        self._owner.tell(Connected(flags.session_present, receive_maximum, self._session_seq))

    def _on_subscribe(
        self, _client: Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        for (name, _), reason in zip(self._options.subscriptions, reasons, strict=False):
            if reason.is_failure:
                _LOG.error("the broker refused the subscription to %s: %s", name, reason)

    def _on_disconnect(
        self, _client: Client, _data: object, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if wire.is_over_a_message(reason) and (culprit := self._outbox.blame(_MOST_BLAMES)) is not None:
            text = f"{_MOST_BLAMES} connections in a row ended over it: {wire.in_words(reason, properties)}"
            self._refuse(culprit.token, FailureCode.PUBLISH_REJECTED, text)
        if flags.is_disconnect_packet_from_server:
            given = properties or wire.properties_for(PacketTypes.DISCONNECT)
            self._finish(wire.server_disconnect(reason, given, self._options.client_id))
        else:
            has_tls = self._options.tls is not None
            self._finish(wire.lost(reason, was_connected=self._is_connected, tls=has_tls))

    def _on_publish(self, _client: Client, _data: object, mid: int, reason: ReasonCode, properties: Properties) -> None:
        taken = self._outbox.settle(mid)
        if taken is None:
            return
        if reason.is_failure:
            self._refuse(taken.token, *wire.refusal(reason, properties))
        elif taken.token is None:
            self._is_acknowledged = True
        else:
            self._owner.tell(Delivered(taken.token))

    def _on_message(self, client: Client, _data: object, message: MQTTMessage) -> None:
        if self._unaccepted is not None and message.qos > 0:
            return  # it comes again in its place, after the one that was not accepted
        try:
            arrived = wire.incoming(message)
        except UnicodeDecodeError:
            _LOG.warning("a message on a topic that is not UTF-8 was dropped")
        else:
            if len(arrived.payload) > self._options.max_payload_bytes:
                shielded(self._owner.oversized, arrived.topic, len(arrived.payload))
            elif (error := shielded(self._owner.accept, arrived)) is not None:
                self._accept_failed(message.qos, error)
                return
        client.ack(message.mid, message.qos)

    def _accept_failed(self, qos: int, error: AgentError) -> None:
        _LOG.warning("a message could not be accepted: %s", error.text)
        if qos > 0:
            self._unaccepted = error
            self._again_at_s = time.monotonic() + (error.delay_s if isinstance(error, Retryable) else _AGAIN_S)
