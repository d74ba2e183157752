"""The segmenter contract on ONNX Runtime, and what is its own."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from agent.adapters.segmenter_onnx import OnnxFactory, OnnxSegmenter
from agent.core.model import ModelSpec
from agent.errors import Permanent
from agent.ports import Segmenter
from schemas.codes import FailureCode
from tests.contract import probe_model
from tests.contract.segmenter_contract import Kind


class TestOnnxSegmenter(probe_model.ProbeContract):
    @classmethod
    def segmenter(cls, spec: ModelSpec) -> Segmenter:
        return OnnxSegmenter(spec)

    def test_threads_do_not_change_the_answer(self, spec: ModelSpec) -> None:
        segmenter = OnnxSegmenter(spec, threads=2)
        self.assert_works(segmenter, spec, seed=9)
        segmenter.close()

    def test_a_factory_survives_pickling(self, spec: ModelSpec) -> None:
        factory = pickle.loads(pickle.dumps(OnnxFactory(spec, threads=1)))
        assert factory == OnnxFactory(spec)
        segmenter = factory()
        self.assert_works(segmenter, spec, seed=10)
        segmenter.close()

    @pytest.mark.parametrize(
        ("input_type", "channels"),
        [
            pytest.param(TensorProto.FLOAT, 3, id="takes float"),
            pytest.param(TensorProto.INT8, 3, id="takes signed"),
            pytest.param(TensorProto.UINT8, 1, id="takes grey"),
        ],
    )
    def test_a_model_that_takes_other_pixels_is_refused_at_load(
        self, input_type: int, channels: int, tmp_path: Path
    ) -> None:
        spec = Kind().spec(tmp_path / "odd.onnx")
        probe_model.build(Path(spec.path), spec, input_type=input_type, channels=channels)
        self.assert_load_fails(spec, FailureCode.MODEL_INVALID)

    def test_a_class_map_with_more_classes_than_the_spec_is_a_fault(self, tmp_path: Path) -> None:
        spec = Kind(output="classMap").spec(tmp_path / "probe.onnx")
        probe_model.build(Path(spec.path), spec)
        segmenter = OnnxSegmenter(Kind(output="classMap", classes=3).spec(Path(spec.path)))
        with pytest.raises(Permanent) as caught:
            segmenter.segment([np.full((48, 64, 3), 255, np.uint8)])
        assert caught.value.code is FailureCode.MODEL_INVALID
        segmenter.close()

    def test_without_onnxruntime_the_error_says_so(self, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        self.assert_load_fails(spec, FailureCode.RUNTIME_MISSING)

    def test_a_factory_does_not_load_onnxruntime_before_it_is_called(self, spec: ModelSpec) -> None:
        script = (
            "import sys; from agent.adapters.segmenter_onnx import OnnxFactory; from agent.core.model import ModelSpec;"
            f"factory = OnnxFactory({spec!r}); before = 'onnxruntime' in sys.modules;"
            "factory().close(); print(before, 'onnxruntime' in sys.modules)"
        )
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
        assert ran.stdout.split() == ["False", "True"]
