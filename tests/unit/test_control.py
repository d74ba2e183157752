"""What control does with the items of its queue, on a whole agent whose threads the test lets run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agent.core.watch import Phase as CameraPhase
from agent.core.watch import Raise
from agent.loops.capture import CameraReport
from agent.loops.control import CameraGone, Inspected
from agent.loops.runner import Crash
from schemas.alarm import Event
from schemas.codes import FailureCode
from schemas.state import DesiredConfig, Phase
from schemas.status import Info
from tests.scenario.hostile import Message
from tests.scenario.inert_agent import Inert, board, running
from tests.scenario.station import TOPICS

TOP = {"id": "top", "kind": "folder", "source": "pictures", "trigger": {"kind": "continuous", "rate_hz": 50.0}}
LOST = Raise(FailureCode.CAMERA_LOST, "no picture")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Inert]:
    with running(board(tmp_path)) as started:
        yield started


def put(agent: Inert, *items: Any) -> list[BaseModel]:
    for item in items:
        agent.app._control.put(item)
    agent.drain()
    return agent.said()


def want(agent: Inert, **config: Any) -> Phase:
    message = DesiredConfig(generation=agent.app._configurator.state.generation + 1, config=config)
    agent.feed(Message(TOPICS.desired("config"), message.to_json()))
    return agent.app._configurator.state.phase


def alarms(agent: Inert) -> set[tuple[FailureCode, str]]:
    return {(alarm.code, source.source) for alarm in agent.app._ground.desk.active() for source in alarm.sources}


def report(agent: Inert, camera: str, phase: CameraPhase, *raised: Raise) -> CameraReport:
    return CameraReport(camera, agent.app._control._parts.now(), phase, raised, (), "")


def test_a_camera_that_is_gone_takes_its_alarms_and_counters_with_it(agent: Inert) -> None:
    state = agent.app._control.state
    put(agent, *(report(agent, name, CameraPhase.STREAMING) for name in ("top", "side")))
    put(agent, *(report(agent, name, CameraPhase.CONNECTING, LOST) for name in ("top", "side")))
    assert (state.reconnects, set(state.cameras)) == ({"top": 1, "side": 1}, {"top", "side"})
    said = put(agent, CameraGone("side"))
    assert alarms(agent) == {(FailureCode.CAMERA_LOST, "top")}
    assert (state.reconnects, set(state.cameras)) == ({"top": 1}, {"top"})
    assert any(isinstance(each, Info) for each in said), "the cameras of `info` are others now"


def test_a_camera_that_nobody_knows_may_go(agent: Inert) -> None:
    before = alarms(agent)
    put(agent, CameraGone("never-there"))
    assert alarms(agent) == before


def test_a_result_speaks_for_its_camera_if_its_picture_came_after_the_change(agent: Inert) -> None:
    before_s = agent.app._control._parts.monotonic()
    assert want(agent, camera=[TOP, TOP | {"id": "side", "trigger": {"kind": "cron", "expression": "0 0 1 1 *"}}]) is (
        Phase.PROBATION
    )
    probation = agent.app._configurator._probation
    assert probation is not None
    probation._owing = {"top", "side"}
    put(agent, Inspected("side", before_s))
    assert "side" in probation.owing
    put(agent, Inspected("side", agent.app._control._parts.monotonic()))
    assert "side" not in probation.owing


def test_a_result_without_a_probation_changes_nothing(agent: Inert) -> None:
    state = agent.app._configurator.state
    put(agent, Inspected("top", 0.0))
    assert agent.app._configurator.state == state


@pytest.mark.parametrize("loop", ["lane core-0", "capture top", "control"])
def test_a_loop_that_crashed_is_an_event_with_a_name_that_fits_the_wire(loop: str, agent: Inert) -> None:
    events = [each for each in put(agent, Crash(loop, "ValueError: odd", 1)) if isinstance(each, Event)]
    assert [(each.code, each.source, each.text) for each in events] == [
        (FailureCode.INTERNAL, loop.replace(" ", "."), "ValueError: odd")
    ]


@pytest.mark.parametrize(
    ("loop", "phase"),
    [
        ("lane core-0", Phase.ROLLED_BACK),
        ("capture top", Phase.ROLLED_BACK),
        ("workshop", Phase.PROBATION),
    ],
)
def test_a_configuration_under_which_a_lane_or_a_camera_crashes_is_taken_back(
    loop: str, phase: Phase, agent: Inert
) -> None:
    own = agent.app._configurator.settings
    assert want(agent, camera=[TOP | {"pixel_size_mm": 2.0}]) is Phase.PROBATION
    put(agent, Crash(loop, "ValueError: odd", 1))
    state = agent.app._configurator.state
    assert state.phase is phase
    if phase is Phase.ROLLED_BACK:
        assert agent.app._configurator.settings == own
        assert state.last_error is not None
        assert f"{loop}: ValueError: odd" in state.last_error.text
