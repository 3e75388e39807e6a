"""Pictures that several tests write and read back."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from psp.images.decode import open_image
from psp.images.labels import flat_palette


def label_file(ids: np.ndarray) -> Image.Image:
    image = Image.fromarray(ids.astype(np.uint8))
    image.putpalette(flat_palette())
    return image


def round_trip(image: Image.Image, kind: str = "PNG", **options: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    buffer.seek(0)
    return open_image(buffer, name="memory." + kind.lower())
