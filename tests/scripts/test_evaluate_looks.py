"""scripts/find_parts.py and scripts/evaluate.py --looks, one after the other, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import drawing, fill_folder, photo, save_tiny

import psp
from psp.errors import UserError
from psp.weights.code_space import parts_of
from scripts import evaluate, find_parts

NAMES = ["a.png", "b.png"]


@pytest.mark.thorough
def test_parts_are_found_and_looks_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data, report = save_tiny(tmp_path / "tiny.pt"), tmp_path / "data", tmp_path / "report"
    fill_folder(data / "photos", NAMES, photo)
    fill_folder(data / "sketches", NAMES, drawing)
    assert find_parts.main([f"--checkpoint_path={model}", "--n_faces=16", "--device=cpu"]) == 0
    known = parts_of(psp.load(model))
    assert known is not None and known.axes.shape == (8, 8)
    flags = ["--looks", f"--checkpoint_path={model}", f"--data_path={data}", "--n_outputs_to_generate=3"]
    assert evaluate.main([*flags, f"--exp_dir={report}", "--device=cpu"]) == 0
    record = json.loads((report / "looks.json").read_text())
    assert next(iter(record["looks"])) == "own colours" and {"colours", "people"} < set(record["looks"])
    assert (record["n_drawings"], record["n_faces"]) == (2, 3)
    for name, row in record["looks"].items():
        assert row["lpips"] >= 0 and row["identity"] >= 0
        assert ("parts_kept" in row) == (name in ("colours", "people"))
    assert 0 <= record["looks"]["people"]["parts_kept"] <= 1 and record["looks"]["people"]["identity_among"] > 0
    shown = capsys.readouterr().out
    assert "people" in shown and "parts_kept" in shown
    before = (report / "looks.json").read_bytes()
    with pytest.raises(UserError, match="report holds results of another seed"):
        evaluate.main([*flags, f"--exp_dir={report}", "--seed=1"])
    assert (report / "looks.json").read_bytes() == before
    monkeypatch.chdir(tmp_path)
    assert evaluate.main([*flags, "--name=two", "--n_images=2", "--device=cpu"]) == 0
    assert (tmp_path / "output" / "evaluation" / "two" / "looks.json").is_file()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="16 is the least"):
        find_parts.main(["--n_faces=3"])
    with pytest.raises(UserError, match="--looks measures a checkpoint"):
        evaluate.main(["--looks", "--results=somewhere"])
