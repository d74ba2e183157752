"""DeepPCB's pairs through the dataset port, and the crops that training sees of them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from modelkit.data import DataError, Sample, read_all
from modelkit.data.crops import Augment, crops
from modelkit.data.deeppcb import Box, DeepPcb, Pair, derive, read_boxes, read_list

TEMPLATE = np.full((160, 160), 255, np.uint8)
TEMPLATE[40:50, 10:150] = 0
TEMPLATE[90:100, 10:150] = 0
TEMPLATE[10:150, 20:28] = 0


def a_set(folder: Path, ids: list[str], shift: int = 0) -> Path:
    """Pairs with an open of 12x10 px at (80, 40) and a ragged row of single pixels beside the other trace."""
    tested = TEMPLATE.copy()
    tested[40:50, 80:92] = 255
    tested[100, 60:100:2] = 0
    for name in ids:
        images, notes = folder / "group1" / "1", folder / "group1" / "1_not"
        images.mkdir(parents=True, exist_ok=True)
        notes.mkdir(exist_ok=True)
        cv2.imwrite(str(images / f"{name}_test.jpg"), tested, [cv2.IMWRITE_JPEG_QUALITY, 100])
        cv2.imwrite(str(images / f"{name}_temp.jpg"), np.roll(TEMPLATE, shift, axis=0), [cv2.IMWRITE_JPEG_QUALITY, 100])
        (notes / f"{name}.txt").write_text("70 30 102 60 1\n")
    (folder / "trainval.txt").write_text("".join(f"group1/1/{name}.jpg group1/1_not/{name}.txt\n" for name in ids))
    return folder


def test_a_pair_gives_picture_reference_and_mask(tmp_path: Path) -> None:
    data = DeepPcb(a_set(tmp_path, ["00000001"]))
    sample = data.read("00000001")
    assert data.ids == ("00000001",)
    assert data.boxes("00000001") == [Box(70, 30, 102, 60, 1)]
    assert sample.reference is not None
    assert sample.image.shape == sample.reference.shape == (160, 160, 3)
    expected = np.zeros((160, 160), np.uint8)
    expected[40:50, 80:92] = 1
    assert np.array_equal(sample.mask, expected)


def test_a_template_that_lies_off_is_laid_over_the_board(tmp_path: Path) -> None:
    sample = DeepPcb(a_set(tmp_path, ["7"], shift=5)).read("7")
    assert sample.reference is not None
    inner = np.s_[10:150, 10:150]
    assert np.array_equal(sample.reference[:, :, 0][inner] > 127, TEMPLATE[inner] > 127)


def test_the_parts_are_fixed_disjoint_and_all_there_is(tmp_path: Path) -> None:
    ids = [f"{number:08d}" for number in range(400)]
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"g/1/{name}.jpg g/1_not/{name}.txt\n" for name in ids))
    train, held_out = (DeepPcb(tmp_path, part, listing).ids for part in ("train", "validation"))
    assert sorted((*train, *held_out)) == ids
    assert 40 <= len(held_out) <= 80
    assert held_out[:4] == tuple(name for name in ids if Pair("g", name, "", "").held_out)[:4]
    assert Pair("g", "20085000", "", "").held_out is False, "the split of a version is that of all later ones"


@pytest.mark.parametrize(
    ("differ", "kept"),
    [
        pytest.param(np.s_[20:26, 20:28], 48, id="a solid piece is kept whole"),
        pytest.param(np.s_[20:40, 20:21], 20, id="a thin one alone is kept, there is nothing better"),
    ],
)
def test_masks_are_what_differs_inside_a_box(differ: tuple[slice, slice], kept: int) -> None:
    template = np.full((64, 64), 255, np.uint8)
    tested = template.copy()
    tested[differ] = 0
    tested[60:63, 60:63] = 0
    mask = derive(tested, template, [Box(10, 10, 50, 50, 4)])
    assert int((mask == 4).sum()) == kept
    assert int((mask > 0).sum()) == kept, "outside of the box nothing counts"


def test_frayed_edges_beside_a_solid_piece_do_not_count() -> None:
    template = np.full((64, 64), 255, np.uint8)
    tested = template.copy()
    tested[20:26, 20:28] = 0
    tested[30:45, 40] = 0
    assert int((derive(tested, template, [Box(10, 10, 50, 50, 2)]) > 0).sum()) == 48


@pytest.mark.parametrize("text", ["1 2 3\n", "a b c d e\n", "5 5 5 9 1\n", "1 1 9 9 7\n", "1 1 9 9 0\n", "\xff"])
def test_a_broken_annotation_names_its_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "boxes.txt"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="boxes"):
        read_boxes(path)


@pytest.mark.parametrize("text", ["", "\n", "one.jpg\n", "one.png two.txt\n"])
def test_a_broken_list_names_itself(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(DataError, match="list"):
        read_list(path)


def test_missing_and_corrupt_pictures_are_named(tmp_path: Path) -> None:
    data = DeepPcb(a_set(tmp_path, ["1"]))
    (tmp_path / "group1" / "1" / "1_temp.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="1_temp"):
        data.read("1")
    (tmp_path / "group1" / "1" / "1_temp.jpg").unlink()
    with pytest.raises(DataError, match="1_temp"):
        read_all(data)


def test_masks_and_references_of_another_size_are_refused() -> None:
    image, mask = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    for bad in ((image[:4], None), (image, image[:, :4])):
        with pytest.raises(DataError, match="one size"):
            Sample("x", bad[0], mask, bad[1])
    with pytest.raises(DataError, match="no reference"):
        Sample("x", image, mask).inputs(("image", "reference"))


def pairs() -> list[Sample]:
    mask = np.zeros((200, 200), np.uint8)
    mask[150:158, 40:50] = 3
    reference = np.where(np.arange(200)[None, :] // 20 % 2 > 0, 255, 0).astype(np.uint8) * np.ones((200, 1), np.uint8)
    image = np.where(mask > 0, 255 - reference, reference).astype(np.uint8)
    return [Sample("a", np.dstack([image] * 3), mask, np.dstack([reference] * 3))]


def test_crops_are_the_same_for_a_seed_and_are_aimed_at_defects() -> None:
    how = Augment(lit=0.0, noisy=0.0, blurred=0.0)
    first, again = crops(pairs(), 64, 4, how), crops(pairs(), 64, 4, how)
    seen = 0
    for _ in range(30):
        a, b = next(first), next(again)
        assert a.reference is not None
        assert a.image.shape == a.reference.shape == (64, 64, 3)
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.mask, b.mask)
        seen += bool(a.mask.any())
    assert seen >= 20


def test_without_faults_a_crop_still_tells_where_the_pair_differs() -> None:
    plain = Augment(aimed=1.0).scaled_by(0.0)
    stream = crops(pairs(), 64, seed=1, augment=plain)
    for _ in range(16):
        crop = next(stream)
        assert crop.reference is not None
        assert np.array_equal((crop.image != crop.reference).any(axis=2), crop.mask > 0)


def test_faults_are_scaled_and_the_aim_is_not() -> None:
    half = Augment(aimed=0.7, lit=0.4, noisy=0.2).scaled_by(0.5)
    assert (half.aimed, half.lit, half.noisy) == (0.7, 0.2, 0.1)


def test_masks_are_of_the_pictures_as_they_are_unless_asked_otherwise(tmp_path: Path) -> None:
    folder = a_set(tmp_path, ["7"], shift=5)
    as_it_is = DeepPcb(folder).read("7").mask
    aligned = DeepPcb(folder, aligned_masks=True).read("7").mask
    expected = np.zeros((160, 160), np.uint8)
    expected[40:50, 80:92] = 1
    assert np.array_equal(aligned, expected)
    assert int((as_it_is > 0).sum()) > 2 * int((aligned > 0).sum())
