"""A line's own copy of the registry, filled as boards ask."""

from fleet.adapters.mirror_http.mirror import Away, Mirror, MirrorLimits, Pending

__all__ = ["Away", "Mirror", "MirrorLimits", "Pending"]
