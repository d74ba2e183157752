"""COCO's annotations: polygons, run lengths, crowds, what lies on what; and files that lie."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("pycocotools", reason="the extra modelkit is not installed")

from pycocotools import mask as cocomask

from modelkit.data import DataError
from modelkit.data.coco import Coco

HIGH, WIDE = 20, 30
SQUARE = [2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]
INNER = [4.0, 4.0, 8.0, 4.0, 8.0, 8.0, 4.0, 8.0]


def box(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((HIGH, WIDE), np.uint8)
    mask[y1:y2, x1:x2] = 1
    return mask


def runs(mask: np.ndarray, *, compressed: bool) -> dict[str, Any]:
    packed = cocomask.encode(np.asfortranarray(mask))
    if compressed:
        return {"size": [HIGH, WIDE], "counts": packed["counts"].decode()}
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *ends, flat.size]).tolist()
    return {"size": [HIGH, WIDE], "counts": [0, *counts] if flat[0] else counts}


def annotation(segmentation: object, category: int = 3, **more: object) -> dict[str, object]:
    return {"id": 1, "image_id": 7, "category_id": category, "iscrowd": 0, "segmentation": segmentation} | more


def a_set(folder: Path, *annotations: dict[str, object], **more: object) -> Coco:
    content: dict[str, object] = {
        "info": {"year": 2026},
        "images": [
            {"id": 7, "file_name": "line/a.png", "height": HIGH, "width": WIDE, "license": 1},
            {"id": 9, "file_name": "b.png", "height": HIGH, "width": WIDE},
        ],
        "categories": [{"id": 5, "name": "dent", "supercategory": "x"}, {"id": 3, "name": "scratch"}],
        "annotations": [each | {"id": number} for number, each in enumerate(annotations)],
    } | more
    (folder / "line").mkdir(exist_ok=True)
    for name in ("line/a.png", "b.png"):
        cv2.imwrite(str(folder / name), np.full((HIGH, WIDE, 3), (255, 0, 0), np.uint8))
    (folder / "labels.json").write_text(json.dumps(content))
    return Coco(folder / "labels.json", folder)


def test_classes_follow_the_ids_of_the_categories(tmp_path: Path) -> None:
    data = a_set(tmp_path, annotation([SQUARE], 5))
    assert data.classes == ("background", "scratch", "dent")
    assert data.ids == ("line_a", "b")
    sample = data.read("line_a")
    assert sample.image[0, 0].tolist() == [0, 0, 255]
    assert np.array_equal(sample.mask, 2 * box(2, 2, 12, 12))
    assert not data.read("b").mask.any(), "a picture without annotations is all background"


@pytest.mark.parametrize(
    "segmentation",
    [
        pytest.param([SQUARE], id="a polygon"),
        pytest.param([SQUARE, INNER], id="two polygons of one instance"),
        pytest.param(runs(box(2, 2, 12, 12), compressed=True), id="compressed runs"),
        pytest.param(runs(box(2, 2, 12, 12), compressed=False), id="uncompressed runs"),
    ],
)
def test_every_form_of_a_mask_gives_its_pixels(tmp_path: Path, segmentation: object) -> None:
    assert np.array_equal(a_set(tmp_path, annotation(segmentation)).read("line_a").mask, box(2, 2, 12, 12))


@pytest.mark.parametrize("turned", [False, True])
def test_the_smaller_of_two_instances_lies_on_top_whatever_their_order(tmp_path: Path, turned: bool) -> None:
    pieces = [annotation([SQUARE], 3), annotation([INNER], 5)]
    mask = a_set(tmp_path, *(reversed(pieces) if turned else pieces)).read("line_a").mask
    expected = box(2, 2, 12, 12)
    expected[4:8, 4:8] = 2
    assert np.array_equal(mask, expected)


def test_a_crowd_lies_beneath_all_even_if_it_is_smaller(tmp_path: Path) -> None:
    crowd = annotation(runs(box(4, 4, 8, 8), compressed=False), 5, iscrowd=1)
    beside = annotation(runs(box(20, 2, 24, 6), compressed=True), 5, iscrowd=1)
    mask = a_set(tmp_path, annotation([SQUARE], 3), crowd, beside).read("line_a").mask
    assert np.array_equal(mask, box(2, 2, 12, 12) + 2 * box(20, 2, 24, 6))


def test_an_annotation_without_pixels_changes_nothing(tmp_path: Path) -> None:
    assert not a_set(tmp_path, annotation([])).read("line_a").mask.any()


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ({"size": [HIGH, WIDE], "counts": [0, 50]}, "does not fill"),
        ({"size": [HIGH, WIDE], "counts": [0, 601]}, "does not fill"),
        ({"size": [HIGH, WIDE], "counts": [700, -100]}, "does not fill"),
        ({"size": [HIGH, WIDE], "counts": []}, "does not fill"),
        ({"size": [WIDE, HIGH], "counts": [600]}, "does not fill"),
        ({"size": [HIGH, WIDE], "counts": "52203"}, "does not fill"),
        ({"size": [HIGH, WIDE], "counts": "PP"}, "within a count"),
        ({"size": [HIGH, WIDE], "counts": "é"}, "no character"),
        ([[*SQUARE, 5.0]], "odd number"),
    ],
)
def test_masks_that_lie_are_named_before_the_library_sees_them(
    tmp_path: Path, segmentation: object, words: str
) -> None:
    data = a_set(tmp_path, annotation([INNER]), annotation(segmentation))
    with pytest.raises(DataError, match=rf"labels\.json, annotation 1: .*{words}"):
        data.read("line_a")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"images": []}, "names no picture"),
        ({"categories": []}, "categories"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "twice"),
        ({"categories": [{"id": 1, "name": "background"}]}, "twice"),
        ({"images": [{"id": 7, "file_name": "a.png", "height": 0, "width": 5}]}, "images.0.height"),
        ({"images": [{"id": n, "file_name": "a.png", "height": 5, "width": 5} for n in (1, 2)]}, "picture twice"),
        ({"annotations": [annotation([SQUARE], 4)]}, "category 4 is none"),
        ({"annotations": [annotation([SQUARE], image_id=8)]}, "picture 8 is none"),
        ({"annotations": [annotation([[1.0, 2.0, 3.0, 4.0]])]}, "annotations.0.segmentation"),
        ({"annotations": [annotation([[float("nan")] * 6])]}, "annotations.0.segmentation"),
        ({"annotations": 5}, "annotations"),
    ],
)
def test_a_file_that_is_not_in_the_format_is_named_with_the_place(
    tmp_path: Path, more: dict[str, object], words: str
) -> None:
    with pytest.raises(DataError, match=rf"labels\.json.*{words}"):
        a_set(tmp_path, **more)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "\x00"])
def test_no_json_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "labels.json").write_text(content)
    with pytest.raises(DataError, match=r"labels\.json"):
        Coco(tmp_path / "labels.json", tmp_path)


def test_a_picture_of_another_size_than_was_annotated_is_named(tmp_path: Path) -> None:
    data = a_set(tmp_path, annotation([SQUARE]))
    cv2.imwrite(str(tmp_path / "line" / "a.png"), np.zeros((HIGH, 15, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.png is of 15x20 px.*says 30x20"):
        data.read("line_a")


def test_pictures_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    cv2.imwrite(str(tmp_path / "secret.png"), np.zeros((HIGH, WIDE, 3), np.uint8))
    data = a_set(inner, images=[{"id": 7, "file_name": "../secret.png", "height": HIGH, "width": WIDE}])
    with pytest.raises(DataError, match="outside"):
        data.read(data.ids[0])
