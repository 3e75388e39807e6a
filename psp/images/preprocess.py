"""Images become network inputs, in one way for training, inference and the web page.

Agrees with pSp (scripts and transforms_config): PIL bilinear resize to 256, division by 255, photos then to [-1,1];
sketches one channel in [0,1] with white ground. Label maps are resized with NEAREST unless asked otherwise. Importing
this module does not import torch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from PIL import Image

from psp.errors import UserError
from psp.images.decode import to_grey, to_rgb
from psp.images.labels import LabelMap, decode_colours, get_label_map, label_numbers, renumber
from psp.images.sketch_cleanup import clean_sketch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from psp.batch import Batch
    from psp.tasks import Task

Fit = Literal["auto", "stretch", "crop", "letterbox"]
LabelResize = Literal["nearest", "bilinear"]
Image_ = Image.Image

_UNIT = np.arange(256, dtype=np.float32) / np.float32(255)  # ToTensor
_SIGNED = (_UNIT - np.float32(0.5)) / np.float32(0.5)  # and Normalize(0.5, 0.5)
_BILINEAR, _NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST
MAX_FACTOR = 128  # of --resize_factors: 2 of 256 pixels are left
_FITTED = {"stretch": "stretched", "crop": "cropped to the middle square", "letterbox": "letterboxed"}
LIGHT_INK = 200  # grey level above which ink cannot be seen on white
_CLEANED = {"inverted": "light on dark inverted", "paper": "paper made white", "thickened": "thin lines kept"}
_GROUND: dict[str, Any] = {"photo": (0, 0, 0), "sketch": 255, "labels": 0}  # what letterbox borders are filled with


def choose_fit(image_size: tuple[int, int], kind: str, fit: str = "auto") -> str:
    """The way an image of (width, height) is made square: "stretch", "crop" or "letterbox".

    "auto" stretches what is square to within 2 % (as pSp does with everything); of the others, sketches are put on a
    white square (letterbox) and photos and label maps are cropped around the centre.
    """
    if fit not in get_args(Fit):
        raise UserError(f"fit {fit!r} is not known", f"--fit takes {', '.join(get_args(Fit))}")
    if fit != "auto":
        return fit
    width, height = image_size
    if abs(width - height) <= 0.02 * max(width, height):
        return "stretch"
    return "letterbox" if kind == "sketch" else "crop"


def make_square(image: Image_, size: int, fit: str, resample: Image.Resampling = _BILINEAR, ground: Any = 0) -> Image_:
    """A size x size image of the same mode, by one of the three ways of `choose_fit`; ground: colour of borders."""
    width, height = image.size
    if fit == "stretch":
        return image.resize((size, size), resample)
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return image.crop((left, top, left + side, top + side)).resize((size, size), resample)
    scale = size / max(width, height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.new(image.mode, (size, size), ground)
    canvas.paste(image.resize(inner, resample), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return canvas


def _ink(image: Image_) -> Image_:
    """A sketch as grey on white, or on black where all ink on its transparent ground is light."""
    grey = to_grey(image)
    if image.mode != grey.mode and int(np.asarray(grey).min()) > LIGHT_INK:
        on_black = to_grey(image, ground="black")
        if int(np.ptp(np.asarray(on_black))) > LIGHT_INK // 2:
            return on_black
    return grey


def described_pixels(
    image: Image_,
    task: Task,
    *,
    size: int = 256,
    fit: str = "auto",
    label_resize: str = "nearest",
    label_map: str | LabelMap = "celebamask",
    cleanup: bool = True,
    bicubic: bool = False,
    name: str = "file",
) -> tuple[np.ndarray, list[str]]:
    """The input as uint8 pixels: photo [size,size,3], sketch [size,size] (white 255), labels [size,size] of ids.

    The second value says what was done beyond a plain resize, step by step in words for the user.

    fit: see `choose_fit`. label_resize: "nearest", or "bilinear" as pSp did (it invents classes along borders).
    label_map: see `psp.images.labels.get_label_map`. cleanup=False takes a sketch's greys as they are (pSp's recipe
    exactly). bicubic: photos and sketches are resized so instead of bilinearly.
    Raises UserError for label ids or colours that do not exist, naming them and `name`.
    """
    way = choose_fit(image.size, task.source, fit)
    resample = Image.Resampling.BICUBIC if bicubic else _BILINEAR
    notes = [] if image.width == image.height else [_FITTED[way]]
    if task.source == "photo":
        image = to_rgb(image)
    elif task.source == "sketch":
        image = _ink(image)
        if cleanup:
            image, steps = clean_sketch(image, size=size)
            notes += [_CLEANED[step] for step in steps]
    else:
        if label_resize not in get_args(LabelResize):
            raise UserError(f"label resize {label_resize!r} is not known", "--label_resize takes nearest or bilinear")
        image = Image.fromarray(label_ids(image, get_label_map(label_map), task.label_nc, name))
        resample = _NEAREST if label_resize == "nearest" else _BILINEAR
    return np.asarray(make_square(image, size, way, resample, _GROUND[task.source])), notes


def label_ids(image: Image_, label_map: LabelMap, n_labels: int, name: str) -> np.ndarray:
    """A label image of any mode as ids uint8 [H,W] below `n_labels`, in its own size; errors as `described_pixels`."""
    numbers, coloured = label_numbers(image, label_map)
    if coloured or (label_map.by_colour and numbers.ndim == 2):
        colours = numbers if coloured else np.repeat(numbers[..., None].astype(np.uint8), 3, axis=-1)
        ids = decode_colours(colours, label_map, name)
        if int(ids.max(initial=0)) < n_labels:
            return ids
        return renumber(ids, get_label_map("celebamask"), n_labels, name)
    return renumber(numbers, label_map, n_labels, name)


def pixels_to_source(pixels: np.ndarray, task: Task) -> Tensor:
    """Pixels of `described_pixels` -> a `Batch.source` row: [3,H,W] in [-1,1], [1,H,W] in [0,1] or uint8 ids [H,W]."""
    if task.source == "photo":
        return photo_tensor(pixels)
    if task.source == "labels":
        return _looked_up(pixels, np.arange(256, dtype=np.uint8))
    return _looked_up(pixels[None], _UNIT)


def prepare_source(image: Image_, task: Task, **options: Any) -> Tensor:
    """One input image -> one row of `Batch.source`; keywords and errors as `described_pixels`."""
    return pixels_to_source(described_pixels(image, task, **options)[0], task)


def target_pixels(image: Image_, *, size: int = 256, fit: str = "auto") -> np.ndarray:
    """The wanted photo as uint8 [size,size,3]. fit "auto" crops what is not square around the centre."""
    return np.asarray(make_square(to_rgb(image), size, choose_fit(image.size, "photo", fit)))


def prepare_target(image: Image_, *, size: int = 256) -> Tensor:
    """The wanted photo as a float tensor [3,size,size] in [-1,1]."""
    return photo_tensor(target_pixels(image, size=size))


def parse_factors(text: str | None) -> tuple[int, ...]:
    """pSp's --resize_factors, such as "1,2,4,8,16,32" -> (1, 2, 4, 8, 16, 32); None or "" -> ()."""
    try:
        factors = tuple(int(part) for part in (text or "").split(",") if part.strip())
    except ValueError:
        factors = (0,)
    if any(not 1 <= factor <= MAX_FACTOR for factor in factors):
        expected = f"expected whole numbers from 1 to {MAX_FACTOR} with commas, as --resize_factors 1,2,4,8"
        raise UserError(f"resize factors {text!r} are not possible", expected)
    return factors


