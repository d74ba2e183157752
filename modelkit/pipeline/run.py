"""From a pipeline file to a bundle: reads the file, runs the steps, says what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelkit.pipeline.engine import Ran, Watcher, run
from modelkit.pipeline.load import PipelineError, load
from modelkit.pipeline.setting import Setting
from modelkit.pipeline.steps import steps_of


@dataclass(frozen=True, slots=True)
class Places:
    """Folders: where bundles go, where steps keep what they make (a folder of this pipeline's own), and where the
    converter lives, which is made if absent.
    """

    out: Path
    work: Path | None
    environment: Path


@dataclass(frozen=True, slots=True)
class Built:
    """`bundle`, `card` (Markdown) and `report` are paths; `ran` says which steps were made and which skipped."""

    bundle: Path
    card: Path
    report: Path
    ran: Ran


def build(
    file: Path, places: Places, watcher: Watcher, overrides: Sequence[str] = (), *, same_code: bool = False
) -> Built:
    """Errors: PipelineError for the file; GateFailed, and then there is no bundle; what the steps raise, and what was
    made until then is kept.
    """
    spec = load(file, overrides)
    out = places.out.resolve()
    work = out / f".{spec.name}-{spec.version}.work" if places.work is None else places.work.resolve()
    if out == work:
        raise PipelineError(f"bundles and work cannot share {out}: name another --out or --work")
    setting = Setting(spec, places.environment.resolve(), out, file)
    ran = run(steps_of(setting), work, watcher, same_code=same_code)
    bundle = setting.bundle
    return Built(bundle, Path(f"{bundle}.card.md"), Path(f"{bundle}.report.html"), ran)
