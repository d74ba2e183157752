"""What every segmenter does. A suite for one adapter subclasses this and gives the hooks; pytest collects it there."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from agent.errors import Permanent
from agent.ports import Segmentation, Segmenter
from schemas.codes import FailureCode


@dataclass(frozen=True)
class Kind:
    """A kind of model that the suite asks for."""

    shapes: tuple[tuple[int, int], ...] = ((48, 64), (32, 96))
    inputs: int = 1
    classes: int = 7
    output: Literal["logits", "classMap"] = "logits"
    batch: int = 1

    def spec(self, path: Path) -> ModelSpec:
        return ModelSpec(str(path), self.inputs, self.shapes, self.classes, self.output, self.batch)


KINDS = [
    pytest.param(Kind(), id="two shapes"),
    pytest.param(Kind(shapes=((17, 31),)), id="odd sides"),
    pytest.param(Kind(shapes=((256, 320),)), id="large"),
    pytest.param(Kind(inputs=2), id="two inputs"),
    pytest.param(Kind(classes=2), id="two classes"),
    pytest.param(Kind(output="classMap"), id="class map"),
]
BATCHES = [
    pytest.param(Kind(shapes=((48, 64),), batch=4), id="four pictures"),
    pytest.param(Kind(shapes=((48, 64),), inputs=2, batch=3), id="three pictures of two inputs"),
    pytest.param(Kind(shapes=((48, 64),), output="classMap", batch=2), id="two class maps"),
]


class SegmenterContract:
    """Hooks first, then the contract."""

    score_tolerance = 1
    """Units of 1/255 that a score may be away from the softmax."""

    @classmethod
    def model(cls, kind: Kind, folder: Path) -> ModelSpec:
        """Write a model of that kind. Skip the test where the adapter has no such models."""
        raise NotImplementedError

    @classmethod
    def segmenter(cls, spec: ModelSpec) -> Segmenter:
        raise NotImplementedError

    def inputs(self, spec: ModelSpec, shape: tuple[int, int], seed: int) -> list[Pixels]:
        raise NotImplementedError

    def answer(self, spec: ModelSpec, inputs: list[Pixels]) -> tuple[Pixels, npt.NDArray[np.float64]]:
        """The class map, and the softmax of the winner in 1/255, 0 at background; 255 for a model's own class map."""
        raise NotImplementedError

    def assert_right(self, made: Segmentation, spec: ModelSpec, inputs: list[Pixels]) -> None:
        class_map, score = self.answer(spec, inputs)
        for array in (made.class_map, made.score):
            assert array.dtype == np.uint8
            assert array.shape == inputs[0].shape[:2]
            assert array.flags.c_contiguous
        np.testing.assert_array_equal(made.class_map, class_map)
        assert np.abs(made.score - score).max() <= self.score_tolerance
        assert not made.score[made.class_map == 0].any()
        assert made.inference_ms > 0
        assert made.postprocess_ms >= 0

    def assert_works(self, segmenter: Segmenter, spec: ModelSpec, seed: int) -> None:
        """Two calls with different pictures in each shape, each answered rightly."""
        for i, shape in enumerate([*spec.shapes, *spec.shapes]):
            inputs = self.inputs(spec, shape, seed * 100 + i)
            self.assert_right(segmenter.segment(inputs), spec, inputs)

    @pytest.fixture(scope="class")
    @classmethod
    def spec(cls, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
        return cls.model(Kind(), tmp_path_factory.mktemp("model"))

    @pytest.fixture(scope="class")
    @classmethod
    def opened(cls, spec: ModelSpec) -> Iterator[Segmenter]:
        """One segmenter for the tests that leave it usable."""
        segmenter = cls.segmenter(spec)
        yield segmenter
        segmenter.close()

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_of_model_is_answered_rightly(self, kind: Kind, tmp_path: Path) -> None:
        spec = self.model(kind, tmp_path)
        segmenter = self.segmenter(spec)
        try:
            assert tuple(segmenter.shapes) == spec.shapes
            self.assert_works(segmenter, spec, seed=1)
        finally:
            segmenter.close()

    @pytest.mark.parametrize("count", [0, 2])
    def test_more_pictures_than_the_model_takes_and_none_are_refused(
        self, count: int, opened: Segmenter, spec: ModelSpec
    ) -> None:
        inputs = self.inputs(spec, spec.shapes[0], seed=9)
        with pytest.raises(Permanent) as caught:
            opened.segment_all([inputs] * count)
        assert caught.value.code is FailureCode.SHAPE_MISMATCH
        self.assert_right(opened.segment(inputs), spec, inputs)

    def test_the_runtime_is_named_with_its_version(self, opened: Segmenter) -> None:
        assert opened.runtime.name
        assert opened.runtime.version[0].isdigit()

    def test_inputs_stay_as_they_were_and_may_be_read_only(self, opened: Segmenter, spec: ModelSpec) -> None:
        inputs = self.inputs(spec, spec.shapes[0], seed=2)
        before = [picture.copy() for picture in inputs]
        for picture in inputs:
            picture.setflags(write=False)
        self.assert_right(opened.segment(inputs), spec, inputs)
        for picture, copy in zip(inputs, before, strict=True):
            np.testing.assert_array_equal(picture, copy)

    def test_pictures_that_are_not_contiguous_are_refused_or_answered_rightly(
        self, opened: Segmenter, spec: ModelSpec
    ) -> None:
        mirrored = [picture[:, ::-1] for picture in self.inputs(spec, spec.shapes[0], seed=3)]
        refused = FailureCode.SHAPE_MISMATCH
        try:
            made = opened.segment(mirrored)
        except Permanent as error:
            refused = error.code
        else:
            self.assert_right(made, spec, mirrored)
        assert refused is FailureCode.SHAPE_MISMATCH

    @pytest.mark.parametrize(
        "wrong",
        [
            pytest.param([np.zeros((48, 65, 3), np.uint8)], id="another width"),
            pytest.param([np.zeros((64, 48, 3), np.uint8)], id="sides exchanged"),
            pytest.param([np.zeros((48, 64), np.uint8)], id="grey"),
            pytest.param([np.zeros((48, 64, 4), np.uint8)], id="four channels"),
            pytest.param([np.zeros((3, 48, 64), np.uint8)], id="channels first"),
            pytest.param([np.zeros((1, 48, 64, 3), np.uint8)], id="a batch"),
            pytest.param([np.zeros(0, np.uint8)], id="empty"),
            pytest.param([np.zeros((48, 64, 3), np.float32)], id="float"),
            pytest.param([np.zeros((48, 64, 3), np.int8)], id="signed"),
            pytest.param([], id="no input"),
            pytest.param([np.zeros((48, 64, 3), np.uint8)] * 2, id="one input too many"),
        ],
    )
    def test_wrong_inputs_are_refused_and_right_ones_still_answered(
        self, wrong: list[Pixels], opened: Segmenter, spec: ModelSpec
    ) -> None:
        with pytest.raises(Permanent) as caught:
            opened.segment(wrong)
        assert caught.value.code is FailureCode.SHAPE_MISMATCH
        inputs = self.inputs(spec, spec.shapes[0], seed=4)
        self.assert_right(opened.segment(inputs), spec, inputs)

    def test_a_closed_segmenter_refuses_calls_and_closes_again(self, spec: ModelSpec) -> None:
        segmenter = self.segmenter(spec)
        segmenter.close()
        segmenter.close()
        with pytest.raises(Permanent) as caught:
            segmenter.segment(self.inputs(spec, spec.shapes[0], seed=5))
        assert caught.value.code is FailureCode.INTERNAL

    def test_two_segmenters_of_one_model_do_not_disturb_each_other(self, opened: Segmenter, spec: ModelSpec) -> None:
        inputs = self.inputs(spec, spec.shapes[0], seed=6)
        made = opened.segment(inputs)
        other = self.segmenter(spec)
        self.assert_works(other, spec, seed=7)
        self.assert_right(made, spec, inputs)
        other.close()
        self.assert_right(opened.segment(inputs), spec, inputs)

    @pytest.mark.parametrize("make", ["nothing", "folder"])
    def test_a_missing_file_is_said_to_be_missing(self, make: str, spec: ModelSpec, tmp_path: Path) -> None:
        path = tmp_path if make == "folder" else tmp_path / "absent.model"
        self.assert_load_fails(replace(spec, path=str(path)), FailureCode.MODEL_MISSING)

    @pytest.mark.parametrize("damage", ["empty", "half", "noise", "text"])
    def test_a_damaged_file_is_refused_at_load(self, damage: str, spec: ModelSpec, tmp_path: Path) -> None:
        whole = Path(spec.path).read_bytes()
        noise = np.random.default_rng(8).integers(0, 256, 4_096, np.uint8).tobytes()
        content = {"empty": b"", "half": whole[: len(whole) // 2], "noise": noise, "text": b"<html>404</html>\n" * 20}
        path = tmp_path / Path(spec.path).name
        path.write_bytes(content[damage])
        self.assert_load_fails(replace(spec, path=str(path)), FailureCode.MODEL_INVALID)

    @pytest.mark.parametrize(
        "said",
        [
            pytest.param(Kind(shapes=((48, 64),), classes=8), id="more classes"),
            pytest.param(Kind(shapes=((48, 64),), classes=2), id="fewer classes"),
            pytest.param(Kind(shapes=((48, 64),), inputs=2), id="more inputs"),
            pytest.param(Kind(shapes=((48, 64),), output="classMap"), id="another output"),
            pytest.param(Kind(shapes=((64, 48),)), id="another shape"),
            pytest.param(Kind(shapes=((48, 64), (32, 96))), id="one shape too many"),
        ],
    )
    def test_a_spec_that_differs_from_the_model_is_refused_at_load(self, said: Kind, tmp_path: Path) -> None:
        spec = self.model(Kind(shapes=((48, 64),)), tmp_path)
        self.assert_load_fails(said.spec(Path(spec.path)), FailureCode.MODEL_INVALID)

    def assert_load_fails(self, spec: ModelSpec, code: FailureCode) -> None:
        with pytest.raises(Permanent) as caught:
            self.segmenter(spec)
        assert caught.value.code is code
        assert caught.value.text


class BatchContract(SegmenterContract):
    """For adapters that have models of several pictures."""

    @pytest.mark.parametrize("kind", BATCHES)
    def test_each_picture_of_a_call_gets_its_own_answer(self, kind: Kind, tmp_path: Path) -> None:
        """Fewer than fit as well, after more of them: what was there before must not be seen."""
        spec = self.model(kind, tmp_path)
        segmenter = self.segmenter(spec)
        try:
            assert segmenter.batch == kind.batch
            for seed, count in enumerate((kind.batch, 1, kind.batch, 2)):
                items = [self.inputs(spec, spec.shapes[0], 1_000 + 10 * seed + item) for item in range(count)]
                made = segmenter.segment_all(items)
                assert len(made) == count
                for each, inputs in zip(made, items, strict=True):
                    self.assert_right(each, spec, inputs)
            self.assert_works(segmenter, spec, seed=2)
        finally:
            segmenter.close()
