"""The helper process, spoken to as the runtime speaks to it. Needs no board."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.board.emulated_npu import EmulatedNpu, started
from tests.board.host_twin import CONTROL, SOCKET
from tests.board.npu_control import BoardFault, Stage

DEADLINE_S = 30.0
ORDER = struct.Struct("<i3I128s")
HANG = 1


@dataclass(frozen=True)
class Heard:
    code: int
    action: int
    text: str
    payload: bytes


class Runtime:
    """One context, as a process that runs a model of its own has it: it wants the core, not the answer."""

    def __init__(self, npu: EmulatedNpu) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(DEADLINE_S)
        self._socket.connect(str(npu.folder / SOCKET))

    def ask(self, stage: Stage, payload: bytes = b"") -> None:
        self._socket.sendall(struct.pack("<2I", stage, len(payload)) + payload)

    def run(self, mask: int) -> None:
        self.ask(Stage.RUN, struct.pack("<4I", mask, 3, 0, 0))

    def hear(self) -> Heard:
        code, action, _, size, text = ORDER.unpack(self._read(ORDER.size))
        return Heard(code, action, text.rstrip(b"\0").decode(), self._read(size))

    def hears_within(self, timeout_s: float) -> bool:
        self._socket.settimeout(timeout_s)
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            return False
        finally:
            self._socket.settimeout(DEADLINE_S)

    def close(self) -> None:
        self._socket.close()

    def _read(self, size: int) -> bytes:
        read = b""
        while len(read) < size:
            more = self._socket.recv(size - len(read))
            assert more, "the helper has closed"
            read += more
        return read


@pytest.fixture(scope="module")
def helper() -> Iterator[EmulatedNpu]:
    with started() as npu:
        yield npu


@pytest.fixture
def runtimes(helper: EmulatedNpu) -> Iterator[list[Runtime]]:
    helper.behave()
    made = [Runtime(helper) for _ in range(3)]
    yield made
    for runtime in made:
        runtime.close()


def test_a_hung_call_holds_its_core_until_its_process_is_gone(helper: EmulatedNpu, runtimes: list[Runtime]) -> None:
    hung, waiting, elsewhere = runtimes
    helper.behave(BoardFault(stage="run", action="hang", calls=1))
    hung.run(mask=1)
    assert hung.hear().action == HANG
    waiting.run(mask=1)
    elsewhere.run(mask=2)
    assert elsewhere.hear() == Heard(0, 0, "", b"")
    assert not waiting.hears_within(0.2)
    hung.close()
    assert waiting.hear() == Heard(0, 0, "", b"")


def test_the_board_is_what_the_control_file_says_from_the_next_word_on(
    helper: EmulatedNpu, runtimes: list[Runtime]
) -> None:
    for runtime, version in zip(runtimes, ("1.6.0", "2.5.0"), strict=False):
        helper.behave(runtime_version=version, newest_format=5)
        runtime.ask(Stage.NONE)
        newest_format, name, _ = struct.unpack("<I64s64s", runtime.hear().payload)
        assert (newest_format, name.rstrip(b"\0").decode()) == (5, version)


def test_a_control_file_that_makes_no_sense_is_told_and_the_helper_lives(
    helper: EmulatedNpu, runtimes: list[Runtime]
) -> None:
    (helper.folder / CONTROL).write_text('{"numbers": "odd"}')
    runtimes[0].ask(Stage.INPUTS)
    heard = runtimes[0].hear()
    assert heard.code == -3
    assert CONTROL in heard.text
    helper.behave()
    runtimes[0].ask(Stage.INPUTS)
    assert runtimes[0].hear().code == 0


def test_a_file_that_is_no_model_is_refused(runtimes: list[Runtime]) -> None:
    runtimes[0].ask(Stage.INIT, b"no model")
    heard = runtimes[0].hear()
    assert heard.code == -6
    assert "description" in heard.text
