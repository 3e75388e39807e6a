"""Files and uploads become PIL images, and any PIL mode becomes 8-bit RGB, grey or label numbers. Needs no torch."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from psp.errors import UserError, brief

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
EXTENSIONS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
OTHER_EXTENSIONS = (".heic", ".heif", ".avif")  # photos of telephones: they are named, not silently left out
MAX_PIXELS = 64_000_000
MAX_SCANS = 100  # of a JPEG; a usual one has 1, a progressive one about 10, and each goes over all pixels
MAX_SCANNED = 1_000_000_000  # pixels times scans
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # not those that compressed data has
ROWS_AT_A_TIME = 256


def open_image(
    source: str | Path | BinaryIO,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    before: Callable[[Image.Image], object] = lambda image: None,
) -> Image.Image:
    """Read and decode one image, turned upright by its EXIF tag; the first frame of an animation.

    source: a path or a binary file object (`io.BytesIO`). Only `FORMATS` are tried, whatever the name ends in.
    before: is called when the size is known and nothing is decoded yet.
    name: what error messages call it, by default the path. The mode is the file's own (palette images stay palette).
    Raises UserError, one line with the name, for a missing, unreadable, truncated, corrupt or too large image.
    """
    if name is None:
        name = str(source) if isinstance(source, (str, Path)) else str(getattr(source, "name", "image"))
    if isinstance(source, (str, Path)) and not os.path.isfile(source):
        state = "is a folder" if os.path.isdir(source) else "is no file" if os.path.exists(source) else "does not exist"
        raise UserError(f"{name}: {state}", "expected an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own warnings about large images and broken metadata
            with Image.open(source, formats=FORMATS) as image:
                if image.width * image.height > max_pixels:
                    allowed = f"allowed are {max_pixels // 1_000_000} million"
                    raise UserError(f"{name}: {image.width}x{image.height} pixels are too many", allowed)
                if isinstance(image, JpegImageFile) and image.fp is not None:
                    scans = _jpeg_scans(image.fp)
                    if scans > MAX_SCANS or scans * image.width * image.height > MAX_SCANNED:
                        raise UserError(f"{name}: a JPEG of {scans} scans, far more than a picture of its size needs")
                before(image)
                if image.format == "PNG":
                    image.verify()  # loading does not look at the checksums of the pixels; this leaves it at the end
            decoded: Image.Image
            with Image.open(source, formats=FORMATS) as decoded:
                decoded.load()
                if decoded.mode == "F" and not np.isfinite(np.asarray(decoded)).all():
                    raise UserError(f"{name}: holds values that are no numbers (NaN or infinite)")
                ImageOps.exif_transpose(decoded, in_place=True)  # no second copy of what is upright already
                return decoded
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(f"{name}: too many pixels", f"allowed are {max_pixels // 1_000_000} million") from None
    except PermissionError:
        raise UserError(f"{name}: no permission to read it") from None
    except MemoryError:
        raise UserError(f"{name}: not enough memory to decode it") from None
    except UnidentifiedImageError:
        if name.lower().endswith(OTHER_EXTENSIONS):
            raise UserError(f"{name}: HEIC and AVIF are not read", "save it as JPEG or PNG") from None
        raise UserError(f"{name}: not an image that can be read ({', '.join(FORMATS)}), or damaged") from None
    except Exception as error:  # decoders raise almost anything on damaged bytes
        raise UserError(f"{name}: damaged or incomplete image ({brief(error)})") from None


def _jpeg_scans(file: IO[bytes]) -> int:
    """How often a JPEG goes over its pixels, without decoding it."""
    file.seek(0)
    data, at, scans = file.read(), 0, 0
    while marker := _MARKER.search(data, at):
        at, code = marker.end(), data[marker.end() - 1]
        scans += code == 0xDA
        if code not in (0x01, 0xD8, 0xD9):  # a segment, which says how long it is
            at += int.from_bytes(data[at : at + 2], "big")
    return scans


def to_rgb(image: Image.Image, *, ground: str = "white") -> Image.Image:
    """Any mode -> RGB. Transparency is composited on the ground; 16-bit and float values are scaled to 8 bits."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if _is_deep(image):
        return _to_8_bit(image).convert("RGB")
    if _has_alpha(image):
        opaque = Image.new("RGB", image.size)
        for top in range(0, image.height, ROWS_AT_A_TIME):  # three copies of some rows, not of all
            rgba = image.crop((0, top, image.width, min(image.height, top + ROWS_AT_A_TIME))).convert("RGBA")
            canvas = Image.new("RGBA", rgba.size, ground)
            opaque.paste(Image.alpha_composite(canvas, rgba).convert("RGB"), (0, top))
        return opaque
    return image.convert("RGB")


def to_grey(image: Image.Image, *, ground: str = "white") -> Image.Image:
    """Any mode -> L, transparency composited on the ground; for an opaque 8-bit image PIL's `convert("L")`."""
    if _is_deep(image):
        return _to_8_bit(image)
    if _has_alpha(image):
        image = to_rgb(image, ground=ground)
    return image.convert("L")


def to_numbers(image: Image.Image, *, by_colour: bool = False) -> tuple[np.ndarray, bool]:
    """A label image as (array, is_colour): numbers [H,W], or colours [H,W,3] uint8.

    Palette images keep their indices unless `by_colour`. RGB images whose channels agree everywhere are numbers.
    """
    mode = image.mode
    if mode == "P" and not by_colour:
        return np.asarray(image), False
    if mode == "1":
        return np.asarray(image).astype(np.uint8), False
    if mode in ("L", "I", "I;16", "I;16L", "I;16B"):
        return np.asarray(image).astype(np.int64), False
    if mode == "F":
        return np.rint(np.nan_to_num(np.asarray(image), nan=-1.0)).astype(np.int64), False
    if mode == "LA":
        return np.asarray(image.getchannel("L")), False
    rgb = np.asarray(image.convert("RGBA").convert("RGB") if mode in ("P", "PA", "RGBA") else image.convert("RGB"))
    if not by_colour and (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all():
        return rgb[..., 0], False
    return rgb, True


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """More than 8 bits per pixel -> L. Floats up to 1 count as 0..1; values up to 255 stay; others are 16 bits."""
    given = np.asarray(image)
    top = float(np.max(given, initial=0, where=np.isfinite(given)))
    unit = image.mode == "F" and top <= 1.0
    grey = np.empty(given.shape, np.uint8)
    for start in range(0, len(given), ROWS_AT_A_TIME):  # eight bytes a pixel are only needed for some rows at a time
        values = np.nan_to_num(given[start : start + ROWS_AT_A_TIME].astype(np.float64), posinf=0.0, neginf=0.0)
        if unit:
            values = values * 255.0
        elif top > 65535:
            values = values * (255.0 / top)
        elif top > 255:
            values = values / 257.0
        grey[start : start + ROWS_AT_A_TIME] = np.rint(np.clip(values, 0, 255))
    return Image.fromarray(grey)
