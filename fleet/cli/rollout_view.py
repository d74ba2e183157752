"""A rollout in words, bars and lines. Counts are of boards; a bar is full when all of its boards have committed."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fleet.cli.client import dig, when
from fleet.cli.output import clean

_FAILED = frozenset({"FAILED", "REJECTED", "TIMED_OUT", "REVERT_FAILED"})
_ORDER = ("SUCCEEDED", "IN_PROGRESS", "QUEUED", "FAILED", "REJECTED", "TIMED_OUT", "REVERTING", "REVERTED",
          "REVERT_FAILED", "CANCELED", "REMOVED")  # fmt: skip
_MOST_FAILURES = 10
_BAR = 30


def is_over(rollout: Mapping[str, Any]) -> bool:
    return rollout["state"] in {"STOPPED", "FINISHED"}


def has_succeeded(rollout: Mapping[str, Any]) -> bool:
    """FINISHED: each wave has reached its threshold and held its gates."""
    return bool(rollout["state"] == "FINISHED")


def headline(rollout: Mapping[str, Any]) -> str:
    spec = rollout["spec"]
    model = f"{dig(spec, 'model', 'name')} {dig(spec, 'model', 'version')}"
    why = "; ".join(filter(None, [dig(rollout, "breach"), dig(rollout, "reason")]))
    return f"{rollout['id']} {rollout['name']}: {model}, {rollout['state']}" + (f" ({why})" if why else "")


def counts(by_state: Mapping[str, int]) -> str:
    """`3 succeeded, 1 in progress`."""
    known = [state for state in _ORDER if by_state.get(state)]
    other = sorted(state for state in by_state if state not in _ORDER and by_state[state])
    return ", ".join(f"{by_state[state]} {_low(state)}" for state in [*known, *other]) or "no boards"


def wave_line(wave: Mapping[str, Any]) -> str:
    return f"wave {wave['name']}: {_low(wave['state'])}, {counts(wave['counts'])}"


def gates(rollout: Mapping[str, Any]) -> Iterator[str]:
    """Each gate over the boards that have committed: how many hold it, of how many that have measured it."""
    committed = [member for member in rollout["members"] if member["state"] == "SUCCEEDED"]
    for gate in rollout["spec"].get("gates") or []:
        low, high = gate.get("atLeast"), gate.get("atMost")
        values = [
            found for member in committed if (found := (member.get("figures") or {}).get(gate["metric"])) is not None
        ]
        good = [value for value in values if (low is None or value >= low) and (high is None or value <= high)]
        bounds = " and ".join(
            [*([f"at least {low:g}"] if low is not None else []), *([f"at most {high:g}"] if high is not None else [])]
        )
        seen = f", seen {min(values):.4g} to {max(values):.4g}" if values else ""
        yield f"gate {gate['metric']} {bounds}: {len(good)} of {len(values)} boards{seen}"


def failures(rollout: Mapping[str, Any], most: int = _MOST_FAILURES) -> list[str]:
    bad = [member for member in rollout["members"] if member["state"] in _FAILED or member.get("error")]
    lines = [f"{each['node']}: {_low(each['state'])} {dig(each, 'error')}".rstrip() for each in bad[:most]]
    return [*lines, f"and {len(bad) - most} more"] if len(bad) > most else lines


def shown(rollout: Mapping[str, Any], *, with_members: bool) -> str:
    lines = [headline(rollout), f"created {when(dig(rollout, 'createdAt'))} by {dig(rollout, 'createdBy')}",
             f"target {dig(rollout, 'spec', 'target')}"]  # fmt: skip
    lines += [f"  {wave_line(wave)}" for wave in rollout["waves"]]
    lines += [f"  {line}" for line in gates(rollout)]
    if with_members:
        lines += [f"  {each['node']}: {each['wave']}, {_low(each['state'])} {dig(each, 'error')}".rstrip()
                  for each in rollout["members"]]  # fmt: skip
    else:
        lines += [f"  {line}" for line in failures(rollout)]
    return "\n".join(lines)


def brief(rollout: Mapping[str, Any]) -> str:
    """One line, for where nobody watches."""
    waves = "; ".join(wave_line(wave) for wave in rollout["waves"])
    return f"{headline(rollout)}; {waves}"


def bars(rollout: Mapping[str, Any]) -> Group:
    grid = Table.grid(padding=(0, 1))
    for wave in rollout["waves"]:
        total, done = sum(wave["counts"].values()), wave["counts"].get("SUCCEEDED", 0)
        bar = ProgressBar(total=max(total, 1), completed=done, width=_BAR)
        grid.add_row(Text(clean(wave["name"])), bar, Text(f"{done}/{total}"), Text(_low(wave["state"])),
                     Text(counts(wave["counts"])))  # fmt: skip
    lines = [Text(clean(line)) for line in gates(rollout)]
    bad = [Text(clean(line), style="red") for line in failures(rollout)]
    return Group(Text(clean(headline(rollout)), style="bold"), grid, *lines, *bad)


def _low(state: object) -> str:
    return str(state).replace("_", " ").lower()
