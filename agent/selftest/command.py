"""The command: signals, progress on a terminal, the report as text and as a file."""

import logging
import shutil
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from agent.config import Settings
from agent.selftest.run import Asked, selftest
from agent.selftest.text import as_text
from schemas.selftest import Outcome, SelfTest

_BAR = 30


def run(settings: Settings, seconds: float, file: Path | None, *, quiet: bool) -> int:
    """SIGINT or SIGTERM ends early, with a report all the same. Exit code 0 when all is well, else 1."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    # What goes wrong is a finding: told once, in its place.
    logging.getLogger("agent").setLevel(logging.CRITICAL)
    report = selftest(settings, Asked(seconds, stop, _nothing if quiet or not sys.stderr.isatty() else _progress))
    sys.stdout.write(_failures(report) if quiet else as_text(report))
    if file is not None and not _write(report, file):
        return 1
    return 0 if report.ok else 1


def _write(report: SelfTest, file: Path) -> bool:
    try:
        file.write_bytes(report.to_json() + b"\n")
    except OSError as error:
        sys.stderr.write(f"{file}: {error.strerror}\n")
        return False
    return True


def _failures(report: SelfTest) -> str:
    failed = [finding for finding in report.findings if finding.outcome is Outcome.FAILED]
    return "".join(f"FAILED {finding.what}: {finding.text}\n" for finding in failed)


def _nothing(_doing: str, _share: float) -> None: ...


def _progress(doing: str, share: float) -> None:
    full = round(_BAR * share)
    width = shutil.get_terminal_size().columns - 1
    line = f"[{'#' * full}{'.' * (_BAR - full)}] {share:4.0%}  {doing}"[:width]
    sys.stderr.write(f"\r{line:{width}}" if share < 1 or doing != "done" else f"\r{'':{width}}\r")
    sys.stderr.flush()