def degrade(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Super-resolution input, as pSp makes it: photo [H,W,3] uint8 -> `factor` times smaller and back, bilinear.

    Made smaller with Keys' cubic (a = -1/2) stretched over 4 * factor pixels, mirrored borders, values cut off to whole
    levels. Factor 1 is not the identity: with an even number of taps it shifts by half a pixel, and published models
    were trained on that. UserError when less than a pixel would be left.
    """
    import torch
    from torch.nn import functional as F

    height, width = pixels.shape[:2]
    before, after = 3 * factor // 2, 3 * factor - 3 * factor // 2
    if after >= min(height, width):
        raise UserError(f"a {width}x{height} photo cannot be made {factor} times smaller", "lower --resize_factors")
    image = torch.from_numpy(np.take(_UNIT, np.ascontiguousarray(pixels.transpose(2, 0, 1))))[None]
    taps = _cubic_taps(factor).repeat(3, 1, 1, 1)
    with torch.no_grad():  # rows, then columns, in float32: the order decides which way a level is cut off
        image = F.conv2d(
            F.pad(image, (0, 0, before, after), "reflect"), taps.reshape(3, 1, -1, 1), stride=(factor, 1), groups=3
        )
        image = F.conv2d(F.pad(image, (before, after, 0, 0), "reflect"), taps, stride=(1, factor), groups=3)
        small = (image[0].clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    return np.asarray(Image.fromarray(small).resize((width, height), _BILINEAR))


@lru_cache(maxsize=16)
def _cubic_taps(factor: int) -> Tensor:
    """Keys' cubic convolution kernel (1981) at 4 * factor places between its zeros at -2 and 2; sums to 1."""
    import torch

    x = ((torch.arange(4 * factor, dtype=torch.float64) - 2 * factor + 0.5) / factor).abs()
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    taps = torch.where(x <= 1, inner, outer).float()
    return taps / taps.sum()


def to_network(source: Tensor, task: Task, device: torch.device | str) -> Tensor:
    """`Batch.source` -> float [B,input_nc,H,W] on `device`; uint8 ids [B,H,W] travel as bytes, one-hot made there."""
    import torch

    if task.source != "labels":
        return source.to(device, torch.float32, non_blocking=True)
    ids = source.to(device, non_blocking=True).long()
    if ids.ndim != 3:
        raise ValueError(f"label maps travel as uint8 [B,H,W]; got {tuple(source.shape)}")
    hot = torch.zeros(ids.shape[0], task.label_nc, *ids.shape[1:], device=ids.device)
    return hot.scatter_(1, ids[:, None], 1.0)


def photo_tensor(pixels: np.ndarray) -> Tensor:
    """Photo [H,W,3] uint8 -> float [3,H,W] in [-1,1], as ToTensor and Normalize(0.5, 0.5) do."""
    return _looked_up(pixels.transpose(2, 0, 1), _SIGNED)


def byte_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 [H,W] or [H,W,3] -> uint8 [1,H,W] or [3,H,W]: a quarter of what floats weigh on their way to the device."""
    import torch

    return torch.from_numpy(np.array(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), order="C"))


def on_device(batch: Batch, device: torch.device | str) -> Batch:
    """The batch on that device; photos and sketches that are uint8 [B,C,H,W] become the floats of `photo_tensor`."""
    from psp.batch import Batch

    source = _floats(batch.source, device, _UNIT if batch.source.shape[1] == 1 else _SIGNED)
    labels = None if batch.labels is None else batch.labels.to(device, non_blocking=True)
    return Batch(source, _floats(batch.target, device, _SIGNED), batch.names, labels)


def _floats(images: Tensor, device: torch.device | str, table: np.ndarray) -> Tensor:
    """table[images] on the device for uint8 [B,C,H,W]; what is something else is only moved there."""
    import torch

    if images.dtype != torch.uint8 or images.ndim != 4:
        return images.to(device, non_blocking=True)
    if torch.device(device).type == "cpu":
        return _looked_up(images.numpy(), table)
    return torch.from_numpy(table).to(device)[images.to(device, non_blocking=True).int()]


def _looked_up(pixels: np.ndarray, table: np.ndarray) -> Tensor:
    """table[pixels] as a tensor, in one pass and one thread: several torch operations would cost more."""
    import torch

    return torch.from_numpy(np.take(table, np.ascontiguousarray(pixels)))
