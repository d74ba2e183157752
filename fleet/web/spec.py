"""A rollout's file, read: what is wrong with it is told field by field, with the nearest right name."""

from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import ValidationError

from fleet.core.rollout import RolloutSpec
from fleet.web.body import JSON, YAML, parse_json, parse_yaml
from fleet.web.problem import ApiError, ProblemCode, Spot, invalid, spots


def read_spec(media_type: str, content: bytes) -> RolloutSpec:
    """Raises ApiError."""
    if media_type == JSON:
        document = parse_json(content)
    elif media_type in YAML:
        document = parse_yaml(content)
    else:
        raise ApiError(415, ProblemCode.MEDIA_TYPE, f"a rollout comes as application/yaml or {JSON}")
    try:
        return RolloutSpec.model_validate(document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        made = [_nearest(spot, each) for spot, each in zip(spots(found), found, strict=False)]
        raise invalid(f"not a rollout: {made[0].at or 'the document'}: {made[0].text}", made) from None


def _nearest(spot: Spot, error: Any) -> Spot:
    if error["type"] != "extra_forbidden":
        return spot
    name = str(error["loc"][-1])
    near = get_close_matches(name, _names(), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return Spot(at=spot.at, text=f"there is no such field{hint}")


@cache
def _names() -> tuple[str, ...]:
    """Of all fields that a rollout's file may have, at whatever depth."""
    schema = RolloutSpec.model_json_schema()
    parts = [schema, *schema["$defs"].values()]
    return tuple(sorted({name for part in parts for name in part.get("properties", {})}))
