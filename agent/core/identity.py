"""Who this agent is, for every message it sends."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agent.core.outgoing import Outgoing
from schemas.status import CameraInfo, Info, Location, ModelInfo, Presence, Status
from schemas.target import Target
from schemas.topics import Topics


@dataclass(frozen=True, slots=True)
class Identity:
    """`boot_id` is new at each start of the agent."""

    topics: Topics
    station: Location
    boot_id: str
    started_at: datetime
    agent_version: str
    python_version: str
    platform: str
    soc: str | None
    target: Target
    npu_cores: int
    capabilities: tuple[str, ...]

    def will(self, session_seq: int) -> Outgoing:
        """What the broker publishes when the connection breaks."""
        message = Status(presence=Presence.OFFLINE, session_seq=session_seq, boot_id=self.boot_id, reason="will")
        return Outgoing(self.topics.status, message.to_json(), retain=True)

    def birth(self, session_seq: int, now: datetime) -> Outgoing:
        message = Status(
            presence=Presence.ONLINE, session_seq=session_seq, boot_id=self.boot_id, time=now, reason="birth"
        )
        return Outgoing(self.topics.status, message.to_json(), retain=True)

    def goodbye(self, session_seq: int, now: datetime, last_sequence_number: int, pending_results: int) -> Outgoing:
        """The orderly end of a boot; readers learn how many results there are."""
        message = Status(
            presence=Presence.OFFLINE,
            session_seq=session_seq,
            boot_id=self.boot_id,
            time=now,
            reason="shutdown",
            last_sequence_number=last_sequence_number,
            pending_results=pending_results,
        )
        return Outgoing(self.topics.status, message.to_json(), retain=True)

    def info(self, now: datetime, model: ModelInfo | None, cameras: Sequence[CameraInfo]) -> Outgoing:
        message = Info(
            station=self.station,
            agent_version=self.agent_version,
            python_version=self.python_version,
            platform=self.platform,
            soc=self.soc,
            target=self.target,
            npu_cores=self.npu_cores,
            boot_id=self.boot_id,
            started_at=self.started_at,
            is_simulated=any(camera.kind == "synthetic" for camera in cameras),
            cameras=list(cameras),
            model=model,
            capabilities=list(self.capabilities),
            time=now,
        )
        return Outgoing(self.topics.info, message.to_json(), retain=True)
