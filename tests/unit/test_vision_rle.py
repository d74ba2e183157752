import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from agent.core.vision import rle

Bits = npt.NDArray[np.bool_]
MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))

ANY_SPEED = settings(deadline=None)


@st.composite
def region_masks(draw: st.DrawFn) -> rle.Mask:
    cells = draw(MASKS)
    rows = np.cumsum([draw(st.integers(0, 3)), *draw(_steps(cells.shape[0]))])
    columns = np.cumsum([draw(st.integers(0, 3)), *draw(_steps(cells.shape[1]))])
    frame_hw = int(rows[-1]) + draw(st.integers(0, 3)), int(columns[-1]) + draw(st.integers(0, 3))
    return rle.Mask(cells, rows, columns, frame_hw)


def _steps(count: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, 4), min_size=count, max_size=count)


def _drawn(mask: rle.Mask) -> Bits:
    frame = np.zeros(mask.frame_hw, np.bool_)
    x, y, w, h = mask.bbox
    frame[y : y + h, x : x + w] = mask.pixels()
    return frame


@ANY_SPEED
@given(MASKS)
def test_counts_come_back_as_the_mask(mask: Bits) -> None:
    counts = rle.encode(mask)
    assert (rle.decode(counts, mask.shape) == mask).all()
    assert sum(counts[1::2]) == mask.sum()


@ANY_SPEED
@given(MASKS)
def test_text_is_what_pycocotools_writes(mask: Bits) -> None:
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = rle.compress(rle.encode(mask))
    assert ours == theirs["counts"].decode()
    assert rle.decompress(ours) == rle.encode(mask)


@ANY_SPEED
@given(region_masks())
def test_a_region_is_coded_as_if_it_were_drawn_on_the_picture(mask: rle.Mask) -> None:
    drawn = _drawn(mask)
    assert mask.counts() == rle.encode(drawn)
    theirs = coco.frPyObjects({"size": list(mask.frame_hw), "counts": mask.counts()}, *mask.frame_hw)
    assert theirs["counts"].decode() == rle.compress(mask.counts())
    assert theirs == coco.encode(np.asfortranarray(drawn.astype(np.uint8)))


@ANY_SPEED
@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=40))
def test_any_counts_survive_the_text(counts: list[int]) -> None:
    assert rle.decompress(rle.compress(counts)) == counts


@pytest.mark.parametrize(
    ("counts", "size"),
    [
        pytest.param([5], (2, 2), id="too many"),
        pytest.param([], (2, 2), id="none"),
        pytest.param([-1, 5], (2, 2), id="negative"),
    ],
)
def test_counts_that_do_not_fill_the_picture_are_refused(counts: list[int], size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="do not fill"):
        rle.decode(counts, size)


@pytest.mark.parametrize("text", [pytest.param("a\x7f", id="not COCO's alphabet"), pytest.param("P", id="cut off")])
def test_text_that_is_no_mask_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"COCO|within a count"):
        rle.decompress(text)
