"""Options, files of options and folders that mean harm: exit status 2 and one line, nothing read without end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import finish, run_script, start, wait_until
from measured import refused_cheaply
from tiny_models import drawing, save_tiny

from psp.errors import UserError
from psp.files import only_process_in, read_json, read_text, read_yaml
from psp.images.labels import get_label_map
from psp.inference import options
from psp.training.flags import parse
from psp.training.resolve import resolve

PARSE = "psp.training.flags.parse(['--config', sys.argv[1]])"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "tiny.pt")
    (tmp_path / "in").mkdir()
    drawing(1).save(tmp_path / "in" / "a.png")
    return tmp_path


def infer(place: Path, *flags: str) -> tuple[int | None, list[str]]:
    """Exit status and lines of stderr."""
    done = run_script("inference", "--checkpoint_path=tiny.pt", "--data_path=in", *flags, folder=place)
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize("kind", ["device", "pipe", "large", "folder", "missing", "bytes"])
def test_texts_are_small_regular_files(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    if kind == "device":
        path = Path("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        path.write_bytes(b"a" * (2 << 20))
    elif kind == "folder":
        path.mkdir()
    elif kind == "bytes":
        path.write_bytes(b"\xff\xfe")
    for read in (lambda: parse(["--config", str(path)]), lambda: read_text(path)):
        with pytest.raises(UserError) as caught:
            read()
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    link = tmp_path / "link.json"
    link.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"link\.json.* not a regular file"):
        get_label_map(str(link))


def test_a_config_without_end_is_refused_cheaply() -> None:
    assert "not a regular file" in refused_cheaply("psp.training.flags", PARSE, Path("/dev/zero"))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "text",
    ["max_steps: " + "1" + ":59" * 20_000, "max_steps: !!int '" + "1" + ":59" * 20_000 + "'", "seed: " + "9" * 60_000]
    + ["learning_rate: !!float '" + "1" + ":59" * 20_000 + ".5'", "- " * 30_000, "{a: " * 15_000, "a: 1\n" * 12_000],
    ids=["base 60", "tagged base 60", "digits", "float base 60", "deep", "flow", "many"],
)
def test_yaml_numbers_and_depths_are_refused_cheaply(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    refused_cheaply("psp.training.flags", PARSE, path)


def test_usual_yaml_means_what_it_meant() -> None:
    text = "a: 1\nb: -2.5\nc: 1e-4\nd: true\ne: null\nf: text\ng: 0x10\nh: 1_000\ni: .inf\nj: [1, 2]\nk: 1.5e+3\n"
    assert read_yaml(text, where="x") == {
        "a": 1, "b": -2.5, "c": "1e-4", "d": True, "e": None, "f": "text", "g": 16, "h": 1000, "i": float("inf"),
        "j": [1, 2], "k": 1500.0,
    }  # fmt: skip
    for wrong in ("a: 1:59:59", "a: [", "!!python/object/apply:os.system [x]"):
        with pytest.raises(UserError, match="x is malformed"):
            read_yaml(wrong, where="x")
    with pytest.raises(UserError, match="x is malformed or damaged"):
        read_json("[" * 100_000, where="x")


@pytest.mark.parametrize("seed", [2**64, 10**30])
def test_seeds_that_torch_cannot_take(seed: int, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"seed: {seed}\n")
    for argv in (["--seed", str(seed)], ["--config", str(tmp_path / "config.yaml")]):
        with pytest.raises(UserError, match=r"--seed \d+ must be a whole number from 0 to 9223372036854775807"):
            resolve(parse(argv), examples=True)
    for mixing, flag in ((True, "--seed"), (True, "--style_seed"), (False, "--seed")):
        with pytest.raises(UserError, match=f"{flag} {seed} is too large"):
            options.parse([flag, str(seed)], mixing=mixing)


def test_far_too_many_outputs_name_the_flag_and_its_bound() -> None:
    with pytest.raises(UserError, match="--n_outputs_to_generate 1000000000 is too large; the most is 1000"):
        options.parse(["--n_outputs_to_generate", "1000000000"], mixing=True)


def test_a_bad_label_map_is_said_at_the_start(place: Path) -> None:
    (place / "map.json").write_text('{"1": 99}')
    status, lines = infer(place, "--label_map=map.json")
    assert status == 2 and len(lines) == 1 and "map.json" in lines[0], lines


@pytest.mark.thorough
def test_names_that_are_not_utf8(place: Path, root: Path) -> None:
    os.rename(os.fsencode(place / "in"), os.fsencode(place) + b"/caf\xe9")
    command: list[str | bytes] = [sys.executable, str(root / "scripts" / "inference.py"), "--checkpoint_path=tiny.pt"]
    env = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([*command, b"--data_path=caf\xe9", "--exp_dir=out"], cwd=place, capture_output=True, env=env)
    assert (done.returncode, done.stderr) == (0, b"") and b"caf\\udce9" in done.stdout, done


def test_two_runs_in_one_folder(place: Path) -> None:
    """The second one says who is in it; that one goes on. Shards of one job share it."""
    (place / "out").mkdir()
    with only_process_in(place / "out"):
        status, lines = infer(place, "--exp_dir=out")
        assert status == 2 and len(lines) == 1 and f"in use by process {os.getpid()}" in lines[0], lines
        assert not (place / "out" / "inference_results").exists()
    assert infer(place, "--exp_dir=out") == (0, [])


def test_files_of_the_users_stay(place: Path) -> None:
    theirs = [".mine.tmp", "notes/.deep.tmp", "notes/.x.png.0123456789ab.tmp"]
    for name in theirs:
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text("")
    left = place / "inference_results" / ".a.png.0123456789ab.tmp"
    for _ in range(2):
        assert infer(place, "--exp_dir=.")[0] == 0
        assert all((place / name).exists() for name in theirs)
        assert not left.exists()
        left.write_text("")


def test_a_studio_for_everybody_says_so(tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    flags = ["--host=0.0.0.0", "--port=0", "--device=cpu"]
    process = start("script", "studio", flags, str(tmp_path), output=out, errors=err)
    try:
        wait_until(lambda: out.exists() and "Ctrl-C" in out.read_text())
    finally:
        process.terminate()
        finish(process)
    said, warned = out.read_text(), err.read_text().splitlines()
    assert "http://" in said and "localhost" not in said and "0.0.0.0" not in said, said
    assert len(warned) == 1 and "WARNING" in warned[0] and "everybody" in warned[0] and "http://" in warned[0]
