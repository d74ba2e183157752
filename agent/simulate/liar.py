"""Reports that are not so, as of a board with a broken disk, another clock, or somebody else's software."""

import random
from collections.abc import Callable
from enum import StrEnum

from agent.core.outgoing import Outgoing
from schemas.state import Phase, ReportedModel
from schemas.topics import Topics

_FAR = 1_000_000


class Lie(StrEnum):
    DONE = "done"
    """Says COMMITTED for every generation that it hears of, and goes on with the model that it had."""
    AHEAD = "ahead"
    """Says that it has seen generations that nobody has given."""
    OTHER = "other"
    """Says COMMITTED and names a model that nobody asked for."""
    FIGURES = "figures"
    """Does as it is told and reports figures that cannot be."""


class Liar:
    """Stands before the board's way out."""

    def __init__(self, chance: random.Random, topics: Topics, publish: Callable[[Outgoing], None]) -> None:
        self._lie = chance.choice(list(Lie))
        self._topic = topics.reported("model")
        self._publish = publish
        self._first: ReportedModel | None = None

    def publish(self, message: Outgoing) -> None:
        if message.topic == self._topic and message.payload:
            told = self._told(ReportedModel.model_validate_json(message.payload))
            message = Outgoing(message.topic, told.to_json(), retain=True)
        self._publish(message)

    def _told(self, report: ReportedModel) -> ReportedModel:
        first = self._first = self._first or report
        match self._lie:
            case Lie.DONE:
                had = {"name": first.name, "version": first.version, "sha256": first.sha256}
                return report.model_copy(update={"phase": Phase.COMMITTED, "last_error": None, **had})
            case Lie.AHEAD:
                return report.model_copy(update={"observed_generation": report.observed_generation + _FAR})
            case Lie.OTHER:
                return report.model_copy(update={"phase": Phase.COMMITTED, "name": "unasked", "sha256": "f" * 64})
            case Lie.FIGURES:
                figures = {"selfTestAgreement": 17.0, "probationNgDrift": -9e99, "shadowAgreement": 1e308}
                return report.model_copy(update={"measured": {**report.measured, **figures}})
