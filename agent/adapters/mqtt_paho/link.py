"""The `Link` port: a thread that connects, serves the connection, waits and connects again."""

import logging
import random
import threading
import time
from collections.abc import Callable

from agent.adapters.mqtt_paho.bell import Bell
from agent.adapters.mqtt_paho.connection import Connection
from agent.adapters.mqtt_paho.options import LinkOptions
from agent.adapters.mqtt_paho.outbox import Outbox
from agent.adapters.mqtt_paho.owner import Crash, Farewell, Owner, shielded, told_once
from agent.core.backoff import Backoff
from agent.core.outgoing import Incoming, Outgoing
from agent.errors import AgentError
from agent.ports import Disconnected, LinkEvent, Reset

_LOG = logging.getLogger(__name__)
_GOODBYE_SHARE = 0.7  # of the stop's time; the rest is for DISCONNECT and the end of the thread


class PahoLink:
    """One MQTT 5 session under one client id.

    `sessions` gives the number for the next attempt, `will` the message for it; `oversized` gets topic and size of an
    incoming message above `max_payload_bytes`. All three run on the link's thread, like `report` and `accept`, and must
    be quick: for as long as one runs, no keepalive is sent. An exception in any of them is logged and survived.

    A message that `publish` has taken is sent again on the next connection, as a new one, until its outcome is known
    or Reset is reported. QoS 0 is Delivered when written to the socket. A Disconnected is reported when the state or
    its reason changes, not for each attempt.
    Source: paho-mqtt 2.x; MQTT 5.0, OASIS.
    """

    def __init__(
        self,
        options: LinkOptions,
        sessions: Callable[[], int],
        will: Callable[[int], Outgoing],
        oversized: Callable[[str, int], None],
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._options = options
        self._sessions = sessions
        self._will = will
        self._oversized = oversized
        self._uniform = uniform
        self._outbox = Outbox(options.window)
        self._backoff = Backoff(options.reconnect_min_s, options.reconnect_max_s)
        self._farewell: Farewell | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._left_quietly = False
        self._bell = Bell()

    def start(self, report: Callable[[LinkEvent], None], accept: Callable[[Incoming], None]) -> None:
        """Comes back at once, whether or not the broker is there."""
        if self._thread is not None:
            raise RuntimeError("a link is started once")
        owner = Owner(told_once(report), accept, self._oversized)
        self._thread = threading.Thread(
            target=self._run, args=(owner,), name=f"mqtt-{self._options.client_id}", daemon=True
        )
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the link's thread runs. It ends at `stop` and never before."""
        return self._thread is not None and self._thread.is_alive()

    def publish(self, message: Outgoing, token: int) -> bool:
        if message.qos not in {0, 1}:
            raise ValueError(f"QoS {message.qos}: the outcome of QoS 2 is not followed")
        if not self._outbox.take(message, token):
            return False
        self._bell.ring()
        return True

    def stop(self, goodbye: Outgoing | None, timeout_s: float) -> None:
        """With a goodbye, what was taken is sent, then the goodbye, and its acknowledgement awaited; if none comes
        the broker is asked to send the will. Without one the connection ends at once, and no will is sent.

        Comes back within `timeout_s` in any case. A thread that is caught in name resolution or in a TCP or TLS
        handshake ends at the connect timeout, and it does not keep the process.
        """
        now_s = time.monotonic()
        self._farewell = Farewell(goodbye, now_s + _GOODBYE_SHARE * timeout_s)
        self._stopping.set()
        self._bell.ring()
        if self._thread is None:
            self._bell.close()
        else:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                _LOG.warning("the MQTT link did not end within %g s", timeout_s)

    def _run(self, owner: Owner) -> None:
        with self._bell:
            while not self._stopping.is_set():
                began_s = time.monotonic()
                error = shielded(self._attempt, owner)
                if error is not None:
                    self._failed(owner, error)
                # A connection that did not last counts as a failure: two clients with one id would else fight for it
                # as fast as they can.
                if time.monotonic() - began_s >= self._options.reconnect_max_s:
                    self._backoff = self._backoff.succeeded()
                self._backoff, delay_s = self._backoff.failed(self._uniform())
                self._stopping.wait(delay_s)
            if self._left_quietly and self._farewell is not None and self._farewell.goodbye is not None:
                # No will was sent, so the retained status says that we are online: go back to say goodbye.
                shielded(self._attempt, owner)

    def _failed(self, owner: Owner, error: AgentError) -> None:
        if isinstance(error, Crash):
            # One of the messages may be what made it crash: their owner has them still, and judges.
            self._outbox.clear()
            owner.tell(Reset())
        owner.tell(Disconnected(error.text, error.code))

    def _attempt(self, owner: Owner) -> None:
        session_seq = self._sessions()
        connection = Connection(self._options, session_seq, owner, self._outbox, self._bell)
        try:
            connection.open(self._will(session_seq))
            end = connection.serve(lambda: self._farewell)
        finally:
            connection.close()
            self._outbox.close()
        if connection.left_quietly is not None:
            self._left_quietly = connection.left_quietly
        if not self._stopping.is_set():
            _LOG.warning("MQTT: %s", end.reason)
            owner.tell(end)
