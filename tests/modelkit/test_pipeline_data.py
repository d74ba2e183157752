"""What a pipeline's data give to each step: parts, sizes, references, and pictures as the model sees them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.core.vision import colour
from modelkit.data import DataError
from modelkit.pipeline.data import Supply
from modelkit.pipeline.seen import Drawn
from modelkit.pipeline.spec_data import Boards, FolderData
from modelkit.plan import Plan
from schemas.manifest import Clahe

CLAHE = Clahe(clip_limit=3.0, grid=4)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> FolderData:
    """24 pictures of 96x64 px with a scratch each, and a reference without it."""
    folder = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(4)
    for name in ("images", "masks", "references"):
        (folder / name).mkdir()
    (folder / "classes.txt").write_text("background\nscratch\n")
    for number in range(24):
        plain = rng.integers(60, 120, (64, 96, 3), np.uint8)
        image, mask = plain.copy(), np.zeros((64, 96), np.uint8)
        mask[20:30, 10 + number : 30 + number] = 1
        image[mask > 0] = 230
        for name, picture in (("images", image), ("masks", mask), ("references", plain)):
            cv2.imwrite(str(folder / name / f"{number:02d}.png"), picture)
    return FolderData(kind="folder", folder=folder, size_px=64, reference=True, terms="ours")


def test_parts_are_disjoint_and_all_there_is(own: FolderData) -> None:
    supply = Supply(own)
    train, unseen = set(supply.train.ids), set(supply.validation.ids)
    assert not train & unseen
    assert len(train) + len(unseen) == 24
    assert supply.names == ("background", "scratch")
    assert supply.source.roles == ("image", "reference")
    assert set(supply.population(8).ids) == train
    assert supply.files() == (own.folder,)


def test_pictures_come_at_the_models_size_with_their_reference(own: FolderData) -> None:
    source = Supply(own).source
    for sample in (*source.validation(), *source.golden(), *source.calibration(), *source.watched()):
        assert sample.image.shape == (64, 64, 3)
        assert sample.reference is not None
        assert (sample.image[:10] == 114).all(), "bars above and below, as a board letterboxes"
        assert not sample.mask[:10].any()
    crop = next(source.crops(Plan(crop_px=32))(1))
    assert crop.image.shape == (32, 32, 3)


def test_a_model_sees_what_a_board_makes_of_the_picture_and_is_measured_on_the_picture(own: FolderData) -> None:
    seen = Supply(own, CLAHE)
    inner = np.s_[11:53]
    for plain, measured, after in zip(seen.plain(), seen.measured(), seen.source.validation(), strict=True):
        assert measured.image.shape == (64, 96, 3), "as the camera gave it"
        assert np.array_equal(plain.mask, after.mask)
        assert np.array_equal(after.image[inner], colour.equalise(np.ascontiguousarray(plain.image[inner]), CLAHE))
        assert (after.image[:11] == 114).all(), "bars are no part of the picture, and are not equalised"
        assert plain.reference is not None
        assert after.reference is not None
        reference = np.ascontiguousarray(plain.reference[inner])
        assert np.array_equal(after.reference[inner], colour.equalise(reference, CLAHE))


def test_drawn_boards_come_in_pairs_where_asked() -> None:
    data = Boards(kind="boards", size_px=96, validation=2, golden=2, watched=2, plates=2, reference=True)
    supply = Supply(data)
    groups = [supply.source.validation(), supply.source.golden(), supply.source.watched()]
    population = supply.population(1)
    assert isinstance(population, Drawn)
    groups.append(list(population.samples))
    ids = [{sample.id for sample in group} for group in groups]
    assert all(sample.reference is not None for group in groups for sample in group)
    assert sum(map(len, ids)) == len(set().union(*ids)), "no board is measured on that another step has seen"
    assert next(supply.source.crops(Plan(crop_px=64))(1)).reference is not None
    assert supply.files() == ()


def test_a_reference_that_is_not_there_is_told(own: FolderData, tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).symlink_to(own.folder / name)
    (tmp_path / "classes.txt").write_text("background\nscratch\n")
    supply = Supply(own.model_copy(update={"folder": tmp_path}))
    sample = supply.source.validation()[0]
    with pytest.raises(DataError, match="no reference picture"):
        sample.inputs(supply.source.roles)
