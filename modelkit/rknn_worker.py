"""Runs inside the conversion environment: builds the models and asks the simulator what they give.

`python -m modelkit.rknn_worker JOB.json FD`, where JOB.json is what `modelkit.rknn_job.Job` wrote and FD an open file
descriptor that takes a line of JSON for each step. All files are written to the job's `out`; `made.json` is the last.
Imports nothing of the project that needs more than this environment has.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
import onnx
from rknn.api import RKNN

from modelkit.classmap import best
from modelkit.hybrid import Loss, final_cosine, kept_float, parse, ranked
from modelkit.rknn_job import Job, Made
from modelkit.rknn_log import MARK, REFUSED

_CHANNELS = 3


class _Converter:
    """One job: the model is read once, and which layers stay float16 is found once, for the first target."""

    def __init__(self, job: Job, progress: TextIO) -> None:
        self._job, self._progress, self._out = job, progress, Path(job.out)
        model = onnx.load(job.onnx)
        self._nodes = tuple((node.op_type, node.name) for node in model.graph.node)
        self._own_scales = any(kind == "QuantizeLinear" for kind, _ in self._nodes)
        self._model = _with_argmax(model, self._out / "classes.onnx") if job.class_map else job.onnx
        self._float16: list[Loss] | None = None
        self._cosines: list[float] = []
        self._target, self._number = "", 0

    def run(self) -> Made:
        job = self._job
        if job.dtype == "int8" and not (self._own_scales or job.calibration):
            raise SystemExit(f"{REFUSED}the model brings no scales of its own: int8 needs calibration pictures")
        if self._own_scales and (job.dtype != "int8" or job.hybrid):
            raise SystemExit(
                "the model brings scales of its own: it converts to int8 as it is, not to float16 or hybrid"
            )
        for self._number, self._target in enumerate(job.targets, 1):
            print(f"{MARK}{self._target}", flush=True)
            rknn = self._hybrid() if job.hybrid else self._built(verbose=True)
            self._do("export", partial(rknn.export_rknn, str(self._out / f"{self._target}.rknn")))
            if self._number == 1 and job.simulate:
                self._simulate(rknn)
            rknn.release()
        layers = tuple(name for each in self._float16 or [] for name in each.tensors)
        how = "none" if job.dtype != "int8" else "qat" if self._own_scales else "ptq"
        return Made(how, layers, tuple(self._cosines), self._nodes)

    def _begun(self, *, verbose: bool, load: bool = True) -> RKNN:
        job = self._job
        rknn = RKNN(verbose=verbose)
        shapes = [[[1, _CHANNELS, *shape]] * job.inputs for shape in job.shapes]
        self._do(
            "configure",
            lambda: rknn.config(
                mean_values=[[job.mean] * _CHANNELS] * job.inputs,
                std_values=[[job.deviation] * _CHANNELS] * job.inputs,
                target_platform=self._target,
                quantized_dtype="w8a8",
                quantized_algorithm=job.algorithm,
                # At its third level the toolkit takes concatenations apart, and computes the parts in float16.
                optimization_level=2 if self._own_scales else 3,
                **({"dynamic_input": shapes} if shapes else {}),
            ),
        )
        if load:
            self._do("load", lambda: rknn.load_onnx(model=self._model))
        return rknn

    def _built(self, *, verbose: bool) -> RKNN:
        rknn = self._begun(verbose=verbose)
        arguments: dict[str, Any] = {"do_quantization": self._job.dtype == "int8" and not self._own_scales}
        if arguments["do_quantization"]:
            arguments["dataset"] = self._job.calibration
        if self._job.batch > 1:
            arguments["rknn_batch_size"] = self._job.batch
        self._do("build", lambda: rknn.build(**arguments))
        return rknn

    def _hybrid(self) -> RKNN:
        """The model with the layers that lose most in float16; which, is found out for the first target."""
        if self._float16 is not None:
            return self._with_float16(self._float16, verbose=True) if self._float16 else self._built(verbose=True)
        rknn = self._built(verbose=False)
        losses = self._analysed(rknn)
        rknn.release()
        candidates, how = ranked(losses), self._job.hybrid
        self._cosines, self._float16 = [final_cosine(losses)], []
        while how and self._cosines[-1] < how.least_cosine and candidates and len(self._float16) < how.most_layers:
            self._float16.append(candidates.pop(0))
            rknn = self._with_float16(self._float16, verbose=False)
            self._cosines.append(final_cosine(self._analysed(rknn)))
            rknn.release()
        # One layer more in float16 does not always help: what was best is what is built.
        del self._float16[self._cosines.index(max(self._cosines)) :]
        return self._with_float16(self._float16, verbose=True) if self._float16 else self._built(verbose=True)

    def _with_float16(self, layers: list[Loss], *, verbose: bool) -> RKNN:
        batch = {"rknn_batch_size": self._job.batch} if self._job.batch > 1 else {}
        first = self._begun(verbose=False)
        self._do("quantise", lambda: first.hybrid_quantization_step1(dataset=self._job.calibration, **batch))
        first.release()
        stem = self._out / Path(self._model).stem
        files = [stem.with_suffix(suffix) for suffix in (".model", ".data", ".quantization.cfg")]
        files[2].write_text(kept_float(files[2].read_text(), layers))
        second = self._begun(verbose=verbose, load=False)
        names = [str(each) for each in files]
        self._do("build", lambda: second.hybrid_quantization_step2(*names))
        return second

    def _analysed(self, rknn: RKNN) -> list[Loss]:
        pictures = Path(self._job.calibration).read_text().splitlines()[0].split()
        folder = self._out / "analysis"
        self._do("analyse", lambda: rknn.accuracy_analysis(inputs=pictures, output_dir=str(folder)))
        return parse((folder / "error_analysis.txt").read_text())

    def _simulate(self, rknn: RKNN) -> None:
        self._do("simulate", rknn.init_runtime)
        job, size = self._job, self._job.batch
        for start in range(0, len(job.simulate), size):
            group = job.simulate[start : start + size]
            full = [*group, *[group[-1]] * (size - len(group))]
            pictures = [_stacked(paths) for paths in zip(*full, strict=True)]
            given = rknn.inference(inputs=pictures, data_format=["nhwc"] * len(pictures))
            if given is None or len(given[0]) != size:
                raise SystemExit(f"{REFUSED}the simulator gave no {size} answers for {group[0][0]}")
            for paths, answer in zip(group, np.asarray(given[0]), strict=False):
                self._keep(Path(paths[0]).stem, answer)

    def _keep(self, name: str, answer: Any) -> None:
        if self._job.class_map:
            winner = answer.reshape(answer.shape[-2:]).astype(np.uint8)
            score = np.where(winner > 0, np.uint8(255), np.uint8(0))
        else:
            winner, score = best(answer.astype(np.float32))
        cv2.imwrite(str(self._out / f"{name}.map.png"), winner)
        cv2.imwrite(str(self._out / f"{name}.score.png"), score)

    def _do(self, step: str, call: Callable[[], object]) -> None:
        told = {"target": self._target, "step": step, "number": self._number, "of": len(self._job.targets)}
        print(json.dumps(told), file=self._progress, flush=True)
        try:
            result = call()
        except ValueError as error:  # what the toolkit raises after it has told the reason in its log
            raise SystemExit(f"{REFUSED}step {step} for {self._target} failed") from error
        if result not in (0, None):
            raise SystemExit(f"{REFUSED}step {step} for {self._target} gave {result}")


def _with_argmax(model: onnx.ModelProto, path: Path) -> str:
    """Write the model with the winning class as its output instead of logits (1, C, H, W); return the path."""
    logits = model.graph.output[0]
    dims = [dim.dim_value or dim.dim_param for dim in logits.type.tensor_type.shape.dim]
    node = onnx.helper.make_node("ArgMax", [logits.name], ["classMap"], name="classMap", axis=1, keepdims=1)
    given = onnx.helper.make_tensor_value_info("classMap", onnx.TensorProto.INT64, [dims[0], 1, *dims[2:]])
    model.graph.node.append(node)
    del model.graph.output[:]
    model.graph.output.append(given)
    onnx.save(model, str(path))
    return str(path)


def _stacked(paths: tuple[str, ...]) -> Any:
    return np.stack([np.asarray(cv2.imread(path), np.uint8)[:, :, ::-1] for path in paths])


def main() -> None:
    job = Job.from_json(Path(sys.argv[1]).read_text())
    with open(int(sys.argv[2]), "w", encoding="utf-8") as progress:  # noqa: PTH123 # a descriptor, not a path
        made = _Converter(job, progress).run()
    (Path(job.out) / "made.json").write_text(json.dumps(asdict(made)))


if __name__ == "__main__":
    main()
