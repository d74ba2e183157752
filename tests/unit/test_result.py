"""The message for the MES: what it says of a picture, and how it stays small."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core import vision
from agent.core.frame import Frame, Layout, Order, Picture
from agent.core.result import MAX_INLINE_BYTES, Judged, Origin, draft, fitted
from schemas.codes import FailureCode
from schemas.manifest import DefectClass, Letterbox, Severity
from schemas.recipe import Evaluation
from schemas.result import Clock, Fault, ModelInput, Result, ResultState, Station
from schemas.status import ModelInfo
from schemas.target import Target

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLASSES = (
    DefectClass(id=0, name="background", colour="#000000", severity=Severity.NONE),
    DefectClass(id=1, name="short", colour="#ff0000", severity=Severity.CRITICAL),
)
ORIGIN = Origin(Station(site="a", node="b", camera="top"), "default", None, False, 0.1, CLASSES)
MODEL = ModelInfo(name="m", version="1", sha256="0" * 64, generation=1, runtime="onnx", runtime_version="1",
                  target=Target.CPU)  # fmt: skip
SIZE = 256


def judged(defects: int, fault: Fault | None = None) -> Judged:
    """A picture with so many defects of 2x2 pixels."""
    class_map = np.zeros((SIZE, SIZE), np.uint8)
    for n in range(defects):
        y, x = divmod(n * 4, SIZE)
        class_map[4 * y : 4 * y + 2, x : x + 2] = 1
    view = vision.View((SIZE, SIZE), None, Letterbox(), None, ("image",), ("background", "short"),
                       bytes([255, 0]).ljust(256, b"\xff"), (0, 0))  # fmt: skip
    picture = Picture(np.zeros((SIZE, SIZE, 3), np.uint8), Layout.RGB)
    placement = vision.prepare(picture, view).placement
    found = vision.regions(class_map, np.where(class_map > 0, 200, 0).astype(np.uint8), placement, view)
    evaluation = Evaluation.UNDEFINED if fault else Evaluation.NOT_OK if defects else Evaluation.OK
    return Judged(Frame(picture, "top", 7, NOW, 1.0, 3.0), MODEL, NOW, NOW, 12.34567, {"prepare": 1.0},
                  evaluation, found=found, fault=fault)  # fmt: skip


def place(result: Result, boot_id: str, sequence_number: int) -> Result:
    """The plain way, which writes the whole message again."""
    return result.model_copy(update={"boot_id": boot_id, "sequence_number": sequence_number})


def test_a_result_tells_what_was_found_in_camera_pixels() -> None:
    result = draft(judged(2), ORIGIN, "id-1", Clock(synced=True))
    assert (result.result_state, result.result_evaluation) == (ResultState.COMPLETED, Evaluation.NOT_OK)
    assert [defect.defect_id for defect in result.defects] == [1, 2]
    defect = result.defects[0]
    assert (defect.class_name, defect.severity, defect.area_px) == ("short", "critical", 4)
    assert defect.area_mm2 == pytest.approx(0.04)
    assert defect.rle is not None
    assert defect.rle.size == (SIZE, SIZE)
    assert sum(defect.rle.counts) == SIZE * SIZE
    assert (result.summary.defect_count, result.summary.total_area_px) == (2, 8)
    assert result.processing_times.processing_duration == 12.346


def test_the_input_that_the_model_was_given_stands_with_the_image() -> None:
    told = ModelInput(width=224, height=192, complexity=0.125)
    image = draft(replace(judged(0), model_input=told), ORIGIN, "id-1", Clock()).image
    assert image.model_input == told
    assert json.loads(image.to_json())["modelInput"] == {"width": 224, "height": 192, "complexity": 0.125}
    assert "modelInput" not in json.loads(draft(judged(0), ORIGIN, "id-1", Clock()).image.to_json())


def test_a_fault_is_never_a_bad_part() -> None:
    result = draft(judged(0, Fault(code=FailureCode.NPU_HUNG, text="hung")), ORIGIN, "id-1", Clock())
    assert (result.result_state, result.result_evaluation) == (ResultState.FAILED, Evaluation.UNDEFINED)
    assert result.fault is not None


def test_its_place_is_filled_in_and_nothing_else() -> None:
    result = draft(judged(1), ORIGIN, "id-1", Clock())
    placed = place(result, "boot", 9)
    assert (placed.boot_id, placed.sequence_number) == ("boot", 9)
    assert placed.model_copy(update={"boot_id": "-", "sequence_number": 1}) == result


def stripped(result: Result, *fields: str) -> int:
    """Its size in bytes when all its defects lack these fields."""
    empty: dict[str, object] = {"rle": None, "polygon": []}
    defects = [defect.model_copy(update={name: empty[name] for name in fields}) for defect in result.defects]
    return len(result.model_copy(update={"defects": defects}).to_json())


@pytest.mark.parametrize(
    ("kept", "has_rle", "has_polygons", "is_partial"),
    [
        ((), True, True, False),
        (("rle",), False, True, False),
        (("rle", "polygon"), False, False, False),
        (None, False, False, True),
    ],
    ids=["it fits", "masks go", "outlines go", "half of the defects goes"],
)
def test_a_large_result_is_cut_in_steps_and_says_so(
    kept: tuple[str, ...] | None, has_rle: bool, has_polygons: bool, is_partial: bool
) -> None:
    whole = draft(judged(30), ORIGIN, "id-1", Clock())
    limit = stripped(whole, "rle", "polygon") - 1 if kept is None else stripped(whole, *kept)
    result = fitted(whole, limit).result
    assert len(result.to_json()) <= limit
    assert all((defect.rle is not None) is has_rle for defect in result.defects)
    assert all(bool(defect.polygon) is has_polygons for defect in result.defects)
    assert result.is_partial is is_partial
    assert result.summary.defect_count == 30
    assert result.summary.listed_count == len(result.defects) == (15 if is_partial else 30)


def test_a_crowded_picture_stays_within_what_a_message_may_take() -> None:
    result = fitted(draft(judged(400), ORIGIN, "id-1", Clock())).result
    assert len(result.to_json()) <= MAX_INLINE_BYTES
    assert result.summary.defect_count == 400
    assert result.defects


IDS = st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True)
TRICKY = '"bootId":"-","sequenceNumber":1,'
TEXTS = st.one_of(st.text(max_size=200), st.just(TRICKY), st.just(f"}},{TRICKY}\\"))
CROWDS = {number: judged(number) for number in (0, 1, 3, 40)}


@settings(max_examples=60, deadline=None)
@given(
    crowd=st.sampled_from(sorted(CROWDS)),
    ids=st.tuples(IDS, st.one_of(st.none(), IDS), IDS),
    said=st.tuples(TEXTS, st.lists(TEXTS, max_size=3), TEXTS),
    spot=st.tuples(IDS, st.integers(1, 2**63)),
    limit=st.sampled_from([0, 1500, 3000, MAX_INLINE_BYTES]),
)
def test_the_bytes_with_a_place_filled_in_are_those_of_the_whole_way(
    crowd: int, ids: tuple[str, str | None, str], said: tuple[str, list[str], str], spot: tuple[str, int], limit: int
) -> None:
    order = Order(ids[0], ids[1], None, ids[1], None)
    fault = Fault(code=FailureCode.NPU_HUNG, text=said[0])
    asked = replace(CROWDS[crowd].frame, order=order)
    station = Station(site="a", node="b", camera="top", enterprise=said[2][:100] or None)
    origin = replace(ORIGIN, station=station, external_recipe_id=ids[1])
    whole = draft(replace(CROWDS[crowd], frame=asked, reasons=said[1], fault=fault), origin, ids[2], Clock())
    small = fitted(whole, limit)
    assert small.placed(*spot) == place(small.result, *spot).to_json()
    again = fitted(place(whole, *spot), limit)
    assert again.placed("b", 2) == place(again.result, "b", 2).to_json()
