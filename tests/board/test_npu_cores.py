"""One call at a time on each core of the emulated NPU. Needs no board."""

import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.board.npu_control import BoardFault, Control, Orders, Stage
from tests.board.npu_cores import AUTO, Cores

DEADLINE_S = 20.0
CORE_0, CORE_1, CORE_2, ALL = 1, 2, 4, 7


class Caller:
    """Holds its cores on a thread of its own until told to let go."""

    def __init__(self, cores: Cores, mask: int, chip_cores: int = 3) -> None:
        self.held: frozenset[int] = frozenset()
        self.has = threading.Event()
        self._let_go = threading.Event()
        self._thread = threading.Thread(target=self._call, args=(cores, mask, chip_cores))
        self._thread.start()

    def _call(self, cores: Cores, mask: int, chip_cores: int) -> None:
        with cores.hold(mask, chip_cores) as self.held:
            self.has.set()
            self._let_go.wait(DEADLINE_S)

    def end(self) -> None:
        self._let_go.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()


def begun(callers: list[Caller]) -> bool:
    return all(caller.has.wait(DEADLINE_S) for caller in callers)


@pytest.mark.parametrize("masks", [(CORE_0, CORE_1, CORE_2), (AUTO, AUTO, AUTO), (CORE_1, AUTO, AUTO)])
def test_three_cores_take_three_calls_at_once(masks: tuple[int, ...]) -> None:
    cores = Cores()
    callers: list[Caller] = []
    for mask in masks:
        callers.append(Caller(cores, mask))
        assert begun(callers)
    assert sorted(core for caller in callers for core in caller.held) == [0, 1, 2]
    for caller in callers:
        caller.end()


@pytest.mark.parametrize(
    ("first", "second"),
    [(CORE_0, CORE_0), (ALL, CORE_2), (CORE_1, ALL), (ALL, AUTO)],
    ids=["the same core", "one of all", "all, of which one is taken", "automatic, and none is free"],
)
def test_a_call_waits_for_the_one_that_has_its_core(first: int, second: int) -> None:
    cores = Cores()
    earlier = Caller(cores, first)
    assert begun([earlier])
    later = Caller(cores, second)
    assert not later.has.wait(0.1)
    earlier.end()
    assert begun([later])
    later.end()


def test_a_chip_of_one_core_takes_one_call() -> None:
    cores = Cores()
    earlier = Caller(cores, AUTO, chip_cores=1)
    assert begun([earlier])
    assert earlier.held == {0}
    later = Caller(cores, AUTO, chip_cores=1)
    assert not later.has.wait(0.1)
    earlier.end()
    assert begun([later])
    later.end()


def test_a_call_that_wants_all_cores_is_not_overtaken_for_ever() -> None:
    cores = Cores()
    first = Caller(cores, CORE_0)
    assert begun([first])
    every = Caller(cores, ALL)
    while not cores._waiting:
        assert not every.has.wait(0.01)
    late = Caller(cores, CORE_1)
    assert not late.has.wait(0.1), "core 1 is free, and asked for"
    first.end()
    assert begun([every])
    every.end()
    assert begun([late])
    late.end()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "board.json"


def test_a_board_without_a_control_file_is_healthy(file: Path) -> None:
    orders = Orders(file)
    assert orders.now == Control()
    assert orders.fault_at(Stage.RUN, frozenset({0})) is None


def test_a_fault_comes_at_its_call_on_its_core_and_no_other(file: Path) -> None:
    fault = BoardFault(stage="run", action="fail", core=1, first_call=1, calls=2)
    Control(faults=(fault,)).write(file)
    orders = Orders(file)
    on_core_1 = [orders.fault_at(Stage.RUN, frozenset({1})) for _ in range(4)]
    assert on_core_1 == [None, fault, fault, None]
    assert orders.fault_at(Stage.RUN, frozenset({0})) is None
    assert orders.fault_at(Stage.OUTPUTS, frozenset({1})) is None


def test_calls_are_counted_anew_when_the_file_changes(file: Path) -> None:
    fault = BoardFault(stage="init", action="crash", calls=1)
    orders = Orders(file)
    for busy_ms in (1.0, 2.0):
        Control(busy_ms=(busy_ms, 0, 0), faults=(fault,)).write(file)
        assert [orders.fault_at(Stage.INIT, frozenset()) for _ in range(2)] == [fault, None]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param('{"fautls": []}', id="misspelt"),
        pytest.param('{"faults": [{"stage": "run", "action": "fail", "code": 1}]}', id="a code of success"),
        pytest.param('{"faults": [{"stage": "run", "action": "explode"}]}', id="an action that is not known"),
        pytest.param('{"faults": [{"stage": "run", "action": "say", "text": "' + "x" * 128 + '"}]}', id="a long text"),
        pytest.param("{", id="no JSON"),
    ],
)
def test_a_control_file_that_says_nothing_sensible_is_refused(content: str, file: Path) -> None:
    file.write_text(content)
    with pytest.raises(ValidationError):
        Orders(file).now  # noqa: B018 - reading it raises
