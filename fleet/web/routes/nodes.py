"""Boards: what they are, how they do, what they shall run."""

from typing import Annotated

from fastapi import Query
from pydantic import Field

from fleet.core.access import Principal, Right
from fleet.core.rollout import Left, ModelRef
from fleet.core.roster import Node, NodeId, parse
from fleet.errors import NotFound
from fleet.web.changes import BY_HAND, change, holders, order_by_hand, take_over
from fleet.web.guard import needs, routes_of
from fleet.web.routes.asked import NodeName, Site
from fleet.web.routes.asked import Query as Strictly
from fleet.web.routes.models import published
from fleet.web.service import Api, Service, Who
from fleet.web.views.events import Alarms, NodeAlarm
from fleet.web.views.nodes import DesiredView, LabelChange, ModelChoice, NodeDetail, NodePage, NodeView

router = routes_of("nodes")


class NodesQuery(Strictly):
    filter: Annotated[str, Field(max_length=4000, description="In the filter language; empty: all.")] = ""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: Annotated[str, Field(max_length=260, description="`next` of the page before.")] = ""


@router.get("/nodes", **needs(Right.READ))
def list_nodes(asked: Annotated[NodesQuery, Query()], api: Api) -> NodePage:
    """Boards that the filter names, by id."""
    now = api.now()
    chosen = parse(asked.filter)
    site, _, name = asked.after.partition("/")
    after = NodeId(site, name)
    # Looked through in order: only those of the page are put into words.
    left = [node for node in api.parts.roster.nodes() if node.id > after and chosen.matches(node, now)]
    page = left[: asked.limit]
    return NodePage.model_construct(
        nodes=[NodeView.of(node, now) for node in page], next=str(page[-1].id) if len(left) > len(page) else None
    )


@router.get("/nodes/{site}/{node}", **needs(Right.READ, 404))
def show_node(site: Site, node: NodeName, api: Api) -> NodeDetail:
    """All that is known of one board."""
    return _detail(api, api.parts.roster.node(NodeId(site, node)))


@router.patch("/nodes/{site}/{node}", **needs(Right.LABEL, 404, body=True))
def label_node(site: Site, node: NodeName, wanted: LabelChange, api: Api, who: Who) -> NodeDetail:
    """Labels and group."""
    key = NodeId(site, node)
    api.parts.roster.node(key)
    with api.audited(who.user, "node.label", str(key), wanted.model_dump(exclude_unset=True)):
        changed = api.parts.roster.label(key, wanted.labels, wanted.group, api.now())
    return _detail(api, changed)


@router.delete("/nodes/{site}/{node}", status_code=204, **needs(Right.REMOVE_NODE, 404, 409))
def remove_node(site: Site, node: NodeName, api: Api, who: Who) -> None:
    """Out of the fleet and its rollouts; results stay. A board that is still there appears again with its next word."""
    key = NodeId(site, node)
    api.parts.roster.node(key)
    with api.audited(who.user, "node.remove", str(key), {}):
        api.parts.roster.remove(key)
        for rollout_id in holders(api.parts.rollouts, [key]):
            change(api.parts.rollouts, rollout_id, Left((key,)), api.now())


@router.post("/nodes/{site}/{node}/model", **needs(Right.ROLLOUT, 404, 409, body=True))
def set_model(site: Site, node: NodeName, wanted: ModelChoice, api: Api, who: Who) -> DesiredView:
    """By hand: a rollout that has the board gives it up."""
    found = api.parts.roster.node(NodeId(site, node))
    entry = published(api, wanted.name, wanted.version)
    model = ModelRef(name=entry.name, version=entry.version, manifest_sha256=entry.manifest_sha256)
    return _set(api, who, found, model)


def _set(api: Service, who: Principal, node: Node, model: ModelRef) -> DesiredView:
    with api.audited(who.user, "node.model", str(node.id), model.model_dump(by_alias=True)):
        # In this order: where it ends half way, no rollout waits for a generation that is not its own.
        take_over(api.parts.rollouts, [node.id], BY_HAND, api.now())
        order_by_hand(api.parts.rollouts, node, model, api.now())
    desired = api.parts.rollouts.desired(node.id)
    if desired is None:
        raise NotFound(f"nothing is desired of {node.id} any more")
    return DesiredView.of(desired)


@router.get("/alarms", **needs(Right.READ))
def list_alarms(api: Api) -> Alarms:
    """All that are active, of all boards."""
    found = [
        NodeAlarm.of(node.id, alarm) for node in api.parts.roster.nodes() for _, alarm in sorted(node.alarms.items())
    ]
    return Alarms.model_construct(alarms=found)


def _detail(api: Service, node: Node) -> NodeDetail:
    return NodeDetail.whole(node, api.parts.rollouts.desired(node.id), api.now())
