"""Which board is in which wave. The same boards are always dealt in the same order, whatever order they come in."""

import hashlib
from collections.abc import Iterable
from datetime import datetime

from fleet.core.rollout.events import Placement
from fleet.core.rollout.gates import needed
from fleet.core.rollout.spec import ModelRef, RolloutSpec
from fleet.core.rollout.state import Rollout
from fleet.core.roster import Node, NodeId, RunningModel, parse


def model_ref(running: RunningModel | None) -> ModelRef | None:
    if running is None:
        return None
    return ModelRef(name=running.name, version=running.version, manifest_sha256=running.sha256)


def place(rollout: Rollout, nodes: Iterable[Node], floors: dict[NodeId, int], now: datetime) -> tuple[Placement, ...]:
    """For Enrolled: boards of `nodes` that the target names and that are not members yet.

    `floors` are generations that boards were given before, by whomever; what a board has observed is seen to. At the
    first call boards are dealt out: filters first, in the order of the waves, then counts and percentages of all
    targets, then the rest. Later boards go to the first wave whose filter names them, else to the last wave.
    """
    if rollout.members and rollout.spec.target_selection == "SNAPSHOT":
        return ()
    target = parse(rollout.spec.target)
    fresh = [node for node in nodes if node.id not in rollout.members and target.matches(node, now)]
    fresh.sort(key=lambda node: _lot(rollout.id, node.id))
    waves = _deal(rollout.spec, fresh, now) if not rollout.members else _join(rollout.spec, fresh, now)
    return tuple(
        Placement(node.id, waves[node.id], _floor(node, floors), model_ref(node.settled))
        for node in fresh
        if node.id in waves
    )


def _floor(node: Node, floors: dict[NodeId, int]) -> int:
    return max(floors.get(node.id, 0), node.observed_generation)


def _lot(rollout_id: str, node: NodeId) -> bytes:
    """Each rollout deals anew, so that it is not always the same boards that go first."""
    return hashlib.sha256(f"{rollout_id}/{node}".encode()).digest()


def _by_filter(spec: RolloutSpec, nodes: Iterable[Node], now: datetime) -> dict[NodeId, int]:
    filters = [(at, parse(wave.filter)) for at, wave in enumerate(spec.waves) if wave.filter is not None]
    waves: dict[NodeId, int] = {}
    for node in nodes:
        at = next((at for at, chosen in filters if chosen.matches(node, now)), None)
        if at is not None:
            waves[node.id] = at
    return waves


def _deal(spec: RolloutSpec, nodes: list[Node], now: datetime) -> dict[NodeId, int]:
    waves = _by_filter(spec, nodes, now)
    left = [node.id for node in nodes if node.id not in waves]
    for at, wave in enumerate(spec.waves):
        if wave.filter is not None:
            continue
        if wave.count is not None:
            size = wave.count
        elif wave.percent is not None:
            size = needed(wave.percent, len(nodes))
        else:
            size = len(left)
        waves.update(dict.fromkeys(left[:size], at))
        left = left[size:]
    return waves


def _join(spec: RolloutSpec, nodes: list[Node], now: datetime) -> dict[NodeId, int]:
    waves = _by_filter(spec, nodes, now)
    last = len(spec.waves) - 1
    is_closed = spec.waves[last].filter is not None
    return waves if is_closed else {**dict.fromkeys((node.id for node in nodes), last), **waves}
