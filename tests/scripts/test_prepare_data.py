"""scripts/prepare_data.py from the command line, and datasets.prepare.celebamask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from child_processes import run_script
from PIL import Image

from datasets.prepare.celebamask import PARTS, find_parts, merge_parts, read_split
from psp.errors import UserError
from psp.images.labels import LABELS
from psp.images.sources import open_source
from scripts.prepare_data import main

SCRIPT = Path(__file__).parents[2] / "scripts/prepare_data.py"


def box(value: tuple[int, int, int, int], size: int = 32) -> Image.Image:
    pixels = np.zeros((size, size), np.uint8)
    pixels[value[1] : value[3], value[0] : value[2]] = 255
    return Image.fromarray(pixels)


def parts_folder(root: Path, numbers: tuple[int, ...] = (0, 1, 2001)) -> Path:
    for number in numbers:
        folder = root / str(number // 2000)
        folder.mkdir(parents=True, exist_ok=True)
        box((4, 4, 28, 28)).convert("RGB").save(folder / f"{number:05d}_skin.png")
        box((12, 12, 20, 20)).save(folder / f"{number:05d}_nose.png")
        box((0, 0, 32, 8)).save(folder / f"{number:05d}_hair.png")
    return root


# --- CelebAMask-HQ ------------------------------------------------------------------------------------------------


def test_parts_overwrite_in_the_official_order() -> None:
    assert PARTS == ("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip",
                     "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth")  # fmt: skip
    everywhere = {part: box((0, 0, 4, 4), 4) for part in reversed(PARTS)}
    assert merge_parts(everywhere).max() == merge_parts(everywhere).min() == 18
    del everywhere["cloth"], everywhere["neck"]
    assert LABELS[merge_parts(everywhere)[0, 0]] == "neck_l"
    ids = merge_parts({"skin": box((0, 0, 4, 4), 8), "hair": box((2, 0, 8, 4), 8)})
    assert ids[0].tolist() == [1, 1, 13, 13, 13, 13, 13, 13] and ids[5].max() == 0
    with pytest.raises(UserError, match="sizes"):
        merge_parts({"skin": box((0, 0, 1, 1), 8), "hair": box((0, 0, 1, 1), 4)}, name="7")


def test_official_split(tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_text("idx orig_idx orig_file\n0 119613 119614.jpg\n1 162770 x\n2 162771 x\n3 182637 x\n4 182638 x\n")
    assert read_split(path) == {0: "train", 1: "train", 2: "val", 3: "val", 4: "test"}
    for text in ("", "1\n", "1 b c\n"):
        path.write_text(text)
        with pytest.raises(UserError, match="map.txt"):
            read_split(path)
    with pytest.raises(UserError, match="--mapping"):
        read_split(tmp_path / "missing.txt")


def test_masks_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = parts_folder(tmp_path / "anno")
    (parts / "0/notes.png").write_bytes((parts / "0/00000_skin.png").read_bytes())
    assert main(["masks", "--parts", str(parts), "--out", str(tmp_path / "out"), "--workers", "1"]) == 1
    assert "notes.png" in capsys.readouterr().err
    image = Image.open(tmp_path / "out/2001.png")
    assert image.mode == "P" and sorted(np.unique(np.asarray(image))) == [0, 1, 2, 13]
    assert image.getpalette()[3:6] == [204, 0, 0]  # type: ignore[index]


def test_masks_in_the_official_split_with_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = parts_folder(tmp_path / "anno")
    (tmp_path / "map.txt").write_text("0 5 a\n1 170000 b\n2001 190000 c\n")
    for n in (0, 1, 2001):
        (tmp_path / "img").mkdir(exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / f"img/{n}.jpg")
    args = ["masks", "--parts", str(parts), "--out", str(tmp_path / "out"), "--mapping", str(tmp_path / "map.txt"),
            "--photos", str(tmp_path / "img"), "--size", "16", "--workers", "1"]  # fmt: skip
    assert main(args) == 0
    for split, n in (("train", 0), ("val", 1), ("test", 2001)):
        assert Image.open(tmp_path / f"out/{split}/labels/{n}.png").size == (16, 16)
        assert Image.open(tmp_path / f"out/{split}/photos/{n}.jpg").size == (16, 16)
    assert "1 train, 1 val, 1 test" in capsys.readouterr().out
    assert main(args) == 0 and "3 were there already" in capsys.readouterr().out
    (tmp_path / "map.txt").write_text("0 190000 a\n1 170000 b\n2001 5 c\n")  # nobody is to be in train and in test
    with pytest.raises(UserError, match=r"out holds results of another mapping of the same name \(.*map\.txt\)"):
        main(args)
    Image.new("RGB", (64, 64), "red").save(tmp_path / "img/1.jpg")
    (tmp_path / "map.txt").write_text("0 5 a\n1 170000 b\n2001 190000 c\n")
    capsys.readouterr()
    assert main(args) == 0 and "1 made, 2 were there already" in capsys.readouterr().out
    assert Image.open(tmp_path / "out/val/photos/1.jpg").getpixel((8, 8)) == (254, 0, 0)


def test_parts_from_a_zip_and_twice(tmp_path: Path) -> None:
    parts = parts_folder(tmp_path / "anno", (0,))
    with zipfile.ZipFile(tmp_path / "anno.zip", "w") as archive:
        for file in sorted(parts.rglob("*.png")):
            archive.write(file, f"CelebAMask-HQ/{file.relative_to(tmp_path)}")
    faces, others = find_parts(open_source(tmp_path / "anno.zip"))
    assert list(faces) == [0] and set(faces[0]) == {"skin", "nose", "hair"} and not others
    (parts / "1").mkdir()
    (parts / "1/0_skin.png").write_bytes((parts / "0/00000_skin.png").read_bytes())
    with pytest.raises(UserError, match="twice"):
        find_parts(open_source(parts))


# --- sketches -----------------------------------------------------------------------------------------------------


def photos_folder(tmp_path: Path, root: Path) -> Path:
    for i, path in enumerate(sorted((root / "examples/photos").glob("*.jpg"))[:3]):
        target = tmp_path / "photos" / ("sub" if i else "") / f"{i}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(target)
    return tmp_path / "photos"


@pytest.mark.thorough
@pytest.mark.parametrize("workers", ["1", "2"])
def test_sketches_command_resumes(tmp_path: Path, root: Path, workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    photos = photos_folder(tmp_path, root)
    args = ["sketches", "--photos", str(photos), "--out", str(tmp_path / "out"), "--style", "mix", "--suffix", "_edges",
            "--workers", workers]  # fmt: skip
    assert main(args) == 0
    files = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert files == ["0_edges.png", "sketches_edges.settings.json", "sub/1_edges.png", "sub/2_edges.png"]
    first = (tmp_path / "out/0_edges.png").read_bytes()
    (tmp_path / "out/0_edges.png").unlink()
    capsys.readouterr()
    assert main(args) == 0 and "1 made, 2 were there already" in capsys.readouterr().out
    assert (tmp_path / "out/0_edges.png").read_bytes() == first


def test_sketches_of_other_photos_or_styles_never_mix(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = photos_folder(tmp_path, root), tmp_path / "out"
    args = ["sketches", "--photos", str(photos), "--out", str(out), "--size", "32", "--workers", "1"]
    assert main(args) == 0
    before = (out / "0.png").read_bytes()
    for more, other in (
        (["--style", "pencil"], r"another style \(sobel, now pencil\)"),
        (["--size", "64"], r"another size \(32, now 64\)"),
        (["--format", "jpg"], r"another format \(png, now jpg\)"),
    ):
        with pytest.raises(UserError, match=rf"out holds results of {other}; .*--out, or --overwrite"):
            main([*args, *more])
    others = tmp_path / "others"
    others.mkdir()
    shutil.copy(photos / "0.png", others / "another.png")
    with pytest.raises(UserError, match=r"other photos \(.*photos, now .*others\)"):
        main(["sketches", "--photos", str(others), *args[3:]])
    assert (out / "0.png").read_bytes() == before and not list(out.rglob("*.jpg"))
    (photos / "0.png").write_bytes((photos / "sub/1.png").read_bytes())
    capsys.readouterr()
    assert main(args) == 0 and "1 made, 2 were there already" in capsys.readouterr().out, "another photo of that name"
    assert (out / "0.png").read_bytes() == (out / "sub/1.png").read_bytes()
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert main([*args, "--style", "pencil", "--overwrite"]) == 0 and main([*args, "--style", "pencil"]) == 0
    assert "3 were there already" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns > at for path, at in times.items())


def test_making_again_goes_on_where_it_stopped(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is older than the command that makes it in another way is never taken for its result."""
    photos, out = photos_folder(tmp_path, root), tmp_path / "out"
    args = ["sketches", "--photos", str(photos), "--out", str(out), "--size", "32", "--workers", "1"]
    assert main(args) == 0
    old = (out / "0.png").read_bytes()
    assert main([*args, "--style", "pencil", "--overwrite"]) == 0
    (out / "0.png").write_bytes(old)  # as if it had been interrupted before this one
    os.utime(out / "0.png", (1, 1))
    capsys.readouterr()
    assert main([*args, "--style", "pencil"]) == 0 and "1 made, 2 were there already" in capsys.readouterr().out
    assert (out / "0.png").read_bytes() != old


