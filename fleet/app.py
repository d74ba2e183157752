"""One server process: its roles, from the start to the end. The only module that knows all adapters and loops."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import Any

from fleet.adapters.db import Database, check, upgrade
from fleet.adapters.http_uvicorn import HttpServer
from fleet.adapters.mqtt_paho import PahoPost, PahoReader
from fleet.config import Role, ServeSettings
from fleet.errors import FleetError, Retryable
from fleet.first_admin import make_first_admin
from fleet.instance import claim
from fleet.loops.directory import Directory
from fleet.loops.ingest import Ingest
from fleet.loops.meters import Meters
from fleet.loops.runner import Runner
from fleet.wiring import (
    Control,
    Hall,
    Store,
    data_folder,
    make_control,
    make_ingest,
    make_reader,
    now,
    open_registry,
    registry_problem,
)
from fleet.wiring import link_options as options_of

log = logging.getLogger(__name__)
Announce = Callable[[str, Mapping[str, Any]], None]
"""(words for people, the same for programs)."""
_LOOK_S = 0.2
_BROKER_GRACE_S = 5.0


class App:
    """`run` returns the exit code. Errors: FleetError, OSError, before anything runs."""

    def __init__(self, settings: ServeSettings, environ: Mapping[str, str], announce: Announce) -> None:
        self._settings = settings
        self._environ = environ
        self._announce = announce
        self._runner = Runner()
        self._reader: PahoReader | None = None
        self._ingest: Ingest | None = None
        self._post: PahoPost | None = None
        self._control: Control | None = None
        self._web: HttpServer | None = None
        self._began_s = time.monotonic()

    def run(self, stop: threading.Event) -> int:
        """Until `stop`: 0; 1 when a loop crashes again and again, or the web server ends."""
        folder = data_folder(self._settings)
        with claim(folder) as instance, closing(Database(self._settings.database_url)) as database:
            try:
                if not self._open(database, stop):
                    return 0
                self._start(self._hall(instance.name, Store(database)))
                return self._wait(stop)
            finally:
                self._end()

    def _open(self, database: Database, stop: threading.Event) -> bool:
        """Waits for a database that is not there yet; False when it was told to stop meanwhile."""
        while not stop.is_set():
            try:
                if database.is_sqlite:
                    upgrade(database)
                else:
                    check(database)
            except Retryable as error:
                self._announce(f"Waiting for the database: {error.text}", {"event": "waiting", "for": "database"})
                stop.wait(error.delay_s)
            else:
                return True
        return False

    def _hall(self, name: str, store: Store) -> Hall:
        found = open_registry(self._settings, self._environ) if self._has(Role.CONTROLLER, Role.WEB) else None
        registry, signer = found or (None, None)
        directory = Directory(store.roster, now)
        return Hall(self._settings, name, store, Meters(), directory, registry, signer)

    def _has(self, *roles: Role) -> bool:
        return any(role in self._settings.roles for role in roles)

    def _start(self, hall: Hall) -> None:
        if self._has(Role.CONTROLLER, Role.WEB):
            self._post = PahoPost(options_of(hall, "post"))
        if self._has(Role.INGEST):
            self._reader = make_reader(hall)
        # The port is taken first: with port 0 the registry's address is not known before.
        urls = self._settings.registry.urls
        if self._post is not None and self._has(Role.WEB):
            self._web = self._make_web(hall, self._post)
            urls = urls or (f"http://{self._settings.web.host}:{self._web.port}/registry",)
        if self._post is not None and self._has(Role.CONTROLLER):
            default = f"http://{self._settings.web.host}:{self._settings.web.port}/registry"
            self._control = make_control(hall, self._post, urls or (default,), self._is_hearing)
        self._start_loops(hall)
        self._tell(hall)

    def _start_loops(self, hall: Hall) -> None:
        control = self._control
        if self._reader is not None:
            wake = control.controller.wake if control is not None else _nobody
            self._ingest = make_ingest(hall, self._reader, wake)
            self._reader.start()
            self._runner.start("ingest", self._ingest.run)
        if self._post is not None:
            self._post.start()
        if control is not None:
            _watch_nodes(hall)
            self._runner.start("lead", control.lead.run)
            self._runner.start("controller", control.controller.run)
            self._runner.start("publisher", partial(_with_now, control.publisher.run))
            self._runner.start("replay", partial(_with_now, control.replay.run))
            self._runner.start("janitor", partial(_with_now, control.janitor.run))
            if hall.registry is not None:
                from fleet.adapters.registry_tuf import keep_fresh  # noqa: PLC0415  only where there is a registry

                every = timedelta(seconds=self._settings.registry.refresh_s)
                registry = hall.registry
                self._runner.start("registry", lambda stop: keep_fresh(registry, stop, now, every))
        if self._web is not None:
            self._web.start()

    def _make_web(self, hall: Hall, post: PahoPost) -> HttpServer:
        from fleet.api_parts import api_parts  # noqa: PLC0415  the API is the role web's alone
        from fleet.web.api import make_app  # noqa: PLC0415

        web = self._settings.web
        return HttpServer(make_app(api_parts(hall, post, lambda: self.problems(hall))), web.host, web.port)

    def problems(self, hall: Hall) -> dict[str, str]:
        """Part to text; empty when all is well."""
        found = self._runner.troubles()
        try:
            hall.store.rollouts.unsent(1)
        except FleetError as error:
            found["database"] = error.text
        if hall.registry is not None and (problem := registry_problem(hall.registry, now())) is not None:
            found["registry"] = problem
        links = [each.link for each in (self._post, self._reader) if each is not None]
        for link in links:
            if link.problem is not None and time.monotonic() - self._began_s > _BROKER_GRACE_S:
                found["broker"] = link.problem
        if self._ingest is not None and self._ingest.problem is not None:
            found["ingest"] = self._ingest.problem
        return found

    def _is_hearing(self) -> bool:
        """What boards say has come for a while, and what the broker had kept is read."""
        if self._reader is not None:
            is_up_to_date = self._reader.has_caught_up and self._reader.inbox.depth == 0
            return is_up_to_date and self._reader.link.connected_s >= self._settings.controller.settle_s
        return self._post is not None and self._post.link.connected_s >= self._settings.controller.settle_s

    def _tell(self, hall: Hall) -> None:
        roles = [role.value for role in self._settings.roles]
        said: dict[str, Any] = {"event": "started", "roles": roles, "name": hall.name}
        lines = [f"rkfleet serves as {', '.join(roles)}."]
        if self._web is not None:
            said["url"] = f"http://{self._settings.web.host}:{self._web.port}"
            lines.append(f"API and registry: {said['url']}")
            made = make_first_admin(hall.store.users, data_folder(self._settings), now())
            if made is not None:
                said["adminToken"] = str(made)
                lines.append(f"There were no users: the token of `admin` is in {made}")
        if hall.signer is None and self._has(Role.CONTROLLER):
            lines.append("No registry is set: nothing is signed, and there are no models to roll out.")
        self._announce("\n".join(lines), said)

    def _wait(self, stop: threading.Event) -> int:
        while not stop.wait(_LOOK_S):
            if self._runner.failed.is_set():
                log.error("a loop has crashed again and again: %s", self._runner.troubles())
                return 1
            if self._web is not None and not self._web.is_alive:
                log.error("the web server has ended")
                return 1
        self._announce("Stopping.", {"event": "stopping"})
        return 0

    def _end(self) -> None:
        """Within 5 s. Links go before the loops that wait for an answer on them, and after those that acknowledge."""
        self._runner.ask_to_stop()
        if self._web is not None:
            self._web.stop(2.0)
        late = self._runner.stop(0.5)
        for link in (self._reader, self._post):
            if link is not None:
                link.stop()
        if late and (late := self._runner.stop(1.0)):
            log.warning("did not end in time: %s", ", ".join(late))


def _watch_nodes(hall: Hall) -> None:
    hall.meters.watch("nodes", "Nodes that are known.", lambda: hall.directory.counts()[0])
    hall.meters.watch("nodes_online", "Nodes that are online.", lambda: hall.directory.counts()[1])


def _with_now(body: Callable[[threading.Event, Callable[[], Any]], None], stop: threading.Event) -> None:
    body(stop, now)


def _nobody() -> None:
    return
