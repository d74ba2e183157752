"""What control asks of the machine and of the cameras, drawn instead of read."""

import random
from collections.abc import Callable, Mapping

from agent.loops.cameras import Cameras, CamerasParts
from agent.loops.latest import Counts
from agent.ports import HostFacts
from agent.simulate.pictures import CAMERA
from schemas.status import CameraInfo

_GIB = 2**30


class DrawnHost:
    """Fits the port Host."""

    def __init__(self, chance: random.Random, soc: str, monotonic: Callable[[], float]) -> None:
        self._chance = chance
        self._soc = soc
        self._monotonic = monotonic
        self._began_s = monotonic()
        self._usual_c = chance.uniform(48.0, 62.0)

    def sample(self) -> HostFacts:
        return HostFacts(
            cpu_percent=round(self._chance.uniform(12.0, 35.0), 1),
            memory_bytes=58 * 2**20,
            memory_free_bytes=3 * _GIB,
            children_memory_bytes=140 * 2**20,
            temperature_c={"soc-thermal": round(self._usual_c + self._chance.uniform(-2.0, 2.0), 1)},
            disk_free_bytes=20 * _GIB,
            disk_total_bytes=32 * _GIB,
            clock_synced=True,
            clock_offset_ms=round(self._chance.gauss(0.0, 0.4), 3),
            npu=None,
            uptime_s=self._monotonic() - self._began_s,
        )

    def memory_free_bytes(self) -> int | None:
        return 3 * _GIB

    def soc(self) -> str | None:
        return self._soc


class DrawnCameras(Cameras):
    """One camera that is always there and whose pictures nobody takes; `seen` counts them."""

    def __init__(self, parts: CamerasParts, seen: Callable[[], int]) -> None:
        super().__init__(parts)
        self._seen = seen

    def counts(self) -> Mapping[str, Counts]:
        return {CAMERA: Counts(captured=self._seen(), dropped=0)}

    def infos(self) -> tuple[CameraInfo, ...]:
        return (CameraInfo(id=CAMERA, kind="synthetic", trigger="continuous", width_px=960, height_px=720),)
