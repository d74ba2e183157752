from itertools import permutations

import pytest

from fleet.core.tally import Tally
from schemas.examples import EXAMPLES
from schemas.result import Result

EXAMPLE = EXAMPLES["result"]
assert isinstance(EXAMPLE, Result)


def result(boot: str, number: int) -> Result:
    assert isinstance(EXAMPLE, Result)
    return EXAMPLE.model_copy(update={"boot_id": boot, "sequence_number": number, "result_id": f"{boot}-{number}"})


@pytest.mark.parametrize("order", list(permutations([1, 2, 4])))
def test_duplicates_and_gaps_are_seen_in_any_order(order: tuple[int, ...]) -> None:
    tally = Tally()
    assert all(tally.add(result("b", number)) for number in order)
    assert not tally.add(result("b", 2))
    assert (tally.received, tally.duplicates) == (3, 1)
    assert tally.missing("b", 5) == [3, 5]
    assert tally.missing("unknown", 2) == [1, 2]
    assert tally.by_evaluation == {"NOT_OK": 3}
    assert tally.by_class == {"short": 3}
