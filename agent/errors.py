"""What adapters raise: everything foreign becomes one of these two."""

from schemas.codes import FailureCode


class AgentError(Exception):
    """A failure with a code for the wire and a text for people."""

    def __init__(self, code: FailureCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Retryable(AgentError):
    """May pass by itself: try again after `delay_s` seconds."""

    def __init__(self, code: FailureCode, text: str, *, delay_s: float = 1.0) -> None:
        super().__init__(code, text)
        self.delay_s = delay_s


class Permanent(AgentError):
    """Will fail again in the same way until somebody changes something."""
