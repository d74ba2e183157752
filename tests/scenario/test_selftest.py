"""`rkfleet-agent selftest` on the CPU's variant of a model, as a person runs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from schemas.asyncapi import json_schemas
from tests.contract.brokers import Iotcore, free_port
from tests.scenario.station import Mes, Station

SECRET = "s3cret-pass"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Iotcore]:
    with Iotcore(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def station(tmp_path: Path) -> Station:
    (tmp_path / "station").mkdir()
    return Station(tmp_path / "station", free_port())


def command(station: Station, *arguments: str) -> list[str]:
    file = str(station.folder / "report.json")
    return [sys.executable, "-m", "agent.cli", "selftest", "--config", str(station.config), "--json", file, *arguments]


def run(station: Station, *arguments: str, **environ: str) -> tuple[int, str, dict[str, Any]]:
    done = subprocess.run(
        command(station, *arguments),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environ},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, report_of(station)


def report_of(station: Station) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((station.folder / "report.json").read_text())
    jsonschema.validate(report, json_schemas()["selftest"])
    return report


def failed(report: dict[str, Any]) -> dict[str, str]:
    return {each["what"]: each["text"] for each in report["findings"] if each["outcome"] == "failed"}


def test_all_is_measured_where_all_is_well(station: Station, broker: Iotcore) -> None:
    code, text, report = run(station, "--seconds", "2", RKFLEET_BROKER__PORT=str(broker.port))
    assert (code, report["ok"], failed(report)) == (0, True, {})
    assert report["model"]["name"] == "probe"
    core = report["cores"]["core-0"]
    assert core["leastAgreement"] == 1.0
    assert core["calls"] > 0
    assert report["together"]["calls"] > core["calls"]
    assert {"p50", "p95", "max"} == set(report["brokerRoundTripMs"]) == set(report["spool"]["commitMs"])
    assert report["cameras"]["top"]["widthPx"] == 64
    assert report["samples"][-1]["childrenMemoryBytes"] > 0
    assert not report["isEndedEarly"]
    assert "golden frames" in text
    assert sorted(path.name for path in (station.folder / "data").iterdir()) == [], "nothing is left behind"


def lose_model(station: Station) -> None:
    path = station.folder / "bundle" / "cpu.onnx"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def lose_camera(station: Station) -> None:
    shutil.rmtree(station.folder / "pictures")


def lose_golden(station: Station) -> None:
    (station.folder / "bundle" / "golden.png").unlink()


@pytest.mark.parametrize(
    ("spoil", "what", "said"),
    [
        (lose_model, "model", "model-digest-mismatch"),
        (lose_golden, "model", "model-missing"),
        (lose_camera, "camera.top", "camera-absent"),
    ],
)
def test_what_is_broken_has_a_line_and_the_rest_is_measured(
    station: Station, broker: Iotcore, spoil: Any, what: str, said: str
) -> None:
    spoil(station)
    code, text, report = run(station, "--seconds", "0.5", RKFLEET_BROKER__PORT=str(broker.port))
    assert code == 1
    assert set(failed(report)) == {what}
    assert said in failed(report)[what]
    assert f"FAILED  {what}" in text
    assert "brokerConnectMs" in report


def test_a_dead_broker_has_a_line_and_no_secret_is_told(station: Station) -> None:
    lines = station.config.read_text().replace("[broker]\n", f'[broker]\nusername = "board"\npassword = "{SECRET}"\n')
    url = f"rtsp://admin:{SECRET}@127.0.0.1:9/live"
    station.config.write_text(
        lines + f'\n[[camera]]\nid = "side"\nkind = "rtsp"\nsource = "{url}"\nopen_timeout_s = 1.0\n'
    )
    code, text, report = run(station, "--seconds", "0.5", "--quiet")
    assert code == 1
    assert set(failed(report)) == {"broker", "camera.side"}
    assert "broker-unreachable" in failed(report)["broker"]
    assert text.count("\n") == 2
    assert SECRET not in text + json.dumps(report)


def test_a_signal_ends_it_early_with_a_report(station: Station, broker: Iotcore) -> None:
    environ = {**os.environ, "RKFLEET_BROKER__PORT": str(broker.port)}
    with subprocess.Popen(command(station, "--minutes", "30"), stdout=subprocess.PIPE, env=environ) as process:
        segmenters = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        deadline_s = time.monotonic() + 30
        while not segmenters.read_text().strip():
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert b"ended early" in output
    report = report_of(station)
    assert report["isEndedEarly"]
    assert report["seconds"] < 60


def test_a_running_agent_is_left_alone(station: Station, broker: Iotcore) -> None:
    station.environ = {"RKFLEET_BROKER__PORT": str(broker.port)}
    with Mes(broker.host, broker.port) as mes, station:
        mes.wait("a result", lambda: bool(mes.results()))
        code, _, report = run(station, "--seconds", "0.5", **station.environ)
        before = len(mes.results())
        mes.wait("more results", lambda: len(mes.results()) > before)
        assert len({result.boot_id for result in mes.results().values()}) == 1
        assert [status.reason for status in mes.statuses()] == ["birth"]
    assert code == 0
    assert report["isAgentRunning"]
    assert {each["what"]: each["outcome"] for each in report["findings"]}["throughput"] == "look"


@pytest.mark.parametrize("length", ["0", "-1", "nan", "soon", "1e9"])
def test_a_length_that_cannot_be_is_refused(station: Station, length: str) -> None:
    done = subprocess.run(
        command(station, "--seconds", length), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "--seconds" in done.stderr
