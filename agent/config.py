"""The agent's settings: a TOML file, then the environment over it, checked once and frozen.

`RKFLEET_BROKER__HOST=10.0.0.5` sets `host` in `[broker]`; a value that reads as TOML is taken as such, else as text.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.errors import Permanent
from schemas.base import Id
from schemas.codes import FailureCode
from schemas.recipe import Recipe
from schemas.target import Target

PREFIX = "RKFLEET_"
_OF_OTHERS = tuple(f"{PREFIX}{name}" for name in ("CONFIG", "SERVE", "TOKEN", "KEY_", "NPU_", "MODEL_PYTHON"))
"""Of the operator's commands, which may share an environment with an agent, and of the emulated board."""
MAX_FILE_BYTES = 1_000_000


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Station(Section):
    """Where the board stands (ISA-95). `node` is the board's name in every topic."""

    node: Id
    site: Id
    enterprise: str | None = None
    area: str | None = None
    line: str | None = None
    cell: str | None = None


class Tls(Section):
    """Paths of PEM files; `cert` and `key` are the board's own for mutual TLS."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key come together")
        return self


class Broker(Section):
    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=1, le=65535)
    username: str | None = None
    password: str | None = None
    tls: Tls | None = None
    keepalive_s: int = Field(default=15, ge=5, le=600)
    session_expiry_s: int = Field(default=86_400, ge=0)
    window: int = Field(default=20, ge=1, le=1000)
    max_payload_bytes: int = Field(default=262_144, ge=1024)


class Model(Section):
    """`bundle` is a folder with manifest.json. `cores` names the NPU cores, one child process for each."""

    bundle: Path
    target: Target | Literal["auto"] = "auto"
    cores: tuple[Annotated[int, Field(ge=0, le=2)], ...] = Field(default=(0,), min_length=1, max_length=3)
    threads: int = Field(default=1, ge=1, le=16)
    isolate: bool = True
    python: tuple[str, ...] = ()
    """The command of the Python that runs the children, where the NPU's library lives in another environment than the
    agent's own; empty is the agent's own.
    """
    python_path: tuple[Path, ...] = ()
    """Where that Python finds this package and what it needs; empty is the agent's own search path."""
    deadline_s: float = Field(default=2.0, gt=0, le=60)
    load_deadline_s: float = Field(default=30.0, gt=0, le=300)
    settle_s: float = Field(default=600.0, gt=0, le=86_400)
    """How long a new model must have inspected without a fault before a crash loop no longer takes it back."""


class Storage(Section):
    data_dir: Path = Path("/var/lib/rkfleet")
    spool_max_bytes: int = Field(default=256_000_000, ge=1_000_000)
    spool_max_age_s: float = Field(default=7 * 86_400.0, gt=0)
    evidence_max_bytes: int = Field(default=200_000_000, ge=0)
    evidence_interval_s: float = Field(default=1.0, ge=0)
    """Least time between two pictures kept of one camera; pictures are kept of parts that are not OK."""
    store_max_bytes: int = Field(default=4 * 2**30, ge=1_000_000)
    """For models that were downloaded."""
    store_reserve_bytes: int = Field(default=256 * 2**20, ge=0)
    """What a download leaves free on the disk."""


class Continuous(Section):
    kind: Literal["continuous"] = "continuous"
    rate_hz: float = Field(default=5.0, gt=0, le=1000)


class OnTick(Section):
    """One picture for each tick: one that a live source gave at least `delay_s` after it, or none `within_s`."""

    delay_s: float = Field(default=0.0, ge=0, le=60)
    within_s: float = Field(default=2.0, gt=0, le=3600)


class EveryInterval(OnTick):
    kind: Literal["interval"]
    every_s: float = Field(gt=0)


class OnCron(OnTick):
    kind: Literal["cron"]
    expression: str
    """Five fields as in crontab(5), in the settings' timezone."""


Trigger = Annotated[Continuous | EveryInterval | OnCron, Field(discriminator="kind")]


class CameraSettings(Section):
    """`source` is a folder, a file, a URL or a device; a synthetic camera has none."""

    id: Id
    kind: Literal["folder", "video", "rtsp", "v4l2", "ffmpeg", "synthetic"]
    source: str = ""
    pattern: str = "*"
    loop: bool = True
    source_rate_hz: float | None = Field(default=None, gt=0, le=1000)
    width_px: int | None = Field(default=None, ge=16, le=16_384)
    height_px: int | None = Field(default=None, ge=16, le=16_384)
    fourcc: str | None = Field(default=None, pattern=r"^[ -~]{4}$")
    ffmpeg_args: tuple[str, ...] = ()
    ffmpeg_output_args: tuple[str, ...] = ()
    stride_px: int | None = Field(default=None, ge=16, le=32_768)
    stride_rows: int | None = Field(default=None, ge=16, le=32_768)
    """Row length and rows of the Y plane where a hardware decoder pads its pictures (kind ffmpeg)."""
    seed: int = Field(default=1, ge=0, lt=2**63)
    open_timeout_s: float = Field(default=5.0, gt=0, le=60)
    read_timeout_s: float = Field(default=3.0, gt=0, le=60)
    roi: tuple[int, int, int, int] | None = None
    """x, y, width, height in pixels of the camera's picture."""
    pixel_size_mm: float | None = Field(default=None, ge=1e-6, le=1000)
    recipe: Id = "default"
    priority: int = Field(default=0, ge=0, le=9)
    """Where the cores cannot keep up, pictures of the higher one are inspected first; no camera is starved."""
    trigger: Trigger = Continuous()

    @model_validator(mode="after")
    def _has_source(self) -> Self:
        if self.kind != "synthetic" and not self.source:
            raise ValueError(f"a camera of kind {self.kind} needs a source")
        return self


