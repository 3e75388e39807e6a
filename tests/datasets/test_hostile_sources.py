"""Folders and zips from strangers: what lies about its size, is no file, or has an impossible name."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile_images import encoded, many_scans, zipped
from measured import cost_of, refused_cheaply
from PIL import Image
from tiny_models import drawing, photo
from variants import thorough

from datasets.prepare.align import FacePoints, cut, ffhq_crop
from psp.errors import UserError
from psp.images.sources import open_source

OPEN = "psp.images.sources.open_source(sys.argv[1]).open('bomb.png')"


def lying_zip(method: int, unpacked: int, says: int = 1000) -> bytes:
    """A member that unpacks to `unpacked` zeros, while directory and header say `says`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, archive.open("bomb.png", "w") as member:
        for _ in range(unpacked >> 20):
            member.write(bytes(1 << 20))
    data = bytearray(buffer.getvalue())
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.rindex(mark) + place
        data[at : at + 4] = says.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("method", "mebibytes"), [(zipfile.ZIP_BZIP2, 100), (zipfile.ZIP_LZMA, 100), (zipfile.ZIP_DEFLATED, 1200)]
)
def test_zip_members_that_lie_about_their_size(method: int, mebibytes: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(lying_zip(method, mebibytes << 20))
    assert path.stat().st_size < 3 << 20
    refused_cheaply("psp.images.sources", OPEN, path)  # read whole, it takes what it unpacks to twice


def test_zips_of_several_disks_are_named(tmp_path: Path) -> None:
    """Python's zipfile raises where it only asks whether a file is a zip."""
    locator = b"PK\6\7" + bytes(12) + (2).to_bytes(4, "little")
    for name in ("a.zip", "a.png"):
        (tmp_path / name).write_bytes(locator + b"PK\5\6" + bytes(18))
        with pytest.raises(UserError, match=f"{name}: .*span multiple disks"):
            open_source(tmp_path / name)


def test_usual_zips_are_read(tmp_path: Path) -> None:
    data = encoded(drawing(1), "PNG")
    (tmp_path / "a.zip").write_bytes(zipped({"a.png": data}))
    assert open_source(tmp_path / "a.zip").read("a.png") == data
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.png", data)
    with pytest.raises(UserError, match=r"b\.zip/a\.png: is packed in an unusual way"):
        open_source(tmp_path / "b.zip").open("a.png")


@pytest.mark.parametrize("path", ["x" * 5000, "a/" * 3000 + "b.png", "nul\0byte", "~nobody-of-that-name/x"])
def test_impossible_paths_are_one_line(path: str) -> None:
    with pytest.raises(UserError) as caught:
        open_source(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500 and path[:3] in str(caught.value)


def test_pipes_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(drawing(1), "PNG"))
    os.mkfifo(tmp_path / "pipe.png")
    source = open_source(tmp_path)
    assert source.names == ["a.png", "pipe.png"]
    with pytest.raises(UserError, match=r"pipe\.png: is no file"):
        source.open("pipe.png")


# ---- pictures --------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize(("scans", "side"), [(500, 512), (2000, 128), (90, 4096)])
def test_jpegs_of_many_scans_are_refused(scans: int, side: int, tmp_path: Path) -> None:
    path = tmp_path / "scans.jpg"
    path.write_bytes(many_scans(scans, side))
    message = refused_cheaply("psp.images.decode", "psp.images.decode.open_image(sys.argv[1])", path)
    assert "scans, far more than" in message


def test_usual_jpegs_are_read() -> None:
    from psp.images.decode import _jpeg_scans, open_image

    exif = Image.Exif()
    exif[0x010E] = "\xff\xda" * 300  # looks like scans, inside of a segment
    for progressive in (False, True):
        data = encoded(photo(1, 256), "JPEG", progressive=progressive, exif=exif)
        assert _jpeg_scans(io.BytesIO(data)) == (10 if progressive else 1)
        assert open_image(io.BytesIO(data)).size == (256, 256)


CUT = """
import PIL.Image
x, eyes = 3700.0, float(sys.argv[1])
left, right, mouth = (x - eyes / 2, 3600.0), (x + eyes / 2, 3600.0), (x, 3600.0 + eyes)
points = datasets.prepare.align.FacePoints(left, right, mouth, 1, "dlib")
image = PIL.Image.new("RGB", (7850, 7850), (90, 120, 150))
datasets.prepare.align.cut(image, datasets.prepare.align.ffhq_crop(points, image.size), 256)
"""


@pytest.mark.parametrize("eyes", [200, *thorough(800)])
def test_a_photo_of_62_megapixels_is_cut_out_in_little_memory(eyes: int) -> None:
    """A large face is cut out of the reduced photo; around a small one, all pixels as numbers would take 2 GiB."""
    cost = cost_of("datasets.prepare.align", CUT, str(eyes))
    assert cost.message is None and cost.seconds < 5 and cost.memory < 1024, cost


@pytest.mark.parametrize("kind", ["photo", "labels", "sketch"])
def test_cutting_first_changes_nothing(kind: str) -> None:
    """Numbers are the same whether the far away parts of a photo are looked at or not."""
    big = np.random.default_rng(0).integers(0, 19 if kind == "labels" else 256, (700, 900, 3), dtype=np.uint8)
    image = Image.fromarray(big) if kind == "photo" else Image.fromarray(big[..., 0])
    points = FacePoints((420.0, 300.0), (470.0, 305.0), (445.0, 350.0), 1, "dlib")
    near = cut(image, ffhq_crop(points, image.size), 128, kind=kind)
    assert near.size == (128, 128) and len(np.unique(np.asarray(near))) > 10
