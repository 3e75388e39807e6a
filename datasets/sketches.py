"""Photos become sketches: dark lines on white, deterministic, NumPy and SciPy only.

Three styles, so that a model trained on a mixture is not tied to the look of one filter:
`sobel` is pSp's recipe for its sketch set (scripts/generate_sketch_data.py) up to the learned simplifier that followed;
`pencil` is the colour dodge of photo editors, soft with shading; `xdog` is the extended difference of Gaussians
(Winnemoeller, Kyprianidis, Olsen: XDoG, Computers & Graphics 36, 2012), crisp lines.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from psp.errors import UserError
from psp.image_io import to_grey


def sobel(grey: np.ndarray) -> np.ndarray:
    """Sobel edges of the photo and its negative, both clipped to 8 bits as OpenCV does. uint8 [H,W] -> uint8 [H,W]."""
    total = np.zeros(grey.shape, dtype=np.float32)
    for image in (grey, 255 - grey):
        smooth = _separable(image.astype(np.float32), (1, 2, 1), (1, 2, 1)) / 16.0
        smooth = np.floor(smooth + 0.5)
        down = np.clip(_separable(smooth, (-1, 0, 1), (1, 2, 1)), 0, 255).astype(np.uint8)
        across = np.clip(_separable(smooth, (1, 2, 1), (-1, 0, 1)), 0, 255).astype(np.uint8)
        total += 0.75 * (down | across)
    return (255 - np.clip(np.rint(total), 0, 255)).astype(np.uint8)


def pencil(grey: np.ndarray) -> np.ndarray:
    """Colour dodge: the photo divided by a blurred copy of itself, so that only local darkness stays. uint8 in, out."""
    image = grey.astype(np.float32)
    unit = min(grey.shape) / 256.0
    blurred = ndimage.gaussian_filter(image, 6.0 * unit, mode="nearest")
    dodge = np.clip((image + 8.0) / (blurred + 8.0), 0, 1)
    return np.rint(255 * dodge**1.6).astype(np.uint8)


def xdog(grey: np.ndarray, *, sharpness: float = 24.0, threshold: float = 0.74, slope: float = 5.0) -> np.ndarray:
    """Extended difference of Gaussians, softly thresholded. uint8 [H,W] -> uint8 [H,W].

    sharpness: weight p of the difference. threshold: grey in [0,1] above which paper stays white. slope: of the tanh.
    The grey is levelled first (divided by a wide blur) and counts for a quarter, so that dark skin, dark hair and dim
    photos keep white ground and only lines and small dark parts are drawn.
    """
    image = grey.astype(np.float32) / 255.0
    unit = min(grey.shape) / 256.0
    image = (image + 0.04) / (ndimage.gaussian_filter(image, 16.0 * unit, mode="nearest") + 0.04)
    fine = ndimage.gaussian_filter(image, 1.1 * unit, mode="nearest")
    coarse = ndimage.gaussian_filter(image, 1.1 * 1.6 * unit, mode="nearest")
    response = 0.75 + 0.25 * np.minimum(fine, 1.0) + sharpness / 4 * (fine - coarse)
    lines = np.where(response >= threshold, 1.0, 1.0 + np.tanh(slope * (response - threshold)))
    return np.rint(255 * np.clip(lines, 0, 1)).astype(np.uint8)


STYLES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"sobel": sobel, "pencil": pencil, "xdog": xdog}


def get_style(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The style function of that name; UserError lists the names there are."""
    if name not in STYLES:
        raise UserError(f"sketch style {name!r} is not known; --style takes {', '.join(STYLES)}")
    return STYLES[name]


def sketch_from_photo(photo: Image.Image, style: str = "sobel", *, size: int | None = None) -> Image.Image:
    """A photo of any mode -> a sketch, L, white ground, of the same size (or size x size when given)."""
    draw = get_style(style)
    grey = to_grey(photo)
    if size is not None and grey.size != (size, size):
        grey = grey.resize((size, size), Image.Resampling.BILINEAR)
    return Image.fromarray(draw(np.asarray(grey)))


def _separable(image: np.ndarray, rows: tuple[int, ...], columns: tuple[int, ...]) -> np.ndarray:
    """Correlate with the outer product of two 3-tap kernels; borders mirrored without repeating the edge, as OpenCV."""
    out = ndimage.correlate1d(image, np.array(rows, np.float32), axis=0, mode="mirror")
    return ndimage.correlate1d(out, np.array(columns, np.float32), axis=1, mode="mirror")
