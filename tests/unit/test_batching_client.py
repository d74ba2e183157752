"""What paho reads and writes through the batching client is what the socket carries, in order and whole."""

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.client import MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from agent.adapters.mqtt_paho.client import BatchingClient

QOS_0, QOS_1, ACK, GOODBYE = b"\x30", b"\x32", b"\x40", b"\xe0"
PACKETS = st.lists(st.tuples(st.sampled_from([QOS_0, QOS_1, b"\x33", b"\x3a", ACK]), st.binary(max_size=300_000)))


class Pair:
    """A client on one end of a socket whose buffer is small; the test is the broker on the other."""

    def __init__(self) -> None:
        self.client = BatchingClient(CallbackAPIVersion.VERSION2, client_id="c", protocol=MQTTv5)
        ours, self.broker = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ours.setblocking(False)
        self.broker.setblocking(False)
        self.client._sock = ours

    def close(self) -> None:
        if self.client._sock is not None:
            self.client._sock.close()
        self.client._sock = None
        self.broker.close()

    def queue(self, packet: bytes) -> None:
        self.client._out_packet.append(
            {
                "command": packet[0],
                "mid": 1,
                "qos": 1,
                "pos": 0,
                "to_process": len(packet),
                "packet": packet,
                "info": None,
            }
        )

    def arrived(self) -> bytes:
        try:
            return self.broker.recv(2**20)
        except BlockingIOError:
            return b""


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


@settings(max_examples=30, deadline=None)
@given(PACKETS)
def test_every_packet_is_written_once_and_in_order_however_little_the_socket_takes(
    packets: list[tuple[bytes, bytes]],
) -> None:
    pair, got = Pair(), bytearray()
    try:
        for head, body in packets:
            pair.queue(head + body)
            pair.client.loop_write()
            got += pair.arrived()
        while pair.client.want_write():
            pair.client.loop_write()
            got += pair.arrived()
        got += pair.arrived()
    finally:
        pair.close()
    assert bytes(got) == b"".join(head + body for head, body in packets)


def test_messages_are_gathered_until_paho_has_written_all(pair: Pair) -> None:
    assert pair.client._sock_send(QOS_1 + b"one") == 4
    assert pair.client._sock_send(QOS_1 + b"two") == 4
    assert pair.arrived() == b""
    assert pair.client.want_write()
    pair.client.loop_write()
    assert pair.arrived() == b"2one2two"
    assert not pair.client.want_write()


@pytest.mark.parametrize("head", [QOS_0, ACK, GOODBYE])
def test_what_is_not_acknowledged_is_written_at_once_and_after_what_was_gathered(pair: Pair, head: bytes) -> None:
    pair.client._sock_send(QOS_1 + b"one")
    pair.client._sock_send(head + b"two")
    assert pair.arrived() == b"2one" + head + b"two"


def test_while_the_socket_takes_nothing_what_was_gathered_stays_within_its_bound(pair: Pair) -> None:
    for _ in range(40):
        pair.queue(QOS_1 + b"x" * 16_384)
        pair.client.loop_write()
    assert len(pair.client._gathered) <= 65_536 + 16_385
    assert len(pair.client._out_packet) > 30


def test_a_connection_that_is_gone_keeps_nothing_to_write(pair: Pair) -> None:
    pair.broker.close()
    pair.client._sock_send(QOS_1 + b"one")
    pair.client.loop_write()
    assert not pair.client.want_write()
    with pytest.raises(OSError, match="pipe"):
        pair.client._sock_send(ACK)


@given(st.binary(min_size=1, max_size=2000), st.lists(st.integers(1, 500)))
@settings(deadline=None)
def test_reads_of_any_size_give_the_stream(sent: bytes, sizes: list[int]) -> None:
    pair, got = Pair(), b""
    try:
        pair.broker.sendall(sent)
        for size in [*sizes, *[1000] * 5]:
            if len(got) < len(sent):
                got += pair.client._sock_recv(size)
            assert pair.client.has_unread == (len(got) < len(sent))
        with pytest.raises(BlockingIOError):
            pair.client._sock_recv(1)
        pair.broker.close()
        assert pair.client._sock_recv(1) == b""
    finally:
        pair.close()
    assert got == sent
