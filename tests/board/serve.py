"""Runs in the emulated Python: makes segmenters of the factories that it is sent, and calls them.

Requests and replies are pickles on stdin and stdout; see emulated.Board.
"""

import gc
import os
import pickle
from typing import Any, BinaryIO

from agent.errors import AgentError, Retryable


class Served:
    def __init__(self) -> None:
        self._segmenters: list[Any] = []

    def open(self, factory: Any) -> tuple[int, Any, Any, int]:
        segmenter = factory()
        self._segmenters.append(segmenter)
        return len(self._segmenters) - 1, segmenter.runtime, tuple(segmenter.shapes), segmenter.batch

    def segment(self, number: int, inputs: Any) -> Any:
        return self._segmenters[number].segment(inputs)

    def segment_all(self, number: int, items: Any) -> Any:
        return self._segmenters[number].segment_all(items)

    def close(self, number: int) -> None:
        self._segmenters[number].close()

    def garbage(self, number: int, inputs: Any, calls: int) -> int:
        """Unreachable objects that are left after so many calls, when the collector does not start by itself."""
        gc.collect()
        gc.disable()
        try:
            for _ in range(calls):
                self._segmenters[number].segment(inputs)
            return gc.collect()
        finally:
            gc.enable()


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    served = Served()
    while True:
        try:
            method, *arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            reply = ("answered", getattr(served, method)(*arguments))
        except AgentError as error:
            reply = ("failed", (isinstance(error, Retryable), error.code.value, error.text))
        pickle.dump(reply, replies)
        replies.flush()


if __name__ == "__main__":
    with os.fdopen(os.dup(0), "rb") as stdin, os.fdopen(os.dup(1), "wb") as stdout:
        os.dup2(2, 1)  # what the library prints must not come between the replies
        serve(stdin, stdout)
