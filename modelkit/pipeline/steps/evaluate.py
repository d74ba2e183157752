"""Measure the packed bundle: float, int8, and through a board's segmenter."""

from collections.abc import Iterable, Iterator

from modelkit import build
from modelkit.bundle_eval import Evaluated, evaluate_bundle, open_bundle
from modelkit.measure import Reading
from modelkit.pipeline.engine import Step, Task
from modelkit.pipeline.setting import Setting
from modelkit.readers import Inputs, Reader, board_reader, board_segmenter, cpu_reader
from modelkit.report.document import BOARD, FLOAT, INT8, Document, Run
from modelkit.report.worst import rows, sheet


def step(setting: Setting) -> Step:
    """Leaves `evaluation.json`, and `worst.png` of int8's worst pictures."""
    how = setting.spec.evaluation

    def run(task: Task) -> None:
        source = setting.source
        samples, truth = setting.supply.measured(), source.boxes()
        manifest, model = open_bundle(task.inputs["pack"] / setting.title)
        readers = {FLOAT: cpu_reader(model), INT8: said(task, len(samples))}
        if how.board:
            readers[BOARD] = board_reader(board_segmenter(manifest, model))
        done: dict[str, Evaluated] = {}
        for name, reader in readers.items():
            done[name] = evaluate_bundle(manifest, reader, samples, truth)
        document = Document.of(manifest, source.dataset, {name: Run.of(each) for name, each in done.items()})
        document.write(task.folder / "evaluation.json")
        if how.worst:
            worst = rows(samples, done[INT8].maps, done[INT8].measured.figures.by_image, how.worst)
            (task.folder / "worst.png").write_bytes(sheet(worst, [spec.colour for spec in manifest.classes]))

    return Step("evaluate", run, needs=("data", "convert", "pack"), parameters=how.model_dump())


def said(task: Task, count: int) -> Reader:
    """What the simulator gave for the validation pictures when the models were converted."""

    def read(_: Iterable[Inputs]) -> Iterator[Reading]:
        return iter(build.simulated(task.inputs["convert"] / "rknn", "validation", count))

    return read
