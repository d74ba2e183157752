"""The whole agent with the zoo's model that compares each picture with a golden reference."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from agent.core.vision.boards import artwork, defects
from agent.core.vision.boards.defects import Defect
from schemas.recipe import Evaluation
from schemas.result import Result
from tests.contract.brokers import Iotcore
from tests.scenario.station import DEADLINE_S, Mes, Station

BUNDLE = Path("modelkit/zoo/pcb-unet-ref-2.0.0").resolve()
SIDE = 640
PITCH_PX = 24.0
KINDS = (Defect.OPEN, Defect.SHORT, Defect.SPURIOUS_COPPER, Defect.PIN_HOLE)
SETTINGS = """\
[station]
site = "berlin"
node = "board-1"
[broker]
port = {port}
[model]
bundle = "{bundle}"
target = "cpu"
deadline_s = 30
[storage]
data_dir = "data"
[recipe.front.reference]
files = {{ top = "golden.png" }}
max_shift_px = 20
[[camera]]
id = "top"
kind = "folder"
source = "pictures"
recipe = "front"
source_rate_hz = 2
"""


class Paired(Station):
    """A board without faults is the reference; the camera sees it moved, then with faults, then another board."""

    faults: defects.Flawed

    def __post_init__(self) -> None:
        good = artwork.draw(np.random.default_rng(4), SIDE, SIDE, PITCH_PX)
        other = artwork.draw(np.random.default_rng(5), SIDE, SIDE, PITCH_PX)
        self.faults = defects.flaw(good, np.random.default_rng(6), KINDS, 2.0)
        pictures = self.folder / "pictures"
        pictures.mkdir()
        cv2.imwrite(str(self.folder / "golden.png"), good.copper)
        shifted = cv2.warpAffine(
            good.copper, np.array([[1.0, 0, 6], [0, 1, -4]]), (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE
        )
        for name, copper in (("0-good", shifted), ("1-faults", self.faults.copper), ("2-other", other.copper)):
            cv2.imwrite(str(pictures / f"{name}.png"), copper)
        self.config.write_text(SETTINGS.format(port=self.port, bundle=BUNDLE))


@pytest.fixture
def station(tmp_path: Path) -> Iterator[tuple[Paired, Mes]]:
    folder = tmp_path / "station"
    folder.mkdir()
    with (
        Iotcore(tmp_path / "broker") as broker,
        Mes(broker.host, broker.port) as mes,
        Paired(folder, broker.port) as running,
    ):
        yield running, mes


def test_parts_are_compared_with_the_golden_reference_of_the_view(station: tuple[Paired, Mes]) -> None:
    running, mes = station
    mes.wait("a result of each picture", lambda: len(mes.results()) >= 6, 3 * DEADLINE_S)
    by_verdict: dict[Evaluation, list[Result]] = {}
    for result in mes.results().values():
        by_verdict.setdefault(result.result_evaluation, []).append(result)
    assert set(by_verdict) == {Evaluation.OK, Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE}, running.log[-2000:]
    assert all(not result.defects for result in by_verdict[Evaluation.OK])
    for result in by_verdict[Evaluation.NOT_DECIDABLE]:
        assert result.defects == []
        assert "not of the reference's view" in result.quality.reasons[0]
    places, _, boxes, _ = cv2.connectedComponentsWithStats((running.faults.mask > 0).astype(np.uint8))
    for result in by_verdict[Evaluation.NOT_OK]:
        hit = sum(
            any(_meet(box, (d.bbox.x, d.bbox.y, d.bbox.width, d.bbox.height)) for d in result.defects)
            for box in np.asarray(boxes[1:], np.int32)
        )  # fmt: skip
        assert hit >= places - 2, "at most one fault is missed"


def _meet(one: npt.NDArray[np.int32], other: tuple[float, float, float, float]) -> bool:
    x, y, wide, high = (float(value) for value in one[:4])
    return x < other[0] + other[2] and other[0] < x + wide and y < other[1] + other[3] and other[1] < y + high
