"""What a set holds, counted and seen; and drawn boards behind the same port."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from modelkit import synthesise
from modelkit.data import DataError, Dataset, Sample
from modelkit.data.boards import Boards
from modelkit.data.overview import ClassShare, balance, contact_sheet, palette, stained


@dataclass
class Few:
    samples: dict[str, Sample]
    classes: tuple[str, ...] = ("background", "open", "short", "spur")
    reads: list[str] = field(default_factory=list)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.samples)

    def read(self, sample_id: str) -> Sample:
        self.reads.append(sample_id)
        return self.samples[sample_id]


def a_sample(name: str, *boxes: tuple[int, int, int, int, int], reference: bool = False) -> Sample:
    mask = np.zeros((60, 80), np.uint8)
    for x1, y1, x2, y2, kind in boxes:
        mask[y1:y2, x1:x2] = kind
    image = np.full((60, 80, 3), 100, np.uint8)
    return Sample(name, image, mask, np.full((60, 80, 3), 40, np.uint8) if reference else None)


def a_set(*, reference: bool = False) -> Few:
    return Few(
        {
            "a": a_sample("a", (0, 0, 10, 10, 1), (20, 0, 25, 10, 1), (40, 40, 42, 42, 2), reference=reference),
            "b": a_sample("b", (0, 0, 10, 10, 1), reference=reference),
            "c": a_sample("c", reference=reference),
        }
    )


def test_pixels_pictures_and_instances_are_counted_by_class() -> None:
    done: list[tuple[int, int]] = []
    got = balance(a_set(), progress=lambda *at: done.append(at))
    assert got.classes == (
        ClassShare("background", 3 * 4800 - 254, 3, 0),
        ClassShare("open", 250, 2, 3),
        ClassShare("short", 4, 1, 1),
        ClassShare("spur", 0, 0, 0),
    )
    assert (got.images, got.clean, got.pixels) == (3, 1, 3 * 4800)
    assert got.absent() == ("spur",)
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_only_the_samples_that_are_named_are_read_once() -> None:
    data = a_set()
    assert balance(data, ["b"]).images == 1
    contact_sheet(data, ["c"], 1)
    assert data.reads == ["b", "c"]


@pytest.mark.parametrize("columns", [1, 2, 5])
@pytest.mark.parametrize("reference", [False, True])
def test_a_sheet_shows_picture_reference_and_mask_of_each(columns: int, reference: bool) -> None:
    sheet = contact_sheet(a_set(reference=reference), columns=columns)
    assert sheet.dtype == np.uint8
    high, wide = sheet.shape[:2]
    pictures = 3 if reference else 2
    assert wide >= columns * pictures * 240
    assert high >= -(-3 // columns) * 180
    colours = palette(4)
    for class_id in (1, 2):
        pure, half = (
            int((sheet == shade).all(axis=2).sum()) for shade in (colours[class_id], 50 + colours[class_id] // 2)
        )
        assert pure > 0
        assert half > 0 or class_id == 2
    grey = int((sheet == 100).all(axis=2).sum())
    assert grey > 3 * 240 * 180
    assert (int((sheet == 40).all(axis=2).sum()) > 3 * 200 * 180) == reference


def test_a_defect_of_a_pixel_is_still_seen_when_pictures_shrink() -> None:
    mask = np.zeros((2000, 2000), np.uint8)
    mask[1003, 777] = 3
    data = Few({"a": Sample("a", np.zeros((2000, 2000, 3), np.uint8), mask)})
    sheet = contact_sheet(data, columns=1)
    legend = 14 * 14
    assert int((sheet == palette(4)[3]).all(axis=2).sum()) > legend


def test_pictures_of_several_sizes_share_a_sheet() -> None:
    tall = Sample("tall", np.zeros((90, 30, 3), np.uint8), np.zeros((90, 30), np.uint8))
    assert contact_sheet(Few({"a": a_sample("a"), "tall": tall}), columns=2).shape[0] > 240


@pytest.mark.parametrize("data", [Few({}), a_set()], ids=["an empty set", "nothing chosen"])
def test_nothing_to_look_at_is_said(data: Few) -> None:
    for look in (balance, contact_sheet):
        with pytest.raises(DataError, match="no samples"):
            look(data, [])
    with pytest.raises(DataError, match="columns"):
        contact_sheet(a_set(), columns=0)


def test_a_mask_with_more_classes_than_the_set_is_named() -> None:
    with pytest.raises(DataError, match="z: class 9"):
        balance(Few({"z": a_sample("z", (0, 0, 5, 5, 9))}))


def test_colours_of_classes_differ_and_the_background_has_none() -> None:
    colours = palette(40)
    assert colours[0].tolist() == [0, 0, 0]
    assert len({tuple(colour) for colour in colours.tolist()}) == 40
    sample = a_sample("a")
    assert np.array_equal(stained(sample.image, sample.mask, colours), sample.image)


def test_drawn_boards_are_those_of_the_validation_in_any_order() -> None:
    data: Dataset = Boards(6, first=8, size_px=64)
    wanted = synthesise.validation(6, 64, first=8)
    assert data.ids == ("00000", "00001", "00002", "00003", "00004", "00005")
    for number in (5, 0, 3):
        sample = data.read(data.ids[number])
        assert np.array_equal(sample.image, wanted[number].image)
        assert np.array_equal(sample.mask, wanted[number].mask)
    assert len(data.classes) == 7


def test_drawn_boards_come_with_a_reference_if_asked() -> None:
    shots = synthesise.Shots(64, binarised_share=1.0)
    sample = Boards(2, shots=shots).read("00001")
    (wanted,) = synthesise.pairs(1, shots, first=1)
    assert sample.reference is not None
    assert wanted.reference is not None
    assert np.array_equal(sample.reference, wanted.reference)
    with pytest.raises(DataError, match="at least one"):
        Boards(0)
