"""Convert to int8 for the targets, and ask the simulator what that gives."""

from modelkit import build
from modelkit.convert_rknn import Hybrid, Progress
from modelkit.pipeline.engine import Step, Task
from modelkit.pipeline.setting import Setting


def step(setting: Setting) -> Step:
    """Leaves `rknn/TARGET.rknn`, and maps and scores of the validation and the golden pictures beside them."""
    spec = setting.spec
    part = spec.quantisation
    how = build.How(
        targets=tuple(target.value for target in spec.targets),
        algorithm=part.algorithm,
        hybrid=None if part.hybrid is None else Hybrid(part.hybrid.most_layers, part.hybrid.least_cosine),
    )

    def run(task: Task) -> None:
        places = task.inputs["export"] / "conversion.onnx", task.inputs["calibrate"] / "calibration.txt", task.folder
        build.converted(setting.source, places, setting.environment, how, _tell)

    parameters = {"targets": how.targets, **part.model_dump()}
    code = ("modelkit.rknn_worker",)
    return Step("convert", run, needs=("data", "export", "calibrate"), parameters=parameters, code=code)


def _tell(progress: Progress) -> None:
    print(f"{progress.number}/{progress.of} {progress.target}: {progress.step}", flush=True)
