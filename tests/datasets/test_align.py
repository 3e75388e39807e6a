"""datasets.prepare.align: the FFHQ square and its cut by construction, detection on the CC0 portraits."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.prepare.align import FacePoints, cut, ffhq_crop, find_face, predictor_path
from psp.errors import UserError

POINTS = FacePoints((98.0, 123.0), (158.0, 123.0), (128.0, 185.0), 1, "dlib")


def portraits(root: Path) -> list[Path]:
    return sorted((root / "examples/photos").glob("*.jpg"))


def turned(points: FacePoints, angle: float, scale: float, shift: tuple[float, float]) -> FacePoints:
    c, s = np.cos(angle) * scale, np.sin(angle) * scale

    def move(point: tuple[float, float]) -> tuple[float, float]:
        return (c * point[0] - s * point[1] + shift[0], s * point[0] + c * point[1] + shift[1])

    return FacePoints(move(points.left_eye), move(points.right_eye), move(points.mouth), 1, "dlib")


def test_square_follows_the_recipe() -> None:
    crop = ffhq_crop(POINTS, (256, 256))
    # eye distance 60, eyes to mouth 62: half side max(2 * 60, 1.8 * 62) = 120; centre a tenth down from the eyes
    expected = np.array([(8, 9.2), (8, 249.2), (248, 249.2), (248, 9.2)]) / 256
    assert np.allclose(crop, expected)


def test_square_turns_scales_and_moves_with_the_face() -> None:
    angle, scale, shift = 0.3, 1.7, (40.0, 25.0)
    crop = ffhq_crop(turned(POINTS, angle, scale, shift), (1000, 800))
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    plain = ffhq_crop(POINTS, (1, 1))
    assert np.allclose(crop * (1000, 800), plain @ np.array([[c, s], [-s, c]]) + shift)
    with pytest.raises(ValueError, match="same point"):
        ffhq_crop(FacePoints((1, 1), (1, 1), (1, 1), 1, "dlib"), (10, 10))


def test_photo_and_its_larger_sketch_are_cut_alike() -> None:
    y, x = np.mgrid[0:300, 0:300]
    grey = (127 + 60 * np.sin(x / 17) + 60 * np.cos(y / 23)).astype(np.uint8)
    small = Image.fromarray(grey)
    large = small.resize((600, 600), Image.Resampling.BICUBIC)
    crop = ffhq_crop(turned(POINTS, 0.15, 0.9, (40, 20)), (300, 300))
    a, b = (np.asarray(cut(image, crop, 128, kind="sketch")).astype(int) for image in (small, large))
    assert np.abs(a - b).mean() < 2
    photo = np.asarray(cut(small.convert("RGB"), crop, 128)).astype(int)
    assert np.abs(photo[..., 0] - a).mean() < 2


def test_borders_photo_mirrored_sketch_paper_labels_background() -> None:
    far = FacePoints((20, 20), (80, 20), (50, 82), 1, "dlib")  # the square reaches far outside
    crop = ffhq_crop(far, (100, 100))
    photo = np.asarray(cut(Image.new("RGB", (100, 100), (200, 100, 50)), crop, 64))
    assert np.abs(photo.astype(int) - (200, 100, 50)).max() <= 1
    sketch = np.asarray(cut(Image.new("L", (100, 100), 240), crop, 64, kind="sketch"))
    assert sketch.min() >= 239
    labels = np.asarray(cut(Image.new("L", (100, 100), 13), crop, 64, kind="labels"))
    assert set(np.unique(labels)) == {0, 13} and labels[0, 0] == 0


def test_labels_are_never_mixed() -> None:
    ids = np.random.default_rng(0).choice([0, 4, 13], (200, 200)).astype(np.uint8)
    crop = ffhq_crop(turned(POINTS, 0.2, 0.7, (10, 10)), (200, 200))
    assert set(np.unique(np.asarray(cut(Image.fromarray(ids), crop, 300, kind="labels")))) == {0, 4, 13}


def test_black_scan_corners_become_paper() -> None:
    pixels = np.full((250, 200), 235, np.uint8)
    pixels[np.add.outer(np.arange(250), np.arange(200)) < 40] = 0
    pixels[100:140, 80:120] = 0  # ink stays
    crop = ffhq_crop(FacePoints((75, 115), (125, 115), (100, 165), 1, "dlib"), (200, 250))
    out = np.asarray(cut(Image.fromarray(pixels), crop, 128, kind="sketch"))
    assert out[:20, :20].min() > 225 and out.min() < 10


@pytest.mark.thorough
def test_portraits_are_already_aligned(root: Path) -> None:
    """Cut by FFHQ's own recipe, so aligning again finds the whole picture, to within the detector's jitter."""
    for path in portraits(root)[:4]:
        photo = Image.open(path).convert("RGB")
        points = find_face(photo, "dlib")
        assert points is not None
        corners = ffhq_crop(points, photo.size)
        assert np.abs(corners - [(0, 0), (0, 1), (1, 1), (1, 0)]).max() < 0.05, path.name


def test_turned_photo_comes_back_upright(root: Path) -> None:
    photo = Image.open(portraits(root)[0]).convert("RGB")
    canvas = Image.new("RGB", (500, 420), (90, 120, 150))
    canvas.paste(photo, (150, 80))
    tilted = canvas.rotate(14, Image.Resampling.BICUBIC, fillcolor=(90, 120, 150))
    points = find_face(tilted)
    assert points is not None
    again = find_face(cut(tilted, ffhq_crop(points, tilted.size), 256))
    assert again is not None
    assert abs(again.left_eye[1] - again.right_eye[1]) < 5
    assert abs(np.mean([again.left_eye[0], again.right_eye[0]]) - 128) < 6 and abs(again.left_eye[1] - 122) < 8


def test_several_faces_the_largest_counts(root: Path) -> None:
    a, b = (Image.open(p).convert("RGB") for p in portraits(root)[:2])
    canvas = Image.new("RGB", (500, 300), "white")
    canvas.paste(a.resize((140, 140)), (10, 80))
    canvas.paste(b, (220, 20))
    points = find_face(canvas, "dlib")
    assert points is not None and points.n_faces == 2 and points.left_eye[0] > 220


def test_no_face_is_none_and_bad_detector_is_named() -> None:
    assert find_face(Image.new("RGB", (200, 200), "gray"), "dlib") is None
    with pytest.raises(UserError, match="--detector"):
        find_face(Image.new("RGB", (9, 9)), "haar")


def test_mtcnn_agrees_with_dlib_and_steps_in(root: Path) -> None:
    if importlib.util.find_spec("facenet_pytorch") is None:  # importing it here would be too early for psp.compat
        pytest.skip("facenet_pytorch is not installed")
    photo = Image.open(portraits(root)[0]).convert("RGB")
    one, two = find_face(photo, "dlib"), find_face(photo, "mtcnn")
    assert one is not None and two is not None and two.detector == "mtcnn"
    for a, b in ((one.left_eye, two.left_eye), (one.right_eye, two.right_eye), (one.mouth, two.mouth)):
        assert np.hypot(a[0] - b[0], a[1] - b[1]) < 8
    assert find_face(Image.new("RGB", (200, 200), "gray"), "auto") is None


def test_predictor_is_found_without_slow_imports() -> None:
    assert predictor_path().is_file()
    slow = {"dlib", "torch", "face_recognition_models"}
    code = f"import sys, datasets.prepare.align; sys.exit(bool({slow} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)
