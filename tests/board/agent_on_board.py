"""A whole agent whose children run the emulated board's Python, and an agent on the CPU that sees the same pictures."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx

from agent.adapters.camera_synthetic import SyntheticCamera, SyntheticOptions
from schemas.result import Defect, Result, ResultState
from schemas.state import DesiredModel, Phase, ProbationPlan, ReportedModel
from tests.board.emulated import PATH, python
from tests.board.emulated_npu import ZOO, EmulatedNpu
from tests.scenario.bad_bundle import edit, seal
from tests.scenario.station import SETTINGS, Station, gaps
from tests.scenario.update_kit import Hall, open_hall

FIRST, SECOND = "1.0.0", "1.1.0"
"""Versions of the zoo's model: the one that is installed, and a better one."""
DEADLINE_S = 6.0
"""Of a call. One takes a tenth of a second under emulation, and machines that run tests are busy."""
WITHIN_S = 120.0
PROBATION = ProbationPlan(frames=30, max_p95_ratio=1e3, max_ng_drift=1.0)
PICTURES = 8
_SCORE_TOLERANCE = 2 / 255
"""Two processors' exponentials: the score maps may differ by one, the regions' means by no more than twice that."""


@dataclass
class ZooStation(Station):
    """Has the zoo's model of this version installed; `model` are further settings of it, in TOML.

    The camera takes every picture that its source gives, so `frameId` modulo PICTURES tells which one it was.
    """

    rate_hz: float = 4.0
    version: str = FIRST
    model: str = 'target = "cpu"'

    def __post_init__(self) -> None:
        shutil.copytree(ZOO / f"pcb-unet-{self.version}", self.folder / "bundle")
        _draw(self.folder / "pictures")
        model = f"deadline_s = {DEADLINE_S}\nload_deadline_s = {WITHIN_S}\n{self.model}"
        text = SETTINGS.format(port=self.port, rate_hz=self.rate_hz, trigger_hz=1000.0, model=model)
        self.config.write_text(text)


