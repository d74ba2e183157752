"""Questions that boards answer at once."""

from typing import Any

from starlette.concurrency import run_in_threadpool

from fleet.core.access import Principal, Right
from fleet.core.roster import NodeId
from fleet.web.guard import needs, routes_of
from fleet.web.routes.asked import NodeName, Site, selected
from fleet.web.routes.boards import check_fields, each
from fleet.web.service import Api, Service, Who
from fleet.web.views.jobs import FleetCommand, NodeCommand
from fleet.web.views.nodes import NodeReplies, NodeReply
from schemas.command import Reply

MOST_BOARDS = 200
router = routes_of("commands")


@router.post("/nodes/{site}/{node}/commands", **needs(Right.COMMAND, 404, body=True))
async def command_node(site: Site, node: NodeName, asked: NodeCommand, api: Api, who: Who) -> NodeReply:
    """One board. The answer comes with its reply, or when the time is over."""
    key = NodeId(site, node)
    check_fields(asked.name, asked.fields)
    await run_in_threadpool(api.parts.roster.node, key)
    replies = await _ask(api, who, asked, [key], str(key))
    return NodeReply.model_construct(node=str(key), reply=replies.get(key))


@router.post("/commands", **needs(Right.COMMAND, body=True))
async def command_nodes(asked: FleetCommand, api: Api, who: Who) -> NodeReplies:
    """All boards that the filter names, at once; at most 200."""
    check_fields(asked.name, asked.fields)
    nodes = [node.id for node in await run_in_threadpool(selected, api, asked.filter, MOST_BOARDS)]
    replies = await _ask(api, who, asked, nodes, asked.filter or "all")
    found = [NodeReply.model_construct(node=str(node), reply=replies.get(node)) for node in nodes]
    return NodeReplies.model_construct(replies=found)


async def _ask(
    api: Service, who: Principal, asked: NodeCommand, nodes: list[NodeId], subject: str
) -> dict[NodeId, Reply | None]:
    """Raises Retryable where no board could be asked."""
    detail: dict[str, Any] = {"name": asked.name.value, "fields": asked.fields, "boards": len(nodes)}

    def ask(node: NodeId) -> Reply | None:
        return api.parts.boards.command(node, asked.name, asked.fields, asked.timeout_s)

    await run_in_threadpool(api.audit, who.user, "command", subject, detail)
    replies, away = await each(api, nodes, ask)
    if away is not None and not replies:
        await run_in_threadpool(api.audit, who.user, "command.failed", subject, {"why": away.text})
        raise away
    return replies
