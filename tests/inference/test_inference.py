"""scripts/inference.py from flags to files: every image, the right place, the same picture however it is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import drawing, fill_folder, labels, photo, save_tiny, tiny_psp

from psp.errors import UserError
from psp.images.preprocess import prepare_source
from psp.images.sheets import to_image
from psp.inference.engine import Engine
from psp.inference.options import parse
from psp.inference.run import translate_folder

NAMES = ["a.png", "b.jpg", "deep/a.png", "deep/er/c 1.png", "é.png"]
Infer = Callable[..., int]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    tasks = ("celebs_sketch_to_face", "celebs_seg_to_face", "celebs_super_resolution")
    return {task: save_tiny(folder / f"{task}.pt", task) for task in tasks}


@pytest.fixture
def infer(checkpoints: dict[str, Path], root: Path, tmp_path: Path) -> Infer:
    """infer(flags...) runs in this process on `tmp_path/in` into `tmp_path/out` unless told otherwise."""

    def call(*flags: str, task: str = "celebs_sketch_to_face", data: Path | None = None, out: str = "out") -> int:
        given = [f"--checkpoint_path={checkpoints[task]}", f"--exp_dir={tmp_path / out}", "--device=cpu", *flags]
        data_flag = f"--data_path={data or tmp_path / 'in'}"
        return translate_folder(parse([data_flag, *given], mixing=False)).status

    return call


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_every_image_is_made_in_its_place(infer: Infer, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", NAMES)
    assert infer("--test_batch_size=2") == 0
    assert files(tmp_path / "out" / "inference_results") == sorted(NAMES)
    assert files(tmp_path / "out") == sorted(
        [f"inference_results/{name}" for name in NAMES] + [".lock", "inference.json", "stats.json", "stats.txt"]
    )
    model = tiny_psp()
    with torch.no_grad():
        source = prepare_source(drawing(2), model.task)[None]  # type: ignore[arg-type]
        expected = np.asarray(to_image(model.decode(model.encode(source))[0]))
    found = pixels(tmp_path / "out" / "inference_results" / "deep" / "a.png")
    assert found.shape == (16, 16, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("task", ["celebs_seg_to_face", "celebs_super_resolution"])
def test_other_tasks(infer: Infer, tmp_path: Path, task: str) -> None:
    fill_folder(tmp_path / "in", ["a.png", "b.png"], labels if task == "celebs_seg_to_face" else photo)
    assert infer("--couple_outputs", task=task) == 0
    coupled = pixels(tmp_path / "out" / "inference_coupled" / "b.png")
    assert coupled.shape == (16, 32, 3)
    assert (coupled[:, 16:] == pixels(tmp_path / "out" / "inference_results" / "b.png")).all()


@pytest.mark.thorough
def test_batch_size_workers_and_shards_do_not_change_the_pictures(infer: Infer, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", [f"{k}.png" for k in range(7)])
    common = ["--latent_mask=2-5", "--seed=5", "--save_latents"]
    infer(*common, "--test_batch_size=7", out="whole")
    for k, (batch, workers) in enumerate([(1, 0), (2, 2), (3, 1)]):
        infer(*common, f"--test_batch_size={batch}", f"--test_workers={workers}", out=f"b{k}")
    for shard in range(3):
        infer(*common, "--num_shards=3", f"--shard_index={shard}", out="sharded")
    for other in ("b0", "b1", "b2", "sharded"):
        for k in range(7):
            codes = [np.load(tmp_path / out / "inference_latents" / f"{k}.npy") for out in ("whole", other)]
            # on CPUs without AVX-512 another batch size means another convolution kernel: 1.2e-5 of the largest code
            np.testing.assert_allclose(codes[1], codes[0], rtol=1e-4, atol=3e-5 * np.abs(codes[0]).max())
            a, b = (pixels(tmp_path / out / "inference_results" / f"{k}.png").astype(int) for out in ("whole", other))
            assert np.abs(a - b).max() <= 1
    assert (tmp_path / "sharded" / "stats_shard-1-of-3.json").exists()


def test_same_seed_same_bytes_other_seed_other_pictures(infer: Infer, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", NAMES)
    for out, seed in (("one", 1), ("two", 1), ("three", 2)):
        infer("--latent_mask=2-5", f"--seed={seed}", "--couple_outputs", out=out)
    content = {out: {n: (tmp_path / out / n).read_bytes() for n in files(tmp_path / out) if n[-3:] in ("png", "jpg")}
               for out in ("one", "two", "three")}  # fmt: skip
    assert content["one"] == content["two"] != content["three"]
    assert len(content["one"]) == 2 * len(NAMES)


def test_file_zip_and_folder_give_the_same_picture(infer: Infer, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["a.png", "b.png"])
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("a.png", "b.png"):
            archive.write(tmp_path / "in" / name, name)
    flags = ["--latent_mask=3", "--test_batch_size=1"]
    infer(*flags, out="folder")
    infer(*flags, data=tmp_path / "in.zip", out="zip")
    infer(*flags, data=tmp_path / "in" / "b.png", out="file")
    assert files(tmp_path / "file" / "inference_results") == ["b.png"]
    results = {(tmp_path / out / "inference_results" / "b.png").read_bytes() for out in ("folder", "zip", "file")}
    assert len(results) == 1


def test_a_half_done_folder_is_completed(infer: Infer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill_folder(tmp_path / "in", NAMES)
    infer("--n_images=2")
    results = tmp_path / "out" / "inference_results"
    first = {path: path.stat().st_mtime_ns for path in results.rglob("*.*")}
    (results / "deep").mkdir()
    (results / "deep" / "a.png").write_bytes(b"")  # what a crash of the machine can leave
    (results / ".a.png.0123456789ab.tmp").write_bytes(b"half")
    infer()
    assert "3 made, 2 already there" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == at for path, at in first.items())
    assert files(results) == sorted(NAMES)
    infer()
    assert "0 made, 5 already there" in capsys.readouterr().out
    drawing(77).save(tmp_path / "in" / "a.png")
    os.utime(tmp_path / "in" / "a.png", (4e9, 4e9))
    infer("--couple_outputs")
    assert "5 made, 0 already there" in capsys.readouterr().out, "coupled pictures were missing"


def test_one_bad_file_does_not_stop_the_others(
    infer: Infer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill_folder(tmp_path / "in", [f"{k}.png" for k in range(6)])
    data = (folder / "3.png").read_bytes()
    (folder / "1.png").write_bytes(data[: len(data) // 2])
    (folder / "4.png").write_bytes(b"not an image")
    (folder / "5.png").write_bytes(b"")
    assert infer("--test_batch_size=3") == 1
    out, err = capsys.readouterr()
    assert files(tmp_path / "out" / "inference_results") == ["0.png", "2.png", "3.png"]
    assert [line for line in err.splitlines() if "failed" in line] == err.splitlines() and len(err.splitlines()) == 3
    assert "3 made, 0 already there, 3 failed" in out
    assert set(json.loads((tmp_path / "out" / "stats.json").read_text())["failed"]) == {"1.png", "4.png", "5.png"}


def test_label_out_of_range_names_id_and_file(infer: Infer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill_folder(tmp_path / "in", ["good.png"], labels)
    Image.fromarray(np.full((32, 32), 25, np.uint8)).save(tmp_path / "in" / "bad.png")
    assert infer(task="celebs_seg_to_face") == 1
    err = capsys.readouterr().err
    assert "25" in err and "bad.png" in err and len(err.splitlines()) == 1


def test_outputs_that_would_share_a_name_do_not(infer: Infer, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["a.png", "a.bmp", "a.jpg", "a.webp", "b.tif", "A.PNG"])
    assert infer("--save_latents") == 0
    made = files(tmp_path / "out" / "inference_results")
    assert len(made) == len({name.casefold() for name in made}) == 6
    assert {"a.jpg", "a.bmp.png", "a.webp.png", "b.png"} < set(made)
    assert len(files(tmp_path / "out" / "inference_latents")) == 6


def test_sizes(infer: Infer, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["a.png"])
    infer("--resize_outputs", "--couple_outputs=true", "--save_grid")
    assert pixels(tmp_path / "out" / "inference_results" / "a.png").shape == (256, 256, 3)
    assert pixels(tmp_path / "out" / "inference_coupled" / "a.png").shape == (256, 512, 3)
    assert pixels(tmp_path / "out" / "grid.png").shape[1] > 2 * 192


def test_super_resolution_factors(infer: Infer, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["s/a.png"], lambda k: photo(k, 256))
    assert infer("--resize_factors=4,16", "--couple_outputs", task="celebs_super_resolution") == 0
    results = tmp_path / "out" / "inference_results"
    assert files(results) == ["downsampling_16/s/a.png", "downsampling_4/s/a.png"]
    assert len({(results / name).read_bytes() for name in files(results)}) == 2
    coupled = pixels(tmp_path / "out" / "inference_coupled" / "downsampling_4" / "s" / "a.png")
    assert coupled.shape == (16, 48, 3), "original, shrunk, result"
    with pytest.raises(UserError, match="super-resolution"):
        infer("--resize_factors=4", out="other")


def test_one_style_for_the_folder(infer: Infer, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["a.png", "b.png"])
    infer("--style_seed=3", "--save_latents", out="seed")
    a, b = (np.load(tmp_path / "seed" / "inference_latents" / f"{name}.npy") for name in "ab")
    assert a.shape == (6, 8)
    np.testing.assert_array_equal(a[3:], b[3:])
    assert not np.isclose(a[:3], b[:3]).all()

    np.save(tmp_path / "style.npy", a)
    infer(f"--style_code={tmp_path / 'style.npy'}", "--save_latents", out="code")
    for name in "ab":
        same = [(tmp_path / out / "inference_results" / f"{name}.png").read_bytes() for out in ("seed", "code")]
        assert same[0] == same[1]

    infer("--style_seed=3", "--mix_alpha=0.25", "--latent_mask=1", "--save_latents", out="weak")
    plain = tmp_path / "plain"
    infer("--save_latents", out="plain")
    own = np.load(plain / "inference_latents" / "a.npy")
    weak = np.load(tmp_path / "weak" / "inference_latents" / "a.npy")
    np.testing.assert_allclose(weak[[0, 2, 3, 4, 5]], own[[0, 2, 3, 4, 5]], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weak[1], 0.25 * a[3] + 0.75 * own[1], rtol=1e-4, atol=1e-5)


def test_style_image_of_a_photo_model(infer: Infer, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["a.png", "b.png"], photo)
    flags = ["--save_latents", f"--style_image={tmp_path / 'in' / 'b.png'}"]
    infer(*flags, task="celebs_super_resolution")
    a, b = (np.load(tmp_path / "out" / "inference_latents" / f"{name}.npy") for name in "ab")
    np.testing.assert_allclose(a[3:], b[3:], rtol=1e-4, atol=1e-4)
    assert not np.isclose(a[:3], b[:3], rtol=1e-3).all()


def test_results_are_never_read_again(infer: Infer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill_folder(tmp_path / "in", ["a.png", "b.png"])
    infer("--save_grid", "--couple_outputs", out="in")
    infer(out="in")
    assert "2 images" in capsys.readouterr().out
    assert files(tmp_path / "in" / "inference_results") == ["a.png", "b.png"]
    with pytest.raises(UserError, match=r"--data_path|replace"):
        infer(data=tmp_path / "in" / "inference_results", out="in")


def test_stats_say_what_was_measured(infer: Infer, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["a.png", "b.png", "c.png"])
    infer()
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert stats["counts"] == {"made": 3, "kept": 0, "failed": 0} and set(stats["per_image"]) == {
        "a.png",
        "b.png",
        "c.png",
    }
    assert stats["seed"] == 0 and stats["device"].startswith("cpu") and stats["versions"]["torch"] == torch.__version__
    assert stats["seconds"]["network_per_image"]["median"] > 0
    assert len(next(iter(stats["settings"]["model"].values()))) == 64
    assert (tmp_path / "out" / "stats.txt").read_text().startswith("Runtime ")


def test_unwritable_folder(infer: Infer, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["a.png"])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        infer(out="file/below")


def test_disk_full_ends_the_run(infer: Infer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_folder(tmp_path / "in", ["a.png", "b.png"])

    def full(*_: object, **__: object) -> None:
        raise UserError("cannot write x.png: No space left on device")

    monkeypatch.setattr("psp.inference.folder.save_image", full)
    with pytest.raises(UserError, match="No space"):
        infer("--test_batch_size=1")


def test_a_result_that_is_not_finite_is_no_picture(
    infer: Infer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_folder(tmp_path / "in", ["a.png"])
    decode = Engine.decode
    monkeypatch.setattr(Engine, "decode", lambda *a, **k: decode(*a, **k) * float("nan"))
    assert infer() == 1
    assert "not finite" in capsys.readouterr().err
    assert not (tmp_path / "out" / "inference_results").exists()


@pytest.mark.parametrize("precision", ["bf16"])
def test_half_precision_is_close(infer: Infer, tmp_path: Path, precision: str) -> None:
    fill_folder(tmp_path / "in", ["a.png"])
    infer(out="full")
    infer(f"--precision={precision}", out="half")
    a, b = (pixels(tmp_path / out / "inference_results" / "a.png").astype(int) for out in ("full", "half"))
    assert np.abs(a - b).mean() < 8
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        infer("--precision=fp16", out="fp16")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data_path=nowhere"], "nowhere: does not exist"),
        (["--data_path=empty"], "no images"),
        (["--data_path=in", "--checkpoint_path=in/a.png"], "in/a.png"),
        (["--data_path=in", "--checkpoint_path=nowhere.pt"], "nowhere.pt does not exist"),
        (["--data_path=in", "--latent_mask=4-9"], "layer 9 is out of range"),
        (["--data_path=in", "--mix_alpha=3"], "mix_alpha"),
        (["--data_path=in", "--dataset_type=celebs_seg_to_face"], "was trained for celebs_sketch_to_face"),
        (["--data_path=in", "--dataset_type=cats"], "cats"),
        (["--data_path=in", "--device=tpu"], "--device takes"),
        (["--data_path=in", "--exp_dir=in/a.png"], "in/a.png"),
        (["--data_path=in", "--style_code=in/a.png"], "style code"),
        (["--data_path=in", "--style_seed=1", "--style_code=x.pt"], "only one"),
        (["--data_path=in", "--test_batch_size=0"], "--test_batch_size 0 is too small"),
        (["--data_path=in", "--num_shards=2", "--shard_index=2"], "--shard_index 2 is out of range"),
        (["--data_path=in", "--couple_output"], "did you mean --couple_outputs?"),
        (["--data_path=in", "--couple_outputs=maybe"], "expected true or false"),
    ],
)
def test_mistakes_take_one_line(
    flags: list[str],
    words: str,
    tmp_path: Path,
    root: Path,
    checkpoints: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill_folder(tmp_path / "in", ["a.png"])
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    given = [f"--checkpoint_path={checkpoints['celebs_sketch_to_face']}", "--device=cpu", "--exp_dir=out", *flags]
    with pytest.raises(UserError) as raised:
        translate_folder(parse(given, mixing=False))
    assert words in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "out" / "inference_results").exists()


def test_the_script_itself(tmp_path: Path, root: Path, checkpoints: dict[str, Path]) -> None:
    fill_folder(tmp_path / "in", ["a.png", "b.png"])
    command = [sys.executable, str(root / "scripts" / "inference.py"), "--data_path", "in", "--couple_outputs"]
    command += [
        "--checkpoint_path",
        str(checkpoints["celebs_sketch_to_face"]),
        "--exp_dir",
        "out",
        "--test_workers",
        "0",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "out/inference_results: 2 made" in done.stdout and "in: 2 images" in done.stdout
    wrong = subprocess.run([*command, "--test_batch_size=0"], cwd=tmp_path, capture_output=True, text=True)
    assert wrong.returncode == 2 and len(wrong.stderr.splitlines()) == 1 and wrong.stderr.startswith("error: --test_b")


@pytest.mark.slow
def test_killed_at_any_time_nothing_is_half_there(
    infer: Infer, tmp_path: Path, root: Path, checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL again and again while results are written: every file there is whole, and a re-run makes the rest."""
    names = [f"{k}.png" for k in range(60)]
    fill_folder(tmp_path / "in", names)
    infer("--couple_outputs", "--resize_outputs", out="whole")
    command = [sys.executable, str(root / "scripts" / "inference.py"), "--data_path", "in", "--couple_outputs"]
    command += ["--checkpoint_path", str(checkpoints["celebs_sketch_to_face"]), "--exp_dir", "out", "--resize_outputs"]
    results = tmp_path / "out" / "inference_results"
    done = 0
    for k in range(12):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list(results.glob("*.png"))) < done + 4:
            time.sleep(0.001)
        time.sleep(0.003 * k)
        process.kill()
        process.wait()
        for path in (tmp_path / "out").rglob("*.png"):
            pixels(path)
        done = len(list(results.glob("*.png")))
    assert 0 < done < 60
    kept = {path: path.stat().st_mtime_ns for path in results.glob("*.png")}
    infer("--couple_outputs", "--resize_outputs")
    again = [path for path, at in kept.items() if path.stat().st_mtime_ns != at]
    assert len(again) <= 12, "only those whose coupled picture was missing"
    assert files(tmp_path / "out") == files(tmp_path / "whole"), "no temporary file is left"
    for name in names:
        a, b = (pixels(tmp_path / out / "inference_results" / name).astype(int) for out in ("whole", "out"))
        assert np.abs(a - b).max() <= 1
