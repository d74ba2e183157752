"""What the demonstration came to: figures for programs, words for people."""

from typing import Any

from fleet.demo import Seen

_MB = 1e6


def figures(seen: Seen) -> dict[str, Any]:
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
    if not total:
        return text
    memory = report["memoryMb"]
    return (
        f"{text}\nA frame took {total['p50']:.1f} ms (p95 {total['p95']:.1f} ms), {segment.get('p50', 0):.1f} ms of it "
        f"in the model; the agent used {memory['agent']} MB, the model's process {memory['segmenter']} MB."
    )
