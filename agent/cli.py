"""`rkfleet-agent`: run, check, selftest, version."""

import argparse
import json
import logging
import os
import platform
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from agent import read_ahead
from agent.adapters.notify_systemd import Notify
from agent.config import Settings, load
from agent.errors import AgentError

_EXAMPLES = """\
examples:
  rkfleet-agent check --config /etc/rkfleet/agent.toml
  rkfleet-agent run --config /etc/rkfleet/agent.toml
  rkfleet-agent selftest --config /etc/rkfleet/agent.toml --json board.json
  RKFLEET_BROKER__HOST=10.0.0.5 rkfleet-agent run --config agent.toml
"""
MOST_SELFTEST_S = 86_400.0
_CONFIG = "/etc/rkfleet/agent.toml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 all well, 1 something is wrong with the world, 2 something is wrong with the settings."""
    options = _parser().parse_args(arguments)
    if options.command == "version":
        return _version(as_json=options.json)
    try:
        settings = load(options.config, os.environ)
    except AgentError as error:
        sys.stderr.write(f"{error.text}\n")
        return 2
    _log(settings)
    if options.command == "selftest":
        return _selftest(settings, options)
    if options.command == "check":
        return _check(settings, as_json=options.json)
    return _run(settings, options.config.parent)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rkfleet-agent",
        description="Inspect with a segmentation model on this board and publish the results over MQTT.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="run|check|selftest|version")
    default = os.environ.get("RKFLEET_CONFIG", _CONFIG)
    texts = {
        "run": "inspect until SIGTERM or SIGINT",
        "check": "say in plain words what is wrong with settings, cameras, model and broker; exit 1 if anything is",
        "selftest": "measure what only this board can tell: every core, heat, memory, cameras, broker, disk",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--config",
            type=Path,
            default=Path(default),
            help=f"settings in TOML (default {default}, or RKFLEET_CONFIG)",
        )
        if name == "check":
            command.add_argument("--json", action="store_true", help="print the findings as JSON")
        if name == "selftest":
            _selftest_options(command)
    shown = commands.add_parser("version", help="print the versions of agent and runtimes")
    shown.add_argument("--json", action="store_true", help="print as JSON")
    return parser


def _version(*, as_json: bool) -> int:
    versions = {"agent": version("rkfleet"), "python": platform.python_version(), "platform": platform.platform()}
    if as_json:
        sys.stdout.write(json.dumps(versions) + "\n")
    else:
        sys.stdout.write("".join(f"{name} {value}\n" for name, value in versions.items()))
    return 0


def _run(settings: Settings, folder: Path) -> int:
    if read_ahead.SWITCH not in os.environ:
        read_ahead.begin(settings)
    from agent.app import App  # noqa: PLC0415  `version` and a wrong setting answer without loading OpenCV

    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        logging.getLogger(__name__).info("%s: stopping", signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    try:
        return App(settings, folder, Notify.from_env(os.environ)).run(stop)
    except AgentError as error:
        sys.stderr.write(f"{error.code.value}: {error.text}\n")
        return 1


def _check(settings: Settings, *, as_json: bool) -> int:
    from agent.check import check  # noqa: PLC0415  as above

    findings = check(settings)
    if as_json:
        rows = [{"what": finding.what, "ok": finding.ok, "text": finding.text} for finding in findings]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{'ok   ' if f.ok else 'WRONG'} {f.what}: {f.text}\n" for f in findings))
    return 0 if all(finding.ok for finding in findings) else 1


def _selftest_options(command: argparse.ArgumentParser) -> None:
    length = command.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=_positive, default=60.0, help="work on all cores for so long (default 60)")
    length.add_argument("--minutes", type=_positive, help="the same in minutes; 60 tells whether memory grows")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the whole report, to keep or to send")
    command.add_argument("--quiet", action="store_true", help="print nothing but what failed")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= MOST_SELFTEST_S:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {MOST_SELFTEST_S:g}")
    return value


def _selftest(settings: Settings, options: argparse.Namespace) -> int:
    from agent.selftest import command  # noqa: PLC0415  as above

    seconds = options.minutes * 60 if options.minutes else options.seconds
    return command.run(settings, seconds, options.json, quiet=options.quiet)


def _log(settings: Settings) -> None:
    """To stderr: systemd's journal adds the time, a terminal does not."""
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format=f"{stamp}%(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("apscheduler").setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
