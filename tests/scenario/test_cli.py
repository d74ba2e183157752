"""The agent's commands as a person or a script uses them."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config import load
from tests.contract.brokers import Iotcore, free_port
from tests.scenario.station import Mes, Station


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environ}
    )


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Iotcore]:
    with Iotcore(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def station(tmp_path: Path) -> Station:
    (tmp_path / "station").mkdir()
    return Station(tmp_path / "station", free_port())


def findings(station: Station, **environ: str) -> tuple[int, dict[str, tuple[bool, str]]]:
    done = run("check", "--config", str(station.config), "--json", **environ)
    return done.returncode, {row["what"]: (row["ok"], row["text"]) for row in json.loads(done.stdout)}


def test_check_finds_nothing_wrong_where_nothing_is(station: Station, broker: Iotcore) -> None:
    code, found = findings(station, RKFLEET_BROKER__PORT=str(broker.port))
    assert code == 0
    assert set(found) == {"storage", "model", "camera top", "broker"}
    assert all(ok for ok, _ in found.values())
    assert "probe 1.0.0 for cpu" in found["model"][1]


@pytest.mark.parametrize(
    ("spoil", "what", "said"),
    [
        ("pictures", "camera top", "camera-absent"),
        ("bundle/cpu.onnx", "model", "model-missing"),
        ("nothing", "broker", "broker-unreachable"),
    ],
)
def test_check_says_in_words_what_is_wrong(station: Station, spoil: str, what: str, said: str) -> None:
    if (station.folder / spoil).exists():
        (station.folder / spoil).rename(station.folder / "away")
    code, found = findings(station)
    assert code == 1
    ok, text = found[what]
    assert not ok
    assert said in text


def test_check_names_a_rule_for_a_class_that_the_model_has_not(station: Station) -> None:
    station.config.write_text(
        station.config.read_text().replace('id = "top"', 'id = "top"\nrecipe = "odd"')
        + "\n[recipe.odd.rules.per_class.shrot]\nignore = true\n"
    )
    _, found = findings(station)
    assert "shrot" in found["model"][1]


def test_a_wrong_setting_ends_with_2_and_a_sentence(station: Station) -> None:
    station.config.write_text(station.config.read_text().replace("rate_hz", "rate_herz"))
    done = run("run", "--config", str(station.config))
    assert done.returncode == 2
    assert "rate_herz" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["check", "--help"], ["version"]])
def test_help_and_version_answer(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 0
    assert done.stdout


def test_systemd_is_told_that_the_agent_is_ready_alive_and_stopping(
    station: Station, broker: Iotcore, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(30)
        station.environ = {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "2000000",
            "RKFLEET_BROKER__PORT": str(broker.port),
        }
        with station:
            said = [notify.recv(4096)]
            while b"WATCHDOG=1" not in said:
                said.append(notify.recv(4096))
            assert station.process is not None
            station.process.send_signal(signal.SIGTERM)
            while b"STOPPING=1" not in said:
                said.append(notify.recv(4096))
            assert station.process.wait(10) == 0
    assert said[0] == b"READY=1"


def test_the_example_settings_are_what_the_agent_takes() -> None:
    example = Path(__file__).parents[2] / "deploy" / "agent.example.toml"
    assert load(example, {}).recipe["strict"].external_recipe_id == "PCB-4711"


def test_a_schedule_takes_one_picture_for_each_tick(station: Station, broker: Iotcore) -> None:
    text = station.config.read_text()
    station.config.write_text(
        text[: text.index("[camera.trigger]")] + '[camera.trigger]\nkind = "interval"\nevery_s = 0.5\n'
    )
    station.environ = {"RKFLEET_BROKER__PORT": str(broker.port)}
    with Mes(broker.host, broker.port) as mes, station:
        mes.wait("four results", lambda: len(mes.results()) >= 4)
        station.stop()
        mes.wait("the goodbye", lambda: any(status.reason == "shutdown" for status in mes.statuses()))
    times = sorted(result.image.capture_time for result in mes.results().values())
    mean_s = (times[-1] - times[0]).total_seconds() / (len(times) - 1)
    assert mean_s > 0.25, "one picture a tick, not the camera's 50 a second"
