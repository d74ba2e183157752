"""Rollouts: made, looked at, steered."""

import secrets
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import Response
from pydantic import Field
from starlette.requests import Request

from fleet.core.access import Right
from fleet.core.rollout import (
    Aborted,
    Confirmed,
    Enrolled,
    Event,
    Paused,
    Placement,
    Resumed,
    Retried,
    Rollout,
    RolloutSpec,
    new,
    place,
)
from fleet.core.roster import parse
from fleet.web.body import JSON, Read, media_type
from fleet.web.changes import change, holders, take_over
from fleet.web.guard import needs, routes_of
from fleet.web.problem import invalid
from fleet.web.routes.asked import Key
from fleet.web.routes.asked import Query as Strictly
from fleet.web.routes.models import published
from fleet.web.service import Api, Service, Who
from fleet.web.spec import read_spec
from fleet.web.views.rollouts import (
    AbortRequest,
    ConfirmRequest,
    DryRun,
    PauseRequest,
    RetryRequest,
    RolloutView,
    Summaries,
    SummaryView,
)

router = routes_of("rollouts")
_STEERED = needs(Right.ROLLOUT, 404, 409, body=True)
INPUT = "-Input"
"""Ends the names of schemas of what is posted, in the OpenAPI document."""
_SPEC = {"schema": {"$ref": f"#/components/schemas/RolloutSpec{INPUT}"}}
_CREATED = needs(Right.ROLLOUT, 404, 409, body=True)
_CREATED["responses"][200] = {"model": DryRun, "description": "With dryRun"}
_CREATED["openapi_extra"]["requestBody"] = {"required": True, "content": {JSON: _SPEC, "application/yaml": _SPEC}}


class RolloutsQuery(Strictly):
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class CreateQuery(Strictly):
    dry_run: Annotated[bool, Field(description="Tell who would be in which wave, and change nothing.")] = False
    allow_empty: Annotated[bool, Field(description="Though the target names no board now: some may come.")] = False


@router.get("/rollouts", **needs(Right.READ))
def list_rollouts(asked: Annotated[RolloutsQuery, Query()], api: Api) -> Summaries:
    """The newest first."""
    return Summaries(rollouts=[SummaryView.of(each) for each in api.parts.rollouts.summaries(asked.limit)])


@router.get("/rollouts/{rollout_id}", **needs(Right.READ, 404))
def show_rollout(rollout_id: Key, api: Api) -> RolloutView:
    """With its boards."""
    return RolloutView.of(api.parts.rollouts.load(rollout_id))


@router.post("/rollouts", status_code=201, response_model=RolloutView, **_CREATED)
def create_rollout(asked: Annotated[CreateQuery, Query()], request: Request, api: Api, who: Who) -> Any:
    """From YAML or JSON. Boards that other rollouts have are taken over. It begins at once, or at its start time."""
    spec = read_spec(media_type(request), request.content if isinstance(request, Read) else b"")
    if published(api, spec.model.name, spec.model.version).manifest_sha256 != spec.model.manifest_sha256:
        raise invalid(f"model.manifestSha256 is not that of the published {spec.model.name} {spec.model.version}")
    rollouts = api.parts.rollouts
    rollout = new(f"{spec.name[:100]}-{secrets.token_hex(4)}", spec, api.now(), who.user)
    placements = place(rollout, api.parts.roster.nodes(), rollouts.floors(), api.now())
    if asked.dry_run:
        taken = {each: len(nodes) for each, nodes in holders(rollouts, [one.id for one in placements]).items()}
        return _dry(DryRun.of(spec, placements, taken))
    if not placements and not asked.allow_empty:
        raise invalid("the target names no board that is there now; with allowEmpty=true it waits for those to come")
    with api.audited(who.user, "rollout.create", rollout.id, {"boards": len(placements), "spec": _plain(spec)}):
        made = _create(api, rollout, placements)
    return RolloutView.of(made)


def _create(api: Service, rollout: Rollout, placements: tuple[Placement, ...]) -> Rollout:
    """Where this ends half way the rollout waits without boards: the controller enrols them, and takes them over."""
    rollouts, nodes = api.parts.rollouts, [each.id for each in placements]
    rollouts.create(rollout)
    take_over(rollouts, nodes, rollout.id, api.now())
    return change(rollouts, rollout.id, Enrolled(placements), api.now())


@router.post("/rollouts/{rollout_id}/pause", **_STEERED)
def pause_rollout(rollout_id: Key, api: Api, who: Who, asked: PauseRequest | None = None) -> RolloutView:
    """Nothing new is started; what is under way goes on."""
    reason = asked.reason if asked else ""
    return _steer(api, who.user, rollout_id, Paused(who.user, reason), {"reason": reason})


@router.post("/rollouts/{rollout_id}/resume", **_STEERED)
def resume_rollout(rollout_id: Key, api: Api, who: Who) -> RolloutView:
    """Overrules the rule that has paused it."""
    return _steer(api, who.user, rollout_id, Resumed(who.user), {})


@router.post("/rollouts/{rollout_id}/abort", **_STEERED)
def abort_rollout(rollout_id: Key, api: Api, who: Who, asked: AbortRequest | None = None) -> RolloutView:
    """The boards go back, or keep what they have."""
    asked = asked or AbortRequest()
    event = Aborted(who.user, asked.reason, asked.on_abort)
    return _steer(api, who.user, rollout_id, event, asked.model_dump(mode="json", by_alias=True))


@router.post("/rollouts/{rollout_id}/confirm", **_STEERED)
def confirm_wave(rollout_id: Key, asked: ConfirmRequest, api: Api, who: Who) -> RolloutView:
    """Lets a wave begin."""
    return _steer(api, who.user, rollout_id, Confirmed(asked.wave, who.user), {"wave": asked.wave})


@router.post("/rollouts/{rollout_id}/retry", **_STEERED)
def retry_boards(rollout_id: Key, api: Api, who: Who, asked: RetryRequest | None = None) -> RolloutView:
    """Boards that have failed are tried once more, whatever the retries of the file."""
    text = asked.filter if asked else ""
    chosen, now = parse(text), api.now()
    members = api.parts.rollouts.load(rollout_id).members
    nodes = tuple(
        node.id
        for node in api.parts.roster.nodes()
        if (member := members.get(node.id)) is not None
        and member.state.is_failure
        and not member.is_released
        and chosen.matches(node, now)
    )
    if not nodes:
        raise invalid("no board of this rollout that the filter names has failed")
    return _steer(api, who.user, rollout_id, Retried(nodes, who.user), {"filter": text, "boards": len(nodes)})


def _steer(api: Service, user: str, rollout_id: str, event: Event, detail: dict[str, Any]) -> RolloutView:
    action = {Paused: "pause", Resumed: "resume", Aborted: "abort", Confirmed: "confirm", Retried: "retry"}[type(event)]
    api.parts.rollouts.load(rollout_id)
    with api.audited(user, f"rollout.{action}", rollout_id, detail):
        after = change(api.parts.rollouts, rollout_id, event, api.now())
    return RolloutView.of(after)


def _dry(found: DryRun) -> Response:
    return Response(found.model_dump_json(by_alias=True), media_type=JSON)


def _plain(spec: RolloutSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True)
