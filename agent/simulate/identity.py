"""Who a simulated board is, and how it reaches the broker."""

import uuid

from agent.adapters.mqtt_paho import LinkOptions
from agent.adapters.segmenter_rknn import CORES
from agent.core.identity import Identity
from agent.simulate.config import Simulation
from agent.simulate.shared import AGENT_VERSION, PLATFORM, PYTHON_VERSION, now
from schemas.command import CommandName
from schemas.job import JobType
from schemas.status import Location
from schemas.target import Target
from schemas.topics import Topics

WINDOW = 20
_KEEPALIVE_S = 60
_SESSION_EXPIRY_S = 3600
_RECONNECT_MAX_S = 30.0


def new_id() -> str:
    return uuid.uuid4().hex


def identity_of(topics: Topics, station: Location, target: Target, *, is_signed: bool) -> Identity:
    """`is_signed`: it obeys signed messages alone."""
    return Identity(
        topics=topics,
        station=station,
        boot_id=new_id(),
        started_at=now(),
        agent_version=AGENT_VERSION,
        python_version=PYTHON_VERSION,
        platform=PLATFORM,
        soc=target.value,
        target=target,
        npu_cores=CORES.get(target, 0),
        capabilities=(
            "desired/model",
            "desired/config",
            *(f"cmd/{name}" for name in CommandName),
            *(f"job/{name}" for name in JobType),
            *(("signed",) if is_signed else ()),
        ),
    )


def link_options(simulation: Simulation, topics: Topics) -> LinkOptions:
    return LinkOptions(
        host=simulation.host,
        port=simulation.port,
        client_id=f"{topics.site}.{topics.node}",
        username=simulation.username,
        password=simulation.password,
        subscriptions=tuple((topic_filter, 1) for topic_filter in topics.inbound()),
        keepalive_s=_KEEPALIVE_S,
        session_expiry_s=_SESSION_EXPIRY_S,
        window=WINDOW,
        reconnect_max_s=_RECONNECT_MAX_S,
    )
