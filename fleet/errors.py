"""What adapters of the operator's side raise: everything foreign becomes Retryable or Permanent."""

from enum import StrEnum


class ErrorCode(StrEnum):
    """For programs; the text is for people. Codes are added, never renamed."""

    DATABASE_UNAVAILABLE = "database-unavailable"
    DATABASE_FAULT = "database-fault"
    DATABASE_OUTDATED = "database-outdated"
    DATABASE_TOO_NEW = "database-too-new"
    CONFLICT = "conflict"
    NOT_FOUND = "not-found"
    LEASE_LOST = "lease-lost"
    INVALID = "invalid"
    UNAVAILABLE = "unavailable"
    SIGNATURE_INVALID = "signature-invalid"
    INTERNAL = "internal"


class FleetError(Exception):
    """A failure with a code for programs and a text for people."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Retryable(FleetError):
    """May pass by itself: try again after `delay_s` seconds."""

    def __init__(self, code: ErrorCode, text: str, *, delay_s: float = 1.0) -> None:
        super().__init__(code, text)
        self.delay_s = delay_s


class Permanent(FleetError):
    """Will fail again in the same way until somebody changes something."""


class NotFound(Permanent):
    """There is no such thing."""

    def __init__(self, text: str) -> None:
        super().__init__(ErrorCode.NOT_FOUND, text)


class Conflict(Permanent):
    """Somebody else has changed it since it was read, or the name is taken: read it again, then decide."""

    def __init__(self, text: str) -> None:
        super().__init__(ErrorCode.CONFLICT, text)


class LeaseLost(Permanent):
    """Another controller has taken over: stop deciding."""

    def __init__(self, text: str) -> None:
        super().__init__(ErrorCode.LEASE_LOST, text)
