"""Desired states to the boards: signed, retained, at QoS 1, and marked as sent when the broker has acknowledged them.

A retained marker of our own says since when all of them are at the broker. Where it is missing, the broker has lost
what it retained, and everything is sent again; where it is old, signatures will end, and everything is signed anew.
"""

import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fleet.core.roster import NodeId
from fleet.errors import Retryable
from fleet.loops.lead import Lead
from fleet.loops.meters import Meters
from fleet.mail import ROOT, Post, Sending
from fleet.ports import Desired, Rollouts
from schemas.registry import bundle_path
from schemas.state import DesiredModel
from schemas.topics import Topics

log = logging.getLogger(__name__)
MARKER = f"{ROOT}/desired-since"
Seal = Callable[[NodeId, str, bytes, timedelta], bytes]
"""(node, topic, payload, life): what goes to the broker, signed where the node wants it."""


@dataclass(frozen=True, slots=True)
class PublisherOptions:
    """`urls`: where bundles are, in order of preference; a bundle's path is put behind each. `life`: a signature's."""

    urls: tuple[str, ...]
    life: timedelta
    batch: int = 200
    acknowledged_within_s: float = 10.0
    look_s: float = 2.0
    poll_s: float = 1.0

    @property
    def renew_after(self) -> timedelta:
        return self.life / 2


class Publisher:
    """Publishes while this process leads."""

    def __init__(
        self,
        rollouts: Rollouts,
        post: Post,
        lead: Lead,
        *,
        seal: Seal,
        options: PublisherOptions,
        meters: Meters,
    ) -> None:
        self._rollouts = rollouts
        self._post = post
        self._lead = lead
        self._seal = seal
        self._options = options
        self._meters = meters
        self._wake = threading.Event()
        self._looked_at: tuple[int, int] | None = None
        self._since: datetime | None = None
        self._is_marked = False

    def wake(self) -> None:
        """There is something to send. Any thread may call."""
        self._wake.set()

    def run(self, stop: threading.Event, now: Callable[[], datetime]) -> None:
        while not stop.is_set():
            try:
                self.turn(now())
            except Retryable as error:
                self._meters.retries.labels("publisher").inc()
                log.warning("desired states wait: %s", error.text)
                stop.wait(error.delay_s)
            self._wake.wait(self._options.poll_s)
            self._wake.clear()

    def turn(self, now: datetime) -> None:
        """Sends all that is unsent. Errors: Retryable."""
        lease = self._lead.lease
        if lease is None or not self._post.is_connected:
            return
        if not self._send_all(now):
            return
        here = (lease.epoch, self._post.connections)
        if self._looked_at != here:
            self._look(now)
            self._looked_at = here
        elif self._since is not None and now - self._since > self._options.renew_after:
            self._again(now, "their signatures are renewed")
        if not self._is_marked and self._since is not None and self._send_all(now):
            self._mark(self._since)

    def _send_all(self, now: datetime) -> bool:
        """What is unsent; False where something stays unsent."""
        while batch := self._rollouts.unsent(self._options.batch):
            self._meters.publish_lag.set(max(0.0, (now - batch[0].set_at).total_seconds()))
            if self._lead.lease is None or not self._send(batch):
                return False
        self._meters.publish_lag.set(0.0)
        return True

    def _look(self, now: datetime) -> None:
        raw = self._post.retained(MARKER, self._options.look_s)
        since = None if raw is None else _read(raw)
        if since is None:
            self._again(now, "the broker does not have them")
        elif now - since > self._options.renew_after or since > now + timedelta(days=1):
            self._again(now, "their signatures are renewed")
        else:
            self._since, self._is_marked = since, True

    def _again(self, now: datetime, why: str) -> None:
        count = self._rollouts.resend_all()
        if count:
            log.info("%d desired states are sent again: %s", count, why)
        self._since, self._is_marked = now, False

    def _send(self, batch: Sequence[Desired]) -> bool:
        """False where the broker has not taken all."""
        sendings = [self._sending(each) for each in batch]
        taken = self._post.publish(sendings, self._options.acknowledged_within_s)
        sent = {each.order.node: each.order.generation for each, is_taken in zip(batch, taken, strict=True) if is_taken}
        if sent:
            self._rollouts.sent(sent)
            self._meters.published.inc(len(sent))
        if len(sent) < len(batch):
            log.warning("the broker has not taken %d of %d desired states", len(batch) - len(sent), len(batch))
        return len(sent) == len(batch)

    def _sending(self, desired: Desired) -> Sending:
        order = desired.order
        topic = Topics(order.node.site, order.node.node).desired("model")
        path = bundle_path(order.model.manifest_sha256)
        message = DesiredModel(
            generation=order.generation,
            name=order.model.name,
            version=order.model.version,
            manifest_sha256=order.model.manifest_sha256,
            urls=[f"{url.rstrip('/')}/{path}" for url in self._options.urls],
            defer=order.plan.defer,
            shadow=order.plan.shadow,
            probation=order.plan.probation,
        )
        return Sending(topic, self._seal(order.node, topic, message.to_json(), self._options.life), retain=True)

    def _mark(self, since: datetime) -> None:
        payload = json.dumps({"since": since.astimezone(UTC).isoformat()}).encode()
        [self._is_marked] = self._post.publish([Sending(MARKER, payload, retain=True)], 5.0)


def _read(raw: bytes) -> datetime | None:
    """None for what is no marker of ours."""
    try:
        since = datetime.fromisoformat(json.loads(raw)["since"])
    except (ValueError, KeyError, TypeError):
        return None
    return since if since.tzinfo is not None else None
