"""Bytes from strangers to pictures and codes, and back: checked before they are decoded, never written to a disk."""

from __future__ import annotations

import base64
import contextlib
import io
import threading
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image

from psp.errors import UserError
from psp.files import load_array
from psp.images.decode import FORMATS, open_image
from psp.studio.limits import Limits, Refused, plain_words

LATENT_BYTES = 256 << 10  # a code of 18 x 512 floats has 37 kB
LATENT_BOUND = 1e4  # codes of real models stay far below; their pictures would be noise long before
DEFLATE_MOST = 1032  # bytes that one byte of a deflate stream can stand for at most
MOST_LONG = 50  # how many times its shorter side a picture may be long
WAITING_LARGE = 3  # large pictures that may wait for the decoder


# Large pictures are decoded one at a time, since 64 megapixels take 256 MB meanwhile; small ones two at a time.
_small, _large = threading.Semaphore(2), threading.Lock()
_places = threading.Semaphore(1 + WAITING_LARGE)


@contextlib.contextmanager
def _turn(large: bool) -> Iterator[None]:
    """Wait for the decoder. Refused with 429 when enough large pictures are waiting already."""
    if not large:
        with _small:
            yield
        return
    if not _places.acquire(blocking=False):
        raise Refused(429, "Too many large pictures at once; try again in a moment.", retry_after=1)
    try:
        with _large:
            yield
    finally:
        _places.release()


def read_image(data: bytes, limits: Limits, *, name: str = "image") -> Image.Image:
    """An uploaded picture, upright. Refused with 400, 413 or 415 for what is none, is too large, or is damaged."""
    if not data:
        raise Refused(400, f"The {name} is empty.")
    width, height = _size(data, name)
    if width * height > limits.pixels:
        raise Refused(413, f"The {name} has {width} x {height} pixels; at most {limits.pixels // 10**6} million fit.")
    if max(width, height) > MOST_LONG * min(width, height):
        problem = f"The {name} has {width} x {height} pixels; its longer side may be {MOST_LONG} times the other."
        raise Refused(400, problem)  # to shrink a line of millions of pixels takes half a minute
    if _is_cut_short(data, width * height):
        raise Refused(400, f"The {name} is damaged or incomplete.")
    try:
        with _turn(width * height > limits.large):
            return open_image(io.BytesIO(data), max_pixels=limits.pixels, name=name)
    except UserError as error:
        raise Refused(400, plain_words(error)) from None


def _size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height from the header alone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Image.Image
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return image.size
    except Image.DecompressionBombError:
        raise Refused(413, f"The {name} has too many pixels.") from None
    except Exception:  # decoders raise almost anything on damaged bytes
        raise Refused(415, f"The {name} is no picture that can be read here ({', '.join(FORMATS)}).") from None


def _is_cut_short(data: bytes, pixels: int) -> bool:
    """What is cheap to see without decoding: a PNG with too few bytes for its size, a JPEG that does not end."""
    if data.startswith(b"\x89PNG"):
        return pixels // 8 > len(data) * DEFLATE_MOST or b"IEND" not in data[-1024:]
    if data.startswith(b"\xff\xd8"):  # within the compressed data no marker can occur by chance
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    return False


def png_bytes(image: Image.Image) -> bytes:
    """Lossless and quick rather than small."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=2)
    return buffer.getvalue()


def to_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def latent_bytes(latent: np.ndarray) -> bytes:
    """A code as the .npy file that `--style_code` reads."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(latent, dtype=np.float32), allow_pickle=False)
    return buffer.getvalue()


def read_latent(data: bytes, *, name: str = "latent") -> np.ndarray:
    """float32 [N,D] of a small .npy file, all values finite and sane. Refused with 400 for anything else."""
    try:
        if len(data) > LATENT_BYTES:
            raise ValueError
        latent = load_array(io.BytesIO(data), len(data))
    except Exception:  # numpy's header parser raises a dozen kinds
        raise Refused(400, f"The {name} is no .npy file of floats.") from None
    if latent.ndim == 3 and len(latent) == 1:
        latent = latent[0]
    if latent.ndim != 2 or not bool(np.isfinite(latent).all()) or float(np.abs(latent).max(initial=0)) > LATENT_BOUND:
        raise Refused(400, f"The {name} is no table of finite numbers, layers x width.")
    return latent.astype(np.float32)