def test_a_run_that_made_nothing_stops_nobody(tmp_path: Path, root: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    (photos / "0.png").write_bytes(b"nothing")
    args = ["sketches", "--photos", str(photos), "--out", str(out), "--workers", "1"]
    assert main(args) == 1 and main([*args, "--style", "pencil"]) == 1
    photos_folder(tmp_path, root)
    assert main(args) == 0


def test_files_that_nothing_is_known_of_are_not_replaced(tmp_path: Path, root: Path) -> None:
    photos = photos_folder(tmp_path, root)
    Image.new("L", (8, 8)).save(tmp_path / "0.png")
    for command in (["sketches"], ["labels"], ["align"]):
        with pytest.raises(UserError, match="holds results of settings that are not recorded"):
            main([*command, "--photos", str(photos), "--out", str(tmp_path), "--workers", "1"])
    for command in (["merge", "--photos", str(photos), "--held_out", "0.6"], ["weights", "--photos", str(photos)]):
        out = tmp_path / f"{command[0]}.zip"
        out.write_text("mine")
        with pytest.raises(UserError, match=rf"{command[0]}\.zip holds results of settings that are not recorded"):
            main([*command, "--out", str(out)])
        assert out.read_text() == "mine"
        assert main([*command, "--out", str(out), "--overwrite"]) == 0 and main([*command, "--out", str(out)]) == 0


def test_one_file_of_other_settings_is_not_replaced(tmp_path: Path, root: Path) -> None:
    photos, out = photos_folder(tmp_path, root), tmp_path / "w.json"
    args = ["weights", "--photos", str(photos), "--out", str(out)]
    assert main([*args, "--set", "0*=2"]) == 0
    before = out.read_bytes()
    with pytest.raises(UserError, match=r"w\.json holds results of other weights \(0\*=2, now 0\*=3\); .*--overwrite"):
        main([*args, "--set", "0*=3"])
    assert out.read_bytes() == before
    assert main([*args, "--set", "0*=3", "--overwrite"]) == 0 and b"3" in out.read_bytes()


@pytest.mark.parametrize("command", ["sketches", "labels", "align"])
def test_photos_are_not_replaced_by_what_is_made_of_them(tmp_path: Path, root: Path, command: str) -> None:
    photos = photos_folder(tmp_path, root)
    for kind in ("photos", "labels"):
        shutil.copytree(photos, tmp_path / "both" / kind)
    archive = Path(shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "both"))
    before = (photos / "0.png").read_bytes()
    for place in (photos, archive):
        out = photos / ".." / place.name
        with pytest.raises(UserError, match="is where the photos are; choose another --out"):
            main([command, "--photos", str(place), "--out", str(out), "--workers", "1", "--overwrite"])
    assert (photos / "0.png").read_bytes() == before and not list(photos.glob("*.json")) and zipfile.is_zipfile(archive)
    if command == "align":  # its results lie in photos/ and labels/
        both = tmp_path / "both"
        for given in (["--root", both], ["--photos", both / "photos", "--labels", both / "labels"]):
            with pytest.raises(UserError, match="is where the photos are; choose another --out"):
                main(["align", *map(str, given), "--out", str(both), "--workers", "1", "--overwrite"])
        assert (both / "photos" / "0.png").read_bytes() == before
    if command == "sketches":  # of one photo, beside it
        args = ["--photos", str(photos / "sub/1.png"), "--out", str(photos / "sub"), "--suffix", "_edges"]
        with pytest.raises(UserError, match="not recorded"):
            main([command, *args[:4]])
        assert main([command, *args]) == 0 and (photos / "sub/1_edges.png").is_file()


