"""Topics: `rkfleet/v1/{site}/{node}/...`. Built and parsed here only."""

import re
from dataclasses import dataclass

ROOT = "rkfleet/v1"
_LEVEL = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class BadTopic(ValueError):
    """Not a topic of ours."""


def _level(value: str) -> str:
    if not _LEVEL.fullmatch(value):
        raise BadTopic(f"{value!r} cannot stand in a topic level: use letters, digits and . _ : - only")
    return value


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one node."""

    site: str
    node: str

    def __post_init__(self) -> None:
        _level(self.site)
        _level(self.node)

    @property
    def base(self) -> str:
        return f"{ROOT}/{self.site}/{self.node}"

    @property
    def status(self) -> str:
        return f"{self.base}/status"

    @property
    def info(self) -> str:
        return f"{self.base}/info"

    def desired(self, what: str) -> str:
        return f"{self.base}/desired/{_level(what)}"

    def reported(self, what: str) -> str:
        return f"{self.base}/reported/{_level(what)}"

    def command(self, name: str) -> str:
        return f"{self.base}/cmd/{_level(name)}"

    def job_request(self, job_id: str) -> str:
        return f"{self.base}/job/{_level(job_id)}/request"

    def job_status(self, job_id: str) -> str:
        return f"{self.base}/job/{_level(job_id)}/status"

    def result(self, camera: str) -> str:
        return f"{self.base}/result/{_level(camera)}"

    def telemetry(self, group: str) -> str:
        return f"{self.base}/telemetry/{_level(group)}"

    def event(self, code: str) -> str:
        return f"{self.base}/event/{_level(code)}"

    def alarm(self, code: str) -> str:
        return f"{self.base}/alarm/{_level(code)}"

    def inbound(self) -> tuple[str, ...]:
        """Filters that the board subscribes to, all at QoS 1."""
        return (f"{self.base}/cmd/+", f"{self.base}/desired/+", f"{self.base}/job/+/request")


@dataclass(frozen=True, slots=True)
class Parsed:
    """`rkfleet/v1/{site}/{node}/{family}/{name}[/{tail}]`; name and tail are empty where the topic has none."""

    site: str
    node: str
    family: str
    name: str = ""
    tail: str = ""


_DEPTH = {"status": 0, "info": 0, "desired": 1, "reported": 1, "cmd": 1, "job": 2, "result": 1, "telemetry": 1,
          "event": 1, "alarm": 1}  # fmt: skip


def parse(topic: str) -> Parsed:
    """Raises BadTopic for anything that is not exactly one of our topics."""
    levels = topic.split("/")
    if len(levels) < 5 or "/".join(levels[:2]) != ROOT:
        raise BadTopic(f"{topic[:200]!r} does not begin with {ROOT}/site/node/")
    for level in levels[2:]:
        _level(level)
    site, node, family, *rest = levels[2:]
    if _DEPTH.get(family) != len(rest):
        raise BadTopic(f"{topic[:200]!r} is no topic of this version")
    if family == "job" and rest[1] not in {"request", "status"}:
        raise BadTopic(f"{topic[:200]!r}: a job has request and status")
    return Parsed(site, node, family, *rest)
