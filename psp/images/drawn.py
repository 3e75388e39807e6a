"""Is a picture a photo or a drawing? Told by its darkness: lines on one ground that shows everywhere, or tones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from psp.images.decode import to_rgb
from psp.images.sketch_cleanup import DARK, quadratic_light

SIDE = 160  # at which pictures are looked at
MARGIN = 0.08  # of the sides left out: frames, white borders of prints, edges of sheets
LINE = 6  # pixels of SIDE; what is narrower is a line
INK = 0.06  # what is darker than the ground by less is ground
SAME = 0.045  # what differs by less from the most frequent tone has that tone
NOISE = 0.065  # that most pixels differ from those around by, in what is neither
BORDER = 0.32  # of the sum below: the middle between the most drawn photos and the least drawn drawings
BORDER_ON_BLACK = 0.42
DOUBT = 0.06  # on both sides of the border

Pixels = NDArray[np.float32]


def drawn(image: Image.Image) -> float:
    """How surely a picture is a drawing, on paper of any colour or as light lines on a dark ground, and no photo.

    Three shares are added: of the darkness that thin lines make (drawings have much), half of the area of the face's
    middle and of the upper corners that has the ground's tone (paper, in drawings that are shaded all over), less what
    is brighter than that ground (nothing is brighter than paper). Strong colours speak a little for a photo.
    image: any mode; the face about in the middle, as in a portrait.
    Returns a number above 0 for drawings and below for photos; nearer to 0 than `DOUBT`, it may be either. 0 for noise.
    """
    scale = SIDE / min(image.size)
    size = (min(4 * SIDE, max(8, round(image.width * scale))), min(4 * SIDE, max(8, round(image.height * scale))))
    shrunk = to_rgb(image).resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)
    rows, columns = (round(MARGIN * length) for length in size[::-1])
    pixels = np.asarray(shrunk.convert("YCbCr"), np.float32)[rows : size[1] - rows, columns : size[0] - columns]
    grey, chroma = ndimage.gaussian_filter(pixels[..., 0], 0.6), pixels[..., 1:]
    dark = (grey < DARK).mean() > 0.6
    tone = _on_black(grey) if dark else _on_paper(grey)
    smooth = ndimage.median_filter(tone, 5)
    if np.median(np.abs(tone - smooth)) > NOISE:
        return 0.0
    without_lines = ndimage.grey_closing(tone, size=(LINE, LINE))
    ink, rest = (np.clip(1 - INK - part, 0, None).sum() for part in (tone, without_lines))
    lines = 1 - rest / ink if ink > 0 else 1.0
    ground, brighter = (0.0, 0.0) if dark else _ground(smooth)  # night has one tone as well
    colour = np.clip(0.02 * (np.abs(chroma - np.median(chroma, axis=(0, 1))).mean() - 6), 0, 0.12)
    return float(lines + ground / 2 - brighter - colour - (BORDER_ON_BLACK if dark else BORDER))


def _on_black(grey: Pixels) -> Pixels:
    """The negative of a dark picture, 1 where that is as dark as most of it and 0 where it is lightest."""
    black, white = np.median(grey), np.percentile(grey, 99.5)
    return np.asarray(1 - np.clip((grey - black) / max(white - black, 20), 0, 1), np.float32)


def _on_paper(grey: Pixels) -> Pixels:
    """Grey 0..255 divided by the light on the paper: about 1 where it is blank."""
    light = Image.fromarray(quadratic_light(ndimage.zoom(grey, 1 / 3, order=1)))
    paper = np.asarray(light.resize(grey.shape[::-1], Image.Resampling.BILINEAR))
    return np.asarray(np.clip(grey / np.maximum(paper, 1), 0, 1.3), np.float32)


def _ground(tone: Pixels) -> tuple[float, float]:
    """The share of the ground in the face's middle or the upper corners, where it is smaller; of what is brighter."""
    bins = np.histogram(tone, bins=64, range=(0, 1.3))[0]
    at = (int(bins.argmax()) + np.array([-1, 2])) * 1.3 / 64
    mode = float(np.median(tone[(tone >= at[0]) & (tone <= at[1])]))
    same = np.abs(tone - mode) < SAME
    height, width = tone.shape
    face = same[int(0.28 * height) : int(0.75 * height), int(0.28 * width) : int(0.72 * width)]
    upper, side = int(0.3 * height), int(0.15 * width)
    corners = np.concatenate([same[:upper, :side], same[:upper, -side:]])
    return float(min(face.mean(), corners.mean())), float((tone > mode + 0.065).mean())
