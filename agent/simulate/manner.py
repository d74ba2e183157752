"""How a board does: what it is made of, how fast it is and what its models find, drawn from the seed."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.core.update import ModelRef
from agent.simulate.config import Badness, Simulation
from schemas.recipe import Evaluation
from schemas.target import Target

_INFERENCE_MS = {
    Target.RK3588: 9.0,
    Target.RK3576: 11.0,
    Target.RK3568: 38.0,
    Target.RK3566: 41.0,
    Target.RK3562: 44.0,
    Target.RV1126B: 26.0,
    Target.CPU: 60.0,
}
_SLOWED = 3.0
_EVALUATIONS = (Evaluation.OK, Evaluation.UNDEFINED, Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE)
_PACES = tuple(0.85 + 0.3 * ((n * 179) % 499) / 499 for n in range(499))
"""Of the mean time of inference, in an order without a pattern; 499 is a prime."""


@dataclass(frozen=True, slots=True)
class Manner:
    """Of one model on one board: shares of results, and the mean time of inference."""

    not_ok: float
    undecidable: float
    fault: float
    inference_ms: float
    agreement: float

    def draw(self, chance: random.Random, count: int) -> list[tuple[Evaluation, float]]:
        """What so many pictures come to, and the time of their inference in ms."""
        good = 1.0 - self.fault - self.not_ok - self.undecidable
        shares = (good, self.fault, self.not_ok, self.undecidable)
        evaluations = chance.choices(_EVALUATIONS, shares, k=count)
        at = chance.randrange(len(_PACES))
        return [(each, self.inference_ms * _PACES[(at + n) % len(_PACES)]) for n, each in enumerate(evaluations)]


@dataclass(frozen=True, slots=True)
class Character:
    """What stays with a board for good: `usual` is how a model that is well does on it."""

    target: Target
    usual: Manner
    bad_models: Mapping[str, Badness]
    is_flapping: bool
    is_silent: bool
    is_lying: bool

    def manner_of(self, ref: ModelRef) -> Manner:
        match self.badness_of(ref):
            case Badness.NG:
                return replace(self.usual, not_ok=0.9, undecidable=0.05, agreement=0.3)
            case Badness.FAULT:
                return replace(self.usual, fault=0.2, agreement=0.5)
            case Badness.SLOW:
                return replace(self.usual, inference_ms=_SLOWED * self.usual.inference_ms)
        return self.usual

    def badness_of(self, ref: ModelRef) -> Badness | None:
        return self.bad_models.get(f"{ref.name}@{ref.version}")


def character(simulation: Simulation, node: str) -> Character:
    """The same for the same seed and name, whatever else is simulated. A board misbehaves in one way at most."""
    chance = random.Random(f"{simulation.seed}/{node}")  # noqa: S311  figures that are drawn, no secret
    targets = sorted(simulation.socs)
    (target,) = chance.choices(targets, [simulation.socs[each] for each in targets])
    usual = Manner(
        not_ok=chance.uniform(0.03, 0.07),
        undecidable=chance.uniform(0.005, 0.02),
        fault=0.0,
        inference_ms=_INFERENCE_MS[target] * chance.uniform(0.95, 1.05),
        agreement=chance.uniform(0.96, 0.995),
    )
    shares, at = simulation.shares, chance.random()
    return Character(
        target=target,
        usual=usual,
        bad_models=simulation.bad_models,
        is_silent=at < shares.silent,
        is_lying=shares.silent <= at < shares.silent + shares.lie,
        is_flapping=shares.silent + shares.lie <= at < shares.silent + shares.lie + shares.flap,
    )
