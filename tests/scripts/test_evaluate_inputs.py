"""What scripts/evaluate.py is given: inputs that were replaced, strips instead of faces, inputs of either kind."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from tiny_models import drawing, fill_folder, labels, photo, save_tiny

from criteria.evaluation.settings import PLACES, settings_of
from datasets.pairs import PairedImages
from datasets.prepared import PreparedSide
from psp.errors import UserError
from psp.images.labels import COLOURS, colourise
from psp.images.sources import open_source
from psp.tasks import get_task
from scripts.evaluate import kind_of, main


def mse(folder: Path) -> float:
    return float(json.loads((folder / "metrics.json").read_text())["metrics"]["mse"]["value"])


@pytest.mark.thorough
def test_an_input_that_was_replaced_is_translated_again(tmp_path: Path) -> None:
    names = ["0.jpg", "1.jpg", "2.jpg"]
    fill_folder(tmp_path / "pairs" / "sketches", names, drawing)
    fill_folder(tmp_path / "pairs" / "photos", names, photo)
    checkpoint = save_tiny(tmp_path / "m.pt")
    given = [
        "--checkpoint_path",
        str(checkpoint),
        "--data_path",
        str(tmp_path / "pairs"),
        "--metrics",
        "mse",
        "--device",
        "cpu",
    ]
    assert main([*given, "--exp_dir", str(tmp_path / "a")]) == 0
    place = tmp_path / "pairs" / "sketches" / "0.jpg"
    drawing(9).convert("RGB").save(place)
    later = time.time() + 2
    os.utime(place, (later, later))
    assert main([*given, "--exp_dir", str(tmp_path / "a")]) == 0
    assert main([*given, "--exp_dir", str(tmp_path / "b")]) == 0
    assert mse(tmp_path / "a") == mse(tmp_path / "b")


def test_strips_are_no_faces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill_folder(tmp_path / "results", ["0.png", "1.png"], lambda k: Image.new("RGB", (192, 64)))
    fill_folder(tmp_path / "truth", ["0.png", "1.png"], photo)
    places = ["--results", str(tmp_path / "results"), "--ground_truth", str(tmp_path / "truth")]
    assert main([*places, "--exp_dir", str(tmp_path / "out"), "--metrics", "mse"]) == 1
    assert "0.png: is a strip of 3 squares; --results takes single faces" in capsys.readouterr().err


def test_kinds_of_inputs(tmp_path: Path) -> None:
    ids = np.asarray(labels(0)).astype(np.uint8)
    few = Image.Palette.ADAPTIVE
    on_nothing = Image.new("RGBA", drawing(0).size)
    on_nothing.putalpha(ImageOps.invert(drawing(0)))
    made = {
        "sketch.png": drawing(0), "indexed sketch.png": drawing(0).convert("P", palette=few, colors=30),
        "ink.png": drawing(0).convert("1"), "ids.png": Image.fromarray(ids), "palette.png": labels(0),
        "colours.png": Image.fromarray(colourise(ids)),
        "sorted.png": Image.fromarray(colourise(ids)).convert("P", palette=few),
        "sketch on nothing.png": on_nothing, "chalk sketch.png": ImageOps.invert(drawing(0)).convert("1"),
    }  # fmt: skip
    assert len(COLOURS) == 19
    for name, image in made.items():
        image.save(tmp_path / name)
        wanted = "sketch" if "sketch" in name or "ink" in name else "labels"
        assert kind_of(open_source(tmp_path / name), "celebamask") == wanted, name
    assert kind_of(open_source(tmp_path / "sketch.png"), "color") == "labels", "whoever names a map has maps"
    assert kind_of(None, "color") == "sketch"


def test_any_part_of_the_pairs_has_all_factors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_folder(tmp_path / "photos", [f"{k}.png" for k in range(48)], lambda k: photo(k, 8))
    pairs = PairedImages(get_task("celebs_super_resolution"), None, tmp_path / "photos")
    seen: set[int] = set()
    monkeypatch.setattr("psp.images.preprocess.degrade", lambda pixels, factor: seen.add(factor) or pixels)
    side = PreparedSide(pairs, "source", 24)
    for name in side.names:
        side.open(name)
    assert len(seen) >= 5


@pytest.mark.parametrize(
    ("flags", "said"),
    [(["--truncation=5"], "--truncation 5 is not possible; it goes from 0 to 2"),
     (["--looks", "--n_images=1"], "--looks compares sets of faces; --n_images takes at least 2")],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused_at_once(flags: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        main(flags)
    assert str(caught.value) == said


def test_a_changed_label_map_makes_another_report(tmp_path: Path) -> None:
    chosen = tmp_path / "map.json"
    flags: dict[str, object] = dict.fromkeys((*PLACES, "psp_scores"))
    flags |= {"results": str(tmp_path), "size": 64, "label_map": str(chosen), "features": "auto"}
    chosen.write_text('{"0": "skin"}')
    before = settings_of(flags)
    assert settings_of(flags) == before
    chosen.write_text('{"0": "hair"}')
    assert settings_of(flags) != before
    assert settings_of({**flags, "label_map": "color"})["label_map"] == "color"


def test_other_features_make_another_report(tmp_path: Path) -> None:
    flags: dict[str, object] = dict.fromkeys((*PLACES, "psp_scores"))
    flags |= {"results": str(tmp_path), "size": 64, "label_map": "color", "features": "auto"}
    assert settings_of({**flags, "features": "vgg16"}) != settings_of(flags)
