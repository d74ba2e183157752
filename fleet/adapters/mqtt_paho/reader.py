"""Hears all boards: shared subscriptions, so that several readers share the load, and acknowledgements by hand.

A shared subscription is not given what the broker retains. After each connect a second connection looks through the
state topics, until nothing retained has come for a while: so a server that was off learns what it has missed. It is one
of its own, for rumqttd gives up sharing with a client that has unsubscribed from anything.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

from paho.mqtt.client import MQTTMessage

from fleet.adapters.mqtt_paho.connection import Connection
from fleet.adapters.mqtt_paho.inbox import Inbox
from fleet.adapters.mqtt_paho.link import PahoLink
from fleet.adapters.mqtt_paho.options import BatchOptions, LinkOptions
from fleet.errors import Retryable
from fleet.mail import Letter
from schemas.topics import ROOT

log = logging.getLogger(__name__)
_STATE = ("status", "info", "reported/+", "alarm/+", "job/+/status")
_FLOW = ("result/+", "telemetry/+", "event/+")
STATE = tuple(f"{ROOT}/+/+/{family}" for family in _STATE)
SHARED = tuple(f"$share/fleet-{family.split('/')[0]}/{ROOT}/+/+/{family}" for family in (*_STATE, *_FLOW))
"""A group each: rumqttd takes all filters of a group for one, and delivers the first alone."""
QUIET_S = 1.0


class PahoReader:
    """`inbox` has what comes. `has_caught_up`: all that was retained at the last connect has been taken from it."""

    def __init__(
        self,
        options: LinkOptions,
        now: Callable[[], datetime],
        batches: BatchOptions | None = None,
        quiet_s: float = QUIET_S,
    ) -> None:
        self.inbox = Inbox(batches or BatchOptions())
        self._now = now
        self._quiet_s = quiet_s
        self._look_options = replace(options, client_id=f"{options.client_id}-look", session_expiry_s=0)
        self._look: Connection | None = None
        self._looked_for: Connection | None = None
        self._heard_s = 0.0
        self.link = PahoLink(options, SHARED, self._receive, self._upkeep)

    def start(self) -> None:
        self.link.start()

    def stop(self) -> None:
        self.link.stop()
        self._end_look()

    @property
    def has_caught_up(self) -> bool:
        current = self.link.current
        return current is not None and current is self._looked_for

    def _receive(self, connection: Connection, message: MQTTMessage) -> None:
        settle = partial(connection.acknowledge, message.mid) if message.qos else _nothing
        if message.retain:
            self._heard_s = time.monotonic()
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # not settled here: rumqttd ends a connection that acknowledges out of order
        letter = Letter(topic, bytes(message.payload), self._now(), message.retain, settle)
        self.inbox.put(letter, may_drop=message.qos == 0)

    def _upkeep(self, connection: Connection) -> None:
        """Looks once for each connection."""
        if connection is self._looked_for:
            return
        if self._look is None or self._look.ended.is_set():
            self._end_look()
            self._begin_look()
        elif not self._look.ready.is_set() or self.inbox.depth > 0:
            self._heard_s = time.monotonic()
        elif time.monotonic() - self._heard_s > self._quiet_s:
            self._end_look()
            self._looked_for = connection

    def _begin_look(self) -> None:
        look = Connection(self._look_options, STATE, self._receive)
        try:
            look.open()
        except Retryable as error:
            log.warning("the broker's retained messages cannot be read: %s", error.text)
            return
        self._heard_s = time.monotonic()
        self._look = look

    def _end_look(self) -> None:
        if self._look is not None:
            self._look.close()
            self._look = None


def _nothing() -> None:
    return