class Telemetry(Section):
    interval_s: float = Field(default=10.0, ge=0.5, le=3600)


class Trust(Section):
    """Whom the board believes, given to it when it is provisioned. Without this section, whoever may write to the
    board's topics decides what it runs and does.

    `root`: root metadata of the registry at `metadata_url`; models that its publisher has not signed are refused.
    `controller_keys`: whose signature a desired state, a command and a job need.
    """

    root: Path | None = None
    metadata_url: str | None = Field(default=None, pattern=r"^https?://[!-~]+$", max_length=1000)
    controller_keys: Path | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.root is None) != (self.metadata_url is None):
            raise ValueError("root and metadata_url come together")
        if self.root is None and self.controller_keys is None:
            raise ValueError("name root and metadata_url, or controller_keys, or both")
        return self


class Config(Section):
    """Of configuration from afar, which cannot change it."""

    probation_s: float = Field(default=30.0, gt=0, le=3600)
    """How long the agent must be well with a new configuration before it is kept."""


class Settings(Section):
    station: Station
    broker: Broker = Broker()
    model: Model
    storage: Storage = Storage()
    telemetry: Telemetry = Telemetry()
    config: Config = Config()
    trust: Trust | None = None
    camera: tuple[CameraSettings, ...] = Field(min_length=1, max_length=32)
    recipe: dict[str, Recipe] = Field(default_factory=dict)
    timezone: str = "UTC"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [camera.id for camera in self.camera]
        if len(set(ids)) != len(ids):
            raise ValueError("camera: ids must differ")
        for camera in self.camera:
            if camera.recipe != "default" and camera.recipe not in self.recipe:
                raise ValueError(f"camera {camera.id}: there is no [recipe.{camera.recipe}]")
        return self

    def recipe_of(self, camera: CameraSettings) -> Recipe:
        """A recipe named `default` exists without being written down: every certain defect is NotOK."""
        return self.recipe.get(camera.recipe) or Recipe(id="default")


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """Read, override, check. Relative paths in the file are meant from its folder.

    Errors: Permanent(CONFIG_INVALID) whose text names the file, the field and what is wrong with it.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise Permanent(FailureCode.CONFIG_INVALID, f"{path}: over {MAX_FILE_BYTES} bytes, no settings file")
        document = tomllib.loads(raw.decode())
    except OSError as error:
        raise Permanent(FailureCode.CONFIG_INVALID, f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Permanent(FailureCode.CONFIG_INVALID, f"{path}: not TOML: {error}") from error
    return parse(override(document, environ), path.parent, str(path))


def parse(document: Mapping[str, Any], folder: Path, origin: str) -> Settings:
    """Check a document that was already read; `origin` names it in the error."""
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        raise Permanent(FailureCode.CONFIG_INVALID, f"{origin}: {_in_words(error)}") from error
    python_path = tuple(folder / path for path in settings.model.python_path)
    model = settings.model.model_copy(update={"bundle": folder / settings.model.bundle, "python_path": python_path})
    storage = settings.storage.model_copy(update={"data_dir": folder / settings.storage.data_dir})
    cameras = tuple(
        camera.model_copy(update={"source": str(folder / camera.source)})
        if camera.kind in {"folder", "video"}
        else camera
        for camera in settings.camera
    )
    trust = settings.trust
    if trust is not None:
        paths = {"root": trust.root, "controller_keys": trust.controller_keys}
        trust = trust.model_copy(update={name: path and folder / path for name, path in paths.items()})
    recipes = {name: _resolved(recipe, folder) for name, recipe in settings.recipe.items()}
    update = {"model": model, "storage": storage, "camera": cameras, "recipe": recipes, "trust": trust}
    return settings.model_copy(update=update)


def _resolved(recipe: Recipe, folder: Path) -> Recipe:
    reference = recipe.reference
    if reference is None:
        return recipe
    files = {camera: str(folder / path) for camera, path in reference.files.items()}
    return recipe.model_copy(update={"reference": reference.model_copy(update={"files": files})})


def override(document: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Lay `RKFLEET_SECTION__KEY` over the document; lists are overridden as a whole."""
    merged: dict[str, Any] = dict(document)
    for name, value in sorted(environ.items()):
        if not name.startswith(PREFIX) or name.startswith(_OF_OTHERS):
            continue
        *sections, key = name.removeprefix(PREFIX).lower().split("__")
        place = merged
        for section in sections:
            inner = place.get(section)
            place[section] = dict(inner) if isinstance(inner, Mapping) else {}
            place = place[section]
        place[key] = _toml_value(value)
    return merged


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _in_words(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"]) or "settings"
        lines.append(f"{place}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)
