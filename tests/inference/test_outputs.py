"""Names that never collide, files that are whole, records that know whether results may be kept."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from psp.errors import UserError
from psp.files import (
    atomic_open,
    file_hash,
    is_temporary,
    output_names,
    prepare_folder,
    save_array,
    save_image,
    save_json,
)
from psp.inference.results import check_settings


def test_names_are_kept_where_they_can_be() -> None:
    names = ["a.png", "b.JPG", "c/a.jpeg", "c/d.webp", "e.tif"]
    assert list(output_names(names).values()) == ["a.png", "b.JPG", "c/a.jpeg", "c/d.png", "e.png"]
    assert output_names(names, ".npy")["c/d.webp"] == "c/d.npy"


def test_names_never_collide() -> None:
    chosen = output_names(["a.webp", "a.png", "a.bmp", "a.webp.png", "A.png"])
    assert chosen["a.png"] == "a.png" and chosen["a.webp.png"] == "a.webp.png"
    assert len({name.casefold() for name in chosen.values()}) == 5


STEMS = st.sampled_from(["a", "A", "a.b", "a.png", "d/a"])
NAMES = st.builds(str.__add__, STEMS, st.sampled_from([".png", ".jpg", ".webp", ".PNG", ".png-2.png"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, unique=True))
def test_names_never_collide_whatever_they_are(names: list[str]) -> None:
    for suffix in (None, ".npy"):
        chosen = output_names(names, suffix)
        assert set(chosen) == set(names)
        assert len({name.casefold() for name in chosen.values()}) == len(names)
        assert all(Path(chosen[name]).parent == Path(name).parent for name in names)


def test_many_names_take_no_time() -> None:
    start = time.process_time()
    output_names([f"{k % 7}/{k}.webp" for k in range(50_000)])
    assert time.process_time() - start < 3


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
def test_images_are_written_in_their_format(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    path = tmp_path / "new" / f"x{suffix}"
    save_image(image, path)
    first = path.read_bytes()
    save_image(image, path)
    assert path.read_bytes() == first
    with Image.open(path) as read:
        assert read.format == ("PNG" if suffix == ".png" else "JPEG") and read.size == (16, 16)
        if suffix == ".png":
            assert read.tobytes() == image.tobytes()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_what_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x.json", tmp_path / "file" / "deep" / "x.json"):
        with pytest.raises(UserError, match="file"):
            save_json({}, path)
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UserError, match=r"folder\.json"):
        save_json({}, tmp_path / "folder.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.json"]


def test_leftovers_of_killed_runs_are_removed(tmp_path: Path) -> None:
    """Ours alone: `.<name>.<12 hex>.tmp`, in the folders that we have made."""
    kept = {"x.png", ".keep", "a/b.tmp", "a/.vimrc.tmp", "user/.y.png.0123456789ab.tmp", ".notes.tmp", "a/.c.ABC.tmp"}
    ours = {"a/.x.png.0123456789ab.tmp", "a/deep/.z.png.ffffffffffff.tmp", ".grid.png.0123456789ab.tmp"}
    for name in kept | ours:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    def left() -> set[str]:
        return {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}

    prepare_folder(tmp_path)
    prepare_folder(tmp_path, ("inference_results", "inference.json"))
    assert left() == kept | ours, "a folder of the user's"
    prepare_folder(tmp_path, ("a",), min_age=60)
    assert left() == kept | ours, "another run may be writing them"
    prepare_folder(tmp_path, ("a", "grid.png"))
    assert left() == kept
    with atomic_open(tmp_path / ("n" * 250)) as file:
        assert file.writable() and is_temporary(next(tmp_path.glob(".nn*")))


def test_settings_decide_what_is_kept(tmp_path: Path) -> None:
    record, results = tmp_path / "inference.json", {"seed": 1, "layers": [8, 9]}
    since = check_settings(record, results)
    os.utime(record, (since - 100, since - 100))
    assert check_settings(record, results) == since - 100, "the same settings since then"
    with pytest.raises(UserError, match="seed 1, now 2.*--overwrite"):
        check_settings(record, {**results, "seed": 2})
    assert check_settings(record, {**results, "seed": 2}, may_change=True) >= since
    os.utime(record, (since - 100, since - 100))
    assert check_settings(record, {**results, "seed": 2}, overwrite=True) >= since
    assert json.loads(record.read_text())["settings"]["seed"] == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"settings": 3}', "null"])
def test_a_damaged_record_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.json").write_text(content)
    check_settings(tmp_path / "r.json", {"a": 1})
    assert json.loads((tmp_path / "r.json").read_text()) == {"settings": {"a": 1}}


def test_arrays_and_hashes(tmp_path: Path) -> None:
    save_array(np.arange(6.0).reshape(2, 3), tmp_path / "x.npy")
    assert np.load(tmp_path / "x.npy").tolist() == [[0, 1, 2], [3, 4, 5]]
    (tmp_path / "empty").write_bytes(b"")
    assert file_hash(tmp_path / "empty").startswith("e3b0c44298fc1c14")
    with pytest.raises(UserError, match="missing"):
        file_hash(tmp_path / "missing")
