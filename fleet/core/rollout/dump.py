"""A rollout as text, for the database: the head and each member apart, so that a step writes what it has changed."""

from dataclasses import replace

from pydantic import TypeAdapter, ValidationError

from fleet.core.rollout.state import Member, Rollout

_HEAD = TypeAdapter(Rollout)
_MEMBER = TypeAdapter(Member)


class BadDump(ValueError):
    """Not what this version writes."""


def dump_head(rollout: Rollout) -> str:
    return _HEAD.dump_json(replace(rollout, members={}), by_alias=True).decode()


def dump_member(member: Member) -> str:
    return _MEMBER.dump_json(member, by_alias=True).decode()


def load_head(text: str) -> Rollout:
    """Without members."""
    try:
        return _HEAD.validate_json(text)
    except ValidationError as error:
        raise BadDump(f"rollout: {error.errors(include_url=False)[0]}") from None


def load_member(text: str) -> Member:
    try:
        return _MEMBER.validate_json(text)
    except ValidationError as error:
        raise BadDump(f"member: {error.errors(include_url=False)[0]}") from None
