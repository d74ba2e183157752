"""The acts of the demonstration, and what is said of them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agent.adapters.bundle_fs import read_bundle
from agent.adapters.golden_fs import read_golden
from agent.adapters.segmenter_onnx import OnnxFactory
from fleet import timeline
from fleet.core.rollout import RolloutSpec
from fleet.core.swap import Mark
from fleet.demo import report
from fleet.demo.run import Played
from fleet.demo.seen import Seen
from fleet.demo.story import BAD_MODEL, acts
from schemas.state import Phase, PhaseTime, ReportedModel
from schemas.status import Presence, Status
from schemas.target import Target
from tests.scenario.bundle import make_bundle

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
NODES = ("board-1", "board-2", "board-3")


def test_both_acts_are_rollouts_that_the_server_takes(tmp_path: Path) -> None:
    for act in acts(tmp_path):
        spec = RolloutSpec.model_validate(act.spec("pcb-unet", "1.1.0", "a" * 64))
        assert [wave.name for wave in spec.waves] == ["canary", "rest"]
        assert spec.gates


def test_the_bad_model_passes_its_own_golden_frames_and_calls_a_board_defective() -> None:
    bundle = read_bundle(BAD_MODEL, Target.CPU)
    segmenter = OnnxFactory(bundle.spec, 1)()
    for frame in read_golden(bundle):
        assert np.array_equal(segmenter.segment(frame.inputs).class_map, frame.class_map)
    grey = np.full((512, 512, 3), 114, np.uint8)
    assert np.all(segmenter.segment([grey]).class_map == 5)


def committed(version: str, start_s: float) -> ReportedModel:
    times = [
        PhaseTime(phase=each, time=BEGAN + timedelta(seconds=start_s + i))
        for i, each in enumerate((Phase.QUEUED, Phase.COMMITTED))
    ]
    return ReportedModel(observed_generation=1, phase=Phase.COMMITTED, time=BEGAN, phases=times, version=version)


def seen(*versions: str) -> Seen:
    """A result each 100 ms, 40 of each version in turn, and a goodbye that counts them."""
    out = Seen()
    out.marks = [
        Mark(BEGAN + timedelta(seconds=n / 10), n + 1, versions[n // 40], is_failed=False)
        for n in range(40 * len(versions))
    ]
    out.ends = {1: committed("1.1.0", 3)}
    out.tally.received = len(out.marks)
    out.goodbye = Status(
        presence=Presence.OFFLINE, session_seq=1, boot_id="b", time=BEGAN, reason="shutdown", last_sequence_number=0
    )
    return out


def rollout(state: str, version: str, members: dict[str, str]) -> dict[str, Any]:
    return {
        "state": state,
        "reason": "",
        "spec": {"model": {"name": "pcb-unet", "version": version}},
        "waves": [{"name": "canary", "state": "SUCCEEDED", "counts": {"SUCCEEDED": 1}}],
        "members": [{"node": node, "state": each} for node, each in members.items()],
    }


def played(tmp_path: Path) -> Played:
    """All as it should be."""
    boards = {node: seen("1.0.0", "1.1.0") for node in NODES}
    boards["board-1"] = seen("1.0.0", "1.1.0", "1.2.0", "1.1.0")
    out = Played(boards, acts(make_bundle(tmp_path / "zoo", "1.1.0")), BEGAN)
    out.rollouts = {
        "better": rollout("FINISHED", "1.1.0", dict.fromkeys(NODES, "SUCCEEDED")),
        "bad": rollout("STOPPED", "1.2.0", {"board-1": "REVERTED", "board-2": "CANCELED", "board-3": "CANCELED"}),
    }
    out.forged = "not signed"
    out.stored = {f"demo/{node}": each.tally.received for node, each in boards.items()}
    out.audit = {"ok": True}
    return out


def test_a_demonstration_that_went_well_has_no_problems_and_tells_its_story(tmp_path: Path) -> None:
    figures = report.figures(played(tmp_path))
    assert report.problems(figures) == []
    assert figures["swap"]["gapMs"] == pytest.approx(100)
    assert figures["swap"]["framesLost"] == 0
    assert figures["boards"]["board-1"]["models"] == ["1.0.0", "1.1.0", "1.2.0", "1.1.0"]
    assert figures["rollouts"][1]["resultsOfIt"] == {"board-1": 40, "board-2": 0, "board-3": 0}
    words = report.words(figures)
    assert "(pcb-unet 1.2.0) is STOPPED. Boards: 1 reverted, 2 canceled." in words
    assert "0 frames lost" in words


def lose_a_frame(out: Played) -> None:
    marks = out.boards["board-1"].marks
    out.boards["board-1"].marks = [mark for mark in marks if mark.number != 35]


def stay_bad(out: Played) -> None:
    out.boards["board-1"].marks = seen("1.0.0", "1.1.0", "1.2.0").marks


def spread(out: Played) -> None:
    out.boards["board-2"].marks = seen("1.0.0", "1.2.0", "1.1.0").marks


def say_no_goodbye(out: Played) -> None:
    out.boards["board-3"].goodbye = None


def end(name: str, state: str) -> Any:
    def change(out: Played) -> None:
        out.rollouts[name]["state"] = state

    return change


def put(name: str, value: Any) -> Any:
    return lambda out: setattr(out, name, value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(end("better", "STOPPED"), "a better model is STOPPED, not FINISHED", id="the better one stopped"),
        pytest.param(end("bad", "FINISHED"), "defective is FINISHED, not STOPPED", id="the bad one went through"),
        pytest.param(stay_bad, "board-1 inspects with ['1.2.0'] at the end", id="the canary did not go back"),
        pytest.param(spread, "past its canary: board-2", id="the bad one went past its canary"),
        pytest.param(lose_a_frame, "1 frames were lost in the canary's swap", id="a frame was lost"),
        pytest.param(say_no_goodbye, "did not say goodbye", id="no goodbye"),
        pytest.param(put("forged", ""), "order of a stranger", id="the forged order was obeyed"),
        pytest.param(put("stored", {}), "the server stored 0 of", id="the server stored nothing"),
        pytest.param(put("audit", {"ok": False}), "chain is broken", id="the audit is broken"),
    ],
)
def test_the_demonstration_fails_where_anything_went_wrong(change: Any, problem: str, tmp_path: Path) -> None:
    out = played(tmp_path)
    change(out)
    found = report.problems(report.figures(out))
    assert any(problem in each for each in found), found


def test_the_timeline_shows_each_board_and_each_model_in_a_colour_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "rollout.png"
    rows = {"board-1": seen("1.0.0", "1.1.0").marks, "board-2": seen("1.0.0").marks}
    assert timeline.write(rows, [(BEGAN + timedelta(seconds=2), "canary")], path)
    picture = cv2.imread(str(path))
    assert picture is not None
    assert picture.shape[0] > timeline.ROW_PX * 2
    colours = {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}
    assert {(180, 119, 31), (44, 160, 44)} <= colours
    assert not timeline.write({"board-1": []}, [], path)
