"""Settings from afar over the board's own: what may be set, and what a camera from afar may not do.

Whoever may publish on `desired/config` must not be able to read the board's files or to run filters on it
(docs/adr/0007-configuration-from-afar.md).
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent.config import CameraSettings, Settings, parse
from agent.errors import Permanent
from schemas.codes import FailureCode

FROM_AFAR = ("camera", "recipe", "timezone", "telemetry", "log_level")
_ORIGIN = "desired/config"
_STREAM = re.compile(r"rtsps?://[!-~]+")
_DEVICE = re.compile(r"/dev/(video\d{1,3}|v4l/by-(id|path)/[A-Za-z0-9_.:+-]+)")
_LIVE = {"rtsp": (_STREAM,), "v4l2": (_DEVICE,), "ffmpeg": (_STREAM, _DEVICE)}
_LIVE_WORDS = {
    "rtsp": "an address rtsp:// or rtsps://",
    "v4l2": "a device /dev/video0 or the like",
    "ffmpeg": "an address rtsp:// or rtsps://, or a device /dev/video0 or the like",
}
_ECHO = re.compile(r"(?<=.); camera: Tuple should have at least 1 item.*$")
_UNION_TAG = re.compile(r"(\.trigger)\.[a-z]+(?=\.)")
_MOST_PATTERN_CHARS = 128
_MOST_DRAWN_PX = 3840 * 2160


def merged(own: Settings, config: Mapping[str, Any], folder: Path) -> Settings:
    """Lay `config` over the board's own settings: a key that is given replaces that key as a whole.

    Relative paths are meant from `folder`, as in the board's settings file.
    Errors: Permanent(CONFIG_INVALID) whose text begins with the field.
    """
    for key in config:
        if key not in FROM_AFAR:
            is_known = key in Settings.model_fields
            why = "is set on the board only" if is_known else f"is no field; there are {', '.join(FROM_AFAR)}"
            raise _invalid(f"{key[:64]}: {why}")
    document = {name: getattr(own, name) for name in Settings.model_fields} | dict(config)
    try:
        parsed = parse(document, folder, _ORIGIN)
    except Permanent as error:
        raise _invalid(_plainly(error.text)) from error
    settings = own.model_copy(update={name: getattr(parsed, name) for name in config})
    for index, raw in enumerate(config.get("camera", ())):
        if ".." in Path(raw.get("source", "")).parts:  # of what came from afar: the board's own folder may have one
            raise _invalid(f"camera.{index}.source: a path from afar has no ..")
        _permit(settings.camera[index], own.camera, f"camera.{index}")
    if "timezone" in config:
        _know_zone(settings.timezone)
    return settings


def _plainly(text: str) -> str:
    """Without the names of our models, and without the echo that no camera is left when the only one is wrong."""
    text = text.removeprefix(f"{_ORIGIN}: ").removeprefix("settings: ")
    return _ECHO.sub("", _UNION_TAG.sub(r"\1", text))


def _permit(camera: CameraSettings, own: Sequence[CameraSettings], place: str) -> None:
    """Raises Permanent where the camera could reach what the board's own settings do not reach."""
    if any(_source(camera) == _source(one) for one in own):
        return
    if camera.ffmpeg_args or camera.ffmpeg_output_args:
        field = "ffmpeg_args" if camera.ffmpeg_args else "ffmpeg_output_args"
        raise _invalid(f"{place}.{field}: only with the source that they have in the board's own settings")
    if camera.kind in {"folder", "video"}:
        _permit_files(camera, own, place)
    elif camera.kind == "synthetic":
        if (camera.width_px or 0) * (camera.height_px or 0) > _MOST_DRAWN_PX:
            raise _invalid(f"{place}: a drawn picture from afar has at most {_MOST_DRAWN_PX} pixels")
    elif not any(form.fullmatch(camera.source) for form in _LIVE[camera.kind]):
        raise _invalid(f"{place}.source: from afar it is {_LIVE_WORDS[camera.kind]}")


def _permit_files(camera: CameraSettings, own: Sequence[CameraSettings], place: str) -> None:
    source = _plain(camera.source)
    folders = [_plain(one.source) for one in own if one.kind == "folder"]
    files = [_plain(one.source) for one in own if one.kind == "video"]
    if not any(source.is_relative_to(folder) for folder in folders) and source not in files:
        raise _invalid(f"{place}.source: it is in no folder that the board's own settings name for a camera")
    if len(camera.pattern) > _MOST_PATTERN_CHARS or "/" in camera.pattern or camera.pattern == "..":
        raise _invalid(f"{place}.pattern: from afar it is a short pattern of file names, without a path")


def _source(camera: CameraSettings) -> tuple[object, ...]:
    """What decides where pictures come from, and what is done on the way."""
    source = str(_plain(camera.source)) if camera.kind in {"folder", "video"} else camera.source
    return camera.kind, source, camera.pattern, camera.ffmpeg_args, camera.ffmpeg_output_args


def _plain(path: str) -> Path:
    """Absolute and without `..`; symbolic links are those of the board's owner and stay as they are."""
    return Path(os.path.normpath(Path(path).absolute()))


def _know_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # the last two: not a name at all
        raise _invalid(f"timezone: {name[:64]!r} is not known") from None


def _invalid(text: str) -> Permanent:
    return Permanent(FailureCode.CONFIG_INVALID, text)
