"""Reading back what a journal holds: bytes in, a state or BadJournal out."""

from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError

MAX_JOURNAL_BYTES: Final = 1_000_000
T = TypeVar("T")


class BadJournal(ValueError):
    """The content is not a state that this version has written; the text says why."""


def parsed(adapter: TypeAdapter[T], content: bytes) -> T:
    """Raises BadJournal with the field that is wrong, and for what is too large to be a journal."""
    if len(content) > MAX_JOURNAL_BYTES:
        raise BadJournal(f"{len(content)} bytes; a journal has at most {MAX_JOURNAL_BYTES}")
    try:
        return adapter.validate_json(content)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in problem["loc"]) or "journal"
        raise BadJournal(f"{place}: {problem['msg']}"[:500]) from None
