"""A result as one row: what tables of results have, in whatever format."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

EVALUATIONS = {0: "UNDEFINED", 1: "OK", 2: "NOT_OK", 3: "NOT_DECIDABLE"}


class Kind(StrEnum):
    TEXT = "text"
    WHOLE = "whole"
    REAL = "real"
    BOOL = "bool"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Column:
    """`get` gives None where the result does not say."""

    name: str
    kind: Kind
    get: Callable[[dict[str, Any]], Any]


def _at(name: str, kind: Kind, *keys: str) -> Column:
    def get(result: dict[str, Any]) -> Any:
        found: Any = result
        for key in keys or (name,):
            found = found.get(key) if isinstance(found, dict) else None
        return found

    return Column(name, kind, get)


def evaluation(result: dict[str, Any]) -> str:
    number = result.get("resultEvaluation")
    return EVALUATIONS.get(number, str(number)) if isinstance(number, int) else str(number)


def defects(result: dict[str, Any]) -> list[dict[str, Any]]:
    found = result.get("defects")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def classes(result: dict[str, Any]) -> list[str]:
    return sorted({str(each.get("className")) for each in defects(result)})


COLUMNS = (
    _at("resultId", Kind.TEXT),
    _at("creationTime", Kind.TIME),
    *(
        _at(name, Kind.TEXT, "station", name)
        for name in ("enterprise", "site", "area", "line", "cell", "node", "camera")
    ),
    *(_at(name, Kind.TEXT) for name in ("jobId", "partId", "productId", "lotId", "workOrderId")),
    Column("evaluation", Kind.TEXT, evaluation),
    _at("resultState", Kind.WHOLE),
    _at("defectCount", Kind.WHOLE, "summary", "defectCount"),
    Column("classes", Kind.TEXT, lambda result: ";".join(classes(result))),
    _at("maxScore", Kind.REAL, "summary", "maxScore"),
    _at("totalAreaPx", Kind.WHOLE, "summary", "totalAreaPx"),
    _at("faultCode", Kind.TEXT, "fault", "code"),
    _at("faultText", Kind.TEXT, "fault", "text"),
    _at("quality", Kind.TEXT, "quality", "status"),
    _at("modelName", Kind.TEXT, "model", "name"),
    _at("modelVersion", Kind.TEXT, "model", "version"),
    _at("modelGeneration", Kind.WHOLE, "model", "generation"),
    _at("internalRecipeId", Kind.TEXT),
    _at("captureTime", Kind.TIME, "image", "captureTime"),
    _at("imageId", Kind.TEXT, "image", "id"),
    _at("acquisitionMs", Kind.REAL, "processingTimes", "acquisitionDuration"),
    _at("processingMs", Kind.REAL, "processingTimes", "processingDuration"),
    _at("isSimulated", Kind.BOOL),
    _at("isPartial", Kind.BOOL),
    _at("bootId", Kind.TEXT),
    _at("sequenceNumber", Kind.WHOLE),
)


def as_time(text: Any) -> datetime | None:
    return None if text is None else datetime.fromisoformat(str(text))
