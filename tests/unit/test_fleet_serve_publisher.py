"""The publisher: what is sent, when it counts as sent, and when all of it is sent anew."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.adapters.db import Database, DbLock, DbRollouts, upgrade
from fleet.core.rollout import BoardPlan, SetDesired
from fleet.core.roster import NodeId
from fleet.errors import ErrorCode, Retryable
from fleet.loops.lead import Lead
from fleet.loops.meters import Meters
from fleet.loops.publisher import MARKER, Publisher, PublisherOptions
from fleet.mail import Sending
from schemas.state import DesiredModel
from tests.unit.fleet_board import NEW, OLD, T0, at, node_id

LIFE = timedelta(days=30)
URLS = ("http://mirror/", "http://registry/registry")


class Broker:
    """Takes what `refuses` does not name."""

    def __init__(self) -> None:
        self.is_connected = True
        self.connections = 1
        self.kept: dict[str, bytes] = {}
        self.said: list[str] = []
        self.refuses: set[str] = set()

    def publish(self, sendings: Sequence[Sending], _timeout_s: float) -> list[bool]:
        for each in sendings:
            assert each.retain
            self.said.append(each.topic)
            if each.topic not in self.refuses:
                self.kept[each.topic] = each.payload
        return [each.topic not in self.refuses for each in sendings]

    def request(self, _sending: Sending, _timeout_s: float) -> bytes | None:
        raise AssertionError("nobody is asked here")

    def retained(self, topic: str, _timeout_s: float) -> bytes | None:
        if not self.is_connected:
            raise Retryable(ErrorCode.UNAVAILABLE, "away")
        return self.kept.get(topic)


class World:
    def __init__(self, folder: Path) -> None:
        database = Database(f"sqlite:///{folder}/fleet.db")
        upgrade(database)
        self.database = database
        self.rollouts = DbRollouts(database)
        self.broker = Broker()
        self.now = T0
        self.lead = Lead(DbLock(database), "one", lambda: self.now, 30.0)
        self.lead.renew()
        self.publisher = self.made()

    def made(self) -> Publisher:
        """Another one, as after a restart."""
        options = PublisherOptions(URLS, LIFE)
        meters = Meters()
        return Publisher(self.rollouts, self.broker, self.lead, seal=seal, options=options, meters=meters)

    def order(self, number: int, generation: int = 1) -> str:
        node = node_id(number)
        self.rollouts.order(SetDesired(node, generation, NEW, BoardPlan()), "by-hand", self.now)
        return f"rkfleet/v1/{node.site}/{node.node}/desired/model"

    def turn(self, days: float = 0.0) -> list[str]:
        """What was published, but for the marker."""
        self.now += timedelta(days=days)
        self.lead.renew()
        self.broker.said.clear()
        self.publisher.turn(self.now)
        return [topic for topic in self.broker.said if topic != MARKER]


def seal(node: NodeId, topic: str, payload: bytes, life: timedelta) -> bytes:
    assert (str(node) in topic, life) == (True, LIFE)
    return b"signed " + payload


@pytest.fixture
def world(tmp_path: Path) -> World:
    """One that has been at work."""
    made = World(tmp_path)
    made.turn()
    return made


def test_an_order_is_sent_once_signed_and_with_its_urls_in_order(world: World) -> None:
    topic = world.order(1)
    assert world.turn() == [topic]
    sent = DesiredModel.model_validate_json(world.broker.kept[topic].removeprefix(b"signed "))
    assert (sent.generation, sent.manifest_sha256) == (1, NEW.manifest_sha256)
    digest = NEW.manifest_sha256
    assert sent.urls == [f"http://mirror/bundles/{digest}", f"http://registry/registry/bundles/{digest}"]
    assert world.turn() == []


def test_what_the_broker_does_not_take_stays_unsent(world: World) -> None:
    first, second = world.order(1), world.order(2)
    world.broker.refuses = {first}
    assert world.turn() == [first, second]
    world.broker.refuses = set()
    assert world.turn() == [first]


def test_the_marker_says_that_all_is_there_and_nothing_less(world: World) -> None:
    first, second = world.order(1), world.order(2)
    world.broker.kept.clear()
    world.broker.connections += 1
    world.broker.refuses = {first}
    world.turn()
    assert set(world.broker.kept) == {second}
    world.broker.refuses = set()
    world.turn()
    assert set(world.broker.kept) == {first, second, MARKER}


def test_orders_are_not_kept_waiting_while_the_marker_is_looked_for(world: World) -> None:
    topic = world.order(1)
    world.publisher = world.made()
    seen: list[list[str]] = []

    def look(topic: str, _timeout_s: float) -> bytes | None:
        seen.append(list(world.broker.said))
        return None

    world.broker.retained = look  # type: ignore[method-assign]  # what it does while it is asked
    world.turn()
    assert seen == [[topic]]


def test_nothing_is_sent_while_another_leads_or_the_broker_is_away(world: World) -> None:
    topic = world.order(1)
    world.lead.lost()
    world.broker.said.clear()
    world.publisher.turn(world.now)
    assert world.broker.said == []
    world.broker.is_connected = False
    assert world.turn() == []
    world.broker.is_connected = True
    assert world.turn() == [topic]


def test_a_broker_that_comes_back_empty_gets_everything_again(world: World) -> None:
    topics = [world.order(number) for number in (1, 2, 3)]
    world.turn()
    world.broker.connections += 1
    assert world.turn() == [], "it has kept all"
    world.broker.connections += 1
    world.broker.kept.clear()
    assert world.turn() == topics
    assert set(world.broker.kept) == {*topics, MARKER}


def test_a_restart_sends_nothing_that_is_there(world: World) -> None:
    world.order(1)
    world.turn()
    world.publisher = world.made()
    assert world.turn() == []


@pytest.mark.parametrize("is_restarted", [False, True])
def test_signatures_are_renewed_at_half_of_their_lives(world: World, is_restarted: bool) -> None:
    topic = world.order(1)
    world.turn()
    assert world.turn(days=14.9) == []
    if is_restarted:
        world.publisher = world.made()
        assert world.turn() == []
    assert world.turn(days=0.2) == [topic]
    assert world.turn() == []


@pytest.mark.parametrize("marker", [b"", b"{}", b'{"since": 3}', b'{"since": "2026-01-01"}', b"\xff", b"[]"])
def test_a_marker_that_is_none_counts_for_nothing(world: World, marker: bytes) -> None:
    topic = world.order(1)
    world.turn()
    world.broker.kept[MARKER] = marker
    world.broker.connections += 1
    assert world.turn() == [topic]


def test_a_newer_order_is_not_taken_for_sent(world: World) -> None:
    topic = world.order(1)
    world.turn()
    world.rollouts.order(SetDesired(node_id(1), 2, OLD, BoardPlan()), "by-hand", at(1))
    world.rollouts.sent({node_id(1): 1})
    assert world.turn() == [topic]
    assert b'"generation":2' in world.broker.kept[topic]