def _draw(folder: Path) -> None:
    """Pictures of the synthetic camera, half a board apart."""
    folder.mkdir()
    camera = SyntheticCamera(SyntheticOptions(seed=5, height_px=480, width_px=640, rate_hz=None))
    camera.open()
    for number in range(PICTURES * 12):
        rgb = camera.read().pixels
        if number % 12 == 0:
            cv2.imwrite(str(folder / f"{number:03d}.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def on_board(npu: EmulatedNpu, cores: tuple[int, ...] = (0,)) -> Callable[[Path, int], Station]:
    """An RK3588 with that NPU. The NPU's socket is named to qemu: the agent itself has no such setting."""
    qemu, *rest = python()
    socket = [word for name, value in npu.environment.items() for word in ("-E", f"{name}={value}")]
    model = (
        f'target = "rk3588"\ncores = {list(cores)}\n'
        f"python = {json.dumps([qemu, *socket, *rest])}\npython_path = {json.dumps(PATH)}"
    )
    return lambda folder, port: ZooStation(folder, port, model=model)


@contextmanager
def inspecting(folder: Path, make: Callable[[Path, int], Station], results: int = 5) -> Iterator[Hall]:
    """An agent that has given so many results."""
    with open_hall(folder, make) as hall, hall.station:
        try:
            hall.mes.wait(f"{results} results", lambda: len(hall.mes.results()) >= results, WITHIN_S)
        except AssertionError as error:
            raise AssertionError(f"{error}; log: {hall.station.log[-4000:]}") from error
        yield hall


@dataclass(frozen=True)
class CpuTwin:
    """What an agent with the variant `cpu` makes of each picture, by version and number of the picture."""

    results: Mapping[tuple[str, int], Result]

    @classmethod
    def observed(cls, folder: Path) -> "CpuTwin":
        found: dict[tuple[str, int], Result] = {}
        for version in (FIRST, SECOND):
            place = folder / version
            place.mkdir()

            def make(where: Path, port: int, version: str = version) -> Station:
                return ZooStation(where, port, version=version)

            with inspecting(place, make, PICTURES) as hall:
                while len(pictures := _by_picture(hall)) < PICTURES:
                    hall.wait_more(1)
                found |= {(version, picture): result for picture, result in pictures.items()}
        return cls(found)

    def assert_agrees(self, results: list[Result]) -> None:
        """The same defects in the same places, of the same size, with the same score but for the arithmetic."""
        for result in results:
            version = result.model.version.partition("-")[0]
            expected = self.results[version, result.image.frame_id % PICTURES]
            where = f"{result.to_json()!r} instead of {expected.to_json()!r}"
            assert result.result_evaluation is expected.result_evaluation, where
            pairs = list(zip(_sorted(result), _sorted(expected), strict=True))
            for mine, theirs in pairs:
                assert (mine.class_name, mine.bbox, mine.area_px) == (theirs.class_name, theirs.bbox, theirs.area_px)
                assert abs(mine.score - theirs.score) <= _SCORE_TOLERANCE, where


def _by_picture(hall: Hall) -> dict[int, Result]:
    return {result.image.frame_id % PICTURES: result for result in hall.mes.results().values()}


def _sorted(result: Result) -> list[Defect]:
    return sorted(result.defects, key=lambda defect: (defect.class_id, defect.bbox.x, defect.bbox.y))


def candidate(hall: Hall, version: str = SECOND) -> Path:
    """A copy of the zoo's bundle in a version of its own, such as 1.1.0-3, which is not served yet."""
    number = hall.generation + 1
    folder = Path(shutil.copytree(ZOO / f"pcb-unet-{version}", hall.folder / f"candidate-{number}"))
    return edit(folder, lambda document: document.update(version=f"{version}-{number}"))


def miscomputed(bundle: Path, npu: EmulatedNpu) -> Path:
    """Have this NPU answer the bundle's model with the classes exchanged, and no other model."""
    file = bundle / "model-rk3588.rknn"
    file.write_bytes(file.read_bytes() + bundle.name.encode())  # a file that no other bundle has
    seal(bundle)
    theirs = Path(shutil.copytree(bundle, bundle.with_name(f"{bundle.name}-on-the-npu")))
    path = theirs / "model-cpu.onnx"
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "right"
    classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    order = onnx.numpy_helper.from_array(np.roll(np.arange(classes), 1), "order")
    model.graph.initializer.append(order)
    model.graph.node.append(onnx.helper.make_node("Gather", ["right", "order"], ["logits"], axis=1))
    path.write_bytes(model.SerializeToString())
    npu.add(seal(theirs))
    return bundle


def want(hall: Hall, bundle: Path) -> DesiredModel:
    return hall.want(hall.desired(bundle, probation=PROBATION))


def wait_end(hall: Hall, desired: DesiredModel) -> ReportedModel:
    """However the update ends."""
    ends = [phase for phase in Phase if phase.is_end]
    try:
        hall.mes.wait("the update's end", lambda: hall.is_in(desired.generation, *ends), WITHIN_S)
    except AssertionError as error:
        raise AssertionError(f"{error}; reported: {hall.reported()}; log: {hall.station.log[-4000:]}") from error
    report = hall.reported()
    assert report is not None
    return report


def wait_completed(hall: Hall, since: int, count: int = 5) -> list[Result]:
    """Until so many of the results after the first `since` are complete; returns all results since."""
    hall.mes.wait("completed results", lambda: len(completed(hall.in_order()[since:])) >= count, WITHIN_S)
    return hall.in_order()[since:]


def completed(results: list[Result]) -> list[Result]:
    return [result for result in results if result.result_state is ResultState.COMPLETED]


def failed(results: list[Result]) -> list[Result]:
    return [result for result in results if result.result_state is not ResultState.COMPLETED]


def assert_no_gap(hall: Hall) -> None:
    """Every number up to the last was seen, and of the one camera no picture came before an earlier one."""
    in_order = hall.in_order()
    assert gaps(hall.mes.results(), hall.boot(), in_order[-1].sequence_number) == []
    frames = [result.image.frame_id for result in in_order]
    assert frames == sorted(frames)
