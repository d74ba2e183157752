"""Hand the bundle out, with its card and its report beside it."""

import json
import shutil
from pathlib import Path
from typing import Final

from modelkit.card import Told, card_of, write
from modelkit.pipeline.engine import Step, Task
from modelkit.pipeline.gates import check
from modelkit.pipeline.setting import Setting
from modelkit.pipeline.stamp import digest_file, write_json
from modelkit.pipeline.steps.pack import changes, links
from modelkit.report.document import Document, flat
from schemas.manifest import Manifest

_RECORD: Final = "released.json"
"""In the work folder: which bundle was handed out, so that none but this is ever replaced or taken back."""


def step(setting: Setting) -> Step:
    """Leaves the bundle in the folder of bundles, and `.card.md`, `.card.json` and `.report.html` of its name."""
    chain = links(setting)

    def run(task: Task) -> None:
        made = task.inputs["pack"] / setting.title
        manifest = Manifest.model_validate_json((made / "manifest.json").read_bytes())
        document = Document.read(task.inputs["evaluate"] / "evaluation.json")
        checked = check(setting.spec.gates, flat(document))
        told = _told(setting, [(each.text, each.holds) for each in checked])
        card = card_of(manifest, document, changes([task.inputs[name] for name in chain]), told)
        _hand_out(made, setting.bundle, task.folder.parent)
        write(card, *beside(setting)[:2])
        shutil.copyfile(task.inputs["report"] / "report.html", beside(setting)[2])
        (task.folder / "bundle.json").write_text(json.dumps({"bundle": str(setting.bundle)}))

    needs = ("gates", "pack", "evaluate", "report", *chain)
    outside = (setting.bundle, *beside(setting))
    parameters = [str(setting.bundle), setting.spec.data.terms, setting.spec.limits]
    return Step("release", run, needs=needs, parameters=parameters, outside=outside)


def _told(setting: Setting, gates: list[tuple[str, bool]]) -> Told:
    spec = setting.spec
    return Told(
        source=setting.supply.words,
        terms=spec.data.terms,
        gates=gates,
        limits=spec.limits,
        reproduce=[
            f"rkfleet model build {setting.file}",
            f"rkfleet model evaluate {setting.bundle}{setting.supply.options} --int8",
        ],
    )


def beside(setting: Setting) -> tuple[Path, Path, Path]:
    """The card as Markdown and as JSON, and the report."""
    stem = str(setting.bundle)
    return Path(f"{stem}.card.md"), Path(f"{stem}.card.json"), Path(f"{stem}.report.html")


def _hand_out(made: Path, bundle: Path, work: Path) -> None:
    if bundle.exists() and not _is_ours(bundle, work):
        raise FileExistsError(f"{bundle} is there and another build's: raise the version, or remove it")
    bundle.parent.mkdir(parents=True, exist_ok=True)
    part = bundle.with_name(f".{bundle.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(made, part)
    write_json(work / _RECORD, {"manifest": digest_file(made / "manifest.json")})
    shutil.rmtree(bundle, ignore_errors=True)
    part.rename(bundle)


def withdraw(setting: Setting, work: Path) -> None:
    """Remove what an earlier run from this work folder handed out, if it is still that."""
    bundle = setting.bundle
    if bundle.exists() and _is_ours(bundle, work):
        shutil.rmtree(bundle)
        for path in beside(setting):
            path.unlink(missing_ok=True)
        print(f"{bundle} is taken back: what is built now does not hold its gates")


def _is_ours(bundle: Path, work: Path) -> bool:
    try:
        recorded = json.loads((work / _RECORD).read_text())["manifest"]
        return bool(digest_file(bundle / "manifest.json") == recorded)
    except (OSError, ValueError, KeyError):
        return False
