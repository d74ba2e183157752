"""The boards of the demonstration: agents in processes of their own, and their settings."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SITE = "demo"
STOP_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`source` is empty for synthetic boards, else a folder, a video file or an rtsp URL. The boards begin with
    `installed`, are told to run `better`, and inspect with each for at least `seconds`.
    """

    seconds: float
    source: str
    installed: Path
    better: Path
    out: Path
    boards: int = 3

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(f"board-{number}" for number in range(1, self.boards + 1))


@dataclass(frozen=True, slots=True)
class Provision:
    """What a board is given before it meets the fleet: the broker's port, the registry's URL and root, whose orders to
    obey.
    """

    broker_port: int
    metadata_url: str
    root: Path
    controller_keys: Path


class Board:
    """One agent. Its folder holds settings, log, evidence and data."""

    def __init__(self, plan: Plan, provision: Provision, node: str) -> None:
        self.node = node
        self.folder = plan.out / node
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        shutil.copy(provision.root, self.folder / "root.json")
        shutil.copy(provision.controller_keys, self.folder / "controller-keys.json")
        config = self.folder / "agent.toml"
        config.write_text(settings(plan, provision, node))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own agent
                [sys.executable, "-m", "agent.cli", "run", "--config", str(config)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> Path:
        return self.folder / "agent.log"

    @property
    def ended(self) -> int | None:
        """The exit code of an agent that runs no longer."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def await_stop(self) -> None:
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def settings(plan: Plan, provision: Provision, node: str) -> str:
    """The agent's settings file."""
    kind, source = _kind(plan.source)
    camera = f'kind = "{kind}"'
    if source:
        camera += f"\nsource = {_quoted(source)}"
    if kind in {"synthetic", "folder"}:
        # Boards pass quickly, so that a few seconds show good ones and bad ones.
        camera += f"\nsource_rate_hz = 25.0\nseed = {5 + plan.nodes.index(node)}"
    return f"""\
# Written by `rkfleet demo`.
log_level = "INFO"

[station]
enterprise = "acme"
site = "{SITE}"
area = "smt"
line = "line-{1 + plan.nodes.index(node)}"
node = "{node}"

[broker]
port = {provision.broker_port}

[trust]
root = "root.json"
metadata_url = {_quoted(provision.metadata_url)}
controller_keys = "controller-keys.json"

[model]
bundle = {_quoted(str(plan.installed.resolve()))}
target = "cpu"
deadline_s = 10.0

[storage]
data_dir = "data"
evidence_interval_s = 0.5

[telemetry]
interval_s = 1.0

[[camera]]
id = "top"
recipe = "belt"
{camera}

[camera.trigger]
kind = "continuous"
rate_hz = {_rate_hz(plan)}

[recipe.belt]
id = "belt"
description = "What is faint or tiny is no defect."

[recipe.belt.rules.default]
minScore = 0.85
leastAreaPx = 40
"""


def _rate_hz(plan: Plan) -> float:
    """As much as all boards together can inspect on this machine's cores and leave room for the rest."""
    return round(min(8.0, 6.0 * (os.cpu_count() or 1) / plan.boards), 1)


def _kind(source: str) -> tuple[str, str]:
    if not source:
        return "synthetic", ""
    if "://" in source:
        return "rtsp", source
    path = Path(source).resolve()
    return ("folder" if path.is_dir() else "video"), str(path)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
