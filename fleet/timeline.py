"""The picture of a rollout: every result of every board as a stroke, by time, coloured by the model that made it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fleet.core.swap import Mark

Canvas = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
Moments = Sequence[tuple[datetime, str]]

WIDTH_PX, ROW_PX = 1600, 96
_LEFT, _RIGHT, _TOP, _BOTTOM = 110, 30, 118, 40
_STROKE_PX, _TALL_PX = 26, 56
_PAPER, _INK, _GRID = (255, 255, 255), (60, 60, 60), (225, 225, 225)
_MODELS: tuple[Colour, ...] = ((180, 119, 31), (44, 160, 44), (40, 39, 214), (189, 103, 148))
"""BGR, in the order in which models come."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def write(rows: Mapping[str, Sequence[Mark]], moments: Moments, path: Path) -> bool:
    """Write a PNG with a row for each board and a line at each moment; False where there are too few results. A part
    that is not OK is a tall stroke.
    """
    marks = sorted((mark for row in rows.values() for mark in row), key=lambda mark: mark.at)
    if len(marks) < 3:
        return False
    began, ended = marks[0].at, marks[-1].at
    span_s = max(1e-3, (ended - began).total_seconds())

    def across(at: datetime) -> int:
        share = min(1.0, max(0.0, (at - began).total_seconds() / span_s))
        return round(_LEFT + share * (WIDTH_PX - _LEFT - _RIGHT))

    height_px = _TOP + ROW_PX * len(rows) + _BOTTOM
    canvas = np.full((height_px, WIDTH_PX, 3), _PAPER, np.uint8)
    colours = {version: _MODELS[i % len(_MODELS)] for i, version in enumerate(dict.fromkeys(m.version for m in marks))}
    for number, (name, row) in enumerate(rows.items()):
        _row(canvas, name, row, (_TOP + ROW_PX * (number + 1) - 20, across, colours))
    _moments(canvas, moments, across)
    _seconds(canvas, span_s)
    _legend(canvas, colours)
    return bool(cv2.imwrite(str(path), canvas))


Drawing = tuple[int, Callable[[datetime], int], dict[str, Colour]]


def _row(canvas: Canvas, name: str, marks: Sequence[Mark], drawing: Drawing) -> None:
    base_px, across, colours = drawing
    _text(canvas, name, (12, base_px - 8))
    cv2.line(canvas, (_LEFT, base_px), (WIDTH_PX - _RIGHT, base_px), _GRID, 1)
    for mark in marks:
        x_px = across(mark.at)
        tall_px = _TALL_PX if mark.is_not_ok else _STROKE_PX
        cv2.line(canvas, (x_px, base_px), (x_px, base_px - tall_px), colours[mark.version], 2, cv2.LINE_AA)


def _moments(canvas: Canvas, moments: Moments, across: Callable[[datetime], int]) -> None:
    for number, (at, text) in enumerate(moments):
        x_px, y_px = across(at), 56 + 22 * (number % 3)
        cv2.line(canvas, (x_px, y_px + 4), (x_px, canvas.shape[0] - _BOTTOM), _INK, 1, cv2.LINE_AA)
        width_px = cv2.getTextSize(text, _FONT, 0.5, 1)[0][0]
        _text(canvas, text, (min(x_px + 4, WIDTH_PX - _RIGHT - width_px), y_px))


def _seconds(canvas: Canvas, span_s: float) -> None:
    step_s = next(step for step in (1, 5, 10, 30, 60, 300, 3600) if span_s / step <= 20 or step == 3600)
    for second in range(0, int(span_s) + 1, step_s):
        x_px = round(_LEFT + second / span_s * (WIDTH_PX - _LEFT - _RIGHT))
        _text(canvas, f"{second} s", (x_px - 10, canvas.shape[0] - 14))


def _legend(canvas: Canvas, colours: dict[str, Colour]) -> None:
    text = "A stroke is a result, a tall one a part that is not OK; by model:"
    _text(canvas, text, (_LEFT, 28))
    x_px = _LEFT + cv2.getTextSize(text, _FONT, 0.5, 1)[0][0] + 24
    for version, colour in colours.items():
        cv2.circle(canvas, (x_px, 23), 6, colour, -1, cv2.LINE_AA)
        _text(canvas, version, (x_px + 12, 28))
        x_px += 40 + 11 * len(version)


def _text(canvas: Canvas, text: str, at_px: tuple[int, int]) -> None:
    cv2.putText(canvas, text, at_px, _FONT, 0.5, _INK, 1, cv2.LINE_AA)
