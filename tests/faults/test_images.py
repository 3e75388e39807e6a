"""Bad images among good ones: the good ones are done, each bad one gets a line, and memory stays small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hostile_images import bad_images, bad_places, bad_zips, encoded, good_images, handmade, zipped
from PIL import Image
from tiny_models import drawing, save_tiny

from psp.errors import UserError
from psp.images.sources import open_source

GIB = 1 << 30


# A process between: at its start a child has the memory of its parent, here of the whole test run.
MEASURED = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)
"""


def infer(root: Path, folder: Path, *flags: str) -> tuple[int, str, float, float]:
    """Run the script in `folder`; returns its status, what it wrote to stderr, its largest memory in GiB, seconds."""
    command = [sys.executable, "-c", MEASURED, "memory.txt"]
    command += [sys.executable, str(root / "scripts" / "inference.py"), "--data_path=in", "--exp_dir=out"]
    command += ["--checkpoint_path=tiny.pt", "--device=cpu", *flags]
    began = time.monotonic()
    with open(folder / "stderr.txt", "wb") as said, open(folder / "stdout.txt", "wb") as out:
        status = subprocess.call(command, cwd=folder, stdout=out, stderr=said)
    errors = (folder / "stderr.txt").read_text(errors="replace")
    return status, errors, int((folder / "memory.txt").read_text()) * 1024 / GIB, time.monotonic() - began


def hostile_folder(folder: Path, root: Path, bad: int) -> None:
    inside = folder / "in"
    inside.mkdir()
    save_tiny(folder / "tiny.pt")
    good = good_images()
    assert len(good) == 20
    for name, data in good.items():
        path = Path(os.fsdecode(os.fsencode(inside) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for bad_name, data in bad_images(bad - 3):
        (inside / bad_name).write_bytes(data)
    names = bad_places(inside) + [name for name, _ in bad_images(bad - 3)]
    assert len(names) == bad

    status, errors, memory, seconds = infer(root, folder)
    lines = errors.splitlines()
    unexpected = [line for line in lines if not line.startswith("failed: in/")]
    assert status == 1 and not unexpected, unexpected[:5]
    reported = {name for name in names if sum(f"in/{name}:" in line for line in lines) == 1}
    assert sorted(set(names) - reported) == [] and len(lines) == bad
    results = [path for path in (folder / "out" / "inference_results").rglob("*") if path.is_file()]
    assert len(results) == len(good)
    for path in results:
        with Image.open(path) as image:
            image.load()
    assert memory < 2
    assert json.loads((folder / "out" / "stats.json").read_text())["counts"] == {"made": 20, "kept": 0, "failed": bad}
    print(f"{bad} bad images among 20 good ones: 20 results, {bad} lines, exit 1, {memory:.2f} GiB, {seconds:.1f} s")


@pytest.mark.thorough
def test_60_bad_images(tmp_path: Path, root: Path) -> None:
    hostile_folder(tmp_path, root, 60)


@pytest.mark.slow
def test_1000_bad_images(tmp_path: Path, root: Path) -> None:
    hostile_folder(tmp_path, root, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["L", "RGBA", "16 bits", "float"])
def test_the_largest_images_that_are_taken(tmp_path: Path, root: Path, kind: str) -> None:
    """Four of 64 million pixels: dark ones, which the clean-up works most on."""
    (tmp_path / "in").mkdir()
    save_tiny(tmp_path / "tiny.pt")
    shade = np.full((8000, 8000), 120, np.uint8)
    shade[1000:1100] = 10
    image = Image.fromarray(
        {"16 bits": lambda: shade.astype(np.uint16) * 257, "float": lambda: shade.astype(np.float32)}.get(
            kind, lambda: shade
        )()
    )
    data = encoded(image.convert(kind) if kind == "RGBA" else image, "TIFF", compression="tiff_adobe_deflate")
    for k in range(4):
        (tmp_path / "in" / f"{k}.tif").write_bytes(data)
    status, errors, memory, seconds = infer(root, tmp_path)
    assert (status, errors) == (0, "")
    print(f"four {kind} images of 64 million pixels: {memory:.2f} GiB, {seconds:.1f} s")
    assert memory < 2


def test_zips_that_mean_harm(tmp_path: Path) -> None:
    for name, (data, words) in bad_zips().items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=words) as caught:
            open_source(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert len(list(tmp_path.iterdir())) == len(bad_zips()), "nothing was unpacked"


@pytest.mark.thorough
def test_bad_members_of_a_zip_are_left_out(tmp_path: Path) -> None:
    members = {"good.png": encoded(drawing(1), "PNG"), "bomb.png": bytes(300 << 20), "b/link.png": b"../good.png"}
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(members | {f"bad/{name}": data for name, data in handmade().items()}))
    source = open_source(path)
    source.open("good.png")
    with pytest.raises(UserError, match="claims 314572800 bytes; allowed are"):
        source.open("bomb.png")
    for name in source.names:
        if name not in ("good.png", "bomb.png") and not name.endswith((".tif",)):
            with pytest.raises(UserError, match=r"a\.zip/"):
                source.open(name)


def test_photos_of_telephones_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(drawing(1), "PNG"))
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    source = open_source(tmp_path)
    assert source.names == ["a.png", "IMG_1.HEIC"]
    for one in (source, open_source(tmp_path / "IMG_1.HEIC")):
        with pytest.raises(UserError, match=r"IMG_1\.HEIC: HEIC and AVIF are not read; save it as JPEG or PNG$"):
            one.open("IMG_1.HEIC")


def test_huge_files_and_late_pipes_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(drawing(1), "PNG"))
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(300 << 20)
    source = open_source(tmp_path)
    (tmp_path / "a.png").unlink()
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UserError, match="is no file"):
        source.open("a.png")
    with pytest.raises(UserError, match=r"huge\.png: has 314572800 bytes; allowed"):
        source.open("huge.png")


def test_names_of_255_bytes_never_collide(tmp_path: Path) -> None:
    from psp.images.output import output_names

    names = ["d/" + "x" * 251 + ending for ending in (".bmp", ".gif", ".tif", ".png")] + ["ü" * 125 + ".webp"]
    for suffix in (None, ".npy"):
        chosen = output_names(names, suffix)
        assert len({name.casefold() for name in chosen.values()}) == len(names)
        assert all(len(os.fsencode(Path(name).name)) <= 255 for name in chosen.values())
