"""Published models."""

from schemas.base import UtcTime, Wire


class ModelView(Wire):
    name: str
    version: str
    manifest_sha256: str
    targets: list[str]
    published_at: UtcTime | None


class Models(Wire):
    models: list[ModelView]
