import numpy as np
import pytest

from agent.core.vision import Region, draw
from agent.core.vision.rle import Mask
from schemas.manifest import DefectClass, Severity
from schemas.recipe import Evaluation

CLASSES = [
    DefectClass(id=0, name="background", colour="#000000", severity=Severity.NONE),
    DefectClass(id=1, name="mousebite", colour="#ff00ff", severity=Severity.MAJOR),
]


def _region(bbox: tuple[int, int, int, int], frame_hw: tuple[int, int]) -> Region:
    x, y, w, h = bbox
    mask = Mask(np.ones((h, w), np.bool_), np.arange(y, y + h + 1), np.arange(x, x + w + 1), frame_hw)
    corners = ((x, y), (x + w, y), (x + w, y + h), (x, y + h))
    return Region(1, "mousebite", 0.87, w * h, bbox, corners, mask)


@pytest.mark.parametrize(
    ("size", "bbox"),
    [
        pytest.param((720, 960), (400, 300, 80, 60), id="large"),
        pytest.param((720, 960), (400, 300, 1, 1), id="one pixel"),
        pytest.param((720, 960), (0, 0, 20, 20), id="in the corner"),
        pytest.param((720, 960), (930, 700, 30, 20), id="in the other corner"),
        pytest.param((1080, 1920), (900, 500, 300, 200), id="1080p"),
        pytest.param((1, 1), (0, 0, 1, 1), id="picture of one pixel"),
    ],
)
def test_a_region_is_marked_with_its_colour_and_the_picture_is_left_alone(
    size: tuple[int, int], bbox: tuple[int, int, int, int]
) -> None:
    rgb = np.full((*size, 3), 90, np.uint8)
    picture = draw(rgb, [_region(bbox, size)], CLASSES, Evaluation.UNDEFINED)
    assert (rgb == 90).all()
    assert picture.shape == rgb.shape
    changed = picture != rgb
    assert changed.any()
    if size != (1, 1):
        assert (picture == (255, 0, 255)).all(axis=2).sum() > 200  # label and outline


def test_the_evaluation_stands_in_the_corner() -> None:
    rgb = np.full((720, 960, 3), 90, np.uint8)
    corners = {tuple(draw(rgb, [], CLASSES, evaluation)[2, 2]) for evaluation in Evaluation}
    assert len(corners) == len(Evaluation)


def test_a_region_of_another_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="picture of"):
        draw(np.zeros((50, 50, 3), np.uint8), [_region((1, 1, 5, 5), (99, 99))], CLASSES, Evaluation.OK)
