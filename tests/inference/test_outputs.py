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
    check_settings,
    file_hash,
    free_folder,
    is_temporary,
    prepare_folder,
    save_array,
    save_json,
)
from psp.images.output import output_names, save_image


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
    with pytest.raises(UserError, match=r"results of another seed \(1, now 2\); .*--exp_dir, or --overwrite"):
        check_settings(record, {**results, "seed": 2})
    assert check_settings(record, results, overwrite=True, shared=True) > since - 1
    assert record.stat().st_mtime == since - 100, "the other processes' results count"
    assert check_settings(record, {**results, "seed": 2}, overwrite=True) >= since
    assert json.loads(record.read_text())["settings"]["seed"] == 2


HASH, OTHER_HASH = "a" * 64, "b" * 64
DIFFERENCES: list[tuple[dict[str, object], dict[str, object], str]] = [
    ({"model": {"a.pt": HASH}}, {"model": {"b.pt": HASH}}, "another model (a.pt, now b.pt)"),
    ({"model": {"a.pt": HASH}}, {"model": {"a.pt": OTHER_HASH}}, "another model of the same name (a.pt)"),
    ({"data_path": "/in/a"}, {"data_path": "/in/b"}, "other inputs (/in/a, now /in/b)"),
    ({"style_image": HASH}, {"style_image": OTHER_HASH}, "another style image"),
    ({"layers": "", "seed": 1}, {"layers": "6-11", "style_seed": 7}, "other layers of style (none, now 6-11), another "
     "style seed (none, now 7) and another seed (1, now none)"),
    ({"cleanup": True}, {"cleanup": False}, "another cleanup (on, now off)"),
    ({"a": 1, "b": 1, "c": 1, "d": 1}, {}, "another a (1, now none), another b (1, now none), another c (1, now none) "
     "and more"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "now", "words"), DIFFERENCES)
def test_what_differs_is_said_in_plain_words(
    tmp_path: Path, before: dict[str, object], now: dict[str, object], words: str
) -> None:
    check_settings(tmp_path / "r.json", before)
    with pytest.raises(UserError) as caught:
        check_settings(tmp_path / "r.json", now, flag="--out")
    advice = "give another --out, or --overwrite to make them again"
    assert str(caught.value) == f"{tmp_path} holds results of {words}; {advice}"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"settings": 3}', "null", None])
def test_results_without_a_record_are_not_replaced(tmp_path: Path, content: str | None) -> None:
    """A damaged record is none; where nothing lies beside it, that does not matter."""
    if content is not None:
        (tmp_path / "r.json").write_text(content)
    (tmp_path / "results").mkdir()
    check_settings(tmp_path / "r.json", {"a": 1}, [tmp_path / "results"])
    assert json.loads((tmp_path / "r.json").read_text()) == {"settings": {"a": 1}}
    (tmp_path / "results" / "a.png").write_text("")
    (tmp_path / "r.json").write_text(content) if content is not None else (tmp_path / "r.json").unlink()
    with pytest.raises(UserError, match="settings that are not recorded"):
        check_settings(tmp_path / "r.json", {"a": 1}, [tmp_path / "results"])
    check_settings(tmp_path / "r.json", {"a": 1}, [tmp_path / "results"], overwrite=True)


def test_a_record_without_results_stops_nobody(tmp_path: Path) -> None:
    """A run that was ended before its first result, or that found a mistake, leaves one."""
    check_settings(tmp_path / "r.json", {"seed": 1}, [tmp_path / "results"])
    check_settings(tmp_path / "r.json", {"seed": 2}, [tmp_path / "results"])
    assert json.loads((tmp_path / "r.json").read_text()) == {"settings": {"seed": 2}}
    with pytest.raises(UserError, match="another seed"):  # of another process' results, which will be there soon
        check_settings(tmp_path / "r.json", {"seed": 3}, [tmp_path / "results"], shared=True)


def test_the_default_folder_is_the_first_without_other_results(tmp_path: Path) -> None:
    def run(settings: dict[str, object]) -> tuple[str, str]:
        folder, line = free_folder(tmp_path / "faces", "r.json", settings, ["results"])
        (folder / "results").mkdir(parents=True, exist_ok=True)
        check_settings(folder / "r.json", settings, [folder / "results"])
        (folder / "results" / "a.png").touch()
        return folder.name, line

    assert run({"seed": 1}) == ("faces", "")
    assert run({"seed": 2}) == (
        "faces_2", f"{tmp_path}/faces_2, as {tmp_path}/faces holds results of another seed (1, now 2)"
    )  # fmt: skip
    assert [run({"seed": seed})[0] for seed in (1, 3, 2, 3)] == ["faces", "faces_3", "faces_2", "faces_3"]


def test_arrays_and_hashes(tmp_path: Path) -> None:
    save_array(np.arange(6.0).reshape(2, 3), tmp_path / "x.npy")
    assert np.load(tmp_path / "x.npy").tolist() == [[0, 1, 2], [3, 4, 5]]
    (tmp_path / "empty").write_bytes(b"")
    assert file_hash(tmp_path / "empty").startswith("e3b0c44298fc1c14")
    with pytest.raises(UserError, match="missing"):
        file_hash(tmp_path / "missing")
