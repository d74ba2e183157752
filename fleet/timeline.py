"""The picture of a change of models: every result as a dot, by time and by the gap before it, coloured by its model."""

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fleet.core.swap import Mark
from schemas.state import ReportedModel

Canvas = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

WIDTH_PX, HEIGHT_PX = 1600, 560
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 30, 190, 60
_PAPER, _INK, _GRID = (255, 255, 255), (60, 60, 60), (225, 225, 225)
_MODELS: tuple[Colour, ...] = ((180, 119, 31), (44, 160, 44), (40, 39, 214), (189, 103, 148))
"""BGR, in the order in which models come."""
_BANDS: tuple[Colour, Colour] = ((246, 240, 232), (232, 244, 236))
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def write(marks: Sequence[Mark], reports: Sequence[ReportedModel], path: Path) -> bool:
    """Write a PNG; False where there are too few results. Bands are the phases of each generation."""
    in_order = sorted(marks, key=lambda mark: mark.number)
    if len(in_order) < 3:
        return False
    began, ended = in_order[0].at, in_order[-1].at
    span_s = max(1e-3, (ended - began).total_seconds())

    def across(at: datetime) -> int:
        share = min(1.0, max(0.0, (at - began).total_seconds() / span_s))
        return round(_LEFT + share * (WIDTH_PX - _LEFT - _RIGHT))

    gaps_ms = [(later.at - earlier.at).total_seconds() * 1e3 for earlier, later in pairwise(in_order)]
    most_ms = max(100.0, 1.1 * max(gaps_ms))
    canvas = np.full((HEIGHT_PX, WIDTH_PX, 3), _PAPER, np.uint8)
    for number, report in enumerate(reports):
        _bands(canvas, report, number, across)
    _axes(canvas, most_ms, span_s)
    colours = {version: _MODELS[i % len(_MODELS)] for i, version in enumerate(_versions(in_order))}
    for mark, gap_ms in zip(in_order[1:], gaps_ms, strict=True):
        cv2.circle(canvas, (across(mark.at), _height(gap_ms, most_ms)), 4, colours[mark.version], -1, cv2.LINE_AA)
    _legend(canvas, colours)
    return bool(cv2.imwrite(str(path), canvas))


def _versions(in_order: Sequence[Mark]) -> list[str]:
    return list(dict.fromkeys(mark.version for mark in in_order))


def _height(gap_ms: float, most_ms: float) -> int:
    return round(HEIGHT_PX - _BOTTOM - gap_ms / most_ms * (HEIGHT_PX - _BOTTOM - _TOP))


def _bands(canvas: Canvas, report: ReportedModel, number: int, across: Callable[[datetime], int]) -> None:
    spots = [(across(each.time), each.phase.value) for each in report.phases]
    if not spots:
        return
    left, right = spots[0][0], spots[-1][0]
    canvas[_TOP : HEIGHT_PX - _BOTTOM, left : max(right, left + 2)] = _BANDS[number % 2]
    end = report.phases[-1].phase.value
    y_px = 60 + 34 * number
    cv2.line(canvas, (left, y_px + 8), (left, HEIGHT_PX - _BOTTOM), _INK, 1, cv2.LINE_AA)
    cv2.line(canvas, (right, y_px + 8), (right, HEIGHT_PX - _BOTTOM), _INK, 1, cv2.LINE_AA)
    took_s = (report.phases[-1].time - report.phases[0].time).total_seconds()
    text = f"generation {report.observed_generation}: {end} after {took_s:.1f} s"
    place = min(left, WIDTH_PX - _RIGHT - 9 * len(text))
    _text(canvas, text, (max(_LEFT, place), y_px))


def _axes(canvas: Canvas, most_ms: float, span_s: float) -> None:
    step_ms = 50 if most_ms < 400 else 200 if most_ms < 2000 else 1000
    for gap_ms in range(0, int(most_ms) + 1, step_ms):
        y_px = _height(gap_ms, most_ms)
        cv2.line(canvas, (_LEFT, y_px), (WIDTH_PX - _RIGHT, y_px), _GRID, 1)
        _text(canvas, f"{gap_ms} ms", (12, y_px + 5))
    step_s = 5 if span_s > 12 else 1
    for second in range(0, int(span_s) + 1, step_s):
        x_px = round(_LEFT + second / span_s * (WIDTH_PX - _LEFT - _RIGHT))
        _text(canvas, f"{second} s", (x_px - 10, HEIGHT_PX - 30))


def _legend(canvas: Canvas, colours: dict[str, Colour]) -> None:
    _text(canvas, "Gap between results, by the model that made them:", (_LEFT, 28))
    x_px = _LEFT + 470
    for version, colour in colours.items():
        cv2.circle(canvas, (x_px, 23), 6, colour, -1, cv2.LINE_AA)
        _text(canvas, version, (x_px + 12, 28))
        x_px += 40 + 11 * len(version)


def _text(canvas: Canvas, text: str, at_px: tuple[int, int]) -> None:
    cv2.putText(canvas, text, at_px, _FONT, 0.5, _INK, 1, cv2.LINE_AA)
