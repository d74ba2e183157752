"""Drawn endoscopy-like pictures, the measure of outlines, and the comparison with and without the step `crf`."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from modelkit.boundary import Boundaries
from modelkit.data import DataError, Sample, read_all
from modelkit.data.endoscopy import CLASSES, Endoscopy
from modelkit.data.folder import Folder
from modelkit.endoscopy import compare, main, table, write_folder
from modelkit.measure import Reading
from modelkit.pack import classes_of
from modelkit.pipeline.load import load
from modelkit.readers import Inputs
from schemas.manifest import Crf, Manifest
from tests.unit.a_bundle import a_bundle

Map = npt.NDArray[np.uint8]
PIPELINE = Path(__file__).parents[2] / "pipelines" / "endoscopy.yaml"
DATA = Endoscopy(24, 96, seed=5)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return read_all(DATA)


def test_the_same_seed_gives_the_same_pictures_and_another_gives_others() -> None:
    first, again, other = (Endoscopy(3, 64, seed).read("00002") for seed in (1, 1, 2))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.image, other.image)


def test_a_picture_does_not_depend_on_how_many_there_are_or_were_read_before() -> None:
    many = Endoscopy(9, 64, 1)
    many.read("00000")
    assert np.array_equal(many.read("00004").image, Endoscopy(5, 64, 1).read("00004").image)


def test_every_class_is_there_and_some_pictures_have_none(samples: list[Sample]) -> None:
    there = [set(np.unique(sample.mask).tolist()) for sample in samples]
    assert set().union(*there) == set(range(len(CLASSES)))
    assert any(ids == {0} for ids in there)
    assert DATA.classes[0] == "background"


def test_pictures_are_reddish_uneven_and_not_saturated(samples: list[Sample]) -> None:
    colour = np.mean([sample.image.mean((0, 1)) for sample in samples], axis=0)
    assert colour[0] > 1.2 * colour[1]
    assert all(sample.image.std() > 8 for sample in samples)
    assert all((sample.image == 255).mean() < 0.1 for sample in samples)


def test_masks_lie_on_what_is_seen(samples: list[Sample]) -> None:
    """Blood is darker in green and blue than the tissue right around it."""
    blood = CLASSES.index("bleeding")
    seen = 0
    for sample in samples:
        inside = sample.mask == blood
        around = (cv2.dilate(inside.astype(np.uint8), np.ones((15, 15))) > 0) & (sample.mask == 0)
        around &= sample.image.max(2) > 40
        if inside.sum() > 60 and around.sum() > 60:
            seen += 1
            assert np.median(sample.image[inside][:, 1:]) < np.median(sample.image[around][:, 1:])
    assert seen >= 3


@pytest.mark.parametrize(("count", "size_px"), [(0, 256), (-1, 256), (1, 63)])
def test_what_cannot_be_drawn_is_refused(count: int, size_px: int) -> None:
    with pytest.raises(DataError):
        Endoscopy(count, size_px)


@pytest.mark.parametrize("sample_id", ["00003", "3", "x", "-0001"])
def test_a_picture_that_is_not_there_is_told(sample_id: str) -> None:
    with pytest.raises(DataError, match="00000 to 00002"):
        Endoscopy(3, 64).read(sample_id)


def test_the_folder_holds_the_same_pictures_and_is_not_overwritten(tmp_path: Path) -> None:
    data = Endoscopy(3, 64, 7)
    write_folder(data, tmp_path / "set")
    read = Folder(tmp_path / "set")
    assert (read.classes, read.ids) == (data.classes, data.ids)
    for sample_id in data.ids:
        drawn, found = data.read(sample_id), read.read(sample_id)
        assert np.array_equal(drawn.image, found.image)
        assert np.array_equal(drawn.mask, found.mask)
    with pytest.raises(DataError, match="there already"):
        write_folder(data, tmp_path / "set")


def test_nothing_is_left_of_a_folder_that_failed(tmp_path: Path) -> None:
    class Broken(Endoscopy):
        def read(self, sample_id: str) -> Sample:
            if sample_id == "00001":
                raise DataError("broken")
            return super().read(sample_id)

    with pytest.raises(DataError, match="broken"):
        write_folder(Broken(3, 64), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def square(left: int) -> Map:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, left : left + 20] = 1
    return mask


@pytest.mark.parametrize(
    ("predicted", "truth", "wanted"),
    [
        pytest.param(square(10), square(10), 1.0, id="the same"),
        pytest.param(square(12), square(10), 1.0, id="off by the slack"),
        pytest.param(square(13), square(10), (76 - 2 * 18 + 2 * 2) / 76, id="off by one more: the sides are missed"),
        pytest.param(square(10), np.zeros((40, 60), np.uint8), 0.0, id="found where there is nothing"),
        pytest.param(np.zeros((40, 60), np.uint8), square(10), 0.0, id="missed"),
    ],
)
def test_outlines_are_right_within_two_pixels(predicted: Map, truth: Map, wanted: float) -> None:
    outlines = Boundaries(("background", "thing", "other"))
    outlines.add(predicted, truth)
    assert outlines.f1().keys() == {"thing"}, "the other is in neither"
    assert outlines.mean() == pytest.approx(wanted, abs=0.03)


def test_the_edge_of_the_picture_is_no_outline() -> None:
    outlines, whole = Boundaries(("background", "thing")), np.ones((20, 20), np.uint8)
    outlines.add(whole, whole)
    assert outlines.f1() == {}
    assert outlines.mean() == 1.0
    with pytest.raises(ValueError, match="of"):
        outlines.add(whole, whole[:10])


def a_manifest(*postprocess: dict[str, Any]) -> Manifest:
    document = a_bundle(CLASSES, 96).manifest.model_dump(by_alias=True, mode="json")
    classes = [spec.model_dump(mode="json", by_alias=True) for spec in classes_of(CLASSES)]
    return Manifest.model_validate(document | {"classes": classes, "postprocess": list(postprocess)})


def swollen(samples: list[Sample]) -> Any:
    """A model that finds blood and instruments too large, and is not too sure of it."""

    def read(pictures: Iterable[Inputs]) -> Iterator[Reading]:
        for _, sample in zip(pictures, samples, strict=True):
            found = np.where(sample.mask >= 3, sample.mask, np.uint8(0))
            found = np.asarray(cv2.dilate(found, np.ones((5, 5), np.uint8)), np.uint8)
            yield Reading(found, np.where(found > 0, np.uint8(190), np.uint8(0)), 2.0)

    return read


def test_the_step_is_compared_with_its_absence_on_the_same_readings(samples: list[Sample]) -> None:
    pytest.importorskip("pydensecrf", reason="the extra crf is not installed")
    some = samples[:10]
    own = Crf(bilateral_px=10, iterations=2)
    manifest = a_manifest(own.model_dump(by_alias=True, mode="json"))
    plain, refined = compare("a", manifest, swollen(some), some, Crf())
    assert (plain.crf, refined.crf, plain.clahe) == (False, True, False)
    assert plain.inference_ms == 2.0
    assert refined.figures.miou != plain.figures.miou
    told = table([plain, refined]).splitlines()
    assert len(told) == 4
    assert len({line.count("|") for line in told}) == 1
    given = compare("a", a_manifest(), swollen(some), some, own)
    assert given[1].figures == refined.figures, "the manifest's own step goes first, else the one that is given"


def test_commands_end_with_a_sentence_where_they_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", str(tmp_path / "set"), "--count", "2", "--size-px", "64"]) == 0
    assert main(["draw", str(tmp_path / "set"), "--count", "2"]) == 1
    assert "there already" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), "--count", "1"]) == 1
    assert "is no bundle" in capsys.readouterr().err


def test_the_pipeline_of_the_case_is_valid_and_says_both_steps(tmp_path: Path) -> None:
    write_folder(Endoscopy(2, 64), tmp_path / "set")
    spec = load(PIPELINE, [f"data.folder={tmp_path / 'set'}"])
    assert [step.op for step in spec.preprocess] == ["clahe"]
    assert [step.op for step in spec.postprocess] == ["crf"]
    assert spec.model.architecture == "bisenetv2-attention"
    assert load(PIPELINE, [f"data.folder={tmp_path / 'set'}", "preprocess=[]"]).preprocess == []
