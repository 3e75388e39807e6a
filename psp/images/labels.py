"""The 19 classes of CelebAMask-HQ: ids, names and colours, and the ways other programs number them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from psp.errors import UserError, shown
from psp.files import file_hash, read_json, read_text
from psp.images.decode import to_numbers

LABELS: tuple[str, ...] = (
    "background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
    "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip
COLOURS: tuple[tuple[int, int, int], ...] = (
    (0, 0, 0), (204, 0, 0), (76, 153, 0), (204, 204, 0), (51, 51, 255), (204, 0, 204), (0, 255, 255),
    (255, 204, 204), (102, 51, 0), (255, 0, 0), (102, 204, 0), (255, 255, 0), (0, 0, 153), (0, 0, 204),
    (255, 51, 153), (0, 204, 204), (0, 51, 0), (255, 153, 51), (0, 204, 0),
)  # fmt: skip
MIRROR: tuple[int, ...] = (0, 1, 2, 3, 5, 4, 7, 6, 9, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18)
"""What each id becomes when the picture is mirrored: left and right eyes, brows and ears change places."""

_ZLLRUNNING = (
    "background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r",
    "nose", "mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
)  # fmt: skip


@dataclass(frozen=True)
class LabelMap:
    """How the numbers (or colours) of a label image become ids.

    name: as given to --label_map. ids: number in the file -> id, None keeps the numbers. colours: 0xRRGGBB -> id.
    by_colour: a palette image counts by its colours instead of its indices.
    """

    name: str
    ids: dict[int, int] | None
    colours: dict[int, int]
    by_colour: bool = False


_STANDARD = {red << 16 | green << 8 | blue: index for index, (red, green, blue) in enumerate(COLOURS)}
LABEL_MAPS: dict[str, LabelMap] = {
    "celebamask": LabelMap("celebamask", None, _STANDARD),
    "zllrunning": LabelMap("zllrunning", {i: LABELS.index(name) for i, name in enumerate(_ZLLRUNNING)}, _STANDARD),
    "color": LabelMap("color", None, _STANDARD, by_colour=True),
}


def get_label_map(spec: str | LabelMap) -> LabelMap:
    """The numbering named `spec`: celebamask (the ids above), zllrunning (face-parsing.PyTorch), color, or a JSON file.

    The JSON file is a list (position = number in the file) or an object whose keys are numbers or "#rrggbb" and whose
    values are ids or names of `LABELS`. Raises UserError for anything else.
    """
    if isinstance(spec, LabelMap):
        return spec
    if spec in LABEL_MAPS:
        return LABEL_MAPS[spec]
    if not str(spec).lower().endswith(".json"):
        raise UserError(f"--label_map {spec!r} is not known", f"choose one of {', '.join(LABEL_MAPS)} or a .json file")
    name = f"label map {spec} (--label_map)"
    entries = read_json(read_text(spec, name=name), where=name)
    if isinstance(entries, list):
        entries = {str(i): value for i, value in enumerate(entries)}
    if not isinstance(entries, dict) or not entries:
        raise UserError(f"label map {spec}: expected a list or an object {{number or #rrggbb: id or name}}")
    return _custom(str(spec), entries)


def label_map_record(spec: str | Path) -> str:
    """What the records of results say of a `--label_map`: a JSON file is its path and its hash, for it may change."""
    return f"{spec} {file_hash(spec)}" if str(spec).lower().endswith(".json") else str(spec)


def _custom(spec: str, entries: dict[str, object]) -> LabelMap:
    ids: dict[int, int] = {}
    colours: dict[int, int] = {}
    for key, value in entries.items():
        target = LABELS.index(value) if isinstance(value, str) and value in LABELS else value
        if not isinstance(target, int) or isinstance(target, bool) or not 0 <= target < len(LABELS):
            raise UserError(
                f"label map {spec}: {shown(key)} goes to {shown(value)}", f"allowed are 0..18 or {', '.join(LABELS)}"
            )
        try:
            if key.startswith("#"):
                colours[int(key[1:], 16)] = target
            else:
                ids[int(key)] = target
        except ValueError:
            raise UserError(f"label map {spec}: key {shown(key)} is no number and no #rrggbb colour") from None
    return LabelMap(spec, ids or None, colours or _STANDARD, by_colour=bool(colours) and not ids)


def label_numbers(image: Image.Image, label_map: LabelMap) -> tuple[np.ndarray, bool]:
    """A label image as `psp.images.decode.to_numbers` reads it, whatever order its palette is in.

    Programs that save with few colours sort the palette by their own taste. So where every colour in use is one of the
    map's, or every one is a grey below the number of classes, and the indices say otherwise, the palette counts.
    """
    if image.mode != "P" or label_map.by_colour or label_map.ids is not None:
        return to_numbers(image, by_colour=label_map.by_colour)
    used = np.unique(np.asarray(image))
    palette = np.array((image.getpalette("RGB") or []) + [0] * 768, dtype=np.int32).reshape(-1, 3)[used]
    packed = palette[:, 0] << 16 | palette[:, 1] << 8 | palette[:, 2]
    meant = [label_map.colours.get(int(colour), -1) for colour in packed]
    if min(meant) >= 0 and meant != used.tolist() and len(set(meant)) == len(used):
        return to_numbers(image, by_colour=True)
    greys = palette[:, 0]
    if (np.ptp(palette, axis=1) == 0).all() and len(set(greys.tolist())) == len(used) > 1 and greys.max() < len(LABELS):
        return np.asarray(image.convert("L")), False
    return to_numbers(image)


def is_label_map(image: Image.Image) -> bool:
    """Whether a picture holds ids of the 19 classes or CelebAMask-HQ's colours, in areas rather than grains."""
    glass = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if image.mode == "1" or (glass and np.asarray(image.convert("RGBA"))[..., 3].min() < 255):
        return False  # ink alone, on paper or on nothing
    small = image.resize((128, 128), Image.Resampling.NEAREST)
    numbers, coloured = label_numbers(small, LABEL_MAPS["celebamask"])
    if coloured:
        packed = numbers[..., 0].astype(np.int32) << 16 | numbers[..., 1].astype(np.int32) << 8 | numbers[..., 2]
        colours = set(np.unique(packed).tolist())
        return len(colours) >= 2 and colours <= set(LABEL_MAPS["celebamask"].colours)
    ids = np.unique(numbers)
    if len(ids) < 2 or int(ids.min()) < 0 or int(ids.max()) >= len(LABELS):
        return False
    if image.mode == "P" and _is_grey_on_white(small):
        return False  # a drawing that was saved with few colours
    return bool((numbers[1:] == numbers[:-1]).mean() > 0.8)  # photos of a dark night have small numbers as well