@pytest.mark.thorough
def test_drawings_are_the_same_in_any_number_of_processes(tmp_path: Path, root: Path) -> None:
    photos = photos_folder(tmp_path, root)
    args = ["sketches", "--photos", str(photos), "--style", "drawing", "--size", "64"]
    for workers in ("1", "2"):
        assert main([*args, "--out", str(tmp_path / workers), "--workers", workers]) == 0
    record = tmp_path / "1" / "sketches.settings.json"
    record.write_text(record.read_text().replace('"parser": "', '"parser": "0'))
    with pytest.raises(UserError, match="results of another parser"):
        main([*args, "--out", str(tmp_path / "1")])
    pictures = [np.asarray(Image.open(tmp_path / "1" / name)) for name in ("0.png", "sub/1.png", "sub/2.png")]
    for picture, name in zip(pictures, ("0.png", "sub/1.png", "sub/2.png")):
        assert picture.shape == (64, 64) and picture.min() < 200 and np.median(picture) > 240
        assert np.array_equal(picture, np.asarray(Image.open(tmp_path / "2" / name)))


def test_drawings_of_given_label_maps(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = photos_folder(tmp_path, root)
    ids = np.zeros((128, 128), np.uint8)
    for name in ("0", "sub/1"):
        (tmp_path / "labels/sub").mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids).save(tmp_path / f"labels/{name}.png")
        ids = ids.copy()
        ids[30:100, 30:100] = 1
    args = ["sketches", "--photos", str(photos), "--out", str(tmp_path / "out"), "--workers", "1",
            "--labels", str(tmp_path / "labels")]  # fmt: skip
    assert main([*args, "--style", "drawing"]) == 1
    assert "2.png: no label" in capsys.readouterr().err
    assert np.asarray(Image.open(tmp_path / "out/0.png")).min() == 255  # the map has no face, whatever the photo shows
    assert np.asarray(Image.open(tmp_path / "out/sub/1.png")).min() < 200
    with pytest.raises(UserError, match="--labels is for --style drawing"):
        main([*args, "--style", "sobel"])


