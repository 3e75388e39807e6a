"""The recipes of the bundled model, run for 200 steps each by the very commands that are written in them."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from psp.weights.load import load_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
STEPS = ["--max_steps=200", "--board_interval=20", "--val_interval=200", "--save_interval=100", "--image_interval=200"]
SMALL = ["--batch_size=8", "--cache_mb=200", "--workers=0"]


def run(root: Path, *command: object) -> str:
    done = subprocess.run([sys.executable, *map(str, command)], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def faces(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example portraits with the parser's label maps beside them, as one data root."""
    folder = tmp_path_factory.mktemp("faces")
    photos = root / "examples" / "train_data" / "train" / "photos"
    run(root, "scripts/prepare_data.py", "labels", "--photos", photos, "--out", folder / "labels.zip")
    merge = ["--photos", photos, "--labels", folder / "labels.zip", "--out", folder / "faces.zip", "--held_out", "0.2"]
    run(root, "scripts/prepare_data.py", "merge", *merge)
    return folder / "faces.zip"


def command_of(recipe: Path) -> list[str]:
    """The options in the recipe's header, behind the script's name."""
    lines = [line.lstrip("# ").rstrip("\\ ") for line in recipe.read_text().splitlines() if line.startswith("#")]
    words = shlex.split(" ".join(lines[1:]))
    return words[words.index("scripts/train.py") + 1 :]


def own_options(recipe: Path, own: dict[str, str]) -> list[str]:
    """The recipe's options with places of our own, and without sample weights."""
    options = command_of(recipe)
    options = [own.get(before, word) for before, word in zip(["", *options], options)]
    at = options.index("--sample_weights")
    del options[at : at + 2]
    return [*options, *STEPS, *SMALL]


def records(run: Path, phase: str) -> list[dict[str, float]]:
    read = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(value) for record in read for value in record.values() if isinstance(value, float))
    return [record for record in read if record["phase"] == phase]


@pytest.fixture(scope="module")
def joint(root: Path, faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the first recipe."""
    folder = tmp_path_factory.mktemp("joint") / "run"
    own = {"--data_root": str(faces), "--exp_dir": str(folder)}
    run(root, "scripts/train.py", *own_options(root / "pretrained" / "recipes" / "faces.yaml", own))
    return folder


def test_faces(joint: Path) -> None:
    first, last = records(joint, "val")
    assert last["lpips_held_out"] < 1.1 * first["lpips_held_out"]  # it is not lost while the discriminator is young
    assert last["static_own"] < first["static_own"]
    train = records(joint, "train")
    assert train[-1]["features"] < train[0]["features"] and train[-1]["skipped_steps"] == 0
    model = load_model(joint / "checkpoints" / "best_model.pt", task="celebs_sketch_to_face")
    assert model.output_size == 128 and model.decoder.channels[4] == 256


def test_encoders(root: Path, faces: Path, joint: Path, tmp_path: Path) -> None:
    """In front of the first run's generator, and starting from its sketch encoder."""
    before = joint / "checkpoints" / "best_model.pt"
    for name in ("sketch_encoder", "label_encoder"):
        own = {"--data_root": str(faces), "--exp_dir": str(tmp_path / name)}
        own |= dict.fromkeys(("--checkpoint_path", "--stylegan_weights", "--irse50_weights"), str(before))
        run(root, "scripts/train.py", *own_options(root / "pretrained" / "recipes" / f"{name}.yaml", own))
        (start, end), train = records(tmp_path / name, "val"), records(tmp_path / name, "train")
        assert end["loss"] < start["loss"] and train[-1]["loss_code"] < train[0]["loss_code"]
        model = load_model(tmp_path / name / "checkpoints" / "best_model.pt")
        assert model.style_bank is not None and model.photo_encoder is not None
