"""The scripts that have pSp's names do what their counterparts do, given pSp's flags."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from tiny_models import fill_folder, photo

from psp.errors import UserError
from scripts import align_all_parallel, calc_id_loss_parallel, calc_losses_on_images, generate_sketch_data

PORTRAITS = Path(__file__).resolve().parents[2] / "examples" / "photos"


def given(monkeypatch: pytest.MonkeyPatch, *flags: object) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *map(str, flags)])


@pytest.mark.thorough
def test_losses_and_identity_go_into_psps_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_folder(tmp_path / "results", ["a.jpg", "b.jpg"], photo)
    fill_folder(tmp_path / "truth", ["a.jpg", "b.jpg"], lambda k: photo(k + 9))
    (tmp_path / "metrics.json").write_text("a report of evaluate.py")
    folders = ["--data_path", tmp_path / "results", "--gt_path", tmp_path / "truth"]
    for mode in ("lpips", "l2"):
        given(monkeypatch, "--mode", mode, *folders, "--workers", 1, "--batch_size", 2)
        assert calc_losses_on_images.main() == 0
    given(monkeypatch, *folders, "--num_threads", 1)
    calc_id_loss_parallel.main()
    written = tmp_path / "inference_metrics"
    for kind in ("lpips", "l2", "id"):
        assert json.loads((written / f"scores_{kind}.json").read_text()).keys() == {"a.jpg", "b.jpg"}
    assert (written / "stat_l2.txt").read_text().startswith("Average loss is ")
    assert {path.name for path in tmp_path.iterdir()} == {"results", "truth", "metrics.json", "inference_metrics"}
    assert (tmp_path / "metrics.json").read_text() == "a report of evaluate.py"


def test_photos_are_cut_and_drawn_under_psps_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    portrait = next(iter(sorted(PORTRAITS.iterdir())))
    (tmp_path / "raw").mkdir()
    shutil.copy(portrait, tmp_path / "raw")
    given(monkeypatch, "--root_path", f"{tmp_path / 'raw'}/", "--num_threads", 1)
    assert align_all_parallel.main() == 0
    assert (tmp_path / "raw_crops" / f"{portrait.stem}.jpg").is_file()
    given(monkeypatch, "--data_path", tmp_path / "raw_crops", "--output_dir", tmp_path / "edges")
    assert generate_sketch_data.main() == 0
    assert [path.name for path in (tmp_path / "edges").glob("*.jpg")] == [f"{portrait.stem}_edges.jpg"]


def test_a_flag_that_psp_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "--root_path", "raw", "--threads", 2)
    with pytest.raises(UserError, match="unknown flag --threads; did you mean"):
        align_all_parallel.main()