def _is_grey_on_white(image: Image.Image) -> bool:
    shown = np.asarray(image.convert("RGB")).astype(np.int16)
    return bool(np.ptp(shown, axis=2).max() < 24 and np.median(shown) > 127)


def decode_colours(rgb: np.ndarray, label_map: LabelMap, name: str) -> np.ndarray:
    """Colours [H,W,3] uint8 -> ids [H,W] uint8; colours have to match exactly. UserError names some that do not."""
    packed = rgb[..., 0].astype(np.int32) << 16 | rgb[..., 1].astype(np.int32) << 8 | rgb[..., 2]
    colours, inverse = np.unique(packed, return_inverse=True)
    unknown = [int(colour) for colour in colours if int(colour) not in label_map.colours]
    if unknown:
        some = ", ".join(f"#{colour:06x}" for colour in unknown[:4]) + (", ..." if len(unknown) > 4 else "")
        hint = "; JPEG or a smooth resize blurs colours: save as PNG" if len(unknown) > 32 else ""
        raise UserError(
            f"{name}: {len(unknown)} colours are not in the {len(label_map.colours)}-colour palette ({some})",
            f"use that palette, an image of ids, or --label_map FILE.json{hint}",
        )
    table = np.array([label_map.colours[int(colour)] for colour in colours], dtype=np.uint8)
    return np.asarray(table[inverse.reshape(packed.shape)])


def renumber(numbers: np.ndarray, label_map: LabelMap, n_labels: int, name: str) -> np.ndarray:
    """Numbers [H,W] (any integer type) -> ids [H,W] uint8 below `n_labels`; UserError names those that do not fit."""
    values = np.unique(numbers)
    known = label_map.ids
    bad = [int(v) for v in values if (not 0 <= v < n_labels if known is None else int(v) not in known)]
    if not bad and known is not None:
        bad = [int(v) for v in values if known[int(v)] >= n_labels]
    if bad:
        some = ", ".join(map(str, bad[:6])) + (", ..." if len(bad) > 6 else "")
        allowed = f"0..{n_labels - 1}" if known is None else f"the {len(known)} numbers of {label_map.name}"
        raise UserError(f"{name}: label id {some} out of range", f"allowed are {allowed} (see --label_map)")
    if known is None:
        return numbers.astype(np.uint8)
    table = np.array([known[int(value)] for value in values], dtype=np.uint8)
    return table[np.searchsorted(values, numbers)]


def colourise(ids: np.ndarray) -> np.ndarray:
    """Ids [...] -> CelebAMask-HQ colours [...,3] uint8. Ids above 18 are an IndexError."""
    return np.array(COLOURS, dtype=np.uint8).take(ids, axis=0)


def flat_palette() -> list[int]:
    """The palette as PIL's putpalette wants it: r, g, b, r, g, b, ..."""
    return [channel for colour in COLOURS for channel in colour]


def palette_image(ids: np.ndarray) -> Image.Image:
    """Ids [H,W] uint8 -> P image with the CelebAMask-HQ colours; saved as PNG it shows and keeps the ids."""
    image = Image.fromarray(np.ascontiguousarray(ids, dtype=np.uint8))
    image.putpalette(flat_palette())
    return image


def mirror_labels(ids: np.ndarray) -> np.ndarray:
    """Ids [H,W] of the mirrored picture: columns reversed, left and right parts exchanged."""
    return np.array(MIRROR, dtype=np.uint8).take(ids[:, ::-1])
