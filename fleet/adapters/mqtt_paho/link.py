"""Keeps one connection to the broker, on a thread of its own, with pauses that grow and are drawn by lot."""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from fleet.adapters.mqtt_paho.connection import Connection, Receive
from fleet.adapters.mqtt_paho.options import LinkOptions
from fleet.errors import FleetError

log = logging.getLogger(__name__)
_TURN_S = 0.1
_PROVED_AFTER_S = 10.0
"""A connection that lived for less was fought over or cut at once: the pauses go on growing."""


class PahoLink:
    """`upkeep` is called on the link's thread, ten times a second while the connection is up."""

    def __init__(
        self,
        options: LinkOptions,
        topics: Sequence[str],
        receive: Receive,
        upkeep: Callable[[Connection], None] = lambda _connection: None,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._options = options
        self._topics = topics
        self._receive = receive
        self._upkeep = upkeep
        self._uniform = uniform
        self._current: Connection | None = None
        self._since_s = 0.0
        self._connections = 0
        self._problem = "not connected yet"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"link-{options.client_id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def client_id(self) -> str:
        return self._options.client_id

    @property
    def current(self) -> Connection | None:
        """The connection, while its subscriptions are in force."""
        return self._current

    @property
    def connections(self) -> int:
        return self._connections

    @property
    def connected_s(self) -> float:
        """For how long; 0 while it is not."""
        return time.monotonic() - self._since_s if self._current is not None else 0.0

    @property
    def problem(self) -> str | None:
        """Why it is not connected."""
        return None if self._current is not None else self._problem

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            lived_s = self._one()
            if self._stop.is_set():
                return
            failures = 0 if lived_s > _PROVED_AFTER_S else failures + 1
            ceiling_s = min(self._options.reconnect_max_s, self._options.reconnect_min_s * 2.0 ** min(failures, 30))
            log.warning("broker: %s", self._problem)
            self._stop.wait(self._uniform() * ceiling_s)

    def _one(self) -> float:
        """From its beginning to its end; returns how long it was up."""
        connection = Connection(self._options, self._topics, self._receive)
        began_s = time.monotonic()
        try:
            connection.open()
            if not self._is_ready(connection):
                return 0.0
            began_s, self._since_s = time.monotonic(), time.monotonic()
            self._connections += 1
            self._current = connection
            log.info("connected to the broker %s:%d", self._options.host, self._options.port)
            while not self._stop.is_set() and connection.is_alive():
                connection.ended.wait(_TURN_S)
                self._upkeep(connection)
            self._problem = connection.reason
        except FleetError as error:
            self._problem = error.text
        finally:
            self._current = None
            connection.close()
        return time.monotonic() - began_s

    def _is_ready(self, connection: Connection) -> bool:
        until_s = time.monotonic() + self._options.connect_timeout_s
        while time.monotonic() < until_s and not self._stop.is_set():
            if connection.ready.wait(_TURN_S):
                return True
            if connection.ended.is_set():
                self._problem = connection.reason
                return False
        self._problem = f"the broker did not answer within {self._options.connect_timeout_s:g} s"
        return False
