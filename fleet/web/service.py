"""What the requests of one process share: bounds on what runs at once, the limits of logins, the live view."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, TypeVar

import anyio
from anyio import to_thread
from fastapi import Depends
from starlette.requests import Request

from fleet.core.access import Principal
from fleet.core.audit import Entry
from fleet.core.rollout import Refused
from fleet.core.throttle import Throttle, network
from fleet.errors import ErrorCode, FleetError, Retryable
from fleet.web.live import Hub
from fleet.web.parts import ApiParts
from fleet.web.problem import ProblemCode, later

_Made = TypeVar("_Made")


class Slots:
    """So many at once; who comes too late is told to come again."""

    def __init__(self, most: int, what: str) -> None:
        self._free = threading.BoundedSemaphore(most)
        self._what = what

    def take(self) -> None:
        """Raises ApiError. Each `take` is followed by one `give`."""
        if not self._free.acquire(blocking=False):
            raise later(503, ErrorCode.UNAVAILABLE, f"too many {self._what} at once", 5)

    def give(self) -> None:
        self._free.release()

    @contextmanager
    def one(self) -> Iterator[None]:
        self.take()
        try:
            yield
        finally:
            self.give()


class Logins:
    """Tries are counted before the password is looked at, so that many at once get no further than one by one."""

    def __init__(self, parts: ApiParts) -> None:
        self._names = Throttle(parts.settings.login_rate)
        self._addresses = Throttle(parts.settings.address_rate)
        self._now = parts.now
        self._lock = threading.Lock()

    def begin(self, name: str, address: str) -> None:
        """Raises ApiError with the time to wait. A name that nobody has is counted like any other."""
        now, origin = self._now().timestamp(), network(address)
        with self._lock:
            wait = self._addresses.take(origin, now)
            if not wait:
                wait = self._names.take(name, now)
        if wait:
            raise later(429, ProblemCode.TOO_MANY, "too many logins; try again later", wait)

    def right(self, name: str, address: str) -> None:
        now = self._now().timestamp()
        with self._lock:
            self._names.give_back(name, now)
            self._addresses.give_back(network(address), now)


class Service:
    """One for each application."""

    def __init__(self, parts: ApiParts) -> None:
        settings = parts.settings
        self.parts = parts
        self.logins = Logins(parts)
        self.exports = Slots(settings.exports, "exports")
        self.verifications = Slots(1, "verifications of the audit")
        self.calls = anyio.CapacityLimiter(settings.board_calls)
        self.live = Hub(parts)
        self._hashing = anyio.CapacityLimiter(settings.password_checks)
        self._waiting = Slots(settings.password_checks + settings.waiting_logins, "logins")

    def now(self) -> datetime:
        return self.parts.now()

    async def hashing(self, work: Callable[[], _Made]) -> _Made:
        """On a thread, where few run at once: each takes 64 MB."""
        with self._waiting.one():
            return await to_thread.run_sync(work, limiter=self._hashing)

    @contextmanager
    def audited(self, user: str, action: str, subject: str, detail: dict[str, Any]) -> Iterator[None]:
        """Written down before it is done: what has happened is never missing. What then fails is written down too."""
        self.audit(user, action, subject, detail)
        try:
            yield
        except (FleetError, Refused) as error:
            # The first failure is the one to tell.
            with _ignoring_retryable():
                self.audit(user, f"{action}.failed", subject, {"why": str(error)[:500]})
            raise

    def audit(self, actor: str, action: str, subject: str, detail: dict[str, Any]) -> None:
        self.parts.audit.append(Entry(self.now(), actor, action, subject, detail))


@contextmanager
def _ignoring_retryable() -> Iterator[None]:
    try:
        yield
    except Retryable:
        return


async def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


async def _principal(request: Request) -> Principal:
    found: Principal = request.state.principal
    return found


Api = Annotated[Service, Depends(_service)]
Who = Annotated[Principal, Depends(_principal)]
