"""Pixels of any layout to RGB at a wanted size."""

import cv2
import numpy as np

from agent.core.frame import Layout, Picture, Pixels
from agent.core.vision.geometry import Roi, Size
from schemas.manifest import Clahe


def check(picture: Picture) -> None:
    """Errors: ValueError when the array is not what its layout says; that is a bug of the camera's adapter."""
    pixels = picture.pixels
    shape = pixels.shape
    if pixels.dtype != np.uint8 or pixels.size == 0:
        raise ValueError(f"a picture needs uint8 pixels, not {pixels.dtype} {shape}")
    if picture.layout is Layout.NV12:
        if len(shape) != 2 or shape[0] % 3 or shape[1] % 2:
            raise ValueError(f"NV12 is (H * 3 / 2, W) with H and W even, not {shape}")
    elif len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"RGB is (H, W, 3), not {shape}")


def to_rgb(picture: Picture) -> Pixels:
    """The whole picture as (H, W, 3) RGB; the picture's own array where it is RGB already.

    NV12 is read as BT.601 in limited range. Errors: ValueError as `check`.
    """
    check(picture)
    if picture.layout is Layout.RGB:
        return picture.pixels
    return np.asarray(cv2.cvtColor(picture.pixels, cv2.COLOR_YUV2RGB_NV12), dtype=np.uint8)


def scale_into(picture: Picture, roi: Roi, target: Pixels) -> None:
    """Scale the region of interest to the size of `target` (H, W, 3), as RGB.

    For NV12 the planes are scaled before conversion, and roi and target must be even.
    """
    size = (target.shape[0], target.shape[1])
    if picture.layout is Layout.RGB:
        _scale(picture.pixels[roi.y : roi.y + roi.h, roi.x : roi.x + roi.w], size, target)
        return
    height = picture.height_px
    luma = picture.pixels[roi.y : roi.y + roi.h, roi.x : roi.x + roi.w]
    chroma = picture.pixels[height + roi.y // 2 : height + (roi.y + roi.h) // 2, roi.x : roi.x + roi.w]
    pairs = chroma.reshape(chroma.shape[0], -1, 2)
    half = (size[0] // 2, size[1] // 2)
    # The eye and the models take detail from luma; averaging chroma too would cost five times as much as it does there.
    small = pairs if pairs.shape[:2] == half else cv2.resize(pairs, half[::-1], interpolation=cv2.INTER_LINEAR)
    cv2.cvtColorTwoPlane(_scale(luma, size), small, cv2.COLOR_YUV2RGB_NV12, dst=target)


def _scale(plane: Pixels, size: Size, target: Pixels | None = None) -> Pixels:
    """Bilinear after exact halvings: it reads 2x2 pixels only, and alone would step over small defects."""
    while plane.shape[0] >= 2 * size[0] and plane.shape[1] >= 2 * size[1]:
        if plane.shape[0] % 2 or plane.shape[1] % 2:
            break
        half = (plane.shape[1] // 2, plane.shape[0] // 2)
        plane = np.asarray(cv2.resize(plane, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if plane.shape[:2] != size:
        return np.asarray(cv2.resize(plane, size[::-1], dst=target, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    if target is not None:
        target[:] = plane
    return plane


def equalise(rgb: Pixels, step: Clahe) -> Pixels:
    """Contrast-limited equalisation of the lightness (CIE L*) alone, so that hues stay."""
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    lightness = cv2.extractChannel(lab, 0)
    equal = cv2.createCLAHE(clipLimit=step.clip_limit, tileGridSize=(step.grid, step.grid)).apply(lightness)
    return np.asarray(cv2.cvtColor(cv2.insertChannel(equal, lab, 0), cv2.COLOR_LAB2RGB), dtype=np.uint8)
