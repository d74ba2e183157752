"""What a bundle must be to be published, and when metadata are due."""

from fleet.core.registry.bundle import BadBundle, BundleFile, files_of, parse_manifest
from fleet.core.registry.lifetimes import Lifetimes, is_due

__all__ = ["BadBundle", "BundleFile", "Lifetimes", "files_of", "is_due", "parse_manifest"]
