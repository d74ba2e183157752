"""How one board's word, or its silence, changes what the rollout holds of it. The board's word wins."""

from dataclasses import replace

from fleet.core.rollout.metrics import measured
from fleet.core.rollout.spec import ModelRef
from fleet.core.rollout.state import Member, MemberState
from schemas.state import Phase, ReportedModel
from schemas.telemetry import InspectionTelemetry

_ENDS = {
    Phase.REJECTED: MemberState.REJECTED,
    Phase.FAILED: MemberState.FAILED,
    Phase.ROLLED_BACK: MemberState.FAILED,
    Phase.CANCELED: MemberState.FAILED,
}


def reported(member: Member, report: ReportedModel, target: ModelRef) -> Member:
    """Not for boards that another rollout is answerable for."""
    member = replace(member, floor=max(member.floor, report.observed_generation))
    runs = _runs(report)
    if report.phase.is_end and runs is not None:
        member = replace(member, running=runs)
    has_target = report.phase is Phase.COMMITTED and runs is not None and _same(runs, target)
    match member.state:
        case MemberState.QUEUED:
            return _succeeded(member, report) if has_target else member
        case MemberState.IN_PROGRESS | MemberState.TIMED_OUT | MemberState.FAILED if not member.has_regressed:
            return _under_way(member, report, has_target=has_target)
        case MemberState.SUCCEEDED:
            return _after_success(member, report, target)
        case MemberState.REVERTING | MemberState.REVERT_FAILED:
            return _going_back(member, report)
    return member


def _runs(report: ReportedModel) -> ModelRef | None:
    if report.name is None or report.version is None or report.sha256 is None:
        return None
    return ModelRef(name=report.name, version=report.version, manifest_sha256=report.sha256)


def _same(one: ModelRef | None, other: ModelRef) -> bool:
    return one is not None and one.manifest_sha256 == other.manifest_sha256


def _succeeded(member: Member, report: ReportedModel) -> Member:
    return replace(member, state=MemberState.SUCCEEDED, error="", measured=measured(report))


def _under_way(member: Member, report: ReportedModel, *, has_target: bool) -> Member:
    if report.observed_generation < member.generation:
        return member
    if has_target:
        return _succeeded(member, report)
    if report.observed_generation > member.generation:
        text = f"reports generation {report.observed_generation}, {member.generation} is ours"
        return replace(member, state=MemberState.FAILED, error=text)
    if report.phase is Phase.COMMITTED:
        return replace(member, state=MemberState.FAILED, error="reports COMMITTED, and another model than asked for")
    state = _ENDS.get(report.phase)
    if state is None:
        return member
    return replace(member, state=state, error=_error(report), measured=measured(report))


def _error(report: ReportedModel) -> str:
    failure = report.last_error
    return f"{report.phase}: {failure.code}: {failure.text}"[:500] if failure else report.phase.value


def _after_success(member: Member, report: ReportedModel, target: ModelRef) -> Member:
    """An older generation is that of a board set up anew: it will see what is desired, and report again."""
    if not report.phase.is_end or _same(member.running, target) or report.observed_generation < member.generation:
        return member
    if member.generation == 0:
        return replace(member, state=MemberState.QUEUED)
    text = f"does not run the model any more ({_error(report)})"
    return replace(member, state=MemberState.FAILED, has_regressed=True, error=text)


def _going_back(member: Member, report: ReportedModel) -> Member:
    if report.observed_generation < member.generation or not report.phase.is_end:
        return member
    if member.previous is not None and report.phase is Phase.COMMITTED and _same(_runs(report), member.previous):
        return replace(member, state=MemberState.REVERTED, error="")
    return replace(member, state=MemberState.REVERT_FAILED, error=_error(report))


def observed(member: Member, telemetry: InspectionTelemetry, target: ModelRef) -> Member:
    """Telemetry of the model before counts until the board is told, that of the target after it has committed."""
    if telemetry.model is None:
        return member
    is_target = (telemetry.model.name, telemetry.model.version) == (target.name, target.version)
    if member.state is MemberState.QUEUED and member.attempts == 0 and not is_target:
        before = member.before.add(telemetry)
        return member if before is member.before else replace(member, before=before)
    if member.state is MemberState.SUCCEEDED and is_target:
        after = member.after.add(telemetry)
        return member if after is member.after else replace(member, after=after)
    return member
