"""Does a face follow the lines of its sketch? Lines of both, compared with a little tolerance."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 256
TOLERANCE = 2.0
FINE, COARSE = 1.1, 1.76  # deviations of the two Gaussians, in pixels of 256
INK = 0.05  # response from which a sketch has a line
NOISE = 0.004  # about one grey level: what is weaker is no line


def line_response(grey: np.ndarray) -> np.ndarray:
    """How much darker each pixel of a picture is than its surroundings. uint8 [H,W] -> float32, the longer side 256.

    A difference of Gaussians, after dividing by a wide blur so that skin, hair and light do not matter. About 0 on even
    ground, 0.05 to 0.5 on lines, negative beside them.
    """
    image = Image.fromarray(grey)
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    unit = np.asarray(image, dtype=np.float32) / 255
    even = (unit + 0.04) / (ndimage.gaussian_filter(unit, 16.0, mode="nearest") + 0.04)
    coarse, fine = (ndimage.gaussian_filter(even, deviation, mode="nearest") for deviation in (COARSE, FINE))
    return np.asarray(coarse - fine)


def edge_agreement(result: np.ndarray, sketch: np.ndarray) -> tuple[float, float, float]:
    """Precision, recall and F1 of a result's lines against its sketch; grey uint8 [H,W] of the same proportions.

    The sketch has lines where its response is above INK. The result has as many line pixels, those with its strongest
    response: so soft and hard, pale and dark pictures are treated alike, and only the place of the lines counts.
    Precision: the share of the result's line pixels within 2 px (of 256) of a line of the sketch; recall: the share of
    the sketch's as close to a line of the result; F1: their harmonic mean. A sketch without lines gives NaN.
    What portraits reach against their own drawings and others': `criteria.evaluation.registry.METRICS`.
    """
    sketched = line_response(sketch) > INK
    count = int(sketched.sum())
    if count == 0:
        return np.nan, np.nan, np.nan
    response = line_response(result)
    if response.shape != sketched.shape:
        raise ValueError(f"the result is {response.shape} at 256 px, the sketch {sketched.shape}")
    drawn = response >= max(NOISE, float(np.partition(response, -count, axis=None)[-count]))
    if not drawn.any():
        return 0.0, 0.0, 0.0
    precision = float((ndimage.distance_transform_edt(~sketched)[drawn] <= TOLERANCE).mean())
    recall = float((ndimage.distance_transform_edt(~drawn)[sketched] <= TOLERANCE).mean())
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0
