"""The report for people."""

from agent.selftest.judge import counted
from schemas.selftest import Outcome, SelfTest

_MARKS = {Outcome.OK: "OK     ", Outcome.LOOK: "look at", Outcome.FAILED: "FAILED "}


def as_text(report: SelfTest) -> str:
    """Aligned, one line a finding, worst last so that it is what stays on the screen."""
    board = report.board
    head = [
        ("board", f"{board.soc or board.machine}, {board.cpus or '?'} CPUs, Linux {board.kernel}"),
        ("agent", f"{board.agent_version}, Python {board.python_version}, target {board.target.value}"),
        *_work(report),
    ]
    width = max(len(name) for name, _ in [*head, *((finding.what, "") for finding in report.findings)])
    lines = [f"        {name:{width}}  {text}" for name, text in head]
    order = list(_MARKS)
    lines += [
        f"{_MARKS[finding.outcome]} {finding.what:{width}}  {finding.text}"
        for finding in sorted(report.findings, key=lambda finding: order.index(finding.outcome))
    ]
    counts = counted(report.findings)
    early = ", ended early" if report.is_ended_early else ""
    lines.append(
        f"{counts[Outcome.OK]} OK, {counts[Outcome.LOOK]} to look at, {counts[Outcome.FAILED]} failed"
        f" in {report.seconds:.0f} s{early}"
    )
    return "\n".join(lines) + "\n"


def _work(report: SelfTest) -> list[tuple[str, str]]:
    rows = [
        (lane, f"{facts.rate_hz:8.1f}/s alone, p50 {facts.call_ms.p50:.2f} ms, p95 {facts.call_ms.p95:.2f} ms")
        for lane, facts in report.cores.items()
    ]
    if (all_of_them := report.together) is not None:
        ms = all_of_them.call_ms
        rows.append(("all cores", f"{all_of_them.rate_hz:8.1f}/s together, p50 {ms.p50:.2f} ms, p95 {ms.p95:.2f} ms"))
    return rows
