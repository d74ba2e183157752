"""Models that are published."""

from difflib import get_close_matches

from fleet.core.access import Right
from fleet.web.guard import needs, routes_of
from fleet.web.parts import ModelEntry
from fleet.web.problem import invalid
from fleet.web.service import Api, Service
from fleet.web.views.models import Models, ModelView

router = routes_of("models")


@router.get("/models", **needs(Right.READ))
def list_models(api: Api) -> Models:
    """What a rollout can bring."""
    return Models(models=[
        ModelView(
            name=entry.name,
            version=entry.version,
            manifest_sha256=entry.manifest_sha256,
            targets=list(entry.targets),
            published_at=entry.published_at,
        )
        for entry in api.parts.models()
    ])  # fmt: skip


def published(service: Service, name: str, version: str) -> ModelEntry:
    """Raises ApiError, with the nearest that there is."""
    entries = service.parts.models()
    for entry in entries:
        if (entry.name, entry.version) == (name, version):
            return entry
    near = get_close_matches(f"{name} {version}", [f"{entry.name} {entry.version}" for entry in entries], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise invalid(f"there is no published model {name} {version}{hint}")
