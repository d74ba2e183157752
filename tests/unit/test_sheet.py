from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from fleet import sheet
from schemas.examples import EXAMPLES
from schemas.result import Evidence, Result

EXAMPLE = EXAMPLES["result"]


def result(second: int, *classes: str, evidence: Path | None = None) -> Result:
    assert isinstance(EXAMPLE, Result)
    image = EXAMPLE.image.model_copy(update={"capture_time": EXAMPLE.creation_time + timedelta(seconds=second)})
    defects = [EXAMPLE.defects[0].model_copy(update={"class_name": name}) for name in classes]
    kept = [Evidence(uri=evidence.as_uri(), format="image/jpeg", sha256="0" * 64)] if evidence else []
    return EXAMPLE.model_copy(update={"image": image, "defects": defects, "evidence": kept})


@pytest.mark.parametrize(("count", "most", "chosen"), [(0, 6, 0), (3, 6, 3), (6, 6, 6), (100, 6, 6)])
def test_the_sheet_is_spread_over_the_time(count: int, most: int, chosen: int) -> None:
    found = sheet.choose([result(n, "open") for n in reversed(range(count))], most)
    times = [each.image.capture_time for each in found]
    assert len(found) == chosen
    assert times == sorted(times)
    if count == 100:
        assert (times[-1] - times[0]).total_seconds() > 60


def test_of_a_stretch_the_richest_is_shown() -> None:
    (found,) = sheet.choose([result(0, "open"), result(1, "open", "short"), result(2, "spur", "spur")], 1)
    assert [defect.class_name for defect in found.defects] == ["open", "short"]


def test_a_sheet_shows_what_the_evidence_names(tmp_path: Path) -> None:
    overlay = tmp_path / "a b.overlay.jpg"
    cv2.imwrite(str(overlay), np.full((360, 480, 3), 200, np.uint8))
    assert sheet.write([result(n, "open", evidence=overlay) for n in range(4)], tmp_path / "sheet.png")
    written = cv2.imread(str(tmp_path / "sheet.png"))
    assert written is not None
    assert written.shape == (960, 1920, 3)
    assert written[:480, :640].mean() > 190


def test_without_evidence_there_is_no_sheet(tmp_path: Path) -> None:
    gone = tmp_path / "gone.overlay.jpg"
    assert not sheet.write([result(0, "open"), result(1, "open", evidence=gone)], tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()
