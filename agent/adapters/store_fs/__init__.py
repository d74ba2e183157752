"""Model files by digest, in a folder."""

from agent.adapters.store_fs.store import FolderStore, StoreLimits

__all__ = ["FolderStore", "StoreLimits"]
