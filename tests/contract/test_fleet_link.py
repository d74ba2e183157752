"""The server's link on real brokers: shared subscriptions, acknowledgements by hand, requests, and what is retained."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fleet.adapters.mqtt_paho import BatchOptions, LinkOptions, PahoPost, PahoReader, Tls
from fleet.errors import Retryable
from fleet.mail import Letter, Sending
from schemas.topics import Topics
from tests.contract.brokers import (
    BrokerProcess,
    Mosquitto,
    MosquittoSettings,
    broker,
    make_certificates,
    mosquitto,
    needs_mosquitto,
)
from tests.contract.raw_client import RawClient

__all__ = ["broker", "mosquitto"]
BOARD = Topics("plant1", "board-1")
DEADLINE_S = 8.0


def options(broker: BrokerProcess, name: str, **more: object) -> LinkOptions:
    base = {"host": broker.host, "client_id": name, "port": broker.port, "reconnect_max_s": 0.5}
    return LinkOptions(**{**base, **more})  # type: ignore[arg-type]


def wait(is_true: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not is_true():
        assert time.monotonic() < until_s, what
        time.sleep(0.01)


@contextmanager
def reading(options: LinkOptions, batches: BatchOptions | None = None) -> Iterator[PahoReader]:
    reader = PahoReader(options, lambda: datetime.now(UTC), batches, quiet_s=0.3)
    reader.start()
    try:
        wait(lambda: reader.link.current is not None, "the reader is connected")
        yield reader
    finally:
        reader.stop()


@contextmanager
def posting(options: LinkOptions) -> Iterator[PahoPost]:
    post = PahoPost(options)
    post.link.start()
    try:
        wait(lambda: post.is_connected, "the post is connected")
        yield post
    finally:
        post.link.stop()


def take(reader: PahoReader, count: int, *, settled: bool = True) -> list[Letter]:
    letters = reader.inbox.take(0.1)
    until_s = time.monotonic() + DEADLINE_S
    while len(letters) < count and time.monotonic() < until_s:
        letters += reader.inbox.take(0.1)
    if settled:
        for letter in letters:
            letter.settle()
    assert len(letters) >= count, [letter.topic for letter in letters]
    return letters


def test_what_was_retained_before_the_first_connect_is_read(broker: BrokerProcess) -> None:
    with RawClient(broker.host, broker.port) as board:
        board.publish(BOARD.status, b"status", retain=True)
        board.publish(BOARD.reported("model"), b"reported", retain=True)
        board.publish(BOARD.desired("model"), b"ours", retain=True)
        with reading(options(broker, "reader")) as reader:
            found = take(reader, 2)
            while not reader.has_caught_up:
                found += take(reader, 0)
            assert {(letter.topic, letter.payload, letter.is_retained) for letter in found} == {
                (BOARD.status, b"status", True),
                (BOARD.reported("model"), b"reported", True),
            }, "mosquitto gives it to shared subscriptions too"
            board.publish(BOARD.result("top"), b"result")
            board.publish(BOARD.job_status("job-1"), b"job")
            board.publish(BOARD.telemetry("host"), b"host")
            board.publish(BOARD.event("started"), b"event")
            live = [letter.topic for letter in take(reader, 4)]
            assert sorted(live) == sorted(
                [BOARD.result("top"), BOARD.job_status("job-1"), BOARD.telemetry("host"), BOARD.event("started")]
            )


def test_two_readers_share_the_results(broker: BrokerProcess) -> None:
    with (
        reading(options(broker, "one")) as one,
        reading(options(broker, "two")) as two,
        RawClient(broker.host, broker.port) as board,
    ):
        wait(lambda: one.has_caught_up and two.has_caught_up, "both have looked at what is retained")
        for number in range(100):
            board.publish(BOARD.result("top"), b"%d" % number)
        wait(lambda: one.inbox.depth + two.inbox.depth >= 100, "all have come")
        shares = [[letter.payload for letter in take(each, each.inbox.depth)] for each in (one, two)]
    assert sorted(int(payload) for share in shares for payload in share) == list(range(100)), "each once"
    assert all(shares), "neither is left out"


@pytest.mark.parametrize("broker", [pytest.param("mosquitto", marks=needs_mosquitto)], indirect=True)
def test_what_was_not_acknowledged_comes_again(broker: BrokerProcess) -> None:
    with RawClient(broker.host, broker.port) as board:
        with reading(options(broker, "reader")) as reader:
            board.publish(BOARD.result("top"), b"kept")
            board.publish(BOARD.result("top"), b"lost")
            kept, lost = take(reader, 2, settled=False)
            kept.settle()
            wait(lambda: kept.payload == b"kept", "in order")
            board.publish(BOARD.result("top"), b"marker")  # the acknowledgement has gone out before this comes
            take(reader, 1, settled=False)
        lost.settle()  # of a connection that has ended: does nothing
        board.publish(BOARD.result("top"), b"meanwhile")
        with reading(options(broker, "reader")) as reader:
            assert {letter.payload for letter in take(reader, 3)} == {b"lost", b"marker", b"meanwhile"}


@pytest.mark.parametrize("broker", [pytest.param("mosquitto", marks=needs_mosquitto)], indirect=True)
def test_a_batch_is_bounded_and_telemetry_is_dropped_where_too_much_waits(broker: BrokerProcess) -> None:
    batches = BatchOptions(most=10, most_waiting=25)
    with reading(options(broker, "reader"), batches) as reader, RawClient(broker.host, broker.port) as board:
        for number in range(40):
            board.client.publish(BOARD.telemetry("host"), b"%d" % number, qos=0)
        for number in range(5):
            board.publish(BOARD.result("top"), b"%d" % number)
        wait(lambda: reader.inbox.depth + reader.inbox.dropped >= 45, "all have come")
        assert reader.inbox.dropped == 15
        assert [len(take(reader, 1)) for _ in range(3)] == [10, 10, 10], "25 of telemetry, and all results"


def test_published_messages_are_acknowledged_and_kept(broker: BrokerProcess) -> None:
    with posting(options(broker, "post")) as post:
        sendings = [Sending(f"rkfleet/v1/plant1/b{n}/desired/model", b"%d" % n, retain=True) for n in range(500)]
        assert all(post.publish(sendings, DEADLINE_S))
        assert post.retained("rkfleet/v1/plant1/b7/desired/model", 5.0) == b"7"
        assert post.retained("rkfleet/v1/plant1/b7/desired/config", 0.5) is None


def test_a_request_gets_its_own_answer(broker: BrokerProcess) -> None:
    with posting(options(broker, "post")) as post, RawClient(broker.host, broker.port, f"{BOARD.base}/cmd/+") as board:
        answers: dict[bytes, bytes | None] = {}

        def ask(payload: bytes) -> None:
            answers[payload] = post.request(Sending(BOARD.command("ping"), payload), DEADLINE_S)

        asking = [threading.Thread(target=ask, args=(payload,)) for payload in (b"a", b"b")]
        for each in asking:
            each.start()
        for message in reversed(board.wait_for(lambda messages: len(messages) == 2)):
            properties: Any = message.properties
            board.publish(properties.ResponseTopic, b"stray", correlation=b"nobody's")
            board.publish(properties.ResponseTopic, bytes(message.payload) * 2, correlation=properties.CorrelationData)
        for each in asking:
            each.join(DEADLINE_S)
        assert answers == {b"a": b"aa", b"b": b"bb"}
        assert post.request(Sending(BOARD.command("ping"), b"c"), 0.3) is None, "nobody answers"


def test_the_broker_comes_back_and_both_go_on(broker: BrokerProcess) -> None:
    with posting(options(broker, "post")) as post, reading(options(broker, "reader")) as reader:
        broker.kill()
        wait(lambda: not post.is_connected and reader.link.problem is not None, "the loss is seen")
        assert post.publish([Sending(BOARD.desired("model"), b"x")], 0.2) == [False]
        with pytest.raises(Retryable, match="broker"):
            post.request(Sending(BOARD.command("ping"), b""), 0.2)
        broker.start()
        wait(lambda: post.is_connected and reader.has_caught_up, "both are connected again")
        assert post.connections == 2
        assert post.publish([Sending(BOARD.status, b"again")], DEADLINE_S) == [True]
        assert [letter.payload for letter in take(reader, 1)] == [b"again"]


def test_a_topic_that_cannot_be_published_to_fails_alone(broker: BrokerProcess) -> None:
    with posting(options(broker, "post")) as post:
        assert post.publish([Sending("a/+/b", b""), Sending("a/b", b"")], DEADLINE_S) == [False, True]


@pytest.mark.mosquitto
@pytest.mark.parametrize("is_known", [True, False])
def test_credentials_over_tls(tmp_path: Path, is_known: bool) -> None:
    made = make_certificates(tmp_path / "tls", "fleet")
    settings = MosquittoSettings(tls=made, acl="user fleet\ntopic readwrite #\n")
    with Mosquitto(tmp_path / "broker", settings=settings) as running:
        tls = Tls(made.ca, made.client if is_known else None, made.client_key if is_known else None)
        post = PahoPost(options(running, "post", tls=tls))
        post.link.start()
        try:
            if is_known:
                wait(lambda: post.is_connected, "connected")
                assert post.publish([Sending("a/b", b"")], DEADLINE_S) == [True]
            else:
                wait(lambda: post.link.problem not in {None, "not connected yet"}, "refused")
                assert not post.is_connected
        finally:
            post.link.stop()


@pytest.mark.parametrize("broker", [pytest.param("mosquitto", marks=needs_mosquitto)], indirect=True)
def test_what_the_broker_refuses_is_not_taken_for_sent(tmp_path: Path, broker: BrokerProcess) -> None:
    acl = "topic read #\ntopic write allowed/#\n"
    with (
        Mosquitto(tmp_path / "strict", settings=MosquittoSettings(acl=acl)) as strict,
        posting(options(strict, "post")) as post,
    ):
        assert post.publish([Sending("denied/a", b""), Sending("allowed/a", b"")], DEADLINE_S) == [False, True]
