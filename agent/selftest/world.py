"""What lies around the board's NPU: cameras, broker, disk. Nothing here disturbs an agent that runs."""

import queue
import sqlite3
import tempfile
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from agent.adapters.spool_sqlite import SpoolLimits, SqliteSpool
from agent.build import camera_of
from agent.check import BROKER_WITHIN_S, probe_link
from agent.config import CameraSettings, Settings
from agent.core.outgoing import Kind, Outgoing
from agent.drive import percentiles
from agent.errors import Permanent
from agent.ports import Delivered, LinkEvent
from schemas.codes import FailureCode
from schemas.job import Percentiles
from schemas.selftest import CameraFacts, SpoolFacts
from schemas.topics import Topics

ROWS = 50
ROW_BYTES = 4096
ROUND_TRIPS = 20
_SPOOL_BYTES = 4_000_000


def is_agent_running(data_dir: Path) -> bool:
    """A running agent holds its spool under an exclusive lock. Changes nothing."""
    spool = data_dir / "spool.db"
    if not spool.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{spool.absolute().as_uri()}?mode=ro", uri=True, timeout=0)) as db:
            db.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    except sqlite3.DatabaseError:
        return False  # unreadable, which the agent mends when it starts
    return False


def camera(settings: CameraSettings, seconds: float, stop: threading.Event) -> CameraFacts:
    """Read as fast as it delivers. Errors: those of the camera."""
    adapter = camera_of(settings)
    try:
        adapter.open()
        picture = adapter.read()
        frames, began_s = 0, time.monotonic()
        while time.monotonic() - began_s < seconds and not stop.is_set():
            picture = adapter.read()
            frames += 1
        took_s = time.monotonic() - began_s
    finally:
        adapter.close()
    return CameraFacts(
        width_px=picture.width_px,
        height_px=picture.height_px,
        layout=picture.layout.value,
        frames=frames + 1,
        rate_hz=round(frames / took_s, 2) if took_s > 0 else 0.0,
    )


def broker(settings: Settings) -> tuple[float, Percentiles]:
    """Time to connect, in ms, and from a message at QoS 1 to its acknowledgement. Errors: Permanent with the reason."""
    topics = Topics(settings.station.site, settings.station.node)
    began_s = time.monotonic()
    with probe_link(settings, "selftest") as (link, events, _connected):
        connect_ms = (time.monotonic() - began_s) * 1e3
        trips_ms = []
        for token in range(ROUND_TRIPS):
            sent_s = time.monotonic()
            if not link.publish(Outgoing(topics.telemetry("selftest"), b"{}", expiry_s=1), token):
                raise Permanent(FailureCode.BROKER_UNREACHABLE, "the connection was lost")
            _await_delivery(events, token)
            trips_ms.append((time.monotonic() - sent_s) * 1e3)
    return round(connect_ms, 1), percentiles(trips_ms)


def spool(data_dir: Path, stop: threading.Event) -> SpoolFacts:
    """Durable rows in a file of its own on the disk of the agent's data. Errors: AgentError."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".selftest-", dir=data_dir) as folder:
            return _rows(Path(folder) / "spool.db", stop)
    except OSError as error:
        text = f"{data_dir} cannot be written: {error.strerror}; give the user the folder or set data_dir"
        raise Permanent(FailureCode.DISK_FULL, text) from error


def _rows(path: Path, stop: threading.Event) -> SpoolFacts:
    made = SqliteSpool(path, SpoolLimits(max_bytes=_SPOOL_BYTES), lambda: datetime.now(UTC))
    commits_ms: list[float] = []
    try:
        while len(commits_ms) < ROWS and not (commits_ms and stop.is_set()):
            began_s = time.monotonic()
            made.append(Kind.EVENT, Outgoing("selftest", bytes(ROW_BYTES)))
            commits_ms.append((time.monotonic() - began_s) * 1e3)
    finally:
        made.close()
    return SpoolFacts(rows=len(commits_ms), commit_ms=percentiles(commits_ms))


def _await_delivery(events: "queue.SimpleQueue[LinkEvent]", token: int) -> None:
    deadline_s = time.monotonic() + BROKER_WITHIN_S
    while True:
        try:
            event = events.get(timeout=max(0.0, deadline_s - time.monotonic()))
        except queue.Empty:
            raise Permanent(FailureCode.BROKER_UNREACHABLE, "a message was not acknowledged in time") from None
        if event == Delivered(token):
            return
        if not isinstance(event, Delivered):
            text = f"a message was not taken: {event!r}; see that the board may publish below its own node"
            raise Permanent(FailureCode.PUBLISH_REJECTED, text)
