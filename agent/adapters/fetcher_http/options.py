"""Bounds of a download, and what can go wrong with one mirror."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from agent.disk import is_full
from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode

_FULL_DELAY_S = 60.0
PASSING_DELAY_S = 5.0


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """Units in names.

    `connect_timeout_s` covers the look-up of the name and all addresses; `read_timeout_s` each wait for data.
    A connection that gave less than `least_bytes_per_s` over a window of `rate_window_s` is cut; the time until the
    first byte of the body counts, so the window is also the longest that a server may take to answer.
    `max_retry_after_s`: a server that asks for a longer pause is asked again after this one.
    `tls` None: the system's authorities, no client certificate.
    """

    connect_timeout_s: float = 10.0
    read_timeout_s: float = 20.0
    least_bytes_per_s: float = 1024.0
    rate_window_s: float = 30.0
    max_redirects: int = 5
    max_retry_after_s: float = 3600.0
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        times = (self.connect_timeout_s, self.read_timeout_s, self.rate_window_s, self.max_retry_after_s)
        if min(times) <= 0 or self.least_bytes_per_s < 0 or self.max_redirects < 0:
            raise Permanent(FailureCode.CONFIG_INVALID, f"a download cannot be bounded by {self}")


class Trouble(Exception):
    """One mirror did not give the file."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Passing(Trouble):
    """It may give it later."""

    def __init__(self, text: str, delay_s: float = PASSING_DELAY_S) -> None:
        super().__init__(text)
        self.delay_s = delay_s


class Gone(Trouble):
    """It does not have the file, or may not be asked."""


class Wrong(Trouble):
    """It has another file than the one that is wanted."""


def canceled() -> Retryable:
    return Retryable(FailureCode.CANCELED, "the download was stopped; what has come is kept", delay_s=0.0)


def storage_failure(error: OSError, path: Path) -> AgentError:
    text = f"{path}: {error.strerror or error}"
    code = FailureCode.DISK_FULL if is_full(error) else FailureCode.INTERNAL
    return Retryable(code, text, delay_s=_FULL_DELAY_S)
