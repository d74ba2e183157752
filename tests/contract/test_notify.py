import logging
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from agent.adapters.notify_systemd import Notify

DEADLINE_S = 10


class Systemd:
    """A real datagram socket in place of systemd's."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.environ = {"NOTIFY_SOCKET": name}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(DEADLINE_S)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)

    def heard(self) -> str:
        return self._socket.recv(65536).decode()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    listener = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@rkfleet-test-{os.getpid()}")
    yield listener
    listener.close()


def test_each_call_is_one_datagram_in_systemds_words(systemd: Systemd) -> None:
    notify = Notify.from_env(systemd.environ)
    calls = [
        (notify.ready, "READY=1"),
        (notify.watchdog, "WATCHDOG=1"),
        (lambda: notify.status("2 cameras, 30 Hz"), "STATUS=2 cameras, 30 Hz"),
        (notify.stopping, "STOPPING=1"),
    ]
    for call, words in calls:
        assert call() is True
        assert systemd.heard() == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("fine\nSTOPPING=1\r\nREADY=1", "STATUS=fine STOPPING=1 READY=1", id="a line break adds no word"),
        pytest.param("x" * 100_000, "STATUS=" + "x" * 500, id="long text is cut"),
        pytest.param("camera \udcff", "STATUS=camera ?", id="what is no UTF-8 is replaced"),
        pytest.param("", "STATUS=", id="empty"),
        pytest.param("Prüfung läuft", "STATUS=Prüfung läuft", id="UTF-8"),
    ],
)
def test_any_status_is_one_line(systemd: Systemd, text: str, words: str) -> None:
    assert Notify.from_env(systemd.environ).status(text)
    assert systemd.heard() == words


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="outside systemd"),
        pytest.param({"NOTIFY_SOCKET": ""}, id="empty"),
        pytest.param({"NOTIFY_SOCKET": "relative/path"}, id="relative path"),
        pytest.param({"NOTIFY_SOCKET": "vsock:2:9999"}, id="another kind of socket"),
        pytest.param({"NOTIFY_SOCKET": "@"}, id="abstract without a name"),
        pytest.param({"NOTIFY_SOCKET": "/run/a\0b"}, id="zero byte"),
    ],
)
def test_without_a_usable_socket_nothing_is_told_and_nothing_watches(environ: Mapping[str, str]) -> None:
    notify = Notify.from_env({**environ, "WATCHDOG_USEC": "2000000"})
    assert not any((notify.ready(), notify.watchdog(), notify.status("fine"), notify.stopping()))
    assert notify.watchdog_interval_s is None


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        pytest.param({}, None, id="not watched"),
        pytest.param({"WATCHDOG_USEC": "30000000"}, 15.0, id="half of what is allowed"),
        pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0, id="watches us"),
        pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None, id="watches another process"),
        pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "x"}, None, id="watches nobody"),
        pytest.param({"WATCHDOG_USEC": "0"}, None, id="zero"),
        pytest.param({"WATCHDOG_USEC": "-5"}, None, id="negative"),
        pytest.param({"WATCHDOG_USEC": "soon"}, None, id="no number"),
        pytest.param({"WATCHDOG_USEC": "9" * 5000}, None, id="huge"),
        pytest.param({"WATCHDOG_USEC": str(2**64 - 1)}, None, id="infinite"),
    ],
)
def test_the_watchdogs_interval(environ: Mapping[str, str], interval_s: float | None) -> None:
    assert Notify.from_env({"NOTIFY_SOCKET": "/run/notify", **environ}).watchdog_interval_s == interval_s


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("/nowhere/at/all", id="no such socket"),
        pytest.param("/" + "x" * 500, id="longer than an address can be"),
        pytest.param("@" + "x" * 500, id="abstract, too long"),
        pytest.param("/tmp", id="a folder"),
    ],
)
def test_a_socket_that_fails_is_logged_once_and_stops_nothing(name: str, caplog: pytest.LogCaptureFixture) -> None:
    notify = Notify.from_env({"NOTIFY_SOCKET": name})
    with caplog.at_level(logging.WARNING):
        assert [notify.ready(), notify.watchdog(), notify.watchdog()] == [False, False, False]
    assert len(caplog.records) == 1


def test_a_systemd_that_does_not_read_does_not_hold_the_agent(tmp_path: Path) -> None:
    listener = Systemd(str(tmp_path / "notify"))
    notify = Notify.from_env(listener.environ)
    told = 0
    while notify.watchdog():  # the queue of a datagram socket is short: some ten or some hundred
        told += 1
        assert told < 100_000
    assert told > 0
    assert listener.heard() == "WATCHDOG=1"
    assert notify.watchdog(), "it is told again once there is room"
    listener.close()


def test_a_systemd_that_comes_back_is_told_again(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    notify = Notify.from_env({"NOTIFY_SOCKET": name})
    assert not notify.ready()
    listener = Systemd(name)
    assert notify.ready()
    assert listener.heard() == "READY=1"
    listener.close()
