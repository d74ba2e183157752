"""What the API is made of, from the server's parts."""

from collections.abc import Callable, Mapping, Sequence

from starlette.routing import BaseRoute

from fleet.adapters.boards_mqtt import MqttBoards
from fleet.adapters.mqtt_paho import PahoPost
from fleet.adapters.passwords_argon2 import Argon2Passwords
from fleet.web.api import ApiParts, ApiSettings, ModelEntry
from fleet.web.files import file_routes
from fleet.wiring import Hall, Sealer, now


def api_parts(hall: Hall, post: PahoPost, problems: Callable[[], Mapping[str, str]]) -> ApiParts:
    registry, store = hall.registry, hall.store
    routes: list[BaseRoute] = [] if registry is None else [*file_routes(registry.folder)]
    return ApiParts(
        roster=store.roster,
        rollouts=store.rollouts,
        results=store.results,
        audit=store.audit,
        users=store.users,
        passwords=Argon2Passwords(),
        boards=MqttBoards(post, Sealer(hall.signer, hall.directory), now),
        jobs=store.jobs,
        models=lambda: _models(hall),
        routes=routes,
        problems=problems,
        metrics=hall.meters.registry,
        now=now,
        settings=ApiSettings(metrics_need_token=hall.settings.web.metrics_need_token),
    )


def _models(hall: Hall) -> Sequence[ModelEntry]:
    """Errors: Permanent for a registry that cannot be read."""
    if hall.registry is None:
        return []
    return [
        ModelEntry(
            each.manifest.name,
            each.manifest.version,
            each.manifest_sha256,
            tuple(variant.target.value for variant in each.manifest.variants),
            each.published_at,
        )
        for each in hall.registry.listed()
    ]
