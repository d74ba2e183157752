"""The demonstration: a broker, a server of models, an agent in its own process, and a reader that plays the MES."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty

from fleet.adapters.broker_iotcore import EmbeddedBroker, free_port
from fleet.adapters.files_http import FileServer
from fleet.adapters.subscriber_paho import Subscriber
from fleet.demo.board import NODE, SITE, Plan, start_agent, stop_agent
from fleet.demo.seen import Seen
from fleet.demo.story import Act, acts
from schemas.topics import Topics

FIRST_RESULT_WITHIN_S = 60.0
ACT_WITHIN_S = 120.0
ALL_RECEIVED_WITHIN_S = 15.0
LEAST_BEFORE = 40
"""Results of a model that the next one can be compared with."""


class DemoFailed(Exception):
    """With a text that says what to do."""


@dataclass(slots=True)
class Stage:
    """What the demonstration is doing, for those who look on. `left_s` is None while nobody knows."""

    title: str = "starting"
    left_s: float | None = None


Show = Callable[[Seen, Stage], None]


def run(plan: Plan, show: Show) -> tuple[Seen, list[Act]]:
    """Errors: DemoFailed when the agent does not start, inspects nothing, or an act does not end."""
    plan.out.mkdir(parents=True, exist_ok=True)
    port = free_port()
    models = plan.out / "models"
    models.mkdir(exist_ok=True)
    with EmbeddedBroker(plan.out, port), FileServer(models) as server:
        reader = Subscriber("127.0.0.1", port, "mes", f"rkfleet/v1/{SITE}/{NODE}/#")
        reader.start()
        seen = Seen()
        story = list(acts(plan.better, models, server.url))
        agent = start_agent(plan, port)
        theatre = _Theatre(plan, agent, reader, seen, show)
        try:
            theatre.play(story)
        finally:
            stop_agent(agent)
        theatre.drain()
        reader.stop()
    return seen, story


class _Theatre:
    def __init__(self, plan: Plan, agent: subprocess.Popen[bytes], reader: Subscriber, seen: Seen, show: Show) -> None:
        self._plan, self._agent, self._reader, self._seen, self._show = plan, agent, reader, seen, show
        self._stage = Stage()

    def play(self, story: list[Act]) -> None:
        seen, plan = self._seen, self._plan
        self._until("the first result", lambda: bool(seen.tally.received), FIRST_RESULT_WITHIN_S)
        self._inspect("the model that came with the board", plan.seconds)
        for act in story:
            topic = Topics(SITE, NODE).desired("model")
            self._reader.publish(topic, act.desired.to_json(), retain=True)
            self._stage = Stage(act.title)
            self._until(f"the end of {act.title}", lambda act=act: self._has_ended(act), ACT_WITHIN_S)  # type: ignore[misc]
            if act is story[0]:
                self._inspect("the better model", plan.seconds)
        self._inspect("the better model, still", min(plan.seconds, 2.0))

    def drain(self) -> None:
        """Until the goodbye is here and every result that it counts, or the time is over."""
        deadline_s = time.monotonic() + ALL_RECEIVED_WITHIN_S
        while time.monotonic() < deadline_s:
            goodbye = self._seen.goodbye
            if goodbye is not None:
                last = goodbye.last_sequence_number or 0
                if not self._seen.tally.missing(goodbye.boot_id, last):
                    return
            self._take()

    def _has_ended(self, act: Act) -> bool:
        report = self._seen.ends.get(act.generation)
        return report is not None and report.phase.is_end

    def _inspect(self, title: str, seconds: float) -> None:
        """So long, and until there are results enough to compare with."""
        ends_s = time.monotonic() + seconds
        first = self._seen.tally.received
        self._stage = Stage(title)

        def is_over() -> bool:
            self._stage.left_s = max(0.0, ends_s - time.monotonic())
            return not self._stage.left_s and self._seen.tally.received - first >= LEAST_BEFORE

        self._until(f"results of {title}", is_over, seconds + ACT_WITHIN_S)

    def _until(self, what: str, is_true: Callable[[], bool], within_s: float) -> None:
        deadline_s = time.monotonic() + within_s
        log = self._plan.out / "agent.log"
        while not is_true():
            self._take()
            if self._agent.poll() is not None:
                raise DemoFailed(f"the agent ended with {self._agent.returncode}; see {log}")
            if time.monotonic() > deadline_s:
                raise DemoFailed(f"not within {within_s:.0f} s: {what}; see {log}")
            self._show(self._seen, self._stage)

    def _take(self) -> None:
        try:
            self._seen.take(self._reader.inbox.get(timeout=0.2))
        except Empty:
            return
