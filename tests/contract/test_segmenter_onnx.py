"""The segmenter contract on ONNX Runtime, and what is its own."""

import pickle
import subprocess
import sys
from dataclasses import replace
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
from tests.contract.segmenter_contract import BatchContract, Kind

_STARVED = """
import resource, sys
from pathlib import Path
import numpy as np, onnxruntime
from agent.adapters.segmenter_onnx import OnnxSegmenter
from agent.core.model import ModelSpec
from agent.errors import Retryable
spec = eval(sys.argv[1])
pages = int(Path("/proc/self/statm").read_text().split()[0])
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**29, limits[1]))
segmenter = OnnxSegmenter(spec)
items = [[np.zeros((*spec.shapes[0], 3), np.uint8)]] * spec.batch
try:
    segmenter.segment_all(items)
except Retryable as error:
    print(error.code.name, len(segmenter.segment_all(items[:1])))
resource.setrlimit(resource.RLIMIT_AS, limits)
print(len(segmenter.segment_all(items)))
"""


class TestOnnxSegmenter(probe_model.ProbeContract, BatchContract):
    @classmethod
    def segmenter(cls, spec: ModelSpec) -> Segmenter:
        return OnnxSegmenter(spec)

    def test_threads_do_not_change_the_answer(self, spec: ModelSpec) -> None:
        segmenter = OnnxSegmenter(spec, threads=2)
        self.assert_works(segmenter, spec, seed=9)
        segmenter.close()

    def test_an_open_batch_axis_takes_any_number_in_every_shape(self, tmp_path: Path) -> None:
        spec = self.model(Kind(batch=3), tmp_path)
        segmenter = OnnxSegmenter(spec)
        for number, shape in enumerate([*spec.shapes, *spec.shapes]):
            for count in (3, 1, 2):
                items = [self.inputs(spec, shape, 100 * number + 10 * count + item) for item in range(count)]
                for each, inputs in zip(segmenter.segment_all(items), items, strict=True):
                    self.assert_right(each, spec, inputs)
        segmenter.close()

    @pytest.mark.parametrize("said", [1, 2, 4])
    def test_a_fixed_batch_other_than_the_spec_says_is_refused_at_load(self, said: int, tmp_path: Path) -> None:
        spec = self.model(Kind(shapes=((48, 64),), batch=3), tmp_path)
        self.assert_load_fails(replace(spec, batch=said), FailureCode.MODEL_INVALID)

    def test_pictures_of_two_shapes_do_not_go_in_one_call(self, tmp_path: Path) -> None:
        spec = self.model(Kind(batch=2), tmp_path)
        segmenter = OnnxSegmenter(spec)
        mixed = [self.inputs(spec, shape, 1) for shape in spec.shapes]
        with pytest.raises(Permanent) as caught:
            segmenter.segment_all(mixed)
        assert caught.value.code is FailureCode.SHAPE_MISMATCH
        segmenter.close()

    def test_a_call_without_memory_says_so_and_the_next_one_works(self, tmp_path: Path) -> None:
        """In a process of its own, whose address space is too small for sixteen pictures and enough for one."""
        spec = Kind(shapes=((512, 512),), classes=64, batch=16).spec(tmp_path / "probe.onnx")
        probe_model.build(Path(spec.path), spec)
        ran = subprocess.run(
            [sys.executable, "-c", _STARVED, repr(spec)], capture_output=True, text=True, check=True, timeout=120
        )
        assert ran.stdout.split() == ["NPU_OUT_OF_MEMORY", "1", "16"]

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
