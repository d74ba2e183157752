"""A whole agent that obeys its controller alone: what is signed for it is done, all else is refused and told."""

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from agent.adapters.verify_ed25519 import Ed25519Verifier
from agent.core.command import Refusal
from agent.core.outgoing import Incoming
from agent.errors import Permanent
from agent.least_time import LeastTime
from fleet.adapters.signer_ed25519 import ControllerSigner
from fleet.web.files import files_app
from schemas.alarm import Event
from schemas.codes import FailureCode
from schemas.command import Reply
from schemas.envelope import MAX_ENVELOPE_BYTES, ControllerKey, ControllerKeys
from schemas.job import JobExecution, JobStatus
from schemas.state import Phase, ReportedModel
from schemas.status import Info
from schemas.topics import Topics
from tests.contract.asgi_server import serving
from tests.contract.tuf_world import world
from tests.scenario.hostile import Message
from tests.scenario.inert_agent import Inert, board, booted, running

TOPICS = Topics("berlin", "board-1")
KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
SIGNER = ControllerSigner(KEY)
LIFE = timedelta(minutes=5)
PING = TOPICS.command("ping")
SIGNATURE, EXPIRED = FailureCode.SIGNATURE_INVALID, FailureCode.COMMAND_EXPIRED
Document = dict[str, Any]


def now() -> datetime:
    return datetime.now(UTC)


def signed(topic: str, document: Document, signer: ControllerSigner = SIGNER, life: timedelta = LIFE) -> Message:
    return Message(topic, signer.sign(topic, json.dumps(document).encode(), now(), life))


def altered(message: Message, **fields: Any) -> Message:
    return Message(message.topic, json.dumps({**json.loads(message.payload), **fields}).encode())


def trusting(folder: Path, more: str = "") -> Path:
    """The settings file of a board that knows the controller's key."""
    config = board(folder)
    public = SIGNER._private.public_key().public_bytes_raw()
    key = ControllerKey(keyid=SIGNER.keyid, name="controller-1", public=base64.b64encode(public).decode())
    (folder / "controller-keys.json").write_bytes(ControllerKeys(keys=[key]).to_json())
    config.write_text(f'{config.read_text()}\n[trust]\ncontroller_keys = "controller-keys.json"\n{more}')
    return config


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inert]:
    with running(trusting(tmp_path_factory.mktemp("board"))) as inert:
        yield inert


def model(generation: int) -> Document:
    return {"generation": generation, "name": "probe", "version": "9.9.9", "manifestSha256": "0" * 64,
            "urls": ["http://127.0.0.1:1"], "defer": {"until": "lotEnd"}}  # fmt: skip


def told(said: list[BaseModel]) -> list[FailureCode]:
    return [FailureCode(each.code) for each in said if isinstance(each, Event)]


def reply(said: list[BaseModel]) -> Reply:
    [found] = [each for each in said if isinstance(each, Reply)]
    return found


def test_a_signed_command_is_done_and_answered_once(agent: Inert) -> None:
    message = signed(PING, {"commandId": "p-1"})
    first = reply(agent.feed(message))
    assert first.ok
    assert reply(agent.feed(message)) == first, "a repeated one gets the reply of then"


def test_signed_desired_state_is_taken(agent: Inert) -> None:
    agent.feed(signed(TOPICS.command("lot"), {"commandId": "lot-1", "lotId": "l", "state": "open"}))
    generation = agent.app._updater.state.generation + 1
    said = agent.feed(signed(TOPICS.desired("model"), model(generation)))
    assert agent.app._updater.state.generation == generation
    assert [each.observed_generation for each in said if isinstance(each, ReportedModel)][-1] == generation
    agent.feed(signed(TOPICS.desired("config"), {"generation": 1, "config": {"telemetry": {"interval_s": 20.0}}}))
    assert agent.app._configurator.settings.telemetry.interval_s == 20.0


def test_a_signed_job_is_worked_off(agent: Inert) -> None:
    request = {"jobId": "logs-1", "type": "logs", "document": {"lines": 1}}
    said = agent.feed(signed(TOPICS.job_request("logs-1"), request))
    assert JobStatus.SUCCEEDED in {each.status for each in said if isinstance(each, JobExecution)}


