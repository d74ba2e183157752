"""Operators' words to rollouts, while the controller decides in another thread or process."""

from collections.abc import Sequence
from datetime import datetime

from fleet.core.rollout import BoardPlan, Event, ModelRef, Rollout, SetDesired, Superseded, step
from fleet.core.roster import Node, NodeId
from fleet.errors import Conflict
from fleet.ports import Rollouts
from schemas.state import ProbationPlan

BY_HAND = "by-hand"
_BY_HAND = BoardPlan(probation=ProbationPlan(max_ng_drift=1.0))
"""What inspects may be the bad model that the operator wants gone: to differ from it is no fault."""
_TRIES = 20
"""The controller commits each second or so; nobody loses that often."""


def change(rollouts: Rollouts, rollout_id: str, event: Event, now: datetime) -> Rollout:
    """The rollout after the event. Raises Refused, NotFound, Conflict."""
    for tried in range(_TRIES):
        before = rollouts.load(rollout_id)
        after, effects = step(before, event, now)
        if after is before:
            return before
        try:
            rollouts.commit(before, after, effects, None, now)
        except Conflict:
            if tried + 1 == _TRIES:
                raise
            continue
        return after
    raise AssertionError("no try at all")


def holders(rollouts: Rollouts, nodes: Sequence[NodeId], but: str = "") -> dict[str, tuple[NodeId, ...]]:
    """Rollouts that are not over and answerable for some of the nodes, with these."""
    held = {
        rollout.id: tuple(
            node for node in nodes if (member := rollout.members.get(node)) is not None and not member.is_released
        )
        for rollout in rollouts.unfinished()
        if rollout.id != but
    }
    return {rollout_id: found for rollout_id, found in held.items() if found}


def take_over(rollouts: Rollouts, nodes: Sequence[NodeId], by: str, now: datetime) -> None:
    """Every other rollout gives these boards up."""
    for rollout_id, held in holders(rollouts, nodes, by).items():
        change(rollouts, rollout_id, Superseded(held, by), now)


def order_by_hand(rollouts: Rollouts, node: Node, model: ModelRef, now: datetime) -> SetDesired:
    """The next generation of the node. Raises Conflict."""
    for tried in range(_TRIES):
        floor = rollouts.floors([node.id]).get(node.id, 0)
        order = SetDesired(node.id, max(floor, node.observed_generation) + 1, model, _BY_HAND)
        try:
            rollouts.order(order, BY_HAND, now)
        except Conflict:
            if tried + 1 == _TRIES:
                raise
            continue
        return order
    raise AssertionError("no try at all")
