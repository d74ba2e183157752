"""The TUF repository of the models, in a folder, with python-tuf."""

from fleet.adapters.registry_tuf.keys import KeyRing, KeysMissing, ask_nobody
from fleet.adapters.registry_tuf.registry import Listed, Published, Registry, keep_fresh
from fleet.adapters.registry_tuf.rotation import revoke_key, rotate

__all__ = [
    "KeyRing",
    "KeysMissing",
    "Listed",
    "Published",
    "Registry",
    "ask_nobody",
    "keep_fresh",
    "revoke_key",
    "rotate",
]
