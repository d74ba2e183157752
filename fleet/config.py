"""The server's settings: a TOML file, the environment over it, the command line over both; checked once and frozen.

`RKFLEET_SERVE_BROKER__HOST=10.0.0.5` sets `host` in `[broker]`; a value that reads as TOML is taken as such, else as
text.
"""

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fleet.errors import ErrorCode, Permanent

PREFIX = "RKFLEET_SERVE_"
MAX_FILE_BYTES = 1_000_000


class Role(StrEnum):
    CONTROLLER = "controller"
    """Decides, publishes, asks for missing results, tidies up; one of all that have the role, the others stand by."""
    INGEST = "ingest"
    """Hears boards; all that have the role share the load."""
    WEB = "web"
    """API and registry over HTTP."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Broker(Section):
    """`ca`, `cert` and `key` are PEM files; `ca` alone, or `tls = true`, is TLS without a certificate of ours."""

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=1883, ge=1, le=65535)
    username: str | None = None
    password: str | None = Field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    keepalive_s: int = Field(default=15, ge=5, le=600)
    session_expiry_s: int = Field(default=300, ge=0, le=86_400)
    """How long the broker keeps messages for an ingesting process that is away. Longer gaps are asked for."""
    window: int = Field(default=2000, ge=10, le=65_535)

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key come together")
        return self

    @property
    def has_tls(self) -> bool:
        return self.tls or self.ca is not None or self.cert is not None


class Web(Section):
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8870, ge=0, le=65535)
    metrics_need_token: bool = True


Url = Annotated[str, Field(pattern=r"^https?://[!-~]+$", max_length=1000)]


class RegistrySettings(Section):
    """`urls`: where boards find the registry's files, mirrors first; by default what this server serves."""

    folder: Path | None = None
    keys: Path | None = None
    urls: tuple[Url, ...] = Field(default=(), max_length=8)
    refresh_s: float = Field(default=600.0, ge=1, le=86_400)


class IngestSettings(Section):
    batch: int = Field(default=1000, ge=1, le=10_000)
    flush_s: float = Field(default=0.2, gt=0, le=10)
    most_waiting: int = Field(default=20_000, ge=100, le=1_000_000)
    quiet_s: float = Field(default=1.0, ge=0.1, le=60)
    """Nothing retained has come for so long: all of it is here."""


class ControllerSettings(Section):
    """`settle_s`: how long boards have been heard before a rollout's clock goes on."""

    lease_s: float = Field(default=30.0, ge=1, le=600)
    tick_s: float = Field(default=1.0, ge=0.1, le=60)
    settle_s: float = Field(default=5.0, ge=0, le=300)
    replay_turn_s: float = Field(default=5.0, ge=0.1, le=3600)
    replay_settle_s: float = Field(default=5.0, ge=0, le=3600)
    replay_again_s: float = Field(default=60.0, ge=1, le=86_400)


class RetentionSettings(Section):
    """Results; none of both keeps all."""

    results_days: float | None = Field(default=90.0, gt=0, le=36_500)
    results_most: int | None = Field(default=None, ge=1)


class ServeSettings(Section):
    data: Path = Path("rkfleet-data")
    database: str | None = Field(default=None, repr=False)
    """A URL; `fleet.db` in `data` where there is none."""
    roles: tuple[Role, ...] = Field(default=tuple(Role), min_length=1)
    broker: Broker = Broker()
    web: Web = Web()
    registry: RegistrySettings = RegistrySettings()
    ingest: IngestSettings = IngestSettings()
    controller: ControllerSettings = ControllerSettings()
    retention: RetentionSettings = RetentionSettings()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data.absolute() / 'fleet.db'}"

    @property
    def keys_folder(self) -> Path | None:
        if self.registry.keys is not None or self.registry.folder is None:
            return self.registry.keys
        return self.registry.folder.with_name(f"{self.registry.folder.name}-keys")


def load(path: Path | None, environ: Mapping[str, str], options: Mapping[str, Any]) -> ServeSettings:
    """`options` are those of the command line, nested as in the file; None is one that was not given.

    Relative paths of a file are meant from its folder, all others from here. Errors: Permanent(INVALID) whose text
    names the file, the field and what is wrong with it.
    """
    document = {} if path is None else _rooted(_read(path), path.parent)
    for name, value in sorted(environ.items()):
        if name.startswith(PREFIX):
            _lay(document, name.removeprefix(PREFIX).lower().split("__"), _toml_value(value))
    for dotted, value in options.items():
        if value is not None:
            _lay(document, dotted.split("."), value)
    try:
        return ServeSettings.model_validate(document)
    except ValidationError as error:
        raise Permanent(ErrorCode.INVALID, f"{path or 'settings'}: {_in_words(error)}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise Permanent(ErrorCode.INVALID, f"{path}: over {MAX_FILE_BYTES} bytes, no settings file")
        return tomllib.loads(raw.decode())
    except OSError as error:
        raise Permanent(ErrorCode.INVALID, f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Permanent(ErrorCode.INVALID, f"{path}: not TOML: {error}") from error


def _rooted(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    for place, names in ((document, ("data",)), (document.get("broker"), ("ca", "cert", "key")),
                         (document.get("registry"), ("folder", "keys"))):  # fmt: skip
        if isinstance(place, dict):
            place.update({name: folder / place[name] for name in names if isinstance(place.get(name), str)})
    return document


def _lay(document: dict[str, Any], path: list[str], value: Any) -> None:
    *sections, key = path
    place = document
    for section in sections:
        inner = place.get(section)
        place[section] = dict(inner) if isinstance(inner, Mapping) else {}
        place = place[section]
    place[key] = value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _in_words(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        place = ".".join(str(part) for part in problem["loc"]) or "settings"
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            near = get_close_matches(str(problem["loc"][-1]), _names(problem["loc"][:-1]), n=1)
            text = f"there is no such setting{f'; did you mean {near[0]}?' if near else ''}"
        lines.append(f"{place}: {text}")
    return "; ".join(lines)


def _names(path: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = ServeSettings
    for part in path:
        found = section.model_fields[str(part)].annotation if str(part) in section.model_fields else None
        if not (isinstance(found, type) and issubclass(found, BaseModel)):
            return []
        section = found
    return list(section.model_fields)