def test_damaged_photo_is_named_and_the_rest_is_made(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = photos_folder(tmp_path, root)
    (photos / "bad.png").write_bytes(b"nothing")
    assert main(["sketches", "--photos", str(photos), "--out", str(tmp_path / "out"), "--workers", "1"]) == 1
    captured = capsys.readouterr()
    assert "3 made" in captured.out and "bad.png" in captured.err and "1 left out" in captured.err


def test_two_photos_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.png", "a.bmp"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(UserError, match=r"a\.png"):
        main(["sketches", "--photos", str(tmp_path), "--out", str(tmp_path / "out")])


# --- align --------------------------------------------------------------------------------------------------------


def test_align_pairs_and_names_what_has_no_face(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = photos_folder(tmp_path, root)
    Image.new("RGB", (100, 100), "gray").save(photos / "wall.png")
    main(["sketches", "--photos", str(photos), "--out", str(tmp_path / "s"), "--suffix", "_edges", "--workers", "1"])
    (tmp_path / "s/sub/2_edges.png").unlink()
    args = ["align", "--photos", str(photos), "--sketches", str(tmp_path / "s"), "--out", str(tmp_path / "out"),
            "--size", "64", "--detector", "dlib", "--workers", "1"]  # fmt: skip
    assert main(args) == 1
    err = capsys.readouterr().err
    assert "wall.png: no face" in err and "2.png: no sketch" in err and "2 left out" in err
    for name in ("0.png", "sub/1.png"):
        assert (
            Image.open(tmp_path / "out/photos" / name).size
            == Image.open(tmp_path / "out/sketches" / name).size
            == (64, 64)
        )
        assert Image.open(tmp_path / "out/sketches" / name).mode == "L"
    assert main(args) == 1 and "0 made, 2 were there already" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"results of another detector \(dlib, now mtcnn\)"):
        main([*args, "--detector", "mtcnn"])
    shutil.copy(tmp_path / "s/sub/1_edges.png", tmp_path / "s/0_edges.png")  # another sketch of that name
    assert main(args) == 1 and "1 made, 1 were there already" in capsys.readouterr().out


def test_align_labels_keep_ids(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, labels = photos_folder(tmp_path, root), tmp_path / "labels"
    ids = np.zeros((256, 256), np.uint8)
    ids[60:200, 60:200] = 17
    labels.mkdir()
    for name in ("0", "1"):
        Image.fromarray(ids).save(labels / f"{name}.png")
    Image.fromarray(ids.astype(np.int32) - 1).save(labels / "2.tif")
    args = ["align", "--photos", str(photos), "--labels", str(labels), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(args) == 1
    said = capsys.readouterr()
    assert "2 made" in said.out and "2.tif: label id -1 out of range" in said.err
    image = Image.open(tmp_path / "out/labels/0.png")
    assert image.mode == "P" and set(np.unique(np.asarray(image))) == {0, 17}


# --- the command line ---------------------------------------------------------------------------------------------


def test_help_needs_no_torch() -> None:
    code = (
        f"import sys, runpy; sys.argv = ['x', 'align', '--help']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit: pass\nassert not {'torch', 'PIL', 'numpy'} & set(sys.modules), 'slow --help'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "--detector" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("given", "allowed"), [("--size=9000", "0 to 8192"), ("--style=ink", "sobel, pencil, xdog, drawing, mix")]
)
def test_what_sketches_takes(tmp_path: Path, given: str, allowed: str) -> None:
    with pytest.raises(UserError, match=f"{given.split('=')[0]} takes {allowed}$"):
        main(["sketches", "--photos", str(tmp_path), "--out", str(tmp_path / "o"), given])


@pytest.mark.thorough
def test_mistakes_are_one_line_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for args in (
        ["sketches", "--photos", str(tmp_path / "nope"), "--out", str(tmp_path / "o")],
        ["sketches", "--photos", str(tmp_path), "--out", str(tmp_path / "file/o"), "--workers", "1"],
        ["sketches", "--photos", str(tmp_path), "--out", str(tmp_path / "o"), "--style", "ink"],
        ["masks", "--parts", str(tmp_path), "--out", str(tmp_path / "o")],
    ):
        done = run_script("prepare_data", *args, folder=Path("/"))
        assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
