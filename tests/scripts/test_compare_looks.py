"""scripts/find_parts.py and scripts/compare_looks.py, one after the other, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import drawing, fill_folder, photo, save_tiny

import psp
from psp.errors import UserError
from psp.weights.code_space import parts_of
from scripts import compare_looks, find_parts

NAMES = ["a.png", "b.png"]


def test_parts_are_found_and_looks_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = save_tiny(tmp_path / "tiny.pt"), tmp_path / "data"
    fill_folder(data / "photos", NAMES, photo)
    fill_folder(data / "sketches", NAMES, drawing)
    assert find_parts.main([f"--checkpoint_path={model}", "--n_faces=16", "--device=cpu"]) == 0
    known = parts_of(psp.load(model))
    assert known is not None and known.axes.shape == (8, 8)
    out = tmp_path / "looks.json"
    flags = [f"--checkpoint_path={model}", f"--data_path={data}", "--n_faces=3", f"--out={out}", "--device=cpu"]
    assert compare_looks.main([*flags, "--looks", "own colours", "colours", "people"]) == 0
    record = json.loads(out.read_text())
    assert list(record["looks"]) == ["own colours", "colours", "people"] and record["n_drawings"] == 2
    assert set(record["looks"]["own colours"]) >= {"lpips", "identity"}
    for name in ("colours", "people"):
        assert 0 <= record["looks"][name]["parts_kept"] <= 1 and record["looks"][name]["identity_among"] >= 0
    shown = capsys.readouterr().out
    assert "people" in shown and "parts_kept" in shown
    assert compare_looks.main([*flags, "--looks", "people"]) == 0
    again = json.loads(out.read_text())["looks"]
    assert again == {"people": pytest.approx(record["looks"]["people"])}


def test_too_few_are_refused() -> None:
    with pytest.raises(UserError, match="least"):
        find_parts.main(["--n_faces=3"])
    with pytest.raises(UserError, match="n_faces"):
        compare_looks.main(["--n_faces=1"])
