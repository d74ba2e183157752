"""What all messages share: camelCase on the wire, unknown fields ignored on the wire and forbidden in configuration."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel


class Wire(BaseModel):
    """A message: an older reader ignores what a newer writer adds."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", protected_namespaces=()
    )

    def to_json(self) -> bytes:
        """UTF-8 JSON without the fields that are None."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


class Strict(BaseModel):
    """Configuration and manifests: a misspelt field is an error, never a silent default."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid", protected_namespaces=()
    )

    def to_json(self) -> bytes:
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs its zone, for example 2026-01-31T12:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time must lie in the years 1 to 9999, in UTC too") from None


def _iso_ms(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


UtcTime = Annotated[datetime, AfterValidator(_utc), PlainSerializer(_iso_ms, return_type=str, when_used="json")]
"""Written as 2026-01-31T12:00:00.000Z."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Id = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:-]+$")]
"""What may stand in a topic level or a file name."""
Text = Annotated[str, Field(max_length=2000)]
"""For people."""
