"""Pictures as files, for evidence."""

import cv2

from agent.core.frame import Pixels

JPEG_QUALITY = 90


def jpeg(rgb: Pixels) -> bytes:
    """(H, W, 3) uint8 RGB as a baseline JPEG."""
    _, buffer = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(buffer)
