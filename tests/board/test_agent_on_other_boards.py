"""The whole agent on boards that need a start of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.codes import FailureCode
from tests.board.agent_on_board import (
    WITHIN_S,
    CpuTwin,
    assert_no_gap,
    failed,
    inspecting,
    on_board,
    wait_completed,
)
from tests.board.emulated_npu import EmulatedNpu
from tests.scenario.update_kit import open_hall

pytestmark = pytest.mark.board

SLOW_MS = 1_200.0


def test_a_runtime_that_is_too_old_is_an_alarm_and_told_in_words(npu: EmulatedNpu, tmp_path: Path) -> None:
    npu.behave(runtime_version="1.6.0", newest_format=5)
    with open_hall(tmp_path, on_board(npu)) as hall, hall.station:
        name = f"alarm/{FailureCode.RUNTIME_TOO_OLD.value}"
        hall.mes.wait("the alarm", lambda: hall.mes.latest(name) is not None, WITHIN_S)
        alarm = hall.mes.latest(name)
        checked = subprocess.run(
            [sys.executable, "-m", "agent.cli", "check", "--json", "--config", str(hall.station.config)],
            capture_output=True, text=True, timeout=WITHIN_S, check=False, env=os.environ,
        )  # fmt: skip
        assert hall.mes.results() == {}
        assert hall.station.stop() == 0
    assert alarm is not None
    assert alarm["sources"][0]["source"] == "core-0"
    assert "Invalid RKNN model version 6" in alarm["sources"][0]["text"]
    assert checked.returncode == 1, checked.stderr
    wrong = {finding["what"]: finding["text"] for finding in json.loads(checked.stdout) if not finding["ok"]}
    assert set(wrong) == {"model"}
    assert "Invalid RKNN model version 6" in wrong["model"]
    assert "[runtime-too-old]" in wrong["model"]


def test_with_one_slow_core_of_two_nothing_is_lost(npu: EmulatedNpu, twin: CpuTwin, tmp_path: Path) -> None:
    with inspecting(tmp_path, on_board(npu, cores=(0, 1))) as hall:
        hall.mes.wait("both cores", lambda: len(hall.station.children()) == 2, WITHIN_S)
        before = len(hall.in_order())
        npu.behave(busy_ms=(0.0, SLOW_MS, 0.0))
        results = wait_completed(hall, before, 25)
    assert failed(results) == []
    twin.assert_agrees(results)
    assert_no_gap(hall)
