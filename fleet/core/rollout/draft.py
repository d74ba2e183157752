"""A rollout while one step works on it: changed in place inside the step, frozen again at its end."""

from collections.abc import Iterable
from dataclasses import replace

from fleet.core.rollout.events import Alert, AlertKind, Effect, SetDesired
from fleet.core.rollout.spec import BoardPlan, FailureType, ModelRef, OnAbort
from fleet.core.rollout.state import Member, MemberState, Rollout, RolloutState, WaveProgress
from fleet.core.roster import NodeId
from schemas.state import ProbationPlan

_WAY_BACK = BoardPlan(probation=ProbationPlan(frames=20, max_p95_ratio=1e6, max_ng_drift=1.0))
"""What inspects is the bad model: to differ from it is no fault, and only a fault may stop the way back."""

MOST_GENERATION = 2**53 - 1


class Draft:
    """`head` has everything but the members."""

    def __init__(self, rollout: Rollout) -> None:
        self._before = rollout
        self._members = rollout.members
        self._changed: dict[NodeId, Member] = {}
        self.head = rollout
        self.effects: list[Effect] = []

    @property
    def is_changed(self) -> bool:
        return self.head is not self._before or bool(self._changed)

    def rollout(self) -> Rollout:
        """As it is now."""
        if self._changed:
            self._members = {**self._members, **self._changed}
            self._changed = {}
            self.head = replace(self.head, members=self._members)
        return self.head

    def member(self, node: NodeId) -> Member | None:
        return self._changed.get(node) or self._members.get(node)

    def put(self, member: Member) -> None:
        if member != self.member(member.id):
            self._changed[member.id] = member

    def set_wave(self, at: int, progress: WaveProgress) -> None:
        waves = list(self.head.waves)
        waves[at] = progress
        self.head = replace(self.head, waves=tuple(waves))

    def alert(self, kind: AlertKind, text: str, node: NodeId | None = None) -> None:
        self.effects.append(Alert(kind, text[:1000], node))

    def ended(self, member: Member) -> None:
        """An attempt has failed: the next one is queued, or the failure counts."""
        head = self.head
        may_retry = head.state.is_live and not member.has_regressed
        if may_retry and member.attempts <= self._retries(member.state):
            retry_s = head.elapsed_s + head.spec.retry_delay_minutes * 60
            self.put(replace(member, state=MemberState.QUEUED, retry_s=retry_s))
            return
        if member != self.member(member.id):
            self.put(member)
            self.alert(AlertKind.BOARD_FAILED, f"{member.id}: {member.state}: {member.error}", member.id)

    def _retries(self, state: MemberState) -> int:
        rules = self.head.spec.retries
        fitting = [rule.number_of_retries for rule in rules if rule.failure_type in {FailureType.ALL, state.value}]
        return max(fitting, default=0)

    def tell(self, member: Member) -> bool:
        """The board is to run the new model. False where no generation is left for it."""
        head, generation = self.head, member.floor + 1
        if generation > MOST_GENERATION:
            self.ended(replace(member, state=MemberState.FAILED, has_regressed=True, error="no generation is left"))
            return False
        told = replace(
            member,
            state=MemberState.IN_PROGRESS,
            generation=generation,
            floor=generation,
            attempts=member.attempts + 1,
            previous=member.previous if member.attempts else member.running,
            told_s=head.elapsed_s,
        )
        self.put(told)
        self.effects.append(SetDesired(member.id, generation, head.spec.model, head.spec.board))
        return True

    def turn_back(self, member: Member) -> None:
        """The board is to run what it ran before the rollout."""
        generation, previous = member.floor + 1, member.previous
        if previous is None or generation > MOST_GENERATION:
            text = "what it ran before is not known" if previous is None else "no generation is left"
            self.put(replace(member, state=MemberState.REVERT_FAILED, error=text))
            self.alert(AlertKind.REVERT_FAILED, f"{member.id}: {text}", member.id)
            return
        self.put(
            replace(
                member,
                state=MemberState.REVERTING,
                generation=generation,
                floor=generation,
                told_s=self.head.elapsed_s,
            )
        )
        self.effects.append(_revert(member.id, generation, previous))

    def abort(self, reason: str, on_abort: OnAbort | None = None) -> None:
        """Nothing new starts from here on. Boards that were told go back; with KEEP, those that committed stay."""
        mode = on_abort or self.head.spec.on_abort
        self.alert(AlertKind.ABORTED, f"{reason}; {mode}")
        self.head = replace(self.head, state=RolloutState.STOPPING, reason=reason[:1000], on_abort=mode)
        for member in self._all():
            if member.state is MemberState.QUEUED and member.generation == 0:
                self.put(replace(member, state=MemberState.CANCELED))
            elif member.generation > 0 and not member.is_released and _goes_back(member, mode):
                self.turn_back(member)

    def pause(self, reason: str, breach: str = "") -> None:
        self.alert(AlertKind.PAUSED, reason)
        self.head = replace(self.head, state=RolloutState.PAUSED, reason=reason[:1000], breach=breach)

    def _all(self) -> Iterable[Member]:
        return list(self.rollout().members.values())


def _goes_back(member: Member, mode: OnAbort) -> bool:
    if member.state is MemberState.REMOVED:
        return False
    if mode is OnAbort.REVERT:
        return True
    # A rejected model is never tried again by the board; all others could still take it up.
    return member.state not in {MemberState.SUCCEEDED, MemberState.REJECTED}


def _revert(node: NodeId, generation: int, model: ModelRef) -> SetDesired:
    return SetDesired(node, generation, model, _WAY_BACK, is_revert=True)
