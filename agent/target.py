"""Which variant of a model this machine runs."""

from agent.config import Settings
from agent.ports import Host
from schemas.target import Target


def target_of(settings: Settings, host: Host) -> Target:
    """`auto` is the board's SoC, or `cpu` where there is none that we know."""
    if settings.model.target != "auto":
        return settings.model.target
    soc = host.soc()
    return Target(soc) if soc in set(Target) else Target.CPU
