"""What a camera's pictures and failures mean. An event of the tables is (seconds, what happened)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.backoff import Backoff
from agent.core.frame import Layout, Picture
from agent.core.watch import (
    Event,
    Failed,
    Got,
    IllegalMove,
    Opened,
    Phase,
    Reaction,
    Rules,
    Watch,
    digest,
    redacted,
    step,
)
from schemas.codes import FailureCode

ABSENT = Failed(FailureCode.CAMERA_ABSENT, "it is not there")
LOST = Failed(FailureCode.CAMERA_LOST, "it went away")
CHANGED = Failed(FailureCode.CAMERA_SIZE_CHANGED, "became 640x480")
ENDED = Failed(FailureCode.CAMERA_ENDED, "that was all", permanent=True)
MISSING = Failed(FailureCode.CAMERA_ABSENT, "ffmpeg is missing", permanent=True)
BIG, SMALL = (640, 480), (320, 240)
NEW = Watch(rules=Rules(frozen_after_s=10.0, frozen_pictures=3, settle_s=5.0), backoff=Backoff(1.0, 8.0))


def opened(at_s: float = 0.0) -> Opened:
    return Opened(at_s)


def got(at_s: float, number: int, size_px: tuple[int, int] = BIG) -> Got:
    return Got(at_s, size_px, number)


def run(watch: Watch, events: Sequence[Event]) -> tuple[Watch, list[Reaction]]:
    reactions = []
    for event in events:
        watch, reaction = step(watch, event, 0.5)
        reactions.append(reaction)
    return watch, reactions


def words(reactions: Sequence[Reaction]) -> list[str]:
    """Return each reaction in short: +alarm, -alarm, D deliver, R reconnect."""
    return [
        "".join(
            [f"+{alarm.code.removeprefix('camera-')} " for alarm in reaction.raised]
            + [f"-{code.removeprefix('camera-')} " for code in reaction.cleared]
            + ["D" * reaction.deliver, "R" * (reaction.reconnect_s is not None)]
        )
        for reaction in reactions
    ]


FREEZE: list[Event] = [opened(), got(0, 1), got(5, 1), got(10, 1)]


@pytest.mark.parametrize(
    ("events", "expected", "phase"),
    [
        pytest.param([opened(), got(0, 1), got(1, 2)], ["", "D", "D"], Phase.STREAMING, id="healthy"),
        pytest.param(
            [ABSENT, ABSENT, opened(), got(9, 1)],
            ["+absent R", "R", "", "-absent D"],
            Phase.STREAMING,
            id="absent at start: one alarm, cleared by a picture",
        ),
        pytest.param(
            [opened(), got(0, 1), LOST, ABSENT, opened(5), LOST, opened(6), got(6, 2)],
            ["", "D", "+lost R", "R", "", "R", "", "-lost D"],
            Phase.STREAMING,
            id="lost: one alarm for the whole outage, whatever it is called meanwhile",
        ),
        pytest.param(FREEZE, ["", "D", "D", "+frozen R"], Phase.CONNECTING, id="frozen: alarm and reconnect"),
        pytest.param(
            [*FREEZE, opened(12), got(12, 1), got(17, 1), got(22, 1), opened(23), got(23, 1), got(24, 2), got(25, 2)],
            ["", "D", "D", "+frozen R", "", "", "", "R", "", "", "-frozen D", "D"],
            Phase.STREAMING,
            id="frozen: its picture is delivered no more, until another comes",
        ),
        pytest.param(
            [opened(), got(0, 1), got(60, 1)],
            ["", "D", "D"],
            Phase.STREAMING,
            id="two equal pictures of a slow camera are not frozen yet",
        ),
        pytest.param(
            [opened(), got(0, 1), LOST, opened(60), got(60, 1), got(61, 1)],
            ["", "D", "+lost R", "", "-lost D", "D"],
            Phase.STREAMING,
            id="the time of an outage does not count as frozen",
        ),
        pytest.param(
            [opened(), got(0, 1, BIG), got(1, 2, SMALL), opened(2), got(2, 3, SMALL), got(3, 4, SMALL)],
            ["", "D", "+size-changed R", "", "D", "D"],
            Phase.STREAMING,
            id="another size: alarm, reconnect, then its pictures are taken",
        ),
        pytest.param(
            [opened(), got(0, 1, BIG), LOST, opened(2), got(2, 3, SMALL), LOST, opened(4), got(4, 5, BIG)],
            ["", "D", "+lost R", "", "+size-changed -lost D", "+lost R", "", "-lost -size-changed D"],
            Phase.STREAMING,
            id="another size after an outage: alarm until the first size is back",
        ),
        pytest.param(
            [opened(), got(0, 1, BIG), CHANGED, opened(2), got(2, 3, SMALL)],
            ["", "D", "+size-changed R", "", "D"],
            Phase.STREAMING,
            id="a size change that the adapter noticed",
        ),
        pytest.param([opened(), got(0, 1), ENDED], ["", "D", ""], Phase.ENDED, id="a file at its end is no alarm"),
        pytest.param([ABSENT, ENDED], ["+absent R", "-absent "], Phase.ENDED, id="the end clears what was raised"),
        pytest.param([MISSING], ["+absent "], Phase.FAILED, id="permanent: alarm, and no other attempt"),
        pytest.param([ABSENT, MISSING], ["+absent R", ""], Phase.FAILED, id="permanent after absent: the alarm stays"),
    ],
)
def test_watch(events: Sequence[Event], expected: Sequence[str], phase: Phase) -> None:
    watch, reactions = run(NEW, events)
    assert words(reactions) == list(expected)
    assert watch.phase is phase


def test_a_source_that_may_repeat_itself_is_never_frozen() -> None:
    still = replace(NEW, rules=replace(NEW.rules, frozen_after_s=None))
    _, reactions = run(still, [opened(), *(got(at_s, 1) for at_s in range(100))])
    assert all(reaction.deliver for reaction in reactions[1:])


def test_a_folder_may_mix_its_sizes() -> None:
    mixed = replace(NEW, rules=replace(NEW.rules, fixed_size=False))
    _, reactions = run(mixed, [opened(), got(0, 1, BIG), got(1, 2, SMALL), got(2, 3, BIG)])
    assert words(reactions) == ["", "D", "D", "D"]


def test_waits_grow_until_a_connection_has_settled() -> None:
    events: list[Event] = [ABSENT, opened(), got(0, 1), LOST, opened(2), got(2, 2), got(7, 3), LOST]
    _, reactions = run(NEW, events)
    assert [r.reconnect_s for r in reactions if r.reconnect_s is not None] == [0.5, 1.0, 0.5]


def test_waits_grow_while_the_camera_stays_frozen() -> None:
    events: list[Event] = list(FREEZE)
    for start in (20, 40):
        events += [opened(start), got(start, 1), got(start + 6, 1), got(start + 12, 1)]
    _, reactions = run(NEW, events)
    assert [r.reconnect_s for r in reactions if r.reconnect_s is not None] == [0.5, 1.0, 2.0]


def test_the_wait_that_the_adapter_asks_for_is_kept() -> None:
    _, reaction = step(NEW, replace(ABSENT, delay_s=3.0), 0.0)
    assert reaction.reconnect_s == 3.0


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([got(0, 1)], id="a picture before opening"),
        pytest.param([opened(), opened()], id="opened twice"),
        pytest.param([ENDED, opened()], id="opened after the end"),
        pytest.param([MISSING, ABSENT], id="tried again after a permanent failure"),
    ],
)
def test_an_impossible_event_is_the_callers_bug(events: Sequence[Event]) -> None:
    with pytest.raises(IllegalMove):
        run(NEW, events)


happenings = st.lists(
    st.one_of(
        st.tuples(st.floats(0.0, 20.0), st.integers(0, 2), st.sampled_from([BIG, SMALL])),
        st.sampled_from([ABSENT, LOST, CHANGED]),
    ),
    max_size=60,
)


@given(happenings, st.floats(0.0, 1.0, exclude_max=True))
def test_alarms_are_raised_and_cleared_in_turn_and_a_faulty_picture_is_never_delivered(
    happened: list[tuple[float, int, tuple[int, int]] | Failed], random: float
) -> None:
    watch, at_s, active = NEW, 0.0, set[FailureCode]()
    for what in happened:
        if watch.phase is Phase.CONNECTING and not isinstance(what, Failed):
            watch, _ = step(watch, Opened(at_s), random)
        if isinstance(what, Failed):
            event: Event = what
        else:
            at_s += what[0]
            event = Got(at_s, what[2], what[1])
        watch, reaction = step(watch, event, random)
        for alarm in reaction.raised:
            assert alarm.code not in active
            active.add(alarm.code)
        for code in reaction.cleared:
            active.remove(code)
        assert active == watch.alarms
        assert not (reaction.deliver and reaction.reconnect_s is not None)
        assert not (reaction.deliver and active - {FailureCode.CAMERA_SIZE_CHANGED})


def test_the_digest_tells_pictures_apart() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (1080, 1920, 3), np.uint8)
    noisy = pixels ^ rng.integers(0, 2, pixels.shape, np.uint8)
    assert digest(Picture(pixels, Layout.RGB)) == digest(Picture(pixels.copy(), Layout.RGB))
    assert digest(Picture(pixels, Layout.RGB)) != digest(Picture(noisy, Layout.RGB))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://admin:s3cret@10.0.0.5/live", "rtsp://***@10.0.0.5/live"),
        ("a: rtsp://u:p@h/x; b: http://u@h", "a: rtsp://***@h/x; b: http://***@h"),
        ("rtsp://10.0.0.5/live?at=a@b", "rtsp://10.0.0.5/live?at=a@b"),
        ("/video/a@b.mp4", "/video/a@b.mp4"),
    ],
)
def test_credentials_are_taken_out(text: str, expected: str) -> None:
    assert redacted(text) == expected
