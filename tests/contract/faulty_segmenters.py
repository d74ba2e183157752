"""A segmenter that computes next to nothing and does what goes wrong with real ones, when a picture tells it to.

It lives apart from the tests so that a child process can import it.
"""

import ctypes
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np

from agent.adapters.segmenter_process.process import WORDS_ENV
from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from agent.errors import Permanent, Retryable
from agent.ports import Runtime, Segmentation
from schemas.codes import FailureCode

SHAPE = (24, 32)
SPEC = ModelSpec("none", 1, (SHAPE, (16, 48)), 5, "logits")
BALLAST_BYTES = 200 * 2**20
LAST_WORDS = "rknn_run failed: -1"


class Fault(IntEnum):
    """What happens in the call whose picture has this value in its first pixel."""

    NONE = 0
    WAIT = 200
    """Say "in" on the pipe `entered`, wait for a byte on the pipe `leave`, then answer."""
    HANG = 201
    HANG_WITH_GIL = 202
    HANG_AND_FLOOD_LOG = 203
    SEGFAULT = 204
    EXIT_3 = 205
    RAISE = 206
    RETRYABLE = 207
    PERMANENT = 208
    FLOOD_LOG_AND_EXIT = 209
    WRONG_SHAPE = 210
    SAY_NOISE = 211
    SAY_OLD_ANSWER = 212
    SAY_UNKNOWN_KIND = 213
    SAY_LOADED = 214
    ANSWER_ALL_BUT_ONE = 215
    SEGFAULT_UNHEARD = 216
    """Its last words stand in the pipe by which it listens to its library, and nobody reads them there."""


SAYINGS = {
    Fault.SAY_NOISE: b"\xff\x00 not JSON",
    Fault.SAY_OLD_ANSWER: b'{"kind": "Segmented", "call": 1, "inference_ms": 1.0, "postprocess_ms": 1.0}',
    Fault.SAY_UNKNOWN_KIND: b'{"kind": "Gift", "call": 2}',
    Fault.SAY_LOADED: b'{"kind": "Loaded", "call": 2, "name": "x", "version": "1", "driver": null}',
}


def picture(seed: int, fault: Fault = Fault.NONE, shape: tuple[int, int] = SHAPE) -> Pixels:
    pixels = np.random.default_rng(seed).integers(1, 200, (*shape, 3), np.uint8)
    pixels[0, 0, 0] = fault
    return pixels


def answer(pixels: Pixels, classes: int = SPEC.classes) -> tuple[Pixels, Pixels]:
    """Class from red, score from green."""
    class_map = pixels[:, :, 0] % np.uint8(classes)
    return class_map, np.where(class_map > 0, pixels[:, :, 1], np.uint8(0))


@dataclass(frozen=True)
class FaultyFactory:
    """`folder` has the pipes, and a file `load` naming a fault where loading is to go wrong.

    A child about to hang says so on the pipe `hung`, where there is one.
    """

    folder: str
    spec: ModelSpec = SPEC
    ballast: bool = False
    hang_at_close: bool = False

    def __call__(self) -> "FaultySegmenter":
        order = Path(self.folder, "load")
        if order.exists():
            misbehave(Fault[order.read_text()], self.folder)
        return FaultySegmenter(self)


class FaultySegmenter:
    def __init__(self, made_by: FaultyFactory) -> None:
        self._made_by = made_by
        self._ballast = np.ones(BALLAST_BYTES, np.uint8) if made_by.ballast else None

    @property
    def runtime(self) -> Runtime:
        return Runtime("faulty", "1.0", driver="0.9")

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        return self._made_by.spec.shapes

    @property
    def batch(self) -> int:
        return self._made_by.spec.batch

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        made = [self.segment(inputs) for inputs in items]
        return made[:-1] if any(inputs[0][0, 0, 0] == Fault.ANSWER_ALL_BUT_ONE for inputs in items) else made

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        started_s = time.perf_counter()
        code = int(inputs[0][0, 0, 0])
        fault = Fault(code) if code in list(Fault) else Fault.NONE
        class_map, score = answer(inputs[0], self._made_by.spec.classes)
        if fault is Fault.WAIT:
            self._wait()
        elif fault is Fault.WRONG_SHAPE:
            class_map = class_map[:1, :1]
        elif fault not in {Fault.NONE, Fault.ANSWER_ALL_BUT_ONE}:
            misbehave(fault, self._made_by.folder)
        return Segmentation(class_map, score, (time.perf_counter() - started_s) * 1_000, 0.0)

    def close(self) -> None:
        if self._made_by.hang_at_close:
            misbehave(Fault.HANG_WITH_GIL, self._made_by.folder)

    def _wait(self) -> None:
        with Path(self._made_by.folder, "entered").open("wb", buffering=0) as entered:
            entered.write(b"in")
        with Path(self._made_by.folder, "leave").open("rb", buffering=0) as leave:
            leave.read(1)


def misbehave(fault: Fault, folder: str) -> None:
    if fault in SAYINGS:
        os.write(int(sys.argv[1]), SAYINGS[fault])  # the socket to the parent
    elif fault is Fault.RETRYABLE:
        raise Retryable(FailureCode.NPU_TIMEOUT, "driver: job timeout", delay_s=7.5)
    elif fault is Fault.PERMANENT:
        raise Permanent(FailureCode.MODEL_TOO_NEW, "format 9 is newer than 6")
    elif fault is Fault.RAISE:
        raise ZeroDivisionError(LAST_WORDS)
    elif fault in {Fault.HANG, Fault.HANG_WITH_GIL, Fault.HANG_AND_FLOOD_LOG}:
        _hang(fault, Path(folder, "hung"))
    else:
        _die(fault)


def _hang(fault: Fault, hung: Path) -> None:
    print(LAST_WORDS)
    if hung.exists():
        hung.write_bytes(b"in")
    library = ctypes.PyDLL(None) if fault is Fault.HANG_WITH_GIL else ctypes.CDLL(None)
    while True:
        if fault is Fault.HANG_AND_FLOOD_LOG:
            print(LAST_WORDS, file=sys.stderr)
        else:
            library.sleep(1_000)


def _die(fault: Fault) -> None:
    if fault is Fault.FLOOD_LOG_AND_EXIT:
        for i in range(50_000):
            print("line", i, "of a talkative library")
    if fault is Fault.SEGFAULT_UNHEARD:
        os.write(int(os.environ[WORDS_ENV].split(",")[1]), LAST_WORDS.encode())
    else:
        print(LAST_WORDS, file=sys.stderr)
    if fault in {Fault.SEGFAULT, Fault.SEGFAULT_UNHEARD}:
        ctypes.string_at(0)
    os._exit(3)
