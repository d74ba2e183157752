"""The board's MQTT connection, served by the reactor's thread together with those of all other boards."""

import logging
import random
import selectors
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress

from agent.adapters.mqtt_paho.bell import Bell
from agent.adapters.mqtt_paho.connection import Connection
from agent.adapters.mqtt_paho.options import LinkOptions
from agent.adapters.mqtt_paho.outbox import Outbox
from agent.adapters.mqtt_paho.owner import Crash, Farewell, Owner, shielded, told_once
from agent.core.backoff import Backoff
from agent.core.outgoing import Incoming, Outgoing
from agent.errors import AgentError
from agent.ports import Disconnected, LinkEvent, Reset
from agent.simulate.reactor import Reactor
from schemas.codes import FailureCode

_LOG = logging.getLogger(__name__)
_GOODBYE_SHARE = 0.7


class SharedConnection(Connection):
    """The agent's connection, a turn at a time instead of until its end."""

    def __init__(self, options: LinkOptions, session_seq: int, owner: Owner, outbox: Outbox, bell: Bell) -> None:
        super().__init__(options, session_seq, owner, outbox, bell)
        self.socket: socket.socket | None = None

    @property
    def is_over(self) -> bool:
        return self.socket is None or self._client.socket() is not self.socket or self._is_over

    @property
    def end(self) -> Disconnected:
        return self._end or Disconnected("the connection was lost", FailureCode.BROKER_UNREACHABLE)

    @property
    def wants_write(self) -> bool:
        return self._client.want_write()

    def open(self, will: Outgoing) -> None:
        super().open(will)
        self.socket = self._socket()

    def turn(self, events: int) -> None:
        """What `serve` does when its select has returned."""
        if events & selectors.EVENT_READ:
            self._client.loop_read()
            while not self.is_over and self._is_more_here():
                self._client.loop_read()
        if not self.is_over:
            self._write()

    def look_at_time(self, farewell: Farewell | None) -> None:
        """Keepalive, a CONNECT without an answer, a farewell; once a second or more often."""
        self._client.loop_misc()
        if not self.is_over:
            self._check_time(farewell)
        if not self.is_over:
            self._write()

    def cut(self) -> None:
        """As a cable that is pulled: the broker gets no word."""
        if self.socket is not None:
            with suppress(OSError):  # it is gone already
                self.socket.shutdown(socket.SHUT_RDWR)

    def _is_more_here(self) -> bool:
        return self._client.has_unread or (isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0)


class SharedLink:
    """What `PahoLink` does, without a thread of its own. All but the opening of a connection happens on the reactor's
    thread, and all calls belong there; `stop` comes back at once, and `is_over` tells when it is done.
    """

    def __init__(
        self,
        options: LinkOptions,
        sessions: Callable[[], int],
        will: Callable[[int], Outgoing],
        reactor: Reactor,
        openers: Executor,
    ) -> None:
        self._options = options
        self._sessions = sessions
        self._will = will
        self._reactor = reactor
        self._openers = openers
        self._owner: Owner | None = None
        self._outbox = Outbox(options.window)
        self._backoff = Backoff(options.reconnect_min_s, options.reconnect_max_s)
        self._connection: SharedConnection | None = None
        self._began_s = 0.0
        self._farewell: Farewell | None = None
        self.is_over = False

    def start(self, report: Callable[[LinkEvent], None], accept: Callable[[Incoming], None]) -> None:
        self._owner = Owner(told_once(report), accept, lambda _topic, _size: None)
        self._attempt()

    def publish(self, message: Outgoing, token: int) -> bool:
        """`flush` sends what was taken."""
        return self._outbox.take(message, token)

    def flush(self) -> None:
        if self._connection is not None:
            self._turn(0)

    def stop(self, goodbye: Outgoing | None, timeout_s: float) -> None:
        """Ends in `is_over`, after the goodbye is acknowledged or its time is over."""
        self._farewell = Farewell(goodbye, time.monotonic() + _GOODBYE_SHARE * timeout_s)
        if self._connection is None:
            self.is_over = True
        self.look_at_time()

    def look_at_time(self) -> None:
        """To be called about once a second."""
        connection = self._connection
        if connection is not None and self._guarded(connection.look_at_time, self._farewell):
            self._settle(connection)

    def cut(self) -> None:
        """Lose the connection; the link comes back by itself."""
        if self._connection is not None:
            self._connection.cut()

    def _attempt(self) -> None:
        if self._owner is None or self._farewell is not None:
            self.is_over = True
            return
        self._began_s = time.monotonic()
        number = self._sessions()
        connection = SharedConnection(self._options, number, self._owner, self._outbox, self._reactor.bell)
        will = self._will(number)
        self._openers.submit(self._open, connection, will)

    def _open(self, connection: SharedConnection, will: Outgoing) -> None:
        error = shielded(connection.open, will)
        self._reactor.call(lambda: self._opened(connection, error))

    def _opened(self, connection: SharedConnection, error: AgentError | None) -> None:
        if error is not None or connection.socket is None or self._farewell is not None:
            connection.close()
            self._failed(error)
            return
        self._connection = connection
        self._reactor.watch(connection.socket, self._turn)
        self._turn(0)

    def _turn(self, events: int) -> None:
        connection = self._connection
        if connection is None or not self._guarded(connection.turn, events):
            return
        if self._farewell is None or self._guarded(connection.look_at_time, self._farewell):
            self._settle(connection)

    def _guarded(self, step: Callable[..., None], argument: object) -> bool:
        """False where the connection had to be given up over what it met."""
        error = shielded(step, argument)
        if error is None:
            return True
        self._lost(error)
        return False

    def _settle(self, connection: SharedConnection) -> None:
        if connection.is_over:
            self._lost(None, connection.end)
        elif connection.socket is not None:
            self._reactor.wants_write(connection.socket, connection.wants_write)

    def _lost(self, error: AgentError | None, end: Disconnected | None = None) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.socket is not None:
            self._reactor.forget(connection.socket)
        connection.close()
        self._outbox.close()
        self._failed(error, end)

    def _failed(self, error: AgentError | None, end: Disconnected | None = None) -> None:
        """Told, and tried again after a pause that grows also where connections do not last."""
        if self._owner is not None and self._farewell is None:
            if isinstance(error, Crash):
                self._outbox.clear()
                self._owner.tell(Reset())
            if error is not None:
                end = Disconnected(error.text, error.code)
            if end is not None:
                self._owner.tell(end)
        if time.monotonic() - self._began_s >= self._options.reconnect_max_s:
            self._backoff = self._backoff.succeeded()
        self._backoff, delay_s = self._backoff.failed(random.random())  # noqa: S311  jitter, no secret
        if self._farewell is None:
            self._reactor.later(delay_s, self._attempt)
        else:
            self.is_over = True