@pytest.mark.parametrize(
    ("topic", "document"),
    [
        (TOPICS.desired("model"), model(500)),
        (TOPICS.desired("config"), {"generation": 500, "config": {"timezone": "UTC"}}),
        (PING, {"commandId": "unsigned"}),
        (TOPICS.job_request("unsigned"), {"jobId": "unsigned", "type": "restart"}),
        (f"{TOPICS.base}/desired/weather", {}),
    ],
)
def test_what_is_not_signed_changes_nothing_and_is_told(agent: Inert, topic: str, document: Document) -> None:
    before = agent.app._updater.state, agent.app._configurator.state
    said = agent.feed(Message(topic, json.dumps(document).encode()))
    assert told(said) == [SIGNATURE]
    assert (agent.app._updater.state, agent.app._configurator.state) == before
    assert not [each for each in said if isinstance(each, JobExecution)]
    assert [each.failure.code for each in said if isinstance(each, Reply) and each.failure] in ([], [SIGNATURE])
    agent.assert_on_disk()


def for_another_node() -> Message:
    there = Topics("berlin", "board-2").command("ping")
    return Message(PING, signed(there, {"commandId": "x"}).payload)


def for_another_topic() -> Message:
    return Message(TOPICS.command("rebirth"), signed(PING, {"commandId": "x"}).payload)


def by_another_key() -> Message:
    return signed(PING, {"commandId": "x"}, ControllerSigner(OTHER_KEY))


def by_another_key_under_a_known_name() -> Message:
    message = by_another_key()
    [signature] = json.loads(message.payload)["signatures"]
    return altered(message, signatures=[{**signature, "keyid": SIGNER.keyid}])


def with_another_payload() -> Message:
    return altered(signed(PING, {"commandId": "x"}), payload='{"commandId": "y"}')


def with_a_longer_life() -> Message:
    return altered(signed(PING, {"commandId": "x"}), expiresAt="2099-01-01T00:00:00Z")


def with_a_later_issue() -> Message:
    return altered(signed(PING, {"commandId": "x"}), issuedAt=f"{now():%Y-%m-%dT%H:%M:%SZ}")


def moved_to_another_topic() -> Message:
    message = signed(Topics("berlin", "board-2").command("ping"), {"commandId": "x"})
    return altered(Message(PING, message.payload), topic=PING)


def without_signatures() -> Message:
    return altered(signed(PING, {"commandId": "x"}), signatures=[])


def with_too_many_signatures() -> Message:
    message = signed(PING, {"commandId": "x"})
    return altered(message, signatures=json.loads(message.payload)["signatures"] * 9)


def with_a_lone_surrogate() -> Message:
    return altered(signed(PING, {"commandId": "x"}), payload="\ud800")


def of_a_life_that_outlasts_the_boards_memory() -> Message:
    return signed(PING, {"commandId": "x"}, life=timedelta(hours=2))


def of_tomorrow() -> Message:
    return Message(PING, SIGNER.sign(PING, b'{"commandId": "x"}', now() + timedelta(days=2), LIFE))


def expired() -> Message:
    return Message(PING, SIGNER.sign(PING, b'{"commandId": "x"}', now() - timedelta(minutes=6), LIFE))


def garbage() -> Message:
    return Message(PING, os.urandom(200))


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (for_another_node, SIGNATURE),
        (for_another_topic, SIGNATURE),
        (by_another_key, SIGNATURE),
        (by_another_key_under_a_known_name, SIGNATURE),
        (with_another_payload, SIGNATURE),
        (with_a_longer_life, SIGNATURE),
        (with_a_later_issue, SIGNATURE),
        (moved_to_another_topic, SIGNATURE),
        (without_signatures, SIGNATURE),
        (with_too_many_signatures, SIGNATURE),
        (with_a_lone_surrogate, SIGNATURE),
        (of_a_life_that_outlasts_the_boards_memory, SIGNATURE),
        (of_tomorrow, SIGNATURE),
        (expired, EXPIRED),
        (garbage, SIGNATURE),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_command_that_is_not_signed_for_this_moment_and_place_is_refused(
    agent: Inert, forge: Callable[[], Message], code: FailureCode
) -> None:
    said = agent.feed(forge())
    answer = reply(said)
    assert not answer.ok
    assert answer.failure is not None
    assert answer.failure.code is code
    assert told(said) == [code]


def test_an_envelope_above_the_limit_is_not_read(agent: Inert) -> None:
    said = agent.feed(Message(PING, b" " * (MAX_ENVELOPE_BYTES + 1)))
    assert told(said) == [FailureCode.MESSAGE_TOO_LARGE]


def test_one_right_signature_among_others_is_enough(agent: Inert) -> None:
    """So that a key can be replaced while boards know either."""
    message = signed(PING, {"commandId": "p-2"})
    mine = json.loads(message.payload)["signatures"]
    others = json.loads(by_another_key().payload)["signatures"]
    assert reply(agent.feed(altered(message, signatures=[*others, *mine]))).ok


