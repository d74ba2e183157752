"""`rkfleet simulate`."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from fleet.cli.output import AsJson, Exit, console, fail, line, note, table
from fleet.cli.simulate_crowd import Crowd, shares_of
from schemas.target import Target

_SAY_EACH_S = 5.0
BADNESS = ("ng", "fault", "slow", "selftest")
_ENDS = ("COMMITTED", "ROLLED_BACK", "FAILED", "REJECTED", "CANCELED")

Share = typer.Option(min=0.0, max=1.0)


def simulate(  # noqa: PLR0913  each is an option that people give by name
    *,
    nodes: Annotated[int, typer.Option(min=1, max=100_000, help="How many boards.")],
    broker: Annotated[str, typer.Option(help="HOST or HOST:PORT.")] = "127.0.0.1:1883",
    username: Annotated[str, typer.Option(help="For the broker; its password comes from the environment.")] = "",
    password: Annotated[str, typer.Option(envvar="RKFLEET_BROKER_PASSWORD", hidden=True)] = "",
    site: Annotated[str, typer.Option(help="The site in every topic.")] = "sim",
    prefix: Annotated[str, typer.Option(help="Boards are named by it and a number.")] = "sim-",
    first: Annotated[int, typer.Option(min=0, help="The number of the first board.")] = 1,
    soc: Annotated[str, typer.Option(help="A mix, by weight: rk3588=3,rk3576=1.")] = "rk3588",
    rate: Annotated[float, typer.Option(min=0, max=100, help="Results a second and board.")] = 0.0,
    telemetry: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between a board's telemetry.")] = 10.0,
    bad_model: Annotated[
        list[str] | None,
        typer.Option(help="NAME@VERSION=ng, fault, slow or selftest: what is wrong with that model; may be repeated."),
    ] = None,
    flap: Annotated[float, Share] = 0.0,
    silent: Annotated[float, Share] = 0.0,
    lie: Annotated[float, Share] = 0.0,
    root: Annotated[Path | None, typer.Option(help="The registry's root metadata, as boards have it.")] = None,
    registry: Annotated[
        str, typer.Option(help="The registry, with --root: the URL below which its metadata/ is.")
    ] = "",
    controller_keys: Annotated[Path | None, typer.Option(help="Whose signed messages boards obey.")] = None,
    trust: Annotated[bool, typer.Option(help="Without: models are not looked up, for speed.")] = True,
    download: Annotated[bool, typer.Option("--download", help="The models' files too, not manifests alone.")] = False,
    data: Annotated[
        Path | None, typer.Option(help="Give each board its journal, inbox and spool on disk here.")
    ] = None,
    starts: Annotated[float, typer.Option(min=0.1, help="Boards that come up a second.")] = 200.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same boards.")] = 1,
    duration: Annotated[float, typer.Option(min=0, help="Seconds; 0 is until Ctrl-C.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Run the control loops of many boards against a real broker: updates, commands, telemetry, no camera, no NPU.

    --flap, --silent and --lie are shares of the boards, 0 to 1: they lose their connection now and then, never act on
    what they are sent, or report what is not so. Probation and shadow take no time: their figures are drawn.

    `rkfleet simulate --nodes 2000 --no-trust` or
    `rkfleet simulate --nodes 200 --root root.json --registry https://fleet.example/registry --bad-model pcb@9=ng`
    """
    host, port = _host_port(broker)
    if (root is None) != (not registry):
        raise typer.BadParameter("--root and --registry come together")
    config = {
        "host": host, "port": port, "site": site, "prefix": prefix, "socs": _mix(soc), "rate": rate,
        "telemetryS": telemetry, "badModels": _bad(bad_model or []), "download": download, "seed": seed,
        "shares": {"flap": flap, "silent": silent, "lie": lie},
        "trust": {
            "root": None if root is None else str(root.resolve()),
            "metadataUrl": f"{registry.rstrip('/')}/metadata" if registry else None,
            "controllerKeys": None if controller_keys is None else str(controller_keys.resolve()),
            "manifests": trust,
        },
        "data": None if data is None else str(data.resolve()),
        "username": username or None, "password": password or None, "durationS": duration or None,
    }  # fmt: skip
    crowd = Crowd(shares_of(config, first, nodes, starts))
    try:
        last = _follow(crowd, as_json=as_json)
    except KeyboardInterrupt:
        note("The boards say goodbye.", as_json=as_json)
        last = crowd.standing
    finally:
        crowd.end()
    if crowd.complaints:
        fail(crowd.complaints[0], Exit.FAILED, as_json=as_json)
    if not last.get("everOnline"):
        fail(f"no board reached the broker at {host}:{port}", Exit.UNREACHABLE, as_json=as_json)


def _host_port(broker: str) -> tuple[str, int]:
    host, colon, port = broker.rpartition(":")
    if not colon:
        return broker, 1883
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise typer.BadParameter(f"{broker!r} is not HOST:PORT", param_hint="--broker")
    return host, int(port)


def _mix(text: str) -> dict[str, float]:
    mix = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        try:
            mix[Target(name).value] = float(weight or 1)
        except ValueError:
            known = ", ".join(target.value for target in Target)
            raise typer.BadParameter(f"{part!r} is not SOC=WEIGHT, with one of {known}", param_hint="--soc") from None
    return mix


def _bad(models: list[str]) -> dict[str, str]:
    bad = {}
    for text in models:
        name, _, badness = text.rpartition("=")
        if name.count("@") != 1 or badness not in BADNESS:
            known = ", ".join(BADNESS)
            raise typer.BadParameter(
                f"{text!r} is not NAME@VERSION=WHAT, with one of {known}", param_hint="--bad-model"
            )
        bad[name] = badness
    return bad


def _follow(crowd: Crowd, *, as_json: bool) -> Mapping[str, Any]:
    if as_json or not console().is_terminal:
        return _follow_lines(crowd, as_json=as_json)
    from rich.live import Live  # noqa: PLC0415  only for people who watch

    last: Mapping[str, Any] = {}
    with Live(console=console(), refresh_per_second=4) as live:
        for last in crowd.standings():
            live.update(_table(last))
    return last


def _follow_lines(crowd: Crowd, *, as_json: bool) -> Mapping[str, Any]:
    """As JSON each second; for people at each change, and every few seconds."""
    said, said_s = "", 0.0
    last: Mapping[str, Any] = {}
    for last in crowd.standings():
        words = _words(last)
        if not last["boards"]:
            continue
        if as_json:
            line(dict(last))
        elif words != said or time.monotonic() - said_s >= _SAY_EACH_S:
            said, said_s = words, time.monotonic()
            console().print(f"{words}, {last['results']} results", markup=False)
    return last


def _words(standing: Mapping[str, Any]) -> str:
    phases = ", ".join(f"{count} {phase}" for phase, count in standing["phases"].items())
    return f"{standing['online']} of {standing['boards']} boards online, generation {standing['generation']}: {phases}"


def _table(standing: Mapping[str, Any]) -> Table:
    phases = standing["phases"]
    under_way = sum(count for phase, count in phases.items() if phase not in _ENDS)
    rows: list[list[object]] = [
        ["online", f"{standing['online']} of {standing['boards']}"],
        ["generation", standing["generation"]],
        ["under way", under_way],
        *([phase, count] for phase, count in phases.items()),
        *([f"runs {model}", count] for model, count in standing["models"].items()),
        ["results sent", standing["results"]],
    ]
    return table(f"rkfleet simulate: {standing['processes']} processes", ["boards", ""], rows)
