"""Whom the board believes: by the section `[trust]` of its settings, or whoever reaches its topics."""

from agent.adapters.trust_pinned import PinnedTrust
from agent.ports import Fetcher, Trust, Verifier
from agent.wiring.ground import Ground


def trust_of(ground: Ground, fetcher: Fetcher) -> Trust:
    settings = ground.settings.trust
    if settings is None or settings.root is None or settings.metadata_url is None:
        return PinnedTrust(fetcher, ground.disk.models, ground.target)
    from agent.adapters.trust_tuf.trust import TufOptions, TufTrust  # noqa: PLC0415  memory of boards without

    options = TufOptions(settings.root, settings.metadata_url, ground.disk.folder / "registry")
    return TufTrust(options, ground.disk.models, ground.target, ground.least)


def verifier_of(ground: Ground) -> Verifier | None:
    """Errors: Permanent(CONFIG_INVALID) for keys that cannot be read."""
    settings = ground.settings.trust
    if settings is None or settings.controller_keys is None:
        return None
    from agent.adapters.verify_ed25519 import Ed25519Verifier  # noqa: PLC0415  memory of boards without

    return Ed25519Verifier(settings.controller_keys, ground.least)
