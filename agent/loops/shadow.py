"""A live frame through the model in the shadow, compared with what the active model made of it."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from agent.core.frame import Frame
from agent.core.health import agreement
from agent.errors import AgentError
from agent.loops.inspect import Loaded, Look, StopWatch, look
from agent.loops.orders import ShadowSaw

_STRANGER = 254


def compare(
    frame: Frame, active: tuple[Loaded, Look], shadow: Loaded, monotonic: Callable[[], float]
) -> ShadowSaw | None:
    """Never raises for what the model in the shadow does. Classes are matched by name, maps of another size scaled.
    None for a picture that does not fit the reference of one of them, and tells nothing.
    """
    old, seen = active
    sha256 = shadow.ref.manifest_sha256
    plan = shadow.plan_for(frame)
    try:
        new = look(frame, shadow, plan, StopWatch(monotonic, {})) if plan else None
    except AgentError as error:
        return ShadowSaw(sha256, None, is_same_verdict=False, old_ms=seen.inference_ms, new_ms=0.0, text=error.text)
    if new is None:
        text = f"camera {frame.camera} is not planned for"
        return ShadowSaw(sha256, None, is_same_verdict=False, old_ms=seen.inference_ms, new_ms=0.0, text=text)
    if new.is_misfit or seen.is_misfit:
        return None
    reference = seen.class_map
    class_map = _scaled(_in_terms_of(old, shadow)[new.class_map], reference.shape)
    return ShadowSaw(
        sha256,
        agreement(class_map, reference, len(old.bundle.manifest.classes)),
        is_same_verdict=new.evaluation is seen.evaluation,
        old_ms=seen.inference_ms,
        new_ms=new.inference_ms,
    )


def _in_terms_of(old: Loaded, new: Loaded) -> npt.NDArray[np.uint8]:
    """For each class id of the new model the old one's; a class that the old one does not have agrees with nothing."""
    ids = {each.name: each.id for each in old.bundle.manifest.classes}
    table = np.full(256, _STRANGER, np.uint8)
    for each in new.bundle.manifest.classes:
        table[each.id] = ids.get(each.name, _STRANGER)
    return table


def _scaled(class_map: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """To another height and width, by the nearest pixel."""
    if class_map.shape == shape:
        return class_map
    rows, columns = (np.arange(to) * of // to for to, of in zip(shape, class_map.shape, strict=True))
    return np.asarray(class_map[rows[:, None], columns[None, :]], np.uint8)
