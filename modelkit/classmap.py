"""From logits to a class map, with numpy and OpenCV alone: the conversion environment has nothing else."""

import cv2
import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.uint8]


def best(logits: npt.NDArray[np.float32]) -> tuple[Map, Map]:
    """(C, H, W) logits to the winning class and its softmax in 1/255, each (H, W) uint8; background scores 0."""
    total = np.exp(logits - logits.max(0)).sum(0)
    winner = logits.argmax(0).astype(np.uint8)
    score = np.round(255.0 / total).astype(np.uint8)
    score[winner == 0] = 0
    return winner, score


def kept(winner: Map, score: Map, least_score: float, least_area_px: int) -> Map:
    """The class map after the manifest's steps `threshold` and `leastArea`."""
    out: Map = np.where(score >= round(255 * least_score), winner, np.uint8(0)).astype(np.uint8)
    for class_id in np.unique(out[out > 0]).tolist():
        count, labels, stats, _ = cv2.connectedComponentsWithStats((out == class_id).astype(np.uint8), connectivity=8)
        small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < least_area_px)
        if count > 1 and len(small):
            out[np.isin(labels, small) & (labels > 0)] = 0
    return out
