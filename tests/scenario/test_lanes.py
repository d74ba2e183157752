"""A whole agent with several cores and cameras: results in order, and a core that breaks and is well again."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.codes import FailureCode
from schemas.result import Result
from tests.contract.brokers import Iotcore
from tests.scenario.station import DEADLINE_S, Mes, Station

CAMERAS = ("top", "side")
_SECOND = """
[[camera]]
id = "side"
kind = "folder"
source = "pictures"
source_rate_hz = 50.0
priority = 5

[camera.trigger]
kind = "continuous"
rate_hz = 50.0
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Iotcore]:
    with Iotcore(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def station(tmp_path: Path, broker: Iotcore) -> Station:
    folder = tmp_path / "station"
    folder.mkdir()
    station = Station(folder, broker.port)
    text = station.config.read_text().replace('target = "cpu"', 'target = "cpu"\ncores = [0, 1]')
    station.config.write_text(text + _SECOND)
    return station


@pytest.fixture
def mes(broker: Iotcore) -> Iterator[Mes]:
    with Mes(broker.host, broker.port) as reader:
        yield reader


def in_order(mes: Mes, camera: str) -> list[Result]:
    results = [result for result in mes.results().values() if result.station.camera == camera]
    return sorted(results, key=lambda result: result.sequence_number)


def cores(mes: Mes) -> dict[str, Any]:
    latest = mes.latest("telemetry/inspection") or {}
    found: dict[str, Any] = latest.get("cores", {})
    return found


def assert_in_order_of_capture(mes: Mes) -> None:
    for camera in CAMERAS:
        frames = [result.image.frame_id for result in in_order(mes, camera)]
        assert frames == sorted(frames)
        assert frames


def kill_until(station: Station, mes: Mes, spared: int, code: FailureCode) -> None:
    """Every child but one, as soon as it lives, until the alarm is on."""
    deadline_s = time.monotonic() + DEADLINE_S
    while mes.latest(f"alarm/{code.value}") is None:
        assert time.monotonic() < deadline_s
        for pid in station.children():
            if pid != spared:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def test_two_cores_inspect_two_cameras_in_order(station: Station, mes: Mes) -> None:
    with station:
        mes.wait("both cores at work", lambda: [core["inspected"] > 5 for core in cores(mes).values()] == [True, True])
        told = cores(mes)
        assert station.stop() == 0
    assert {name: (core["state"], core["faults"]) for name, core in told.items()} == {
        "core-0": ("working", 0),
        "core-1": ("working", 0),
    }
    assert all(core["p50Ms"] > 0 for core in told.values())
    assert_in_order_of_capture(mes)


def test_a_core_that_breaks_is_out_with_an_alarm_until_it_is_well(station: Station, mes: Mes) -> None:
    code = FailureCode.NPU_CORE_OUT
    with station:
        mes.wait("both cores at work", lambda: [core["inspected"] > 5 for core in cores(mes).values()] == [True, True])
        spared, _other = station.children()
        kill_until(station, mes, spared, code)
        alarm = mes.latest(f"alarm/{code.value}")
        assert alarm is not None
        (source,) = alarm["sources"]
        broken = source["source"]
        mes.wait("it is well again", lambda: mes.latest(f"alarm/{code.value}") is None)
        inspected = cores(mes)[broken]["inspected"]
        mes.wait("it inspects again", lambda: cores(mes)[broken]["inspected"] > inspected)
        assert spared in station.children()
        told = cores(mes)
        assert station.stop() == 0
    assert told[broken]["state"] == "working"
    assert told[broken]["faults"] >= 3
    assert told[broken]["restarts"] >= 1
    kinds = [json.loads(message.payload)["kind"] for message in mes.of(f"event/{code.value}")]
    assert kinds[:2] == ["raised", "cleared"]
    assert_in_order_of_capture(mes)
