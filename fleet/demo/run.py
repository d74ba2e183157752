"""The demonstration: a plant, its boards, a reader that plays the MES, and an operator who rolls models out."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Empty
from typing import Any

from fleet.adapters.api_http import path
from fleet.adapters.subscriber_paho import Subscriber
from fleet.demo import plant
from fleet.demo.board import SITE, Board, Plan
from fleet.demo.plant import DemoFailed, Plant
from fleet.demo.seen import Seen
from fleet.demo.story import CANARY, Act, acts
from schemas.topics import BadTopic, Topics, parse

FIRST_RESULT_WITHIN_S = 90.0
ACT_WITHIN_S = 180.0
ALL_RECEIVED_WITHIN_S = 20.0
LEAST_BEFORE = 24
"""Results of each board that the next model can be compared with."""
_ASK_EVERY_S = 0.5


@dataclass(slots=True)
class Stage:
    """What the demonstration is doing, for those who look on. `left_s` is None while nobody knows; `rollout` is the
    one that runs, as the server tells it.
    """

    title: str = "starting"
    left_s: float | None = None
    rollout: dict[str, Any] | None = None


@dataclass(slots=True)
class Played:
    """What came of it. `rollouts` by act, each as it was at its end; `server` is what the server says of results."""

    boards: dict[str, Seen]
    story: tuple[Act, ...]
    began: datetime
    rollouts: dict[str, dict[str, Any]] = field(default_factory=dict)
    moments: list[tuple[datetime, str]] = field(default_factory=list)
    forged: str = ""
    stored: dict[str, int] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)


Show = Callable[[Played, Stage], None]


def run(plan: Plan, show: Show) -> Played:
    """Errors: DemoFailed when a board or the server does not start, nothing is inspected, or an act does not end."""
    plan.out.mkdir(parents=True, exist_ok=True)
    played = Played({node: Seen() for node in plan.nodes}, acts(plan.better), datetime.now(UTC))
    with plant.running(plan) as around:
        reader = Subscriber("127.0.0.1", around.provision.broker_port, "mes", f"rkfleet/v1/{SITE}/#")
        reader.start()
        boards = [Board(plan, around.provision, node) for node in plan.nodes]
        theatre = _Theatre(plan, around, boards, reader, played, show)
        try:
            theatre.play()
        finally:
            for board in boards:
                board.ask_to_stop()
            for board in boards:
                board.await_stop()
        theatre.drain()
        reader.stop()
    return played


@dataclass(slots=True)
class _Theatre:
    plan: Plan
    around: Plant
    boards: list[Board]
    reader: Subscriber
    played: Played
    show: Show
    stage: Stage = field(default_factory=Stage)

    def play(self) -> None:
        seen = self.played.boards.values()
        self.stage = Stage("boards start")
        self._until("a first result of each board", lambda: all(each.latest for each in seen), FIRST_RESULT_WITHIN_S)
        self._until("the boards in the roster", self._all_known, FIRST_RESULT_WITHIN_S)
        self.around.api.send("PATCH", path("nodes", SITE, self.plan.nodes[0]), {"group": CANARY})
        self._inspect("the model that came with the boards", self.plan.seconds)
        for act in self.played.story:
            self._roll_out(act)
            self._inspect(f"after {act.title}", min(self.plan.seconds, 4.0))
        self._forge()

    def drain(self) -> None:
        """Until each goodbye is here with every result that it counts, and the server has stored as many; or the time
        is over.
        """
        self.stage = Stage("the last results arrive")
        deadline_s = time.monotonic() + ALL_RECEIVED_WITHIN_S
        asked_s = 0.0
        while time.monotonic() < deadline_s:
            self._take()
            if all(_is_whole(each) for each in self.played.boards.values()) and time.monotonic() - asked_s > 1.0:
                asked_s = time.monotonic()
                shares = self.around.api.get("/results/stats", {"by": "node"})["shares"]
                self.played.stored = {share["key"]: share["results"] for share in shares}
                if sum(self.played.stored.values()) >= sum(s.tally.received for s in self.played.boards.values()):
                    break
        self.played.audit = self.around.api.get("/audit/verify")

    def _all_known(self) -> bool:
        nodes = self.around.api.get("/nodes")["nodes"]
        return len([node for node in nodes if node["isOnline"] and node["model"] is not None]) == len(self.boards)

    def _roll_out(self, act: Act) -> None:
        made = self.around.publish(act.bundle)
        self._moment(f"{act.title}: canary")
        spec = act.spec(made.name, made.version, made.manifest_sha256)
        target = path("rollouts", self.around.api.send("POST", "/rollouts", spec)["id"])
        self.stage = Stage(f"rolling out {act.title}")
        asked_s = 0.0

        def has_ended() -> bool:
            nonlocal asked_s
            if time.monotonic() - asked_s > _ASK_EVERY_S:
                asked_s = time.monotonic()
                self.stage.rollout = self.around.api.get(target)
            return self.stage.rollout is not None and self.stage.rollout["state"] in {"FINISHED", "STOPPED"}

        try:
            self._until(f"the end of the rollout of {act.title}", has_ended, ACT_WITHIN_S)
        finally:
            if self.stage.rollout is not None:
                self.played.rollouts[act.name] = self.stage.rollout
        self._moment(f"{act.title}: {self.played.rollouts[act.name]['state'].lower()}")

    def _forge(self) -> None:
        """Whoever reaches the broker may say what he likes: a board that has the controller's keys does not obey."""
        node = self.plan.nodes[-1]
        seen = self.played.boards[node]
        installed = seen.latest.model if seen.latest else None
        order = {"generation": 1_000_000, "name": "pcb-unet", "version": "6.6.6", "manifestSha256": "6" * 64,
                 "urls": ["http://127.0.0.1:9/evil"]}  # fmt: skip
        self.stage = Stage("a stranger orders a model of his own")
        self.reader.publish(Topics(SITE, node).desired("model"), json.dumps(order).encode())
        self._until("the refusal of a forged order", lambda: bool(seen.refused), ACT_WITHIN_S)
        self._inspect("after the forged order", 2.0)
        is_same = installed is not None and seen.latest is not None and seen.latest.model.version == installed.version
        self.played.forged = seen.refused if is_same else ""

    def _moment(self, text: str) -> None:
        self.played.moments.append((datetime.now(UTC), text))

    def _inspect(self, title: str, seconds: float) -> None:
        """So long, and until there are results enough of each board to compare with."""
        ends_s = time.monotonic() + seconds
        first = {node: seen.tally.received for node, seen in self.played.boards.items()}
        self.stage = Stage(title)

        def is_over() -> bool:
            self.stage.left_s = max(0.0, ends_s - time.monotonic())
            enough = all(seen.tally.received - first[node] >= LEAST_BEFORE for node, seen in self.played.boards.items())
            return not self.stage.left_s and enough

        self._until(f"results {title}", is_over, seconds + ACT_WITHIN_S)

    def _until(self, what: str, is_true: Callable[[], bool], within_s: float) -> None:
        deadline_s = time.monotonic() + within_s
        while not is_true():
            self._take()
            for board in self.boards:
                if board.ended is not None:
                    raise DemoFailed(f"{board.node} ended with {board.ended}; see {board.log}")
            if time.monotonic() > deadline_s:
                raise DemoFailed(f"not within {within_s:.0f} s: {what}; see {self.around.log} and the boards' logs")
            self.show(self.played, self.stage)

    def _take(self) -> None:
        """What has come, for a fifth of a second at most."""
        try:
            message = self.reader.inbox.get(timeout=0.2)
        except Empty:
            return
        try:
            seen = self.played.boards.get(parse(message.topic).node)
        except BadTopic:
            return
        if seen is not None:
            seen.take(message)


def _is_whole(seen: Seen) -> bool:
    goodbye = seen.goodbye
    return goodbye is not None and not seen.tally.missing(goodbye.boot_id, goodbye.last_sequence_number or 0)
