"""From pictures to regions: pure numpy and OpenCV."""

from agent.core.vision.colour import to_rgb
from agent.core.vision.complexity import complexity
from agent.core.vision.geometry import Placement, Roi
from agent.core.vision.overlay import draw
from agent.core.vision.prepare import Prepared, View, prepare
from agent.core.vision.quality import Quality, quality
from agent.core.vision.refine import LibraryMissing, refine, require
from agent.core.vision.regions import Found, Region, regions
from agent.core.vision.shape_choice import Choice, ShapeRule
from agent.core.vision.tiling import Stitch

__all__ = [
    "Choice",
    "Found",
    "LibraryMissing",
    "Placement",
    "Prepared",
    "Quality",
    "Region",
    "Roi",
    "ShapeRule",
    "Stitch",
    "View",
    "complexity",
    "draw",
    "prepare",
    "quality",
    "refine",
    "regions",
    "require",
    "to_rgb",
]
