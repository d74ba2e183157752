"""What the demonstration came to: figures for programs, words for people."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from fleet.core.swap import gaps, phases
from fleet.demo.run import Played
from fleet.demo.seen import Seen
from fleet.demo.story import Act

_MB = 1e6
_COUNTS = ("captured", "inspected", "failed", "dropped")


def figures(played: Played) -> dict[str, Any]:
    """`report.json`. `captured`, `dropped` and `inspected` are the boards' own count, `received` is the reader's,
    `stored` what the server has.
    """
    boards = {node: _board(seen) for node, seen in played.boards.items()}
    for node, board in boards.items():
        board["stored"] = next((count for key, count in played.stored.items() if key.endswith(node)), 0)
    canary = next(iter(played.boards))
    return {
        **_sums(boards.values()),
        "resultsByEvaluation": _added(seen.tally.by_evaluation for seen in played.boards.values()),
        "defectsByClass": _added(seen.tally.by_class for seen in played.boards.values()),
        "boards": boards,
        "rollouts": [_rollout(played, act) for act in played.story],
        "swap": _swap(played.boards[canary], played, played.story[0]),
        "forgedOrder": played.forged or None,
        "audit": played.audit,
    }


def _sums(boards: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    every = list(boards)
    names = [*_COUNTS, "received", "duplicates", "malformed", "stored"]
    sums: dict[str, Any] = {name: sum(board[name] for board in every) for name in names}
    for name in ("recorded", "lost"):
        known = [board[name] for board in every]
        sums[name] = None if None in known else sum(known)
    return sums


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def _board(seen: Seen) -> dict[str, Any]:
    tally, goodbye = seen.tally, seen.goodbye
    cameras = list(seen.inspection.cameras.values()) if seen.inspection else []
    recorded = (goodbye.last_sequence_number or 0) if goodbye else None
    latency = seen.measured.latency_ms if seen.measured else {}
    in_order = sorted(seen.marks, key=lambda mark: mark.number)
    return {
        **{name: sum(getattr(camera, name) for camera in cameras) for name in _COUNTS},
        "recorded": recorded,
        "received": tally.received,
        "lost": len(tally.missing(goodbye.boot_id, recorded or 0)) if goodbye else None,
        "duplicates": tally.duplicates,
        "malformed": seen.malformed,
        "faults": tally.faults,
        "models": [version for version, _ in groupby(mark.version for mark in in_order)],
        "stageLatencyMs": {stage: value.model_dump() for stage, value in latency.items()},
        "memoryMb": {
            "agent": round(seen.memory_bytes / _MB, 1),
            "segmenter": round(seen.children_memory_bytes / _MB, 1),
        },
        "startToFirstResultMs": seen.host.start_to_first_result_ms if seen.host else None,
        "alarms": sorted(seen.alarms),
    }


def _rollout(played: Played, act: Act) -> dict[str, Any]:
    rollout = played.rollouts.get(act.name, {})
    model = rollout.get("model") or rollout.get("spec", {}).get("model", {})
    version = str(model.get("version", ""))
    return {
        "what": act.title,
        "model": f"{model.get('name', '')} {version}",
        "state": rollout.get("state"),
        "expected": act.ends,
        "reason": rollout.get("reason", ""),
        "waves": [{name: wave[name] for name in ("name", "state", "counts")} for wave in rollout.get("waves", [])],
        "members": {each["node"]: each["state"] for each in rollout.get("members", [])},
        "resultsOfIt": {
            node: sum(mark.version == version for mark in seen.marks) for node, seen in played.boards.items()
        },
    }


def _swap(seen: Seen, played: Played, act: Act) -> dict[str, Any]:
    """On the canary, from the moment at which it took the desired state to the one at which it was committed."""
    model = played.rollouts.get(act.name, {}).get("spec", {}).get("model", {})
    report = next((each for each in seen.ends.values() if each.version == model.get("version")), None)
    swap: dict[str, Any] = {"to": f"{model.get('name')} {model.get('version')}"}
    if report is None or not report.phases:
        return {**swap, "phase": None}
    began, ended = report.phases[0].time, report.phases[-1].time
    found = gaps(seen.marks, began, ended)
    return {
        **swap,
        "phase": report.phase.value,
        "phases": phases(report),
        "totalMs": round((ended - began).total_seconds() * 1e3, 1),
        "gapMs": round(found.longest, 1) if found else None,
        "steadyP99Ms": round(found.steady_p99, 1) if found else None,
        "framesLost": found.lost if found else None,
        "measured": report.measured,
    }


def problems(report: dict[str, Any]) -> list[str]:
    """Why the demonstration has failed; empty when all went as it should and nothing was lost."""
    found = []
    if report["lost"] is None:
        found.append("a board did not say goodbye, so nobody knows what it recorded")
    elif report["lost"]:
        found.append(f"{report['lost']} results were lost")
    if report["stored"] < report["received"]:
        found.append(f"the server stored {report['stored']} of {report['received']} results")
    if not report["received"]:
        found.append("no result was received")
    if report["failed"]:
        found.append(f"{report['failed']} frames could not be inspected")
    if report["malformed"]:
        found.append(f"{report['malformed']} messages were not what the schemas say")
    if report["forgedOrder"] is None:
        found.append("a board has not refused the order of a stranger")
    if not report["audit"].get("ok"):
        found.append(f"the audit's chain is broken: {report['audit']}")
    return found + _problems_of_rollouts(report)


def _problems_of_rollouts(report: dict[str, Any]) -> list[str]:
    found = [
        f"the rollout of {rollout['what']} is {rollout['state']}, not {rollout['expected']}: {rollout['reason']}"
        for rollout in report["rollouts"]
        if rollout["state"] != rollout["expected"]
    ]
    good, bad = report["rollouts"]
    version = good["model"].split()[-1]
    for node, board in report["boards"].items():
        if not board["models"] or board["models"][-1] != version:
            found.append(f"{node} inspects with {board['models'][-1:] or 'nothing'} at the end, not with {version}")
    spared = list(report["boards"])[1:]
    if touched := [node for node in spared if bad["resultsOfIt"].get(node)]:
        found.append(f"the bad model went past its canary: {', '.join(touched)}")
    if report["swap"].get("framesLost") != 0:
        found.append(f"{report['swap'].get('framesLost')} frames were lost in the canary's swap")
    return found


def words(report: dict[str, Any]) -> str:
    """The report as a few sentences."""
    evaluations = report["resultsByEvaluation"]
    defects = ", ".join(f"{count} {name}" for name, count in report["defectsByClass"].items()) or "none"
    lines = [
        (
            f"{len(report['boards'])} boards inspected {report['inspected']} of {report['captured']} captured frames; "
            f"{report['dropped']} were dropped because a newer one was there."
        ),
        (
            f"The reader received {report['received']} results of {report['recorded']} recorded: {report['lost']} "
            f"lost, {report['duplicates']} duplicates. The server has stored {report['stored']}."
        ),
        (
            f"{evaluations.get('OK', 0)} OK, {evaluations.get('NOT_OK', 0)} not OK, "
            f"{evaluations.get('NOT_DECIDABLE', 0)} not decidable. Defects: {defects}."
        ),
        *map(_of_rollout, report["rollouts"]),
    ]
    swap = report["swap"]
    if swap.get("gapMs") is not None:
        lines.append(
            f"On the canary the swap took {swap['totalMs'] / 1e3:.1f} s; {swap['framesLost']} frames lost, the longest "
            f"gap between results was {swap['gapMs']:.0f} ms (p99 before it: {swap['steadyP99Ms']:.0f} ms)."
        )
    if report["forgedOrder"]:
        lines.append(f"A stranger's order was refused: {report['forgedOrder']}.")
    return "\n".join([*lines, *_of_time(report["boards"])])


def _of_rollout(rollout: dict[str, Any]) -> str:
    counts = Counter(rollout["members"].values())
    boards = ", ".join(f"{count} {state.lower()}" for state, count in counts.items())
    why = f": {rollout['reason']}" if rollout["reason"] else ""
    return f"The rollout of {rollout['what']} ({rollout['model']}) is {rollout['state']}{why}. Boards: {boards}."


def _of_time(boards: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for node, board in boards.items():
        total, segment = (board["stageLatencyMs"].get(stage) for stage in ("total", "segment"))
        if total and segment:
            memory = board["memoryMb"]
            lines.append(
                f"{node}: a frame took {total['p50']:.0f} ms (p95 {total['p95']:.0f} ms), {segment['p50']:.0f} ms of "
                f"it in the model; agent {memory['agent']} MB, model's process {memory['segmenter']} MB."
            )
    return lines
