"""Procedural boards: the same from the same seed, with masks that say exactly what a fault changed."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from agent.core.vision.boards import artwork, shoot
from agent.core.vision.boards.conveyor import Conveyor
from agent.core.vision.boards.defects import Defect, flaw

SEEDS = range(6)


def board(seed: int, pitch_px: float = 20.0) -> artwork.Artwork:
    return artwork.draw(np.random.default_rng(seed), 384, 384, pitch_px)


def nets(copper: artwork.Layer) -> int:
    return int(cv2.connectedComponents(copper, connectivity=8)[0]) - 1


def test_the_same_seed_draws_the_same_board_and_another_seed_another() -> None:
    first, again, other = board(1), board(1), board(2)
    for layer in ("copper", "pads", "holes", "print"):
        assert np.array_equal(getattr(first, layer), getattr(again, layer))
    assert first.traces == again.traces
    assert not np.array_equal(first.copper, other.copper)


@pytest.mark.parametrize("pitch_px", [12.0, 20.0, 38.0])
def test_a_board_has_copper_and_room_between_it(pitch_px: float) -> None:
    art = board(3, pitch_px)
    share = np.count_nonzero(art.copper) / art.copper.size
    assert 0.05 < share < 0.95
    assert nets(art.copper) > 3
    assert not (art.copper & art.holes).any()
    assert not (art.print & art.copper).any()


@pytest.mark.parametrize(("size_px", "pitch_px"), [((384, 384), 5.0), ((60, 384), 20.0)])
def test_a_board_that_cannot_be_laid_out_is_refused(size_px: tuple[int, int], pitch_px: float) -> None:
    with pytest.raises(ValueError, match="too small"):
        artwork.draw(np.random.default_rng(0), *size_px, pitch_px)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mask_is_exactly_where_copper_changed(seed: int) -> None:
    art = board(seed)
    flawed = flaw(art, np.random.default_rng(seed), [*Defect, *Defect])
    assert flawed.defects
    assert np.array_equal(flawed.mask > 0, flawed.copper != art.copper)
    removed = np.isin(flawed.mask, (Defect.OPEN, Defect.MOUSEBITE, Defect.PIN_HOLE))
    added = np.isin(flawed.mask, (Defect.SHORT, Defect.SPUR, Defect.SPURIOUS_COPPER))
    assert (flawed.copper[removed] == 0).all()
    assert (flawed.copper[added] == 255).all()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        pytest.param(Defect.OPEN, "splits", id="an open splits a net"),
        pytest.param(Defect.SHORT, "joins", id="a short joins nets"),
        pytest.param(Defect.MOUSEBITE, "same", id="a mousebite leaves the nets"),
        pytest.param(Defect.SPUR, "same", id="a spur leaves the nets"),
        pytest.param(Defect.SPURIOUS_COPPER, "splits", id="spurious copper is an island of its own"),
        pytest.param(Defect.PIN_HOLE, "same", id="a pin-hole leaves the nets"),
    ],
)
def test_a_fault_does_to_the_nets_what_its_class_says(kind: Defect, change: str) -> None:
    seen = 0
    for seed in SEEDS:
        art = board(seed)
        flawed = flaw(art, np.random.default_rng(seed), [kind])
        assert set(np.unique(flawed.mask)) <= {0, kind}
        if not flawed.defects:
            continue
        seen += 1
        before, after = nets(art.copper), nets(flawed.copper)
        if change == "joins":
            assert after < before
        elif change == "same":
            assert after == before
        elif kind is Defect.SPURIOUS_COPPER:
            assert after == before + 1
        else:
            # A cut of a trace that closes a loop leaves one piece.
            assert after >= before
    assert seen >= 4


def test_an_open_cuts_its_trace_through() -> None:
    copper = np.zeros((120, 120), np.uint8)
    cv2.line(copper, (10, 60), (110, 60), 255, 9)
    blank = np.zeros_like(copper)
    art = artwork.Artwork(copper, blank, blank, blank, (artwork.Trace((10, 60), (110, 60), 9),))
    for seed in SEEDS:
        flawed = flaw(art, np.random.default_rng(seed), [Defect.OPEN])
        assert nets(flawed.copper) == 2


def test_a_pin_hole_is_surrounded_by_copper_and_spurious_copper_by_none() -> None:
    for seed in SEEDS:
        art = board(seed)
        flawed = flaw(art, np.random.default_rng(seed), [Defect.PIN_HOLE, Defect.SPURIOUS_COPPER])
        for kind, around in ((Defect.PIN_HOLE, 255), (Defect.SPURIOUS_COPPER, 0)):
            patch = (flawed.mask == kind).astype(np.uint8)
            ring = (cv2.dilate(patch, np.ones((3, 3), np.uint8)) > 0) & (patch == 0)
            assert (art.copper[ring] == around).all()


def test_a_good_board_is_left_as_it_is() -> None:
    art = board(1)
    flawed = flaw(art, np.random.default_rng(1), [])
    assert np.array_equal(flawed.copper, art.copper)
    assert not flawed.mask.any()
    assert flawed.defects == ()


def test_a_blank_board_takes_no_faults() -> None:
    blank = np.zeros((96, 96), np.uint8)
    flawed = flaw(artwork.Artwork(blank, blank, blank, blank, ()), np.random.default_rng(1), list(Defect))
    assert flawed.defects == ()


def test_a_binarised_look_is_black_and_white_alone() -> None:
    rng = np.random.default_rng(5)
    look = shoot.random_look(rng, binarised_share=1.0)
    art = board(5)
    still = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    rgb = shoot.expose(shoot.paint(shoot.materials(art, art.copper), still, look, 384, 384), look, rng)
    assert rgb.shape == (384, 384, 3)
    assert set(np.unique(rgb)) == {0, 255}
    black_copper = look.palette[shoot.Material.COPPER, 0] == 0
    assert np.mean((rgb[:, :, 0] == 0) == ((art.copper > 0) == black_copper)) > 0.95


def test_a_camera_over_the_belt_sees_the_same_for_the_same_seed_in_any_order() -> None:
    forward, backward = Conveyor(3, 240, 320), Conveyor(3, 240, 320)
    numbers = [0, 40, 70, 200, 400]
    seen = {n: forward.frame(n) for n in numbers}
    for n in reversed(numbers):
        again = backward.frame(n)
        assert np.array_equal(again.rgb, seen[n].rgb)
        assert np.array_equal(again.mask, seen[n].mask)
        assert again.board == seen[n].board
    assert seen[0].rgb.shape == (240, 320, 3)
    assert seen[0].mask.shape == (240, 320)


def test_boards_come_by_one_after_the_other_and_the_belt_moves_and_stands() -> None:
    conveyor = Conveyor(3, 240, 320)
    shots = [conveyor.frame(n) for n in range(130)]
    boards = [shot.board for shot in shots]
    assert boards == sorted(boards)
    assert boards[-1] >= 2
    change = [np.abs(a.rgb.astype(int) - b.rgb.astype(int)).mean() for a, b in pairwise(shots)]
    assert min(change) > 0, "every frame has its own noise"
    assert max(change) > 2 * float(np.median(change)), "and in some the belt moves"


def test_good_boards_have_empty_masks_and_bad_boards_show_every_class() -> None:
    def masks(good_share: float) -> set[int]:
        conveyor = Conveyor(4, 240, 320, good_share)
        return {int(value) for n in range(0, 60 * 25, 60) for value in np.unique(conveyor.frame(n).mask)}

    assert masks(1.0) == {0}
    assert masks(0.0) == {0, *map(int, Defect)}


@pytest.mark.parametrize(("size_px", "good_share"), [((100, 320), 0.5), ((240, 320), 1.5)])
def test_an_impossible_conveyor_is_refused(size_px: tuple[int, int], good_share: float) -> None:
    with pytest.raises(ValueError, match="least 240"):
        Conveyor(1, *size_px, good_share)


def test_a_negative_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="frame -1"):
        Conveyor(1, 240, 320).frame(-1)
