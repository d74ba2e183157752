"""`rkfleet serve`."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from fleet.cli.output import AsJson, Exit, fail
from fleet.errors import ErrorCode, FleetError, Retryable


def serve(  # noqa: PLR0913  a parameter an option
    *,
    config: Annotated[Path | None, typer.Option(help="Settings in TOML.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of this server's own files.")] = None,
    database: Annotated[str | None, typer.Option(help="sqlite:///fleet.db or postgresql://user@host/name.")] = None,
    broker: Annotated[str | None, typer.Option(help="host:port of the MQTT broker.")] = None,
    listen: Annotated[str | None, typer.Option(help="host:port of API and registry.")] = None,
    registry: Annotated[Path | None, typer.Option(help="The registry's folder; its keys are in {folder}-keys.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="all, controller, ingest or web; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the fleet's server: registry and API over HTTP, controller, and the ingest of results and telemetry.

    `rkfleet serve --data /var/lib/rkfleet --broker 10.0.0.5:1883 --registry registry`: all in one process. Several
    share the load with `--role ingest`, `--role web`; of several with `--role controller` one decides, and another
    takes over when it dies. Settings come from the file, over it RKFLEET_SERVE_SECTION__KEY of the environment, over
    both the options. Log and progress are lines on stderr. Exit codes: 0 stopped in order, 1 failed, 2 wrong settings,
    4 a database that this version cannot use.
    """
    from fleet.app import App  # noqa: PLC0415  heavy: SQLAlchemy, paho
    from fleet.config import load  # noqa: PLC0415
    from fleet.logs import log_to_stderr  # noqa: PLC0415

    options = {
        "data": data,
        "database": database,
        "registry.folder": registry,
        "roles": _roles(role),
        **_address("broker", broker),
        **_address("web", listen, name="--listen"),
    }
    try:
        settings = load(config, os.environ, options)
    except FleetError as error:
        raise typer.BadParameter(error.text, param_hint="settings") from error
    log_to_stderr(settings.log_level, as_json=as_json)
    stop = threading.Event()
    _stop_on_signals(stop)
    try:
        code = App(settings, os.environ, _announcer(as_json=as_json)).run(stop)
    except FleetError as error:
        fail(error.text, _exit_of(error), as_json=as_json)
    except OSError as error:
        fail(f"{error.filename or 'cannot go on'}: {error.strerror or error}", as_json=as_json)
    raise typer.Exit(code)


def _roles(given: list[str] | None) -> tuple[str, ...] | None:
    from fleet.config import Role  # noqa: PLC0415

    if not given:
        return None
    wanted = [each.lower() for each in given]
    known = ["all", *Role]
    for each in wanted:
        if each not in known:
            raise typer.BadParameter(f"{each!r} is none of {', '.join(known)}", param_hint="--role")
    return tuple(role.value for role in Role if "all" in wanted or role.value in wanted)


def _address(section: str, given: str | None, *, name: str = "--broker") -> dict[str, Any]:
    """`host:port` or `host`; an IPv6 address in brackets."""
    if given is None:
        return {}
    host, colon, port = given.rpartition(":")
    if not colon or given.endswith("]"):
        host, port = given, ""
    if port and not port.isdecimal():
        raise typer.BadParameter(f"{given!r} is not host:port", param_hint=name)
    return {f"{section}.host": host.strip("[]"), f"{section}.port": int(port) if port else None}


def _stop_on_signals(stop: threading.Event) -> None:
    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


def _announcer(*, as_json: bool) -> Callable[[str, Mapping[str, Any]], None]:
    def announce(words: str, said: Mapping[str, Any]) -> None:
        sys.stderr.write(f"{json.dumps(dict(said)) if as_json else words}\n")
        sys.stderr.flush()

    return announce


def _exit_of(error: FleetError) -> Exit:
    if isinstance(error, Retryable):
        return Exit.UNREACHABLE
    of_database = {ErrorCode.DATABASE_OUTDATED, ErrorCode.DATABASE_TOO_NEW}
    return Exit.REFUSED if error.code in of_database else Exit.FAILED
