"""`python -m agent.simulate --config JSON`: boards in this process; a line of JSON about them on stdout each second.

It ends in order at SIGTERM, at SIGINT, when its time is over, and when whoever started it is gone: stdin then ends.
"""

import argparse
import logging
import os
import resource
import signal
import sys
import threading

from agent.errors import AgentError
from agent.simulate import hall
from agent.simulate.config import read

_STDIN = 0
_FILES_BESIDE_SOCKETS = 128


def main() -> int:
    arguments = argparse.ArgumentParser(prog="agent.simulate", description="Many boards in one process.")
    arguments.add_argument("--config", required=True, help="JSON, see agent.simulate.config; - is a line on stdin")
    arguments.add_argument("--log-level", default="ERROR", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    given = arguments.parse_args()
    logging.basicConfig(level=given.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # A password in the configuration is not for the list of processes.
    text = _line() if given.config == "-" else given.config
    threading.Thread(target=_follow, args=(stop,), name="parent", daemon=True).start()
    try:
        simulation = read(text)
        _allow_files(simulation.nodes * (5 if simulation.data else 1))
        return hall.run(simulation, _say, stop)
    except AgentError as error:
        sys.stderr.write(f"{error.text}\n")
        return 2


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _line() -> str:
    """The first of stdin. Its file object has a lock that a thread may hold at the end: it is not used."""
    said = b""
    while not said.endswith(b"\n") and (more := os.read(_STDIN, 1)):
        said += more
    return said.decode(errors="replace")


def _follow(stop: threading.Event) -> None:
    while os.read(_STDIN, 4096):
        pass
    stop.set()


def _allow_files(sockets: int) -> None:
    """As far as the system lets us; a board that gets none will say so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sockets + _FILES_BESIDE_SOCKETS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


if __name__ == "__main__":
    sys.exit(main())
