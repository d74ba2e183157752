"""The acts of the demonstration: a better model, and one that is rightly signed but bad."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

BAD_MODEL = Path(__file__).resolve().parent / "bad-model"
PROBATION_RESULTS = 24
CANARY = "canary"
_SOAK_MINUTES = 0.05


@dataclass(frozen=True, slots=True)
class Act:
    """A rollout, and how it should end."""

    name: str
    title: str
    bundle: Path
    gates: tuple[dict[str, Any], ...]
    ends: str

    def spec(self, name: str, version: str, manifest_sha256: str) -> dict[str, Any]:
        """A rollout in the form of `rkfleet.rollout/1`: one board first, the others when it has proved good.

        What a board may do by itself against a model is left to the gates: the fleet is to be seen at work.
        """
        return {
            "schema": "rkfleet.rollout/1",
            "name": self.name,
            "description": self.title,
            "model": {"name": name, "version": version, "manifestSha256": manifest_sha256},
            "target": "site=demo",
            "waves": [
                {"name": CANARY, "filter": f"group={CANARY}", "soakMinutes": _SOAK_MINUTES},
                {"name": "rest"},
            ],
            "gates": list(self.gates),
            "board": {"probation": {"frames": PROBATION_RESULTS, "maxP95Ratio": 1000, "maxNgDrift": 1}},
            "inProgressTimeoutInMinutes": 2,
            "onAbort": "revert",
        }


def acts(better: Path) -> tuple[Act, Act]:
    """The better model is meant to judge otherwise than the first one: how often it finds something is no gate."""
    return (
        Act("better", "a better model", better, ({"metric": "probationFaults", "atMost": 0.0},), "FINISHED"),
        Act("bad", "a model that marks every part defective", BAD_MODEL,
            ({"metric": "absNgDrift", "atMost": 0.15},), "STOPPED"),
    )  # fmt: skip
