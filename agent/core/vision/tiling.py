"""Puts the class maps of tiles together; what one tile saw whole is taken from that tile."""

import numpy as np
import numpy.typing as npt

from agent.core.vision.geometry import Placement

Map = npt.NDArray[np.uint8]


class Stitch:
    """Collects the maps of one picture's tiles. Of a single tile the arrays are kept, not copied."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._missing = set(range(placement.tiles))
        self._class_map: Map = np.empty(placement.canvas_hw if placement.tiles > 1 else (0, 0), np.uint8)
        self._score: Map = np.empty_like(self._class_map)

    def add(self, tile: int, class_map: Map, score: Map) -> None:
        """Shapes: both (H, W) uint8 of the tile. Errors: ValueError for another shape, KeyError for a tile twice."""
        place = self._placement
        if class_map.shape != place.tile_hw or score.shape != place.tile_hw:
            raise ValueError(f"maps of {class_map.shape} and {score.shape} do not fit a tile of {place.tile_hw}")
        self._missing.remove(tile)
        top, left = place.origin(tile)
        rows, columns = place.owned(tile)
        window = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        if place.tiles == 1:
            self._class_map, self._score = class_map[window], score[window]
            return
        self._class_map[rows, columns] = class_map[window]
        self._score[rows, columns] = score[window]

    def result(self) -> tuple[Map, Map]:
        """Class map and score over the canvas. Errors: ValueError while a tile is missing."""
        if self._missing:
            raise ValueError(f"tiles {sorted(self._missing)} are missing")
        return self._class_map, self._score
