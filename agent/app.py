"""One agent's life: starts the loops that `agent.wiring` has built, waits, and stops them in order."""

import logging
import threading
import time
from pathlib import Path

from agent.adapters.notify_systemd import Notify
from agent.config import Settings
from agent.loops.control import Happened
from agent.wiring import Ground, Lead
from schemas.codes import FailureCode

log = logging.getLogger(__name__)

STOP_WITHIN_S = 5.0
_CONTROL, _UPLINK, _WORKSHOP = "control", "uplink", "workshop"


class App:
    """`run` blocks until `stop` is set, a job asks for a restart or a loop has failed for good, and returns the exit
    code. `folder` is that of the settings file. Errors: those of Ground.
    """

    def __init__(self, settings: Settings, folder: Path, notify: Notify) -> None:
        self._restart = threading.Event()
        self._ground = ground = Ground(settings, notify)
        self._lead = lead = Lead(ground, folder, self._restart)
        self._notify = notify
        self._disk, self._runner, self._slots = ground.disk, ground.runner, ground.slots
        self._link, self._uplink, self._ticker = ground.link, ground.uplink, ground.ticker
        self._library, self._lanes = lead.models.library, lead.models.lanes
        self._workshop, self._updater = lead.models.workshop, lead.models.updater
        self._cameras, self._configurator, self._jobs = lead.cameras, lead.configurator, lead.jobs
        self._control = lead.control

    def run(self, stop: threading.Event) -> int:
        """Errors: Permanent(CONFIG_INVALID) for a schedule that cannot be; then no result was made."""
        root = logging.getLogger()
        root.addHandler(self._lead.log_ring)
        try:
            return self._run(stop)
        finally:
            root.removeHandler(self._lead.log_ring)

    def _run(self, stop: threading.Event) -> int:
        for name, corrupt in self._disk.corrupt():
            text = f"the {name} could not be read and began anew; the old file is {corrupt}"
            self._control.put(Happened(FailureCode.SPOOL_CORRUPT, name, text))
        self._start(self._boot())
        while not (stop.is_set() or self._restart.is_set() or self._runner.failed.is_set()):
            stop.wait(0.2)
        self._notify.stopping()
        self._stop()
        if self._runner.failed.is_set():
            return 1
        self._disk.stop_mark.leave()
        return 0

    def _boot(self) -> Settings:
        """What the journals say of the time before: which settings and which model are to run."""
        is_clean = self._disk.stop_mark.take()
        settings = self._configurator.boot(is_clean=is_clean)
        self._updater.boot(is_clean=is_clean)
        self._library.use(settings, self._updater.current)
        return settings

    def _start(self, settings: Settings) -> None:
        """Each in its own thread, none waits for another: cameras, broker and models come up at the same time."""
        self._cameras.start(settings.camera, settings.timezone)
        self._runner.start(_CONTROL, self._control.run)
        self._runner.start(_UPLINK, self._uplink.run)
        self._link.start(self._uplink.report, self._ground.accept)
        for name, lane in self._lanes.items():
            self._runner.start(f"lane {name}", lane.run)
        self._runner.start(_WORKSHOP, self._workshop.run)
        self._ticker.start()
        self._notify.ready()
        ground = self._ground
        log.info("node %s, target %s, boot %s", ground.topics.node, ground.target.value, ground.identity.boot_id)

    def _stop(self) -> None:
        """Sources first, the way to the broker last; whatever hangs is left behind when its time is over."""
        deadline_s = time.monotonic() + STOP_WITHIN_S - 0.5

        def left_s(most_s: float) -> float:
            return max(0.05, min(most_s, deadline_s - time.monotonic()))

        self._ticker.stop()
        self._cameras.stop_asking()
        for name in (*(f"lane {name}" for name in self._lanes), _WORKSHOP):
            self._runner.ask_to_stop(name)
        self._workshop.wake()
        self._slots.stop()
        for name in self._lanes:
            self._runner.stop(f"lane {name}", left_s(2.0))
        self._cameras.join(left_s(0.5))
        self._runner.stop(_WORKSHOP, left_s(0.5))
        self._runner.stop(_CONTROL, left_s(0.5))
        self._jobs.close()
        self._control.last_words()
        self._runner.stop(_UPLINK, left_s(1.0))
        self._link.stop(self._control.goodbye(), left_s(1.0))
        self._disk.close()
