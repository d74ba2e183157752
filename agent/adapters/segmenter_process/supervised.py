"""One child that is started again after it was lost."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.adapters.segmenter_process.memory import SharedMemory
from agent.adapters.segmenter_process.process import Child, Ended, Interpreter, Silent
from agent.adapters.segmenter_process.wire import MESSAGE_BYTES, Failed, Garbled, Loaded, Message, encode
from agent.errors import AgentError, Retryable
from agent.ports import Runtime
from schemas.codes import FailureCode

GRACE_S = 1.0
RESTART_DELAY_S = 0.1
HELD_DELAY_S = 5.0


@dataclass(frozen=True, slots=True)
class Role:
    """What a child is for. `slots` lay out its memory, `begin` is what it is told first; the deadlines bound a call and
    a load; `name` begins the text of errors.
    """

    name: str
    slots: Sequence[int]
    begin: bytes
    deadline_s: float
    load_deadline_s: float
    interpreter: Interpreter


class Supervised:
    """Owned by one thread. Every question, the load too, is asked first and answered after, so that several children
    can be at work at once.

    Errors: those of what runs in the child, as they are; Retryable(NPU_HUNG) when a deadline passed and
    Retryable(NPU_CRASHED) when the child ended by itself, both with the last lines of its log; Retryable(NPU_FAULT)
    when none can be started.
    """

    def __init__(self, role: Role) -> None:
        if len(role.begin) > MESSAGE_BYTES:
            raise ValueError(f"a factory of {len(role.begin)} bytes is more than {MESSAGE_BYTES}")
        self._role = role
        self._child: Child | None = None
        self._held: Child | None = None
        self._call = 0
        self._due_s = 0.0
        self._is_loaded = False
        self._starts = 0

    @property
    def child(self) -> Child | None:
        """None while none runs. May be read from any thread."""
        return self._child

    @property
    def runtime(self) -> Runtime:
        """Of the child that was loaded last."""
        return self._runtime

    @property
    def restarts(self) -> int:
        return max(0, self._starts - 1)

    @property
    def left_s(self) -> float:
        """Until the deadline of what was asked last."""
        return self._due_s - time.monotonic()

    def launch(self) -> None:
        """Start a child, and have it begin to load, unless one runs."""
        if self._child is not None:
            return
        role = self._role
        if self._held is not None and not self._held.gone():
            text = f"{role.name}: the killed child {self._held.pid} does not end, its driver holds it"
            raise Retryable(FailureCode.NPU_HUNG, text, delay_s=HELD_DELAY_S)
        self._held = None
        try:
            child = Child(role.slots, role.interpreter)
        except OSError as error:
            raise Retryable(FailureCode.NPU_FAULT, f"{role.name}: no child can be started: {error}") from error
        self._starts += 1
        self._call = 0
        self._is_loaded = False
        self._child = child
        self._send(child, role.begin, role.load_deadline_s)

    def ready(self) -> SharedMemory:
        """The memory of a child that has loaded."""
        self.launch()
        child = self._running()
        if not self._is_loaded:
            try:
                loaded = self.answer()
            except AgentError:
                if self._child is not None:
                    self._drop(child, GRACE_S)
                raise
            if not isinstance(loaded, Loaded):
                raise self._lost(child, f"answered the load with {type(loaded).__name__}")
            self._runtime = loaded.runtime
            self._is_loaded = True
        return child.memory

    def ask(self, question: Callable[[int], Message]) -> None:
        """Of a child that is ready. `question` is made with the number of the call."""
        self._call += 1
        self._send(self._running(), encode(question(self._call)), self._role.deadline_s)

    def answer(self) -> Message:
        """To what was asked last; waits until its deadline."""
        child = self._running()
        try:
            answer = child.receive(self._call, max(0.0, self.left_s))
        except Silent:
            self._drop(child, 0)
            deadline_s = self._role.deadline_s if self._call else self._role.load_deadline_s
            text = f"no answer to a {self._doing} within {deadline_s:g} s, child {child.pid} killed"
            raise self._retry(FailureCode.NPU_HUNG, text, child) from None
        except (Ended, Garbled) as error:
            raise self._lost(child, str(error)) from error
        if isinstance(answer, Failed):
            raise answer.error
        return answer

    def not_believed(self, answer: Message) -> Retryable:
        """The error for an answer that is none to what was asked; the child is ended."""
        return self._lost(self._running(), f"answered a call with {type(answer).__name__}")

    def close(self) -> None:
        """End the child, by force after GRACE_S. The memory of what is still in use is freed with it."""
        child, self._child = self._child, None
        if child is not None:
            child.end(GRACE_S)

    @property
    def _doing(self) -> str:
        return "call" if self._call else "load"

    def _running(self) -> Child:
        if self._child is None:
            raise RuntimeError(f"{self._role.name}: no child runs")
        return self._child

    def _send(self, child: Child, data: bytes, deadline_s: float) -> None:
        self._due_s = time.monotonic() + deadline_s
        try:
            child.send(data)
        except Ended as error:
            raise self._lost(child, "") from error

    def _lost(self, child: Child, reason: str) -> Retryable:
        self._drop(child, 0 if reason else GRACE_S)
        text = f"child {child.pid} ended in a {self._doing}: {child.exit_text()}"
        return self._retry(FailureCode.NPU_CRASHED, f"{text}; it {reason}" if reason else text, child)

    def _drop(self, child: Child, grace_s: float) -> None:
        """Without grace it is killed at once; with it, its own exit code is seen."""
        self._child = None
        gone = child.end(grace_s) if grace_s else child.kill()
        self._held = None if gone else child

    def _retry(self, code: FailureCode, text: str, child: Child) -> Retryable:
        log = child.log_text()
        full = f"{self._role.name}: {text}"
        return Retryable(code, f"{full}; its log ends: {log}" if log else full, delay_s=RESTART_DELAY_S)
