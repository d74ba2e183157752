"""Can this picture be judged at all? Cheap measures on the scaled region of interest."""

from dataclasses import dataclass

import cv2
import numpy as np

from agent.core.vision.prepare import Prepared

SATURATED = 250


@dataclass(frozen=True, slots=True)
class Quality:
    """Units: brightness and contrast (mean and standard deviation) in grey levels, 0 to 255; saturated_share 0 to 1;
    sharpness in squared grey levels (Brenner: the mean squared difference of pixels two apart, in both directions).
    """

    brightness: float
    contrast: float
    saturated_share: float
    sharpness: float


def quality(prepared: Prepared) -> Quality:
    """Measured at the model's scale and before equalisation, without the fill around the picture. Where the model's
    input is adaptive the scale is that of the shape in use: sharpness rises as the shape gets smaller.
    """
    grey = np.asarray(cv2.cvtColor(prepared.canvas, cv2.COLOR_RGB2GRAY))
    mean, deviation = cv2.meanStdDev(grey)
    saturated = int(np.count_nonzero(grey >= SATURATED))
    squares, pairs = 0.0, 0
    for one, other in ((grey[2:], grey[:-2]), (grey[:, 2:], grey[:, :-2])):
        if one.size:
            squares += cv2.norm(one, other, cv2.NORM_L2SQR)
            pairs += one.size
    return Quality(
        brightness=float(mean[0][0]),
        contrast=float(deviation[0][0]),
        saturated_share=saturated / grey.size,
        sharpness=squares / pairs if pairs else 0.0,
    )
