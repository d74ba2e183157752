"""What the demonstration came to: figures for programs, words for people."""

from typing import Any

from fleet.core.swap import gaps, phases
from fleet.demo.seen import Seen
from fleet.demo.story import Act
from schemas.state import Phase, ReportedModel

_MB = 1e6


def figures(seen: Seen, story: list[Act]) -> dict[str, Any]:
    """`report.json`. `captured`, `dropped` and `inspected` are the agent's own count, `received` is the reader's."""
    tally = seen.tally
    cameras = list(seen.inspection.cameras.values()) if seen.inspection else []
    goodbye = seen.goodbye
    recorded = (goodbye.last_sequence_number or 0) if goodbye else None
    pending = (goodbye.pending_results or 0) if goodbye else 0
    missing = tally.missing(goodbye.boot_id, recorded or 0) if goodbye else []
    latency = seen.measured.latency_ms if seen.measured else {}
    return {
        "captured": sum(camera.captured for camera in cameras),
        "inspected": sum(camera.inspected for camera in cameras),
        "failed": sum(camera.failed for camera in cameras),
        "dropped": sum(camera.dropped for camera in cameras),
        "recorded": recorded,
        "published": None if recorded is None else recorded - pending,
        "received": tally.received,
        "lost": None if goodbye is None else len(missing),
        "duplicates": tally.duplicates,
        "malformed": seen.malformed,
        "resultsByEvaluation": dict(sorted(tally.by_evaluation.items())),
        "defectsByClass": dict(sorted(tally.by_class.items())),
        "faults": tally.faults,
        "stageLatencyMs": {stage: value.model_dump() for stage, value in latency.items()},
        "memoryMb": {
            "agent": round(seen.memory_bytes / _MB, 1),
            "segmenter": round(seen.children_memory_bytes / _MB, 1),
        },
        "startToFirstResultMs": seen.host.start_to_first_result_ms if seen.host else None,
        "model": seen.latest.model.model_dump(by_alias=True, mode="json", exclude_none=True) if seen.latest else None,
        "alarms": sorted(seen.alarms),
        "swap": _swap(seen, story[0]),
        "refusals": [_refusal(seen, act, later) for act, later in zip(story[1:], [*story[2:], None], strict=True)],
    }


def _swap(seen: Seen, act: Act) -> dict[str, Any]:
    """From the moment at which the board took the desired state to the one at which it was committed."""
    report = seen.ends.get(act.generation)
    swap: dict[str, Any] = {"to": f"{act.desired.name} {act.desired.version}", **_end(report)}
    if report is None or not report.phases:
        return swap
    began, ended = report.phases[0].time, report.phases[-1].time
    found = gaps(seen.marks, began, ended)
    return {
        **swap,
        "phases": phases(report),
        "totalMs": round((ended - began).total_seconds() * 1e3, 1),
        "gapMs": round(found.longest, 1) if found else None,
        "steadyP99Ms": round(found.steady_p99, 1) if found else None,
        "framesLost": found.lost if found else None,
        "measured": report.measured,
    }


def _refusal(seen: Seen, act: Act, later: Act | None) -> dict[str, Any]:
    report = seen.ends.get(act.generation)
    following = seen.ends.get(later.generation) if later else None
    until = following.phases[0].time if following and following.phases else None
    in_order = sorted(seen.marks, key=lambda mark: mark.number)
    before_the_next = [mark for mark in in_order if until is None or mark.at < until]
    return {
        "what": act.title,
        "model": f"{act.desired.name} {act.desired.version}",
        **_end(report),
        "expected": act.ends.value,
        "phases": phases(report) if report else [],
        "resultsOfIt": sum(mark.version == act.desired.version for mark in seen.marks),
        "inspectingAfter": before_the_next[-1].version if before_the_next else None,
    }


def _end(report: ReportedModel | None) -> dict[str, Any]:
    error = report.last_error if report else None
    return {
        "phase": report.phase.value if report else None,
        "code": error.code.value if error else None,
        "text": error.text if error else None,
    }


def problems(report: dict[str, Any]) -> list[str]:
    """Why the demonstration has failed; empty when nothing was lost."""
    found = []
    if report["lost"] is None:
        found.append("the agent did not say goodbye, so nobody knows what it recorded")
    elif report["lost"]:
        found.append(f"{report['lost']} results were lost")
    if not report["received"]:
        found.append("no result was received")
    if report["failed"]:
        found.append(f"{report['failed']} frames could not be inspected: {report['faults']}")
    if report["malformed"]:
        found.append(f"{report['malformed']} messages were not what the schemas say")
    return found + _problems_of_updates(report)


def _problems_of_updates(report: dict[str, Any]) -> list[str]:
    found = []
    swap = report["swap"]
    if swap["phase"] != Phase.COMMITTED:
        found.append(f"the better model was not committed: {swap['phase']}, {swap['text']}")
    elif swap.get("framesLost") != 0:
        found.append(f"{swap.get('framesLost')} frames were lost in the swap")
    for refusal in report["refusals"]:
        if refusal["phase"] != refusal["expected"]:
            found.append(f"{refusal['what']} ended in {refusal['phase']}, not in {refusal['expected']}")
        if refusal["inspectingAfter"] != swap["to"].split()[-1]:
            found.append(f"after {refusal['what']} the board inspected with {refusal['inspectingAfter']}")
    return found


def words(report: dict[str, Any]) -> str:
    """The report as a few sentences."""
    evaluations = report["resultsByEvaluation"]
    defects = ", ".join(f"{count} {name}" for name, count in report["defectsByClass"].items()) or "none"
    segment = report["stageLatencyMs"].get("segment", {})
    total = report["stageLatencyMs"].get("total", {})
    model = report["model"] or {"name": "?", "version": "?", "runtime": "?"}
    text = (
        f"Model {model['name']} {model['version']} on {model['runtime']} inspected {report['inspected']} of "
        f"{report['captured']} captured frames; {report['dropped']} were dropped because a newer one was there.\n"
        f"The reader received {report['received']} results of {report['recorded']} recorded: {report['lost']} lost, "
        f"{report['duplicates']} duplicates.\n"
        f"{evaluations.get('OK', 0)} OK, {evaluations.get('NOT_OK', 0)} not OK, "
        f"{evaluations.get('NOT_DECIDABLE', 0)} not decidable. Defects: {defects}."
    )
    text = f"{text}\n{_words_of_updates(report)}"
    if not total:
        return text
    memory = report["memoryMb"]
    return (
        f"{text}\nA frame took {total['p50']:.1f} ms (p95 {total['p95']:.1f} ms), {segment.get('p50', 0):.1f} ms of it "
        f"in the model; the agent used {memory['agent']} MB, the model's process {memory['segmenter']} MB."
    )


def _words_of_updates(report: dict[str, Any]) -> str:
    swap = report["swap"]
    lines = [f"The swap to {swap['to']} ended {swap['phase']}"]
    if swap.get("gapMs") is not None:
        lines[0] += (
            f" after {swap['totalMs'] / 1e3:.1f} s; {swap['framesLost']} frames lost, the longest gap between results "
            f"was {swap['gapMs']:.0f} ms (p99 before it: {swap['steadyP99Ms']:.0f} ms)"
        )
    lines += [
        f"{refusal['what'].capitalize()} was {refusal['phase']} ({refusal['code']}): {refusal['text']}"
        for refusal in report["refusals"]
    ]
    return ".\n".join(lines)
