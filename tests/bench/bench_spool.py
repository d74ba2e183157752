"""Rows a second of the spool against plain SQLite, and of the uplink against plain paho, each pair in one run."""

import json
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from agent.adapters.spool_sqlite import SpoolLimits, SqliteSpool
from agent.core.outgoing import Incoming, Kind, Outgoing, Place
from agent.loops.uplink import Uplink, UplinkHooks, UplinkSettings
from agent.ports import Connected, Delivered, Link, LinkEvent

PAYLOAD = b"x" * 1024
BOOT = "6ab1f3c2-6d3e-4c1b-9f0a-3f6f2a1f7f10"
TOPIC = "rkfleet/v1/site/node/result/camera"
WINDOW = 20  # as the agent's settings have it
TIMEOUT_S = 120.0


def utc() -> datetime:
    return datetime.now(UTC)


class InstantLink:
    """Every message is delivered at once."""

    def __init__(self) -> None:
        self.report: Callable[[LinkEvent], None] = lambda _: None

    def start(self, report: Callable[[LinkEvent], None], accept: Callable[[Incoming], None]) -> None:
        self.report = report
        report(Connected(session_present=False, receive_maximum=65_535, session_seq=1))

    def publish(self, message: Outgoing, token: int) -> bool:
        self.report(Delivered(token))
        return True

    def stop(self, goodbye: Outgoing | None, timeout_s: float) -> None:
        """Nothing to end."""


@contextmanager
def filled(rows: int) -> Iterator[SqliteSpool]:
    """A spool with results that wait."""
    with tempfile.TemporaryDirectory() as folder:
        spool = SqliteSpool(Path(folder) / "spool.db", SpoolLimits(max_bytes=4 * 2**30), utc)
        for number in range(rows):
            spool.append(Kind.RESULT, Outgoing(TOPIC, PAYLOAD), Place(BOOT, number + 1))
        yield spool
        spool.close()


def append_rows_s(folder: Path, rows: int) -> float:
    spool = SqliteSpool(folder / "spool.db", SpoolLimits(), utc)
    began_s = time.perf_counter()
    for number in range(rows):
        spool.append(Kind.RESULT, Outgoing(TOPIC, PAYLOAD), Place(BOOT, number + 1))
    took_s = time.perf_counter() - began_s
    spool.close()
    return rows / took_s


def plain_rows_s(folder: Path, rows: int) -> float:
    """The same durability and the least that can be stored: topic and payload, no index, no bounds."""
    db = sqlite3.connect(folder / "plain.db", isolation_level=None)
    for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
        db.execute(f"PRAGMA {pragma}").fetchall()
    db.execute("CREATE TABLE message (row INTEGER PRIMARY KEY, topic TEXT, payload BLOB)")
    began_s = time.perf_counter()
    for _ in range(rows):
        db.execute("INSERT INTO message (topic, payload) VALUES (?, ?)", (TOPIC, PAYLOAD))
    took_s = time.perf_counter() - began_s
    db.close()
    return rows / took_s


def drain_rows_s(spool: SqliteSpool, link: Link) -> float:
    """From the start of the uplink until the spool holds nothing unsent."""
    waiting = spool.depth().pending
    hooks = UplinkHooks(lambda _: None, lambda _topic, _event: None, lambda _error: None)
    uplink = Uplink(link, spool, UplinkSettings(window=WINDOW), hooks, clock=utc)
    connected, stop = threading.Event(), threading.Event()

    def report(event: LinkEvent) -> None:
        uplink.report(event)
        if isinstance(event, Connected):
            connected.set()

    loop = threading.Thread(target=uplink.run, args=(stop,))
    link.start(report, lambda _: None)
    if not connected.wait(TIMEOUT_S):
        raise TimeoutError("the link does not connect")
    began_s = time.perf_counter()
    loop.start()
    while (uplink.published < waiting or spool.depth().pending) and time.perf_counter() - began_s < TIMEOUT_S:
        time.sleep(0.005)
    took_s = time.perf_counter() - began_s
    left = spool.depth().pending
    stop.set()
    loop.join()
    link.stop(None, 5.0)
    if left:
        raise TimeoutError(f"{left} of {waiting} rows were not sent")
    return waiting / took_s


def paho_messages_s(port: int, messages: int, *, hold: bool) -> float:
    """QoS 1 straight from memory with the same window, until the last PUBACK.

    hold: a message is handed over when the window has room, as whoever wants to lose none must do; else all of them
    are put into paho's own queue, which nobody could restore after a crash.
    """
    slots = threading.Semaphore(WINDOW if hold else messages)
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="bench-plain", protocol=paho.MQTTv5)
    client.max_inflight_messages_set(WINDOW)
    connected, done = threading.Event(), threading.Event()
    acknowledged = 0

    def on_publish(*_: object) -> None:
        nonlocal acknowledged
        acknowledged += 1
        slots.release()
        if acknowledged == messages:
            done.set()

    client.on_connect = lambda *_: connected.set()
    client.on_publish = on_publish
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        if not connected.wait(TIMEOUT_S):
            raise TimeoutError("plain paho does not connect")
        began_s = time.perf_counter()
        for _ in range(messages):
            slots.acquire()
            client.publish(TOPIC, PAYLOAD, qos=1)
        if not done.wait(TIMEOUT_S):
            raise TimeoutError(f"{messages - acknowledged} messages were not acknowledged")
        return messages / (time.perf_counter() - began_s)
    finally:
        client.disconnect()
        client.loop_stop()


def drain_over_broker(port: int, make_link: Callable[[], Link], rows: int = 5000, repeats: int = 5) -> dict[str, float]:
    """Spool, uplink and a link of `make_link` against plain paho, in turns, on the broker at 127.0.0.1:`port`.

    The link's window is to be WINDOW too.
    """
    drained, held, queued = [], [], []
    for _ in range(repeats):
        held.append(paho_messages_s(port, rows, hold=True))
        queued.append(paho_messages_s(port, rows, hold=False))
        with filled(rows) as spool:
            drained.append(drain_rows_s(spool, make_link()))
    return {
        "drainRowsPerS": statistics.median(drained),
        "pahoWindowedPerS": statistics.median(held),
        "pahoQueuedPerS": statistics.median(queued),
        "drainToPahoWindowed": statistics.median(mine / other for mine, other in zip(drained, held, strict=True)),
        "drainToPahoQueued": statistics.median(mine / other for mine, other in zip(drained, queued, strict=True)),
    }


def run(rows: int = 2000, repeats: int = 5) -> dict[str, float]:
    """Medians; the ratio is taken pair by pair, since a disk is not the same from one second to the next."""
    appended, plain = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            plain.append(plain_rows_s(Path(folder), rows))
            appended.append(append_rows_s(Path(folder), rows))
    with filled(10 * rows) as spool:
        drain = drain_rows_s(spool, InstantLink())
    return {
        "appendRowsPerS": statistics.median(appended),
        "plainInsertRowsPerS": statistics.median(plain),
        "appendRatio": statistics.median(mine / other for mine, other in zip(appended, plain, strict=True)),
        "drainInstantLinkRowsPerS": drain,
    }


def main() -> None:
    print(json.dumps({name: round(value, 3) for name, value in run().items()}, indent=2))


if __name__ == "__main__":
    main()
