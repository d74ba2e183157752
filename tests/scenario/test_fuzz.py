"""Whatever comes from the broker: a typed refusal, never a crash, and the same model inspects as before."""

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from agent.config import Settings, load
from agent.config_from_afar import merged
from agent.core import desired_model, update
from agent.core.desired_config import running as running_config
from agent.core.outgoing import Incoming
from schemas.alarm import Event
from schemas.codes import FailureCode
from schemas.command import CommandName, Reply
from schemas.job import JobExecution
from schemas.result import ResultState
from schemas.state import ReportedConfig, ReportedModel
from tests.contract.brokers import Iotcore
from tests.contract.file_server import Answer, file_server
from tests.contract.raw_client import RawClient
from tests.scenario import hostile
from tests.scenario.hostile import COMMANDS, CONFIG, JOBS, MODEL, Message, batches
from tests.scenario.inert_agent import Inert, board, booted, running
from tests.scenario.station import TOPICS, Mes, Station

THOROUGH = settings(
    max_examples=60,
    deadline=None,
    # Each example is a whole agent: to make a failing one smaller takes many minutes.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def assert_unharmed(agent: Inert, own: Settings, config: Path) -> None:
    """The installed model inspects; the settings are the board's own, or those of what is reported as running."""
    made = agent.app
    installed = made._library.installed
    state = made._updater.state
    assert update.inspecting(state) == state.current == state.last_good == installed
    version = running_config(made._configurator.state)
    meant = own if version is None else merged(own, version.config, config.parent)
    assert made._configurator.settings == meant
    assert agent.crashes == []
    assert not made._runner.failed.is_set()


def assert_told(agent: Inert, message: Message, said: list[BaseModel]) -> None:
    """Whoever sent it can know what became of it; a refusal has a code (which the models of the topics check)."""
    replies = [each for each in said if isinstance(each, Reply)]
    if message.topic.startswith(f"{TOPICS.base}/cmd/") and message.asks:
        assert len(replies) == 1
        assert replies[0].ok == (replies[0].failure is None)
    events = [each for each in said if isinstance(each, Event | JobExecution | ReportedConfig | ReportedModel)]
    if not (events or replies):
        assert _may_pass_in_silence(agent, message), message


def _may_pass_in_silence(agent: Inert, message: Message) -> bool:
    """What clears a retained message, what is known already, and a command that was obeyed and asked for no reply."""
    if not message.payload:
        return True
    if message.topic == TOPICS.desired("model"):
        read = desired_model.read(Incoming(message.topic, message.payload, datetime.now(UTC)))
        return read == agent.app._updater.state.desired
    return message.topic in {TOPICS.command(name) for name in CommandName}


def sweep(document: dict[str, Any], topic: str) -> Iterator[Message]:
    """Each is new: of a later generation, or a job or a command of its own."""
    for number, bent in enumerate(hostile.sweep(document), start=1):
        news = {"generation": number, "jobId": f"j-{number}", "commandId": f"c-{number}"}
        for name, value in news.items():
            if name in document and bent.get(name) == document[name]:
                bent[name] = value
        place = topic if "jobId" not in document else TOPICS.job_request(f"j-{number}")
        yield Message(place, json.dumps(bent).encode())


FIELDS = [
    pytest.param(MODEL, TOPICS.desired("model"), id="desired model"),
    pytest.param(CONFIG, TOPICS.desired("config"), id="desired config"),
    *(pytest.param(each, TOPICS.command(name), id=name) for name, each in COMMANDS.items()),
    *(
        pytest.param({"jobId": "j-0"} | each, TOPICS.job_request("j-0"), id=f"{each['type']} {place}")
        for place, each in enumerate(JOBS)
    ),
]


@pytest.mark.parametrize(("document", "topic"), FIELDS)
def test_no_value_of_any_field_harms_the_board(document: dict[str, Any], topic: str, tmp_path: Path) -> None:
    config = board(tmp_path)
    own = load(config, {})
    with running(config) as agent:
        for message in sweep(document, topic):
            before = agent.app._configurator.settings
            assert_told(agent, message, agent.feed(message))
            if agent.app._configurator.settings != before:
                agent.look(least=1)
            assert_unharmed(agent, own, config)
        agent.assert_on_disk()


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_no_depth_of_a_configuration_harms_the_board(opening: str, tmp_path: Path) -> None:
    config = board(tmp_path)
    own = load(config, {})
    closing = {"[": "]", '{"a":': "}"}[opening]
    with running(config) as agent:
        for depth in range(1, 210):
            nested = f"{opening * depth}7{closing * depth}"
            payload = f'{{"generation":{depth},"config":{{"camera":{nested}}}}}'
            message = Message(TOPICS.desired("config"), payload.encode())
            assert_told(agent, message, agent.feed(message))
            assert_unharmed(agent, own, config)


@pytest.mark.parametrize("asks", [True, False])
@given(topic=hostile.broken_topics(TOPICS), payload=st.sampled_from([b"", b"{}", b'{"commandId":"c"}', b"\xff"]))
@THOROUGH
def test_a_topic_that_is_none_of_ours_is_refused(asks: bool, topic: str, payload: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        config = board(Path(name))
        with booted(config) as agent:
            message = Message(topic, payload, asks=asks)
            said = agent.feed(message)
            assert_unharmed(agent, load(config, {}), config)
            assert not payload or any(isinstance(each, Event) for each in said)


@THOROUGH
@given(batch=batches(TOPICS, 60))
def test_no_message_harms_the_board(batch: list[Message]) -> None:
    with tempfile.TemporaryDirectory() as name:
        config = board(Path(name))
        own = load(config, {})
        with running(config) as agent:
            for message in batch:
                assert_told(agent, message, agent.feed(message))
                assert_unharmed(agent, own, config)
                agent.assert_on_disk()
            model, configuration = agent.app._updater.current, agent.app._configurator.state.current
        with booted(config) as after:
            assert after.app._updater.current == model
            assert after.app._configurator.state.current == configuration
            assert_unharmed(after, own, config)


LAST = 2**53 - 1


def drawn(count: int) -> list[Message]:
    """So many messages, of the same strategy as above."""
    found: list[Message] = []

    @settings(THOROUGH, max_examples=count // 10, database=None, derandomize=True)
    @given(batch=batches(TOPICS, 60))
    def collect(batch: list[Message]) -> None:
        found.extend(batch)

    collect()
    return found[:count]


def reaches_the_board(message: Message) -> bool:
    """A broker takes it, and the board subscribes to it."""
    topic = message.topic
    is_ours = topic.startswith((f"{TOPICS.base}/cmd/", f"{TOPICS.base}/desired/", f"{TOPICS.base}/job/"))
    is_restart = b'"restart"' in message.payload  # it would be obeyed
    is_last = topic.endswith("desired/config") and str(LAST).encode() in message.payload  # the test has one itself
    return is_ours and topic.isprintable() and not is_restart and not is_last


def test_a_running_agent_takes_hundreds_of_them_and_inspects_as_before(tmp_path: Path) -> None:
    """`2**53 - 1` is a generation like any other: it is accepted, ends in FAILED or waits, and what inspects stays."""
    huge = 10 * 2**30
    with Iotcore(tmp_path / "broker") as broker, Mes(broker.host, broker.port) as mes, file_server() as server:
        server.script("/huge/manifest.json", Answer(body=b"{}", announce=huge, send=2, then="endless"))
        (tmp_path / "station").mkdir()
        with Station(tmp_path / "station", broker.port) as station:
            mes.wait("results", lambda: len(mes.results()) >= 10)
            boot = mes.statuses()[-1].boot_id
            endless = MODEL | {"generation": LAST, "urls": [f"{server.url}/huge"], "defer": {"until": "now"}}
            messages = [each for each in drawn(500) if reaches_the_board(each)]
            messages.append(Message(TOPICS.desired("model"), json.dumps(endless).encode(), retain=True))
            own = {"generation": LAST, "config": {}}
            messages.append(Message(TOPICS.desired("config"), json.dumps(own).encode(), retain=True))
            with RawClient(broker.host, broker.port, "replies/#") as sender:
                for message in messages:
                    answer = "replies/fuzz" if message.asks else None
                    sender.publish(message.topic, message.payload, retain=message.retain, response_topic=answer)
                sender.publish(
                    TOPICS.command("ping"), b'{"commandId":"the-last"}', response_topic="replies/last", expiry_s=300
                )
                pong = json.loads(sender.wait_topic("replies/last", 60.0).payload)
                assert all(Reply.model_validate_json(each.payload) for each in sender.messages)
            before = len(mes.results())
            mes.wait("results again", lambda: len(mes.results()) > before + 10)
            assert station.stop() == 0
        mes.wait("the goodbye", lambda: mes.statuses()[-1].reason == "shutdown")
    assert pong["output"]["bootId"] == boot
    assert {status.boot_id for status in mes.statuses()} == {boot}
    assert len(messages) >= 300
    assert {(each.model.version, each.model.generation) for each in mes.results().values()} == {("1.0.0", 0)}
    last = sorted(mes.results().values(), key=lambda each: each.sequence_number)[-10:]
    assert {(each.result_state, each.station.camera) for each in last} == {(ResultState.COMPLETED, "top")}
    codes = {Event.model_validate_json(each.payload).code for each in mes.of("event/")}
    assert codes >= {FailureCode.MESSAGE_MALFORMED, FailureCode.COMMAND_INVALID, FailureCode.CONFIG_INVALID}
    assert "crashed" not in station.log
