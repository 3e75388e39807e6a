"""Photos become sketches: dark lines on white, deterministic.

Three filters of NumPy and SciPy, so that a model trained on a mixture is not tied to the look of one filter:
`sobel` is pSp's recipe for its sketch set (scripts/generate_sketch_data.py) up to the learned simplifier that followed;
`pencil` is the colour dodge of photo editors, soft with shading; `xdog` is the extended difference of Gaussians
(Winnemoeller, Kyprianidis, Olsen: XDoG, Computers & Graphics 36, 2012), crisp lines. The fourth style, `drawing`, is
no filter: pen strokes about the parts of a face, see `datasets.drawing.draw`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from datasets.augment import begin_sketch
from psp.errors import UserError
from psp.images.decode import to_grey, to_rgb


def sobel(grey: np.ndarray) -> np.ndarray:
    """Sobel edges of the blurred photo and of its negative, clipped to 8 bits as OpenCV does. uint8 [H,W] in, out."""
    total = np.zeros(grey.shape, dtype=np.float32)
    blurred = np.floor(_separable(grey.astype(np.float32), (1, 2, 1), (1, 2, 1)) / 16.0 + 0.5)
    for smooth in (blurred, 255 - blurred):
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
    return np.asarray(np.rint(255 * dodge**1.6), np.uint8)


def xdog(grey: np.ndarray) -> np.ndarray:
    """Extended difference of Gaussians, softly thresholded. uint8 [H,W] -> uint8 [H,W].

    The weight of the difference is 24, grey above 0.74 (of 1) stays white, the tanh has the slope 5.
    The grey is levelled first (divided by a wide blur) and counts for a quarter, so that dark skin, dark hair and dim
    photos keep white ground and only lines and small dark parts are drawn.
    """
    image = grey.astype(np.float32) / 255.0
    unit = min(grey.shape) / 256.0
    image = (image + 0.04) / (ndimage.gaussian_filter(image, 16.0 * unit, mode="nearest") + 0.04)
    fine = ndimage.gaussian_filter(image, 1.1 * unit, mode="nearest")
    coarse = ndimage.gaussian_filter(image, 1.1 * 1.6 * unit, mode="nearest")
    response = 0.75 + 0.25 * np.minimum(fine, 1.0) + 24 / 4 * (fine - coarse)
    lines = np.where(response >= 0.74, 1.0, 1.0 + np.tanh(5 * (response - 0.74)))
    return np.asarray(np.rint(255 * np.clip(lines, 0, 1)), np.uint8)


STYLES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"sobel": sobel, "pencil": pencil, "xdog": xdog}


DRAWING = "drawing"
STYLE_NAMES = (*STYLES, DRAWING)
LEAST_INK = {"sobel": 30.0, "pencil": 11.5, "xdog": 3.0}
"""Mean darkness, 0..255, below which a photo is levelled and drawn again: that of the palest 1 or 2 in 100 photos.

For 128 px; the lines of `sobel` are as wide on any photo, so that their ink falls with the side.
"""


def check_style(name: str, *others: str) -> str:
    """The name, if it is a style or one of the others; otherwise UserError lists them."""
    names = (*STYLE_NAMES, *others)
    if name not in names:
        raise UserError(f"sketch style {name!r} is not known", f"--style takes {', '.join(names)}")
    return name


def sketch_from_photo(
    photo: Image.Image,
    style: str = "sobel",
    *,
    size: int | None = None,
    labels: np.ndarray | None = None,
    seed: int | np.random.Generator = 0,
    unfinished: bool = False,
) -> Image.Image:
    """A photo of any mode -> a sketch, L, white ground, of the same size (or size x size when given).

    Where a filter leaves the paper almost white, the photo is levelled before.

    labels: for the style `drawing`, class ids uint8 [H,W] of the photo; None: those that the bundled face parser finds.
    seed: which hand draws, and what of an unfinished sketch is there; a generator goes on from where it is.
    unfinished: not all of it is there yet.
    """
    rng = np.random.default_rng(seed)
    if check_style(style) == DRAWING:
        return _drawn(photo, size, labels, rng, unfinished)
    grey = to_grey(photo)
    if size is not None and grey.size != (size, size):
        grey = grey.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(grey)
    sketch = STYLES[style](pixels)
    least = LEAST_INK[style] * (min(1.0, 128 / min(pixels.shape)) if style == "sobel" else 1.0)
    if 255 - sketch.mean() < least:
        again = STYLES[style](levelled(pixels))
        sketch = again if again.mean() < sketch.mean() else sketch
    return Image.fromarray(begin_sketch(sketch, rng) if unfinished else sketch)


def levelled(grey: np.ndarray) -> np.ndarray:
    """A dim, flat or soft photo as if well exposed and sharp. uint8 [H,W] -> the same; of one grey, it stays as it is.

    The range is stretched, at most 4 times, to 24..255, a dark median is raised by a gamma of 0.5 to 1, and details of
    about 2 pixels of 256 are doubled.
    """
    low, middle, high = np.percentile(grey, (0.3, 50, 99.7))
    if high - low < 6:
        return grey
    gain = min(255 / (high - low), 4.0)
    stretched = np.clip((grey.astype(np.float32) - low) * gain / 255, 0, 1)
    half = float(np.clip((middle - low) * gain / 255, 1e-3, 0.999))
    image = 24 + 231 * stretched ** np.clip(np.log(0.5) / np.log(half), 0.5, 1.0)
    sharp = 2 * image - ndimage.gaussian_filter(image, min(grey.shape) / 128, mode="nearest")
    return np.asarray(np.rint(np.clip(sharp, 0, 255)), np.uint8)


def _drawn(
    photo: Image.Image, size: int | None, labels: np.ndarray | None, rng: np.random.Generator, unfinished: bool
) -> Image.Image:
    from datasets.drawing.draw import drawing

    if labels is None:
        import torch

        from psp.networks.face_parser import INPUT_SIZE
        from psp.weights.face_parser import parse_faces

        face = to_rgb(photo).resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR)
        image = torch.from_numpy(np.array(face)).permute(2, 0, 1)[None]
        labels = parse_faces(image / 127.5 - 1)[0].numpy()
    elif labels.shape[0] != labels.shape[1]:
        side = max(labels.shape)
        labels = np.asarray(Image.fromarray(labels).resize((side, side), Image.Resampling.NEAREST))
    width, height = (size, size) if size is not None else photo.size
    pixels = drawing(labels, np.asarray(to_grey(photo)), rng, size=max(width, height), unfinished=unfinished)
    sketch = Image.fromarray(pixels)
    return sketch if sketch.size == (width, height) else sketch.resize((width, height), Image.Resampling.BILINEAR)


def _separable(image: np.ndarray, rows: tuple[int, ...], columns: tuple[int, ...]) -> np.ndarray:
    """Correlate with the outer product of two 3-tap kernels; borders mirrored without repeating the edge, as OpenCV."""
    out = ndimage.correlate1d(image, np.array(rows, np.float32), axis=0, mode="mirror")
    return np.asarray(ndimage.correlate1d(out, np.array(columns, np.float32), axis=1, mode="mirror"))
