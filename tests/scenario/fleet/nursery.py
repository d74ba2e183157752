"""Bears servers: a process that has imported everything, and forks for each one. A server starts at once so, however
often it is killed, and is a process of its own like any other.
"""

import importlib
import json
import os
import sys
from typing import Any

HEAVY = ("fleet.app", "fleet.web.api", "fleet.adapters.registry_tuf", "fleet.adapters.passwords_argon2")


def _child(asked: dict[str, Any]) -> None:
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for source, target in ((nowhere, 0), (nowhere, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.update(asked["environ"])
    from fleet.cli import app

    app(asked["arguments"])


def main() -> None:
    for name in HEAVY:
        importlib.import_module(name)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "wait":
            answer = os.waitstatus_to_exitcode(os.waitpid(asked["pid"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                _child(asked)
                os._exit(0)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
