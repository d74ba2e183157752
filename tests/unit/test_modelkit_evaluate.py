"""The command that measures a bundle, on a pair that is drawn here; the bundle is the zoo's."""

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest

import modelkit
from modelkit import cli
from modelkit.bundle_eval import evaluate_bundle, open_bundle
from modelkit.data import DataError
from modelkit.data.deeppcb import DeepPcb
from modelkit.measure import Reading
from modelkit.plan import DEVIATION, MEAN
from modelkit.readers import board_reader, board_segmenter, cpu_reader, without_bytes

ZOO = Path(modelkit.__file__).parent / "zoo"
PAIRED = ZOO / "pcb-unet-ref-2.0.0"
SIDE = 640


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    """One pair of 640x640 px with spurious copper of 24 px at (300, 200)."""
    template = np.full((SIDE, SIDE), 255, np.uint8)
    for at in range(40, SIDE, 120):
        template[at : at + 24, 20:620] = 0
    tested = template.copy()
    cv2.circle(tested, (312, 222), 12, 0, -1)
    folder = tmp_path / "set"
    (folder / "g" / "1").mkdir(parents=True)
    (folder / "g" / "1_not").mkdir()
    for name, picture in (("test", tested), ("temp", template)):
        cv2.imwrite(str(folder / "g" / "1" / f"8_{name}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 100])
    (folder / "g" / "1_not" / "8.txt").write_text("291 201 334 244 5\n")
    path = folder / "mine.txt"
    path.write_text("g/1/8.jpg g/1_not/8.txt\n")
    return path


def test_a_list_of_ones_own_is_measured_and_the_boxes_are_written(
    listing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cli.main(["evaluate", "--bundle", str(PAIRED), "--images", str(listing), "--predictions", str(out)]) == 0
    (line,) = (out / "8.txt").read_text().splitlines()
    x1, y1, x2, y2, confidence, kind = line.split(",")
    assert kind == "copper"
    assert float(confidence) > 0.5
    assert np.abs(np.array([int(x1), int(y1), int(x2), int(y2)]) - [291, 201, 334, 244]).max() <= 4
    printed = capsys.readouterr().out
    assert "| F-score | 1.0000 |" in printed
    assert "| mAP | 1.0000 |" in printed


def test_what_the_reader_says_is_what_is_scored(listing: Path) -> None:
    manifest, _ = open_bundle(PAIRED)
    data = DeepPcb(listing.parent, "all", listing)
    sample = data.read("8")
    right = Reading(sample.mask, np.where(sample.mask > 0, np.uint8(255), np.uint8(0)))
    nothing = Reading(np.zeros_like(sample.mask), np.zeros_like(sample.mask))
    for reading, miou, f1 in ((right, 1.0, 1.0), (nothing, 0.5, 0.0)):

        def said(_: object, reading: Reading = reading) -> Iterator[Reading]:
            return iter([reading])

        done = evaluate_bundle(manifest, said, [sample], {"8": data.boxes("8")})
        assert done.boxes is not None
        assert done.measured.score.miou == pytest.approx(miou, abs=1e-3)
        assert done.boxes.f1 == f1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--bundle", "nowhere"], "nowhere is no bundle", id="no bundle"),
        pytest.param(["--bundle", str(PAIRED), "--images", "nowhere.txt"], "nowhere.txt", id="no list"),
        pytest.param(["--bundle", str(PAIRED), "--deeppcb", "nowhere"], "nowhere does not exist", id="no set"),
    ],
)
def test_bad_input_is_told_in_a_sentence(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "--count", "1", *arguments]) == 1
    assert says in capsys.readouterr().err


def test_a_model_with_a_reference_is_measured_on_drawn_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(PAIRED), "--count", "1", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["evaluation"]["runs"]["float32"]["figures"]["images"] == 1
    assert 0 < told["figures"]["float32.miou"] <= 1


@pytest.mark.parametrize("through", ["cpu", "board"])
def test_a_boards_segmenter_reads_as_the_runtime_does(through: str, listing: Path) -> None:
    manifest, model = open_bundle(PAIRED)
    sample = DeepPcb(listing.parent, "all", listing).read("8")
    reader = cpu_reader(model) if through == "cpu" else board_reader(board_segmenter(manifest, model))
    done = evaluate_bundle(manifest, reader, [sample], {})
    assert done.measured.figures.classes["spurious-copper"].iou == pytest.approx(0.98, abs=0.05)
    assert (done.verdicts.bad, done.verdicts.escapes) == (1, 0)
    assert done.latency_ms is not None
    assert done.boxes is None


def test_quantising_a_model_with_a_reference_asks_for_pairs(listing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "--bundle", str(PAIRED), "--images", str(listing), "--int8"]) == 1
    assert "give --deeppcb" in capsys.readouterr().err


@pytest.mark.parametrize("bundle", [ZOO / "pcb-unet-1.1.0", PAIRED], ids=lambda path: path.name)
def test_the_converter_reads_the_same_network_without_the_bytes(bundle: Path, tmp_path: Path) -> None:
    manifest, model = open_bundle(bundle)
    cut = without_bytes(model, tmp_path / "cut.onnx")
    high, wide = manifest.inputs[0].shapes[0]
    rng = np.random.default_rng(2)
    pictures = [rng.integers(0, 256, (1, high, wide, 3), np.uint8) for _ in manifest.inputs]
    whole = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    part = ort.InferenceSession(str(cut), providers=["CPUExecutionProvider"])
    wanted = whole.run(None, {s.name: p for s, p in zip(whole.get_inputs(), pictures, strict=True)})[0]
    planes = [((p.astype(np.float32) - MEAN) / DEVIATION).transpose(0, 3, 1, 2) for p in pictures]
    given = part.run(None, {s.name: p for s, p in zip(part.get_inputs(), planes, strict=True)})[0]
    assert np.abs(given - wanted).max() < 1e-3


def test_a_foreign_graph_cannot_be_cut(tmp_path: Path) -> None:
    _, model = open_bundle(ZOO / "pcb-unet-1.1.0")
    cut = without_bytes(model, tmp_path / "cut.onnx")
    with pytest.raises(DataError, match="export"):
        without_bytes(cut, tmp_path / "again.onnx")
