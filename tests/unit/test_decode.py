import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.core.decode import CHUNK_PX, NotFinite, Scratch, decode, decode_class_map

SHAPES = st.tuples(st.integers(2, 9), st.integers(1, 12), st.integers(1, 12))
FLOATS = SHAPES.flatmap(lambda s: hnp.arrays(np.float32, s, elements=st.floats(-30, 30, width=32)))
BYTES = SHAPES.flatmap(lambda s: hnp.arrays(np.int8, s))


def _plain(logits: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    odds = np.exp(logits - logits.max(axis=0))
    return logits.argmax(axis=0), 255 * odds.max(axis=0) / odds.sum(axis=0)


def _agree(logits: npt.NDArray[np.float32] | npt.NDArray[np.int8], scale: float) -> None:
    class_map, score = decode(logits, scale=scale)
    winner, softmax = _plain(logits.astype(np.float64) * scale)
    assert (class_map == winner).all()
    assert (score[winner == 0] == 0).all()
    assert (np.abs(score.astype(float) - softmax)[winner > 0] <= 0.501).all()


@settings(deadline=None)
@given(FLOATS)
def test_float_logits_give_argmax_and_softmax(logits: npt.NDArray[np.float32]) -> None:
    _agree(logits, 1.0)


@settings(deadline=None)
@given(BYTES, st.floats(0.01, 0.5))
def test_int8_logits_need_no_dequantisation(logits: npt.NDArray[np.int8], scale: float) -> None:
    _agree(logits, scale)


def test_a_frame_that_is_all_defect_is_decoded_in_pieces() -> None:
    logits = np.random.default_rng(3).normal(size=(5, 300, 300)).astype(np.float32)
    logits[0] = -20
    assert logits[0].size > 2 * CHUNK_PX
    _agree(logits, 1.0)


def test_scratch_is_written_and_keeps_nothing_of_the_last_frame() -> None:
    scratch = Scratch.of(8, 8)
    logits = np.zeros((3, 8, 8), np.float32)
    logits[2] = 5
    class_map, score = decode(logits, scratch)
    assert class_map is scratch.class_map
    assert score is scratch.score
    assert (class_map == 2).all()
    decode(-logits, scratch)
    assert not class_map.any()
    assert not score.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_not_finite_is_never_an_ok(value: float) -> None:
    logits = np.zeros((3, 8, 8), np.float32)
    logits[:, 4, 4] = value
    with pytest.raises(NotFinite):
        decode(logits)


@pytest.mark.parametrize(
    "logits",
    [
        pytest.param(np.zeros((1, 4, 4), np.float32), id="one class"),
        pytest.param(np.zeros((4, 4), np.float32), id="two dimensions"),
        pytest.param(np.zeros((3, 4, 4), np.float64), id="float64"),
        pytest.param(np.zeros((256, 2, 2), np.float32), id="more ids than a byte holds"),
    ],
)
def test_other_logits_are_refused(logits: npt.NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="logits are"):
        decode(logits)


@pytest.mark.parametrize(
    "scratch",
    [
        pytest.param(Scratch.of(4, 5), id="another shape"),
        pytest.param(Scratch.of(4, 4, np.int8), id="another type"),
    ],
)
def test_scratch_that_does_not_fit_is_refused(scratch: Scratch) -> None:
    with pytest.raises(ValueError, match="scratch"):
        decode(np.zeros((3, 4, 4), np.float32), scratch)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64])
def test_a_class_map_is_certain_where_there_is_a_defect(dtype: type[np.signedinteger]) -> None:
    output = np.array([[0, 1], [6, 0]], dtype)
    class_map, score = decode_class_map(output, 7, Scratch.of(2, 2))
    assert class_map.tolist() == output.tolist()
    assert score.tolist() == [[0, 255], [255, 0]]


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(np.array([[0, 7]], np.int32), id="a class too many"),
        pytest.param(np.array([[0, -1]], np.int32), id="negative"),
        pytest.param(np.array([[0.0, 1.0]], np.float32), id="float"),
        pytest.param(np.zeros((0, 3), np.int32), id="empty"),
    ],
)
def test_a_class_map_that_the_model_cannot_give_is_refused(output: npt.NDArray[np.int32]) -> None:
    with pytest.raises(ValueError, match="class map"):
        decode_class_map(output, 7)
