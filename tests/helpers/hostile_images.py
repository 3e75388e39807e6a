"""Good images of every kind and bad ones of every kind, as a stranger's folder may hold them."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from tiny_models import drawing, photo

FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif", "GIF": "gif", "PPM": "pgm"}


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def good_images() -> dict[bytes, bytes]:
    """20 file names and contents that have to give a result each."""
    sketch, colour = drawing(1), photo(1)
    grey = np.asarray(sketch)
    turned = Image.Exif()
    turned[0x0112] = 6
    clear = colour.convert("RGBA")
    clear.putalpha(sketch)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    good = {f"{kind}.{ending}": encoded(sketch, kind) for kind, ending in FORMATS.items()}
    good |= {
        "16 bits.png": encoded(deep, "PNG"),
        "cmyk.jpg": encoded(colour.convert("CMYK"), "JPEG"),
        "palette.png": encoded(colour.quantize(16), "PNG", transparency=3),
        "animated.gif": encoded(sketch, "GIF", save_all=True, append_images=[drawing(2), drawing(3)]),
        "animated.png": encoded(colour, "PNG", save_all=True, append_images=[photo(2)]),
        "turned.jpg": encoded(colour, "JPEG", exif=turned),
        "floats.tif": encoded(Image.fromarray(grey.astype(np.float32) / 255), "TIFF"),
        "transparent.webp": encoded(clear, "WEBP"),
        "bits.tif": encoded(sketch.convert("1"), "TIFF", compression="group4"),
        "two\nlines.png": encoded(sketch, "PNG"),
        "deep/er/one pixel.png": encoded(sketch.resize((1, 1)), "PNG"),
    }
    plain = encoded(sketch, "PNG")
    return {os.fsencode(name): data for name, data in good.items()} | {
        b"not utf-8 \xff\xfe.png": plain,
        b"x" * 250 + b".webp": encoded(sketch, "WEBP"),
    }


def many_scans(scans: int, side: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded(Image.effect_noise((side, side), 40).convert("RGB"), "JPEG", progressive=True, quality=5)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (scans - 9) + b"\xff\xd9"


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that says it has this size, with these chunks between header and end."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), *chunks, (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


def handmade() -> dict[str, bytes]:
    """File endings and contents that mean harm."""
    zeros = zlib.compress(bytes(50_000_000), 9)
    grey = np.asarray(drawing(1)).astype(np.float32)
    infinite = np.where(grey > 100, np.nan, grey)
    text = b"x\0\0" + zeros
    return {
        "empty.png": b"",
        "text.png": b"This is no image.\n" * 100,
        "page.jpg": b"<html><script>alert(1)</script></html>",
        "vector.png": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n",
        "pickle.webp": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n(S'true'\ntR.",
        "zip.png": zipped({"a.png": b"x"}),
        "bomb.png": png(30_000, 30_000, (b"IDAT", zeros)),
        "bomb2.png": png(2**31 - 1, 2**31 - 1, (b"IDAT", zeros)),
        "short bomb.png": png(7_000, 9_000, (b"IDAT", zlib.compress(bytes(1000)))),
        "words bomb.png": png(8, 8, (b"zTXt", text), (b"zTXt", text), (b"IDAT", zlib.compress(bytes(72)))),
        "no pixels.png": png(64, 64),
        "no size.png": png(0, 0, (b"IDAT", zlib.compress(b""))),
        "bomb.gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b",",
        "bomb.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
        "bomb.ppm": b"P6 100000 100000 255\n" + bytes(1000),
        "digits.ppm": b"P5 " + b"9" * 5000 + b" 1 255\n",
        "nan.tif": encoded(Image.fromarray(infinite), "TIFF"),
        "infinite.tif": encoded(Image.fromarray(np.where(grey > 100, np.inf, grey)), "TIFF"),
    }


def bad_images(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """`count` names and contents that cannot be read: the handmade ones, then files cut off or with flipped bits."""
    made = handmade()
    for k, name in enumerate(list(made)[:count]):
        yield f"bad {k:04} {name}", made[name]
    dice = random.Random(seed)
    pictures = [encoded(drawing(k, 128), kind) for k in range(3) for kind in FORMATS]
    endings = [ending for _ in range(3) for ending in FORMATS.values()]
    for k in range(len(made), count):
        which = k % len(pictures)
        data = bytearray(pictures[which])
        # a flipped bit in a PNG is always noticed, by its checksums; other formats may just show another picture
        if endings[which] == "png" and dice.random() < 0.5:
            data[dice.randrange(8, len(data) - 12)] ^= 1 << dice.randrange(8)
        elif dice.random() < 0.2:
            data = bytearray(dice.randbytes(8)) + data[8:]
        else:
            del data[dice.randrange(len(data) * 6 // 10) :]
        yield f"bad {k:04}.{endings[which]}", bytes(data)


def bad_places(folder: Path) -> list[str]:
    """Links and pipes; returns the names that have to be reported (loops of folders are ignored)."""
    os.mkfifo(folder / "pipe.png")
    (folder / "around").symlink_to(folder, target_is_directory=True)
    (folder / "itself.png").symlink_to("itself.png")
    (folder / "nowhere.png").symlink_to("missing.png")
    (folder / "folder.png").mkdir()
    return ["itself.png", "nowhere.png", "pipe.png"]


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def bad_zips() -> dict[str, tuple[bytes, str]]:
    """Archives that are refused as a whole, with a word of the message."""
    plain = {"a.png": encoded(drawing(1), "PNG")}
    whole = zipped(plain)
    locked = bytearray(whole)
    locked[6] |= 1
    locked[whole.index(b"PK\x01\x02") + 8] |= 1
    damaged = bytearray(whole)
    at = whole.index(b"PK\x01\x02")
    damaged[at : at + 4] = b"KPPK"
    return {
        "leaves.zip": (zipped({"../../evil.png": plain["a.png"]}), "leaves the archive"),
        "root.zip": (zipped({"/tmp/evil.png": plain["a.png"]}), "leaves the archive"),
        "drive.zip": (zipped({"C:\\evil.png": plain["a.png"]}), "leaves the archive"),
        "locked.zip": (bytes(locked), "encrypted"),
        "nested.zip": (zipped({"inner.zip": whole}), "no images"),
        "cut.zip": (whole[: len(whole) // 2], "not a zip file"),
        "damaged.zip": (bytes(damaged), "not a zip file"),
        "empty.zip": (b"", "not a zip file"),
    }
