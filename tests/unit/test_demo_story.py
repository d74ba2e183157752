"""The acts of the demonstration, and what is said of them."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.adapters.bundle_fs import read_bundle
from agent.adapters.golden_fs import read_golden
from agent.adapters.segmenter_onnx import OnnxFactory
from agent.errors import Permanent
from fleet import report, timeline
from fleet.core.swap import Mark
from fleet.demo.seen import Seen
from fleet.demo.story import BAD_MODEL, acts
from schemas.codes import FailureCode
from schemas.command import Failure
from schemas.state import Phase, PhaseTime, ReportedModel
from schemas.target import Target
from tests.scenario.bundle import make_bundle

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_corrupted_bundle_is_one_that_only_its_digest_gives_away(tmp_path: Path) -> None:
    story = acts(make_bundle(tmp_path / "zoo"), tmp_path / "served", "http://host")
    good, corrupted = (tmp_path / "served" / name for name in ("better", "corrupted"))
    assert read_bundle(good, Target.CPU).manifest.version == "1.0.0"
    with pytest.raises(Permanent) as caught:
        read_bundle(corrupted, Target.CPU)
    assert caught.value.code is FailureCode.MODEL_DIGEST_MISMATCH
    for act, name in zip(story, ("better", "corrupted", "bad"), strict=True):
        raw = (tmp_path / "served" / name / "manifest.json").read_bytes()
        assert act.desired.manifest_sha256 == hashlib.sha256(raw).hexdigest()
        assert act.desired.version == json.loads(raw)["version"]
        assert act.desired.urls == [f"http://host/{name}"]


def test_the_bad_model_passes_its_own_golden_frames_and_calls_a_board_defective() -> None:
    bundle = read_bundle(BAD_MODEL, Target.CPU)
    segmenter = OnnxFactory(bundle.spec, 1)()
    for frame in read_golden(bundle):
        assert np.array_equal(segmenter.segment(frame.inputs).class_map, frame.class_map)
    grey = np.full((512, 512, 3), 114, np.uint8)
    assert np.all(segmenter.segment([grey]).class_map == 5)


def reported(generation: int, phase: Phase, start_s: float, *, code: FailureCode | None = None) -> ReportedModel:
    times = [PhaseTime(phase=each, time=BEGAN + timedelta(seconds=start_s + i)) for i, each in enumerate(
        (Phase.QUEUED, phase))]  # fmt: skip
    failure = Failure(code=code, text="why") if code else None
    return ReportedModel(observed_generation=generation, phase=phase, time=BEGAN, phases=times, last_error=failure)


def seen(**ends: Phase) -> Seen:
    """A result each 100 ms for 12 s, by 1.0.0 and, from second 4 on, by 1.1.0."""
    out = Seen()
    out.ends = {
        1: reported(1, ends.get("good", Phase.COMMITTED), 3),
        2: reported(2, ends.get("corrupted", Phase.REJECTED), 6, code=FailureCode.MODEL_DIGEST_MISMATCH),
        3: reported(3, ends.get("bad", Phase.ROLLED_BACK), 8, code=FailureCode.PROBATION_FAILED),
    }
    out.marks = [
        Mark(BEGAN + timedelta(seconds=n / 10), n + 1, "1.0.0" if n < 40 else "1.1.0", is_failed=False)
        for n in range(120)
    ]
    return out


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        pytest.param(seen(), None, id="as it should be"),
        pytest.param(seen(good=Phase.ROLLED_BACK), "not committed", id="the better model was not committed"),
        pytest.param(seen(corrupted=Phase.COMMITTED), "a corrupted model ended in", id="the corrupted one was"),
        pytest.param(seen(bad=Phase.COMMITTED), "every part defective ended in", id="the bad one was"),
    ],
)
def test_the_demonstration_fails_unless_the_right_models_were_kept(
    given: Seen, problem: str | None, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "zoo", "1.1.0")
    figures = report.figures(given, list(acts(bundle, tmp_path / "served", "http://host")))
    found = report.problems({**figures, "lost": 0, "received": 1})
    assert (found == []) if problem is None else any(problem in each for each in found)
    assert figures["swap"]["gapMs"] == pytest.approx(100)
    assert figures["swap"]["framesLost"] == 0
    assert [refusal["code"] for refusal in figures["refusals"]] == ["model-digest-mismatch", "probation-failed"]
    assert [refusal["inspectingAfter"] for refusal in figures["refusals"]] == ["1.1.0", "1.1.0"]
    assert "COMMITTED" in report.words({**figures, "lost": 0}) or problem == "not committed"


def test_a_lost_frame_in_the_swap_fails_the_demonstration(tmp_path: Path) -> None:
    given = seen()
    given.marks = [mark for mark in given.marks if mark.number != 35]
    figures = report.figures(given, list(acts(make_bundle(tmp_path / "zoo", "1.1.0"), tmp_path / "s", "http://host")))
    assert any("1 frames were lost in the swap" in each for each in report.problems({**figures, "lost": 0}))


def test_the_timeline_shows_each_model_in_a_colour_of_its_own(tmp_path: Path) -> None:
    given, path = seen(), tmp_path / "swap.png"
    assert timeline.write(given.marks, list(given.ends.values()), path)
    picture = cv2.imread(str(path))
    assert picture is not None
    colours = {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}
    assert {(180, 119, 31), (44, 160, 44)} <= colours
    assert not timeline.write([], [], path)