def test_an_older_generation_that_was_rightly_signed_is_refused(agent: Inert) -> None:
    generation = agent.app._updater.state.generation
    old = signed(TOPICS.desired("model"), model(generation + 1))
    agent.feed(old)
    agent.feed(signed(TOPICS.desired("model"), model(generation + 2)))
    said = agent.feed(old)
    assert told(said) == [FailureCode.STALE_GENERATION]
    assert agent.app._updater.state.generation == generation + 2


@pytest.mark.parametrize("topic", [TOPICS.desired("model"), TOPICS.desired("config"), TOPICS.job_request("x")])
def test_a_retained_message_that_is_taken_away_needs_no_signature(agent: Inert, topic: str) -> None:
    assert told(agent.feed(Message(topic, b""))) == []


def test_the_board_tells_that_it_wants_signatures(agent: Inert) -> None:
    said = agent.feed(signed(TOPICS.command("rebirth"), {"commandId": "again"}))
    [info] = [each for each in said if isinstance(each, Info)]
    assert "signed" in info.capabilities


def test_without_the_section_trust_messages_are_taken_as_they_are(tmp_path: Path) -> None:
    with booted(board(tmp_path)) as plain:
        assert reply(plain.feed(Message(PING, b'{"commandId": "p"}'))).ok
        assert "signed" not in plain.app._ground.identity.capabilities


def test_an_agent_whose_controller_keys_cannot_be_read_does_not_start(tmp_path: Path) -> None:
    config = trusting(tmp_path)
    (tmp_path / "controller-keys.json").write_text("{}")
    with pytest.raises(Permanent) as caught, booted(config):
        pass
    assert caught.value.code is FailureCode.CONFIG_INVALID


def opener(folder: Path, clock: Callable[[], datetime]) -> Ed25519Verifier:
    keys = folder / "controller-keys.json"
    if not keys.exists():
        trusting(folder)
    return Ed25519Verifier(keys, LeastTime(folder / "least-time", clock))


def test_an_expired_command_stays_expired_on_a_board_in_1970(tmp_path: Path) -> None:
    then, at_1970 = datetime(2027, 5, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)
    verifier = opener(tmp_path, lambda: at_1970)

    def opened(issued: datetime) -> Incoming | Refusal:
        return verifier.open(Incoming(PING, SIGNER.sign(PING, b"{}", issued, LIFE), at_1970))

    assert isinstance(opened(then), Incoming), "nothing tells that it is later"
    assert isinstance(opened(then + timedelta(minutes=30)), Incoming)
    refused = opened(then)
    assert isinstance(refused, Refusal)
    assert refused.code is EXPIRED


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["2026-02-30T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("schema", "topic", "issuedAt", "expiresAt", "payload", "signatures")


# The agent of the tests before draws random numbers on its own threads meanwhile, which Hypothesis takes for ours.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200, deadline=None
)
@given(field=st.sampled_from(FIELDS), value=JSON, raw=st.binary(max_size=50))
def test_whatever_stands_in_an_envelope_it_is_opened_or_refused(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: object, raw: bytes
) -> None:
    verifier = opener(tmp_path_factory.getbasetemp(), now)
    whole = signed(PING, {"commandId": "x"})
    for payload in (raw, altered(whole, **{field: value}).payload):
        assert isinstance(verifier.open(Incoming(PING, payload, now())), Refusal) or payload == whole.payload


def test_a_signed_desired_state_brings_a_signed_model(tmp_path: Path) -> None:
    """From the registry's files to COMMITTED, and a model that nobody signed stays away."""
    with world(tmp_path / "world") as there, serving(files_app(there.registry.folder)) as web:
        there.registry.refresh(now(), force=True)
        there.registry.resign(now())
        there.publish("1.1.0", now())
        home = tmp_path / "board"
        home.mkdir()
        shutil.copy(there.metadata / "1.root.json", home / "root.json")
        config = trusting(home, f'root = "root.json"\nmetadata_url = "{web.url}/metadata"\n')
        sha256 = there.digests["1.1.0"]
        wanted = {
            "generation": 1, "name": "probe", "version": "1.1.0", "manifestSha256": sha256,
            "urls": [f"{web.url}/bundles/{sha256}"], "probation": {"frames": 10, "maxP95Ratio": 1000.0},
        }  # fmt: skip
        with running(config) as inert:
            inert.feed(signed(TOPICS.desired("model"), {**wanted, "manifestSha256": "1" * 64}))
            inert.wait("the refusal", lambda: inert.app._updater.state.phase is Phase.REJECTED)
            inert.feed(signed(TOPICS.desired("model"), {**wanted, "generation": 2}))
            inert.wait("the model", lambda: inert.app._updater.state.phase is Phase.COMMITTED)
            assert inert.app._updater.current.manifest_sha256 == sha256
