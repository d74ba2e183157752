"""The models of a lane: which one inspects after which orders, and that each is ended once when it is done with."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Permanent
from agent.loops.generations import Generations
from agent.loops.inspect import Loaded, Plans
from agent.loops.orders import Commit, Flip, LaneOrder, Release, Replan, Restore, StartShadow
from agent.ports import Segmenter
from schemas.codes import FailureCode
from tests.unit.a_model import Counted, a_model, a_ref

OLD, NEW = 1, 2


class Bench:
    """The old model inspects; the new one is what orders hand over."""

    def __init__(self) -> None:
        self.handed: list[Loaded] = []
        self.models = Generations(self._retire)
        self.models.begin(self.model(OLD))

    def _retire(self, segmenter: Segmenter) -> None:
        segmenter.close()

    def model(self, number: int) -> Loaded:
        self.handed.append(a_model(number))
        return self.handed[-1]

    def shadow(self, work: int) -> StartShadow:
        return StartShadow(work, self.model(NEW))

    def flip(self, work: int) -> Flip:
        return Flip(work, self.model(NEW))

    def obey(self, *orders: LaneOrder) -> None:
        for order in orders:
            self.models.obey(order)

    @property
    def held(self) -> dict[str, int]:
        """Model numbers by role."""
        roles = {"active": self.models.active, "standby": self.models.standby, "shadow": self.models.shadow}
        return {role: int(loaded.ref.version) for role, loaded in roles.items() if loaded is not None}

    @property
    def ended(self) -> list[int]:
        """Model numbers that were handed over and have ended, in the order of handing over."""
        return [int(loaded.ref.version) for loaded in self.handed if ends(loaded)]

    def assert_each_is_held_or_has_ended_once(self) -> None:
        held = self.models.segmenters()
        for loaded in self.handed:
            assert ends(loaded) == (0 if any(loaded.segmenter is each for each in held) else 1), loaded.ref


def ends(loaded: Loaded) -> int:
    assert isinstance(loaded.segmenter, Counted)
    return loaded.segmenter.ended


def restore(work: int, number: int = OLD) -> Restore:
    return Restore(work, a_ref(number).manifest_sha256)


def commit(number: int) -> Commit:
    return Commit(a_ref(number).manifest_sha256)


def release(work: int) -> Release:
    return Release(work, threading.Event())


@pytest.mark.parametrize(
    ("orders", "held", "ended"),
    [
        pytest.param(lambda b: [b.flip(1)], {"active": NEW, "standby": OLD}, [], id="flipped"),
        pytest.param(lambda b: [b.flip(1), commit(NEW)], {"active": NEW}, [OLD], id="committed"),
        pytest.param(lambda b: [b.flip(1), restore(2)], {"active": OLD}, [NEW], id="rolled back"),
        pytest.param(lambda b: [b.shadow(1)], {"active": OLD, "shadow": NEW}, [], id="in the shadow"),
        pytest.param(
            lambda b: [b.shadow(1), Flip(2, None)], {"active": NEW, "standby": OLD}, [], id="out of the shadow"
        ),
        pytest.param(lambda b: [b.shadow(1), restore(2)], {"active": OLD}, [NEW], id="shadow given up"),
        pytest.param(lambda b: [b.shadow(1), b.shadow(2)], {"active": OLD, "shadow": NEW}, [NEW], id="shadow twice"),
        pytest.param(lambda b: [restore(5), b.flip(4)], {"active": OLD}, [NEW], id="a flip that comes too late"),
        pytest.param(lambda b: [restore(5), b.shadow(5)], {"active": OLD}, [NEW], id="a shadow that comes too late"),
        pytest.param(lambda b: [restore(5), release(4)], {"active": OLD}, [], id="a release that comes too late"),
        pytest.param(
            lambda b: [restore(5), b.flip(6)], {"active": NEW, "standby": OLD}, [], id="the flip of the next update"
        ),
        pytest.param(lambda b: [Flip(1, None)], {"active": OLD}, [], id="a flip to a shadow that is gone"),
        pytest.param(lambda b: [release(1)], {}, [OLD], id="released"),
        pytest.param(lambda b: [release(1), b.flip(2)], {"active": NEW}, [OLD], id="alone"),
        pytest.param(lambda b: [release(1), b.flip(2), restore(3)], {}, [OLD, NEW], id="alone and rolled back"),
        pytest.param(lambda b: [b.flip(1), restore(2, 3)], {}, [OLD, NEW], id="back to one that is not here"),
        pytest.param(lambda b: [commit(OLD)], {"active": OLD}, [], id="a commit at boot"),
        pytest.param(lambda b: [Flip(1, None), commit(NEW)], {}, [OLD], id="a commit without the model"),
        pytest.param(lambda b: [release(1), commit(NEW)], {}, [OLD], id="a commit of what was released"),
    ],
)
def test_what_is_held_after_orders(orders: object, held: dict[str, int], ended: list[int]) -> None:
    bench = Bench()
    bench.obey(*orders(bench))  # type: ignore[operator]  # a lambda of the table
    assert bench.held == held
    assert bench.ended == ended
    bench.assert_each_is_held_or_has_ended_once()


def test_a_lane_that_was_released_waits_for_what_comes() -> None:
    bench = Bench()
    order = release(1)
    bench.obey(order)
    assert order.done.is_set()
    assert bench.models.is_released
    bench.obey(restore(2))
    assert not bench.models.is_released, "it may load the old one again"


def test_a_release_that_is_void_is_answered_all_the_same() -> None:
    bench = Bench()
    order = release(1)
    bench.obey(restore(2), order)
    assert order.done.is_set()
    assert not bench.models.is_released


def test_the_model_before_comes_back_where_there_is_one() -> None:
    bench = Bench()
    assert bench.models.fall_back() is None
    bench.obey(bench.flip(1))
    before = bench.models.fall_back()
    assert before is not None
    assert before.ref == a_ref(OLD)
    assert (bench.held, bench.ended) == ({"active": OLD}, [NEW])


def test_a_model_that_does_not_fit_new_recipes_keeps_its_plans() -> None:
    bench = Bench()
    bench.obey(bench.flip(1))

    def plans(loaded: Loaded) -> Plans:
        if loaded.ref == a_ref(NEW):
            raise Permanent(FailureCode.CONFIG_INVALID, "no such class")
        return {("top", None): None}  # type: ignore[dict-item]  # only to tell it apart

    bench.obey(Replan(plans))
    assert bench.models.active is not None
    assert bench.models.standby is not None
    assert not bench.models.active.plans
    assert ("top", None) in bench.models.standby.plans


steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["shadow", "flip", "flip the shadow", "commit", "restore", "release", "fall back", "end shadow"]
        ),
        st.integers(0, 6),
        st.integers(1, 4),
    ),
    max_size=25,
)


@given(steps)
def test_every_model_is_held_or_has_ended_once_whatever_comes(played: list[tuple[str, int, int]]) -> None:
    bench = Bench()
    for name, work, number in played:
        match name:
            case "shadow":
                bench.obey(StartShadow(work, bench.model(number)))
            case "flip":
                bench.obey(Flip(work, bench.model(number)))
            case "flip the shadow":
                bench.obey(Flip(work, None))
            case "commit":
                bench.obey(commit(number))
            case "restore":
                bench.obey(restore(work, number))
            case "release":
                bench.obey(release(work))
            case "fall back":
                bench.models.fall_back()
            case _:
                bench.models.end_shadow()
        bench.assert_each_is_held_or_has_ended_once()
        if bench.models.is_released:
            assert bench.models.active is None
    bench.models.close()
    assert bench.models.segmenters() == []
    bench.assert_each_is_held_or_has_ended_once()
