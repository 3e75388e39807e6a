"""Results of another model, style or input never replace others: each command has a folder of its own, or asks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tiny_models import drawing, fill_folder, save_tiny

from psp.errors import UserError
from psp.inference.folder import Report
from psp.inference.options import parse
from psp.inference.run import translate_folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a user is in: drawings in `in/`, the weights tiny.pt."""
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path / "tiny.pt")
    fill_folder(tmp_path / "in", ["a.png", "b.png"])
    return tmp_path


def infer(*flags: str, mixing: bool = False) -> Report:
    own = ["--checkpoint_path=tiny.pt", "--data_path=in", "--n_outputs_to_generate=2", "--device=cpu"]
    return translate_folder(parse([*own, *flags], mixing=mixing))


@pytest.mark.thorough
@pytest.mark.parametrize("mixing", [False, True])
def test_without_a_folder_results_never_replace_others(
    place: Path, capsys: pytest.CaptureFixture[str], mixing: bool
) -> None:
    """Another input, style or model gets another folder; the same command finds its own again, half done or done."""
    save_tiny(place / "other.pt", size=32)
    fill_folder(place / "more", ["a.png", "b.png"], lambda k: drawing(k + 5))
    commands = [[], ["--data_path=more"], ["--style_seed=7"], ["--checkpoint_path=other.pt"]]
    seen: dict[Path, bytes] = {}
    for k, command in enumerate(commands):
        assert infer(*command, *["--n_images=1"] * (k == 0), mixing=mixing).made == (1 if k == 0 else 2)
        results = {path: path.read_bytes() for path in (place / "output").rglob("*.png")}
        assert seen.items() <= results.items() and len({path.parents[1] for path in results}) == k + 1
        seen = results
    said = capsys.readouterr().out
    first, last = "output/celebs_sketch_to_face", "output/celebs_sketch_to_face_4"
    assert f"{last}, as {first} holds results of another model (tiny.pt, now other.pt)" in said
    assert f"{first}_2, as {first} holds results of other inputs (" in said
    for k, command in enumerate(commands):
        assert infer(*command, mixing=mixing).made == (1 if k == 0 else 0), "found again"
    assert len(list((place / "output").iterdir())) == 4


def test_other_settings_need_overwrite(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = place / "out" / "inference_results"
    infer("--exp_dir=out")
    before = (results / "a.png").read_bytes()
    with pytest.raises(UserError, match=r"other layers of style \(none, now 2-5\).*--exp_dir, or --overwrite"):
        infer("--exp_dir=out", "--latent_mask=2-5")
    infer("--exp_dir=out", "--latent_mask=2-5", "--overwrite", "--n_images=1")
    assert "out: results of other layers of style (none, now 2-5)" in capsys.readouterr().out
    assert (results / "a.png").read_bytes() != before
    infer("--exp_dir=out", "--latent_mask=2-5")  # b.png still is of the earlier settings
    assert (results / "b.png").read_bytes() != before
    stats = json.loads((place / "out" / "stats.json").read_text())
    assert stats["counts"] == {"made": 1, "kept": 1, "failed": 0}


def test_results_of_somebody_else_are_not_replaced(place: Path) -> None:
    fill_folder(place / "out" / "inference_results", ["a.png"])
    before = (place / "out/inference_results/a.png").read_bytes()
    with pytest.raises(UserError, match="out holds results of settings that are not recorded"):
        infer("--exp_dir=out")
    assert (place / "out/inference_results/a.png").read_bytes() == before
    assert infer("--exp_dir=out", "--overwrite").made == 2


def test_an_older_drawing_that_took_a_name_is_made(place: Path) -> None:
    """What is unpacked over a folder of drawings keeps its old times."""
    infer()
    drawing(77).save(place / "new.png")
    os.utime(place / "new.png", (1e9, 1e9))
    (place / "new.png").rename(place / "in" / "a.png")
    report = infer()
    assert (report.made, report.kept) == (1, 1)
