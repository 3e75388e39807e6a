"""Tar shards as a source of pairs, and tars that are damaged or mean harm."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.pairs import PairedImages
from datasets.roots import open_data_root
from datasets.shards import Shards, shard_paths
from datasets.sources import open_source
from psp.errors import UserError
from psp.tasks import get_task

TASK = get_task("celebs_sketch_to_face")


def png(value: int, size: int = 32) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def tar(path: Path, members: dict[str, bytes], **special: bytes) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.type = special.get("type", tarfile.REGTYPE)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path: Path) -> str:
    """Three shards of two samples each."""
    for k in range(3):
        members: dict[str, bytes] = {}
        for i in (2 * k, 2 * k + 1):
            members |= {f"{i:04}.sketch.png": png(250 - i), f"{i:04}.photo.png": png(10 * i), f"{i:04}.json": b"{}"}
        tar(tmp_path / f"faces-{k:02}.tar", members)
    return str(tmp_path / "faces-{00..02}.tar")


def test_shards_are_pairs(shards: str) -> None:
    root = open_data_root(shards, TASK)
    train = PairedImages(TASK, root.train_source, root.train_target)
    test = PairedImages(TASK, root.test_source, root.test_target)
    assert len(train) + len(test) == 6 and len(test) >= 1
    for pairs in (train, pickle.loads(pickle.dumps(train))):
        for k in range(len(pairs)):
            source, target, name = pairs[k]
            number = int(Path(name).stem)
            assert source.mean().item() == pytest.approx((250 - number) / 255, abs=0.01)
            assert target.mean().item() == pytest.approx(10 * number / 127.5 - 1, abs=0.01)


def test_names_become_folders(tmp_path: Path) -> None:
    members = {"train/a/1.sketch.png": b"", "test/2.photo.v2.JPG": b"", "x/3.png": b"", "4.mask.png": b"", "5.txt": b""}
    assert Shards(tar(tmp_path / "t.tar", members)).names == [
        "mask/4.png", "test/photo/2.v2.JPG", "train/sketch/a/1.png", "x/3.png",
    ]  # fmt: skip


def test_ranges() -> None:
    assert [p.name for p in shard_paths("a-{08..11}.tar")] == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert len(shard_paths("{0..1}/a-{000..004}.tar")) == 10
    for absurd in ("a-{5..1}.tar", "a-{0..99999999}.tar"):
        with pytest.raises(UserError, match="upwards"):
            shard_paths(absurd)


def test_missing_and_empty(tmp_path: Path, shards: str) -> None:
    with pytest.raises(UserError, match="faces-03.tar: does not exist"):
        open_source(shards.replace("02}", "03}"))
    with pytest.raises(UserError, match="no images"):
        open_source(tar(tmp_path / "e.tar", {"a.txt": b""}))


def test_hostile_tars_are_refused_in_one_line(tmp_path: Path) -> None:
    for name in ("../a.png", "/etc/a.png", "a/../../b.png", "C:\\a.png", "..\\a.png"):
        with pytest.raises(UserError, match="leaves the archive"):
            open_source(tar(tmp_path / "n.tar", {name: b""}))
    twice = tmp_path / "twice.tar"
    with tarfile.open(twice, "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("1.png"))
    with pytest.raises(UserError, match="already"):
        open_source(twice)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        assert Shards(tar(tmp_path / "l.tar", {"1.png": b""}, type=kind)).names == []
    good = tar(tmp_path / "g.tar", {f"{i}.png": png(i) for i in range(5)}).read_bytes()
    cut = tmp_path / "cut.tar"
    for data in (good[:700], good[:512], b"x" * 5000, b"\x1f\x8b" + good, b""):
        cut.write_bytes(data)
        with pytest.raises(UserError) as caught:
            open_source(cut)
        assert "\n" not in str(caught.value) and "cut.tar" in str(caught.value)


def test_an_extra_header_may_not_take_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "pax.tar"
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.XHDTYPE, 2 << 20
    path.write_bytes(info.tobuf() + bytes(3 << 20))
    with pytest.raises(UserError, match="extra header of 2097152 bytes"):
        open_source(path)


def test_random_damage_is_one_line_or_the_same_pixels(tmp_path: Path) -> None:
    good = bytearray(tar(tmp_path / "g.tar", {f"{i}.sketch.png": png(i) for i in range(4)}).read_bytes())
    random = np.random.default_rng(0)
    path, refused = tmp_path / "bad.tar", 0
    for _ in range(200):
        data = bytearray(good)
        for at in random.integers(0, len(data), 4):
            data[at] = random.integers(256)
        path.write_bytes(data[: random.integers(1, len(data))] if random.random() < 0.3 else data)
        try:
            source = open_source(path)
            for name in source.names:
                source.open(name)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 20
