"""What can be measured of a face from its picture and its label map: turn, smile, hair, skin, light.

All from areas and centres of the 19 classes, so that results of a model are measured as photos are. Crude, each for
itself; the mean over many faces is what they are for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from psp.images.labels import LABELS

MEASURES = (
    "yaw", "pitch", "smile", "open_mouth", "glasses", "hair_length", "hair_brightness", "skin_brightness", "side_light",
)  # fmt: skip
FEWEST = 6  # pixels of a part that count as seen
_ID = {name: index for index, name in enumerate(LABELS)}
Ids = NDArray[np.uint8]


def measure_face(pixels: NDArray[np.uint8], ids: Ids) -> dict[str, float]:
    """The measures of one FFHQ-aligned face that can be taken, by name.

    pixels: RGB uint8 [H,W,3].
    ids: its classes, uint8 [H,W].
    Returns lengths in shares of the picture's side, brightness in 0..255: yaw (the nose's way from the middle of the
    eyes to the right), pitch (the nose's height between eyes and mouth, up is positive), smile (how far the corners of
    the lips lie above their middle), open_mouth (area of its inside), hair_length (lowest hair), hair_brightness,
    skin_brightness, side_light (right half of the skin minus left half). Glasses are measured by `FaceProbe.look`.
    """
    side = ids.shape[0]
    luma = pixels.astype(np.float64) @ (0.299, 0.587, 0.114)
    measures: dict[str, float] = {}
    eyes, nose = _centre(ids, "l_eye", "r_eye", "eye_g"), _centre(ids, "nose")
    lips, mouth = _rows_columns(ids, "u_lip", "l_lip", "mouth"), _centre(ids, "u_lip", "l_lip", "mouth")
    if eyes and nose and mouth:
        measures["yaw"] = (nose[1] - (eyes[1] + mouth[1]) / 2) / side
        measures["pitch"] = ((eyes[0] + mouth[0]) / 2 - nose[0]) / side
    if len(lips[0]) >= 4 * FEWEST:
        rows, columns = lips
        left, right = np.quantile(columns, (0.1, 0.9))
        ends, middle = (columns <= left) | (columns >= right), (columns > left) & (columns < right)
        measures["smile"] = float(rows[middle].mean() - rows[ends].mean()) / side
        measures["open_mouth"] = float((ids == _ID["mouth"]).mean())
    hair = _rows_columns(ids, "hair")
    if len(hair[0]) >= 4 * FEWEST:
        measures["hair_length"] = float(np.quantile(hair[0], 0.95)) / side
        measures["hair_brightness"] = float(np.median(luma[hair]))
    skin = _rows_columns(ids, "skin")
    if len(skin[0]) >= 20 * FEWEST:
        measures["skin_brightness"] = float(np.median(luma[skin]))
        right_half = skin[1] > np.median(skin[1])
        measures["side_light"] = float(luma[skin][right_half].mean() - luma[skin][~right_half].mean())
    return measures


def _rows_columns(ids: Ids, *names: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows, columns = np.nonzero(np.isin(ids, [_ID[name] for name in names]))
    return rows, columns


def _centre(ids: Ids, *names: str) -> tuple[float, float] | None:
    rows, columns = _rows_columns(ids, *names)
    return (float(rows.mean()), float(columns.mean())) if len(rows) >= FEWEST else None
