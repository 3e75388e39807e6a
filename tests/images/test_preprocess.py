"""psp.images.preprocess and what it stands on (decode, labels, sketch_cleanup): pSp to the bit, what users bring."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tiny_images import label_file, round_trip

from psp.errors import UserError
from psp.images.decode import open_image, to_grey, to_rgb
from psp.images.preprocess import (  # fmt: skip
    choose_fit,
    degrade,
    described_pixels,
    parse_factors,
    prepare_source,
    prepare_target,
)
from psp.tasks import TASKS

SKETCH, LABEL, PHOTO = TASKS["celebs_sketch_to_face"], TASKS["celebs_seg_to_face"], TASKS["ffhq_encode"]


def noise(height: int, width: int, channels: int | None = 3) -> np.ndarray:
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def drawing(size: int = 512, ink: int = 0, ground: int = 255, width: int = 6) -> Image.Image:
    image = Image.new("L", (size, size), ground)
    draw = ImageDraw.Draw(image)
    draw.ellipse([size * 0.2, size * 0.1, size * 0.8, size * 0.9], outline=ink, width=width)
    draw.line([size * 0.35, size * 0.4, size * 0.45, size * 0.4], fill=ink, width=width)
    draw.line([size * 0.55, size * 0.4, size * 0.65, size * 0.4], fill=ink, width=width)
    draw.line([size * 0.4, size * 0.7, size * 0.6, size * 0.7], fill=ink, width=width)
    return image


# --- agreement with pSp -------------------------------------------------------------------------------------------


def psp_tensor(image: Image.Image) -> torch.Tensor:
    """Resize((256,256)) of torchvision on PIL images, then ToTensor, written out."""
    array = np.asarray(image.resize((256, 256), Image.Resampling.BILINEAR))
    array = array[..., None] if array.ndim == 2 else array
    return torch.from_numpy(array.copy()).permute(2, 0, 1).float().div(255)


@pytest.mark.parametrize("size", [(256, 256), (512, 512), (100, 100), (1023, 1023)])
def test_photo_agrees_with_psp(size: tuple[int, int]) -> None:
    image = Image.fromarray(noise(*size))
    expected = (psp_tensor(image) - 0.5) / 0.5
    assert torch.equal(prepare_source(image, PHOTO), expected)
    assert torch.equal(prepare_target(image), expected)


@pytest.mark.parametrize("size", [256, 512, 300, 1024])
@pytest.mark.parametrize("width", [3, 6, 20])
def test_clean_sketch_agrees_with_psp(size: int, width: int) -> None:
    image = drawing(size, width=width)
    assert torch.equal(prepare_source(image, SKETCH), psp_tensor(image))
    assert torch.equal(prepare_source(image.convert("RGB"), SKETCH), psp_tensor(image.convert("RGB").convert("L")))


def test_torchvision_transforms_agree() -> None:
    from psp.compat import prepare_torchvision

    prepare_torchvision()
    transforms = pytest.importorskip("torchvision.transforms")
    recipe = transforms.Compose(
        [transforms.Resize((256, 256)), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    )
    image = Image.fromarray(noise(300, 300))
    assert torch.equal(prepare_source(image, PHOTO), recipe(image))


def test_labels_are_nearest_by_default_and_bilinear_as_psp() -> None:
    ids = np.repeat(np.repeat(np.random.default_rng(1).integers(0, 19, (64, 64)), 8, 0), 8, 1).astype(np.uint8)
    got = prepare_source(label_file(ids), LABEL)
    assert got.dtype == torch.uint8 and got.shape == (256, 256)
    assert np.array_equal(got.numpy(), ids[1::2, 1::2])
    expected = np.asarray(Image.fromarray(ids).resize((256, 256), Image.Resampling.BILINEAR))
    assert np.array_equal(prepare_source(label_file(ids), LABEL, label_resize="bilinear").numpy(), expected)
    with pytest.raises(UserError, match="--label_resize"):
        prepare_source(label_file(ids), LABEL, label_resize="cubic")


# --- drawings of any kind -----------------------------------------------------------------------------------------


def agrees(image: Image.Image, reference: Image.Image) -> float:
    """Correlation between what the network sees of a drawing and of its clean original."""
    a, b = (prepare_source(i, SKETCH).flatten() for i in (image, reference))
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def test_drawing_on_photographed_paper_becomes_dark_on_white() -> None:
    clean = np.asarray(drawing(512), dtype=np.float64) / 255
    y, x = np.mgrid[0:512, 0:512] / 512
    light = 215 - 60 * x - 40 * y**2 - 40 * (x + y > 1.4)  # falls off, and the shadow of a hand
    grain = np.random.default_rng(0).normal(0, 2, (512, 512))
    grey = light * (0.3 + 0.7 * clean) + grain
    photo = Image.fromarray(np.clip(np.stack([grey * 1.05, grey, grey * 0.8], -1), 0, 255).astype(np.uint8))
    got = prepare_source(photo, SKETCH)
    assert (got > 0.9).float().mean() > 0.85 and float(got.min()) < 0.3
    assert agrees(photo, drawing(512)) > 0.9
    assert "paper made white" in described_pixels(photo, SKETCH)[1]


@pytest.mark.parametrize("ground", [128, 200, 230])
def test_grey_ground_becomes_white(ground: int) -> None:
    image = drawing(ink=30, ground=ground)
    assert prepare_source(image, SKETCH)[0, 0, 0] > 0.98
    assert agrees(image, drawing()) > 0.98


@pytest.mark.parametrize("ground", [0, 40])
def test_light_on_dark_is_inverted(ground: int) -> None:
    image = drawing(ink=255, ground=ground)
    assert prepare_source(image, SKETCH)[0, 0, 0] > 0.98
    assert agrees(image, drawing()) > 0.98
    assert "light on dark inverted" in described_pixels(image, SKETCH)[1]


def test_solid_black_hair_stays_black() -> None:
    for ground in (255, 200):
        image = drawing(ground=ground)
        ImageDraw.Draw(image).rectangle([100, 20, 400, 200], fill=0)
        assert float(prepare_source(image, SKETCH)[0, 20:90, 60:190].mean()) < 0.1, ground


def test_transparent_drawing_is_put_on_white() -> None:
    clean = drawing()
    alpha = Image.fromarray(255 - np.asarray(clean))
    for mode in ("RGBA", "LA"):
        image = Image.merge("RGBA", [*Image.new("RGB", clean.size).split(), alpha]).convert(mode)
        assert np.abs(np.asarray(to_grey(image)).astype(int) - np.asarray(clean)).max() <= 1
        assert agrees(round_trip(image), clean) > 0.999
    palette = Image.merge("RGBA", [*Image.new("RGB", clean.size).split(), alpha]).quantize(8)
    assert agrees(round_trip(palette), clean) > 0.99


def test_thin_lines_of_a_large_drawing_survive() -> None:
    thin = drawing(2400, width=2)
    plain = psp_tensor(thin)
    got = prepare_source(thin, SKETCH)
    assert float(plain.min()) > 0.6 and float(got.min()) < 0.5
    assert torch.equal(prepare_source(thin, SKETCH, cleanup=False), plain)
    assert "thin lines kept" in described_pixels(thin, SKETCH)[1]


def test_empty_and_tiny_drawings_do_not_fail() -> None:
    for value in (0, 128, 255):
        for size in ((1, 1), (3, 7), (300, 200)):
            got = prepare_source(Image.new("L", size, value), SKETCH)
            assert got.shape == (1, 256, 256) and bool(torch.isfinite(got).all())
    assert float(prepare_source(Image.new("L", (300, 300), 190), SKETCH).min()) > 0.9


# --- shapes and modes ---------------------------------------------------------------------------------------------


def test_fit_modes() -> None:
    assert choose_fit((256, 256), "sketch") == choose_fit((256, 255), "photo") == "stretch"
    assert choose_fit((200, 250), "sketch") == "letterbox" and choose_fit((200, 250), "photo") == "crop"
    assert choose_fit((200, 250), "labels", "stretch") == "stretch"
    with pytest.raises(UserError, match="--fit"):
        choose_fit((1, 1), "photo", "fill")
    tall = Image.new("L", (100, 200), 0)
    box = described_pixels(tall, SKETCH, cleanup=False)[0]
    assert box[:, 0].min() == 255 and box[:, 128].max() == 0 and (box[0] == 0).sum() == 128
    assert described_pixels(tall, SKETCH, fit="crop", cleanup=False)[0].max() == 0
    photo = Image.fromarray(np.repeat(np.array([[0], [255], [255], [0]], np.uint8), 2, 1)).resize(
        (100, 200), Image.Resampling.NEAREST
    )
    assert described_pixels(photo.convert("RGB"), PHOTO)[0].min() == 255
    labels = Image.fromarray(np.full((50, 200), 13, np.uint8))
    assert described_pixels(labels, LABEL, fit="letterbox")[0][0, 0] == 0
    assert described_pixels(labels, LABEL)[0].min() == 13
    assert described_pixels(tall.convert("RGB"), PHOTO)[1] == ["cropped to the middle square"]


def test_extreme_shapes_stay_small() -> None:
    for size in ((1, 30_000), (30_000, 1)):
        assert described_pixels(Image.new("L", size, 255), SKETCH)[0].shape == (256, 256)


def test_all_pil_modes_are_understood() -> None:
    base = Image.fromarray(noise(64, 64)).resize((256, 256))
    grey = base.convert("L")
    deep = np.asarray(grey).astype(np.uint16) * 257
    real = np.asarray(grey).astype(np.float32)
    same = [
        Image.fromarray(deep), Image.fromarray(deep.astype(np.int32)), Image.fromarray(real),
        Image.fromarray(real / 255), grey.convert("LA"), round_trip(Image.fromarray(deep)),
        round_trip(Image.fromarray(deep), "TIFF"), round_trip(Image.fromarray(real), "TIFF"),
    ]  # fmt: skip
    for image in same:
        assert np.array_equal(np.asarray(to_grey(image)), np.asarray(grey)), image.mode
        assert np.array_equal(np.asarray(to_rgb(image))[..., 1], np.asarray(grey)), image.mode
    for mode in ("CMYK", "YCbCr", "HSV", "P", "1", "RGBA", "RGBX", "PA"):
        converted = (base.convert("P") if mode == "PA" else base).convert(mode)
        assert to_rgb(converted).mode == "RGB" and to_grey(converted).mode == "L"
    assert (
        np.abs(np.asarray(to_rgb(round_trip(base.convert("CMYK"), "TIFF"))).astype(int) - np.asarray(base)).max() <= 2
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
def test_allowed_formats_open(kind: str) -> None:
    image = round_trip(Image.fromarray(noise(16, 16)), kind)
    assert to_rgb(image).size == (16, 16)


def test_exif_orientation_and_first_frame() -> None:
    image = Image.fromarray(noise(20, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert round_trip(image, "JPEG", exif=exif).size == (20, 40)
    frames = [Image.new("L", (8, 8), v) for v in (10, 200)]
    assert np.asarray(to_grey(round_trip(frames[0], "GIF", save_all=True, append_images=frames[1:]))).max() == 10


# --- bad files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.9])
def test_truncated_files_are_named(tmp_path: Path, kind: str, keep: float) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(buffer, kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * keep)])
    with pytest.raises(UserError, match="cut") as caught:
        open_image(path)
    assert "\n" not in str(caught.value)


def test_damaged_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"):
        buffer = io.BytesIO()
        Image.fromarray(noise(32, 32)).save(buffer, kind)
        for _ in range(40):
            data = bytearray(buffer.getvalue())
            for position in rng.integers(0, min(len(data), 400), 6):
                data[position] = rng.integers(256)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    open_image(io.BytesIO(bytes(data)), name="damaged")
            except UserError as error:
                assert "damaged" in str(error) and "\n" not in str(error)


def test_wrong_things_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("<html>")
    (tmp_path / "vector.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    for name in ("text.png", "vector.png", "missing.png", "."):
        with pytest.raises(UserError):
            open_image(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="no file"):
        open_image(tmp_path / "pipe.png")


def test_huge_images_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (9000, 9000)).save(path)
    with pytest.raises(UserError, match=r"huge\.png.*9000x9000"):
        open_image(path)
    with pytest.raises(UserError, match="too many"):
        open_image(path, max_pixels=10_000)
    header = bytearray(path.read_bytes())
    header[16:24] = (200_000).to_bytes(4, "big") * 2
    with pytest.raises(UserError, match="image"):
        open_image(io.BytesIO(bytes(header)))


# --- the rest -----------------------------------------------------------------------------------------------------


def test_super_resolution_input() -> None:
    assert parse_factors("1,2,4") == (1, 2, 4) and parse_factors(None) == ()
    for bad in ("0", "a", "2,-1", "1.5", "129"):
        with pytest.raises(UserError, match="--resize_factors"):
            parse_factors(bad)
    pixels = noise(256, 256)
    assert degrade(pixels, 8).shape == pixels.shape and degrade(pixels, 8).std() < 0.5 * pixels.std()
    assert degrade(pixels, 128).std() < 0.1 * pixels.std()
    with pytest.raises(UserError, match="--resize_factors"):
        degrade(pixels[:64, :64], 64)


def test_importing_needs_no_torch() -> None:
    modules = "psp.images.preprocess, psp.images.labels, datasets, datasets.prepare.jobs"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)
