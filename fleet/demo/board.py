"""The board of the demonstration: an agent in a process of its own, and its settings."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SITE, NODE = "demo", "board-1"
STOP_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`source` is empty for synthetic boards, else a folder, a video file or an rtsp URL. The board begins with
    `installed`, is told to run `better`, and inspects with each for at least `seconds`.
    """

    seconds: float
    source: str
    installed: Path
    better: Path
    out: Path


def settings(plan: Plan, port: int) -> str:
    """The agent's settings file."""
    kind, source = _kind(plan.source)
    camera = f'kind = "{kind}"'
    if source:
        camera += f"\nsource = {_quoted(source)}"
    if kind in {"synthetic", "folder"}:
        # Boards pass quickly, so that a few seconds show good ones and bad ones.
        camera += "\nsource_rate_hz = 25.0\nseed = 5"
    return f"""\
# Written by `rkfleet demo`.
log_level = "INFO"

[station]
enterprise = "acme"
site = "{SITE}"
area = "smt"
line = "line-1"
node = "{NODE}"

[broker]
port = {port}

[model]
bundle = {_quoted(str(plan.installed.resolve()))}
target = "cpu"
threads = {max(1, min(4, (os.cpu_count() or 1) // 2))}

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
rate_hz = 8.0

[recipe.belt]
id = "belt"
description = "What is faint or tiny is no defect."

[recipe.belt.rules.default]
minScore = 0.85
leastAreaPx = 40
"""


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


def start_agent(plan: Plan, port: int) -> subprocess.Popen[bytes]:
    config = plan.out / "agent.toml"
    config.write_text(settings(plan, port))
    with (plan.out / "agent.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603  our own agent
            [sys.executable, "-m", "agent.cli", "run", "--config", str(config)], stdout=log, stderr=subprocess.STDOUT
        )


def stop_agent(agent: subprocess.Popen[bytes]) -> None:
    if agent.poll() is None:
        agent.send_signal(signal.SIGTERM)
    try:
        agent.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        agent.kill()
        agent.wait()
