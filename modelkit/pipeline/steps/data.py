"""Look through the data once: whatever is broken ends the build here, before hours of training."""

import json
from dataclasses import asdict
from typing import Final

import cv2

from modelkit.data import DataError
from modelkit.data.overview import balance, contact_sheet
from modelkit.pipeline.engine import Step, Task
from modelkit.pipeline.seen import Drawn
from modelkit.pipeline.setting import Setting
from modelkit.pipeline.spec_data import Boards
from modelkit.pipeline.stamp import digest_files

_SHOWN: Final = 12


def step(setting: Setting) -> Step:
    """Leaves `data.json`, what the data are, by content, and `sheet.png` of some of them."""
    spec, supply = setting.spec, setting.supply
    files = supply.files()

    def run(task: Task) -> None:
        is_drawn = isinstance(spec.data, Boards)
        unseen = Drawn(setting.source.validation()) if is_drawn else supply.validation
        parts = {"validation": unseen} if is_drawn else {"train": supply.train, "validation": unseen}
        told = {name: balance(part) for name, part in parts.items()}
        if absent := told.get("train", told["validation"]).absent():
            words = f"no picture to learn from shows {', '.join(absent)}"
            if not is_drawn:
                raise DataError(f"{words}: add some, or take the class out")
        document = {
            "dataset": setting.source.dataset,
            "digest": digest_files(files),
            **{name: asdict(each) for name, each in told.items()},
        }
        (task.folder / "data.json").write_text(json.dumps(document, indent=1))
        step_by = max(1, len(unseen.ids) // _SHOWN)
        sheet = contact_sheet(unseen, unseen.ids[::step_by][:_SHOWN])
        cv2.imwrite(str(task.folder / "sheet.png"), sheet[:, :, ::-1])

    return Step("data", run, parameters=spec.data.model_dump(mode="json"), files=files)
