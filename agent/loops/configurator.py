"""Configuration from afar: takes `desired/config`, has it run, and keeps it only if the agent stays healthy."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from agent.config import Settings
from agent.config_from_afar import merged
from agent.core import desired_config as machine
from agent.core.command import Refusal
from agent.core.desired_config import Configuration, Effect, Event, Version
from agent.core.outgoing import Outgoing
from agent.errors import AgentError, Permanent
from agent.loops.config_probation import WATCHED, Probation, terms
from agent.loops.desk import Desk
from agent.ports import Journal
from schemas.codes import FailureCode
from schemas.command import Failure
from schemas.state import DesiredConfig, Phase
from schemas.topics import Topics

log = logging.getLogger(__name__)

SOURCE = "config"
_JOURNAL = "config-journal"
_AGAIN_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class ConfiguratorParts:
    """`own` are the settings of the board's file in `folder`. `apply` makes settings run; it raises AgentError where
    they do not fit the model or cannot be, and is then called with the settings before.
    """

    journal: Journal
    own: Settings
    folder: Path
    apply: Callable[[Settings], None]
    desk: Desk
    publish: Callable[[Outgoing], None]
    topics: Topics
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    probation_s: float = 30.0
    settle_s: float = 600.0


class Configurator:
    """Owned by control. `boot` before anything starts; `wanted`, `alarmed`, `inspected` and `tick` from then on."""

    def __init__(self, parts: ConfiguratorParts) -> None:
        self._parts = parts
        self._state = Configuration()
        self._settings = self._current = parts.own
        self._is_booting = True
        self._probation: Probation | None = None
        self._waiting: machine.Desired | None = None
        self._is_dirty = False
        self._refusal: Failure | None = None
        self._restore_s: float | None = None
        self._settling_since_s = parts.monotonic()

    @property
    def settings(self) -> Settings:
        """Those that run."""
        return self._settings

    @property
    def state(self) -> Configuration:
        return self._state

    @property
    def is_on_probation(self) -> bool:
        """Whether `inspected` is of interest. Any thread may ask."""
        return self._probation is not None

    def boot(self, *, is_clean: bool) -> Settings:
        """The settings to start with, decided without broker or network. Never raises AgentError: a board whose journal
        is lost goes on with its own settings.
        """
        self._state = self._read()
        self._current = self._settings = self._known_good()
        self._happened(machine.Booted(is_clean=is_clean))
        self._is_booting = False
        return self._settings

    def wanted(self, desired: DesiredConfig | Refusal) -> None:
        """`desired/config` has come, perhaps again. What cannot be read changes nothing but `lastError`."""
        if isinstance(desired, Refusal):
            self._refusal = Failure(code=desired.code, text=desired.text[:500])
            self._tell()
            return
        self._refusal = None
        state = self._state
        is_other = machine.fingerprint(desired.config) != state.sha256
        if desired.generation < state.generation or (desired.generation == state.generation and is_other):
            text = f"desired/config of generation {desired.generation} is not new: {state.generation} was looked at"
            self._parts.desk.happened(FailureCode.STALE_GENERATION, SOURCE, text)
        self._happened(machine.Desired(desired))
        self._tell()

    def alarmed(self, code: FailureCode, source: str, text: str = "") -> None:
        """An alarm was set; `source` is a camera, a lane or whatever else holds it up."""
        if self._probation is not None and self._probation.is_hurt_by(code, source):
            named = f"camera {source}" if source in {camera.id for camera in self._settings.camera} else source
            self._failed(f"{named}: {code.value}{': ' if text else ''}{text}")

    def loop_crashed(self, text: str) -> None:
        """A capture loop or a lane has ended by a fault of ours: settings that nobody foresaw may be why."""
        if self._probation is not None:
            self._failed(text)

    def inspected(self, camera: str, captured_s: float | None = None) -> None:
        """A result was committed; `captured_s` is when its frame was captured, by the monotonic clock: what was there
        before the change tells nothing of it.
        """
        if self._probation is not None:
            self._probation.inspected(camera, captured_s)

    def tick(self) -> None:
        """Probation, what could not be journalled or restored, and the configuration that has settled."""
        parts, now_s = self._parts, self._parts.monotonic()
        self._catch_up()
        if self._restore_s is not None and now_s >= self._restore_s:
            self._restore()
        if self._probation is not None:
            self._judge(self._probation, now_s)
        elif now_s - self._settling_since_s >= parts.settle_s:
            self._happened(machine.Settled())

    def report(self) -> Outgoing:
        """`reported/config`, as it is now."""
        message = machine.report(self._state, self._parts.now())
        if self._refusal is not None:
            message = message.model_copy(update={"last_error": self._refusal})
        return Outgoing(self._parts.topics.reported("config"), message.to_json(), retain=True)

    def _judge(self, probation: Probation, now_s: float) -> None:
        if probation.is_over(now_s) and probation.owing:
            self._failed(f"camera {', '.join(probation.owing)}: no result within {self._parts.probation_s:g} s")
        elif probation.is_over(now_s):
            self._happened(machine.Passed())

    def _failed(self, text: str) -> None:
        self._happened(machine.Failed(FailureCode.PROBATION_FAILED, text))

    def _happened(self, event: Event) -> None:
        """One step. Where the disk does not take it, what must be journalled first waits for the next tick."""
        later, effects = machine.step(self._state, event)
        if later == self._state and not effects:
            return
        before, was_dirty = self._state, self._is_dirty
        self._is_dirty = was_dirty or later != before
        self._state = later
        if not self._write() and not isinstance(event, machine.SAFE_UNJOURNALLED):
            self._state, self._is_dirty = before, was_dirty
            self._hold(event)
            return
        self._note(before)
        if isinstance(event, machine.Passed):
            self._probation, self._current = None, self._settings
            self._settling_since_s = self._parts.monotonic()
        for effect in effects:
            self._perform(effect)
        self._tell()

    def _hold(self, event: Event) -> None:
        """Probation and settling come to their events again by themselves, and so does VERIFYING."""
        waiting = self._waiting
        if isinstance(event, machine.Desired) and (
            waiting is None or waiting.desired.generation < event.desired.generation
        ):
            self._waiting = event

    def _perform(self, effect: Effect) -> None:
        candidate = self._state.candidate
        if effect is Effect.RESTORE:
            self._probation = None
            self._restore()
        elif candidate is not None:
            settings = self._merged(candidate)
            if settings is None:
                return
            if effect is Effect.VERIFY:
                self._happened(machine.Verified())
            else:
                self._try(settings)

    def _merged(self, candidate: Version) -> Settings | None:
        try:
            return merged(self._parts.own, candidate.config, self._parts.folder)
        except Permanent as error:
            self._happened(machine.Refused(error.code, error.text))
            return None

    def _known_good(self) -> Settings:
        """Those of `current`, or of what comes in its place where the board's own file has changed under it."""
        while (current := self._state.current) is not None:
            try:
                return merged(self._parts.own, current.config, self._parts.folder)
            except Permanent as error:
                text = f"generation {current.generation} no longer fits the board's own settings: {error.text}"
                self._happened(machine.Unusable(error.code, text))
        return self._parts.own

    def _try(self, settings: Settings) -> None:
        """Have the candidate run, under watch: a probation that nobody watched would never end."""
        parts = self._parts
        self._restore_s = None
        ailing = {source.source for alarm in parts.desk.active() if alarm.code in WATCHED for source in alarm.sources}
        known = None if self._is_booting else ailing
        self._probation = Probation(terms(settings, self._current, parts.probation_s, known))
        try:
            self._run(settings)
        except AgentError as error:
            self._happened(machine.Refused(error.code, error.text))
        else:
            self._probation.began(parts.monotonic())

    def _restore(self) -> None:
        """`current` runs. Where even that is refused (another model has come meanwhile) it is tried again."""
        parts = self._parts
        self._restore_s = None
        self._current = self._known_good()
        try:
            self._run(self._current)
        except AgentError as error:
            self._restore_s = parts.monotonic() + _AGAIN_AFTER_S
            parts.desk.set(FailureCode.CONFIG_INVALID, SOURCE, error.text)
            return
        parts.desk.clear(FailureCode.CONFIG_INVALID, SOURCE)
        self._settling_since_s = parts.monotonic()

    def _run(self, settings: Settings) -> None:
        if not self._is_booting:
            self._parts.apply(settings)
        self._settings = settings

    def _read(self) -> Configuration:
        try:
            content = self._parts.journal.read()
            return Configuration() if content is None else machine.load(content)
        except (AgentError, machine.BadJournal) as error:
            text = f"the journal of configurations cannot be read, the board goes on with its own settings: {error}"
            self._parts.desk.happened(FailureCode.JOURNAL_CORRUPT, SOURCE, text)
            return Configuration()

    def _write(self) -> bool:
        """False where the disk does not take it; the alarm stands until it does."""
        if not self._is_dirty:
            return True
        try:
            self._parts.journal.write(machine.dump(self._state))
        except AgentError as error:
            self._parts.desk.set(error.code, _JOURNAL, error.text)
            return False
        self._is_dirty = False
        for code in (FailureCode.DISK_FULL, FailureCode.INTERNAL):
            self._parts.desk.clear(code, _JOURNAL)
        return True

    def _catch_up(self) -> None:
        if not self._write():
            return
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._happened(waiting)
        elif self._state.phase is Phase.VERIFYING:
            self._perform(Effect.VERIFY)

    def _note(self, before: Configuration) -> None:
        state = self._state
        if (state.phase, state.generation) != (before.phase, before.generation):
            log.info("configuration of generation %d: %s", state.generation, state.phase.value)
        if state.last_error is not None and state.last_error != before.last_error:
            self._parts.desk.happened(state.last_error.code, SOURCE, state.last_error.text)

    def _tell(self) -> None:
        self._parts.publish(self.report())
