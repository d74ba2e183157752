"""Blur, light, noise and colour of one picture, by kornia. Needs torch.

Every number is drawn by the caller and handed to kornia's functions. Its augmentation classes draw by torch's one
generator instead, which the training uses at the same time in another thread, so that no run could be repeated.
"""

import kornia
import numpy as np
import torch

from agent.core.frame import Pixels
from modelkit.data.look import Look, Rng


def seen(picture: Pixels, look: Look, rng: Rng) -> Pixels:
    """The picture (H, W, 3) uint8 with that look; the grain of its noise is drawn from `rng`."""
    values = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        if look.blur_px is not None:
            values = kornia.filters.gaussian_blur2d(values, (5, 5), (look.blur_px, look.blur_px))
        if look.colour is not None:
            hue, saturation = look.colour
            values = kornia.enhance.adjust_hue(kornia.enhance.adjust_saturation(values, saturation), hue)
        if look.light is not None:
            contrast, level = look.light
            values = kornia.enhance.add_weighted(values, contrast, torch.ones_like(values), level / 255, 0.0)
        if look.noise is not None:
            grain = rng.standard_normal((1, 1, *picture.shape[:2]), np.float32)
            values = values + torch.from_numpy(grain) * (look.noise / 255)
        levels = values.clamp(0, 1).mul(255).round()
    return np.ascontiguousarray(levels[0].permute(1, 2, 0).to(torch.uint8).numpy())
