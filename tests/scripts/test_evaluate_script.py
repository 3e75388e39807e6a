"""scripts/evaluate.py as people run it: folders, checkpoints, missing and broken files, the same command again."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_image_gans import pix2pix
from tiny_images import label_file
from tiny_models import drawing, fill_folder, labels, photo, save_tiny

from psp.errors import UserError
from scripts.evaluate import main

ROOT = Path(__file__).resolve().parents[2]
FAST = "mse,psnr,ssim,l2_norm"


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    fill_folder(tmp_path / "results", [f"{k}.png" for k in range(4)], photo)
    fill_folder(tmp_path / "truth", [f"{k}.jpg" for k in range(4)], lambda k: photo(k + 50))
    fill_folder(tmp_path / "sketches", [f"{k}_edges.png" for k in range(4)], drawing)
    return tmp_path


def run(folders: Path, *more: str, metrics: str = FAST, out: str = "out") -> int:
    given = ["--results", str(folders / "results"), "--ground_truth", str(folders / "truth")]
    return main([*given, "--exp_dir", str(folders / out), "--metrics", metrics, "--device", "cpu", *more])


def record(folder: Path) -> dict:  # type: ignore[type-arg]
    return json.loads((folder / "metrics.json").read_text())


def test_folders_give_a_whole_report(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--sources", str(folders / "sketches"), "--psp_scores", "--name", "mine"]
    assert run(folders, *more, metrics=f"{FAST},lpips_alex,id_distance,verification,edge_f1") == 0
    out = folders / "out"
    assert {path.name for path in out.iterdir()} == {
        "per_image.csv", "metrics.json", "row.md", "histograms.png", "worst_and_best.png", "measured.sqlite",
        "inference_metrics", "evaluation.settings.json",
    }  # fmt: skip
    rows = list(csv.DictReader((out / "per_image.csv").open()))
    assert [row["result"] for row in rows] == ["0.png", "1.png", "2.png", "3.png"] and rows[2][
        "ground_truth"
    ] == "2.jpg"
    found = record(out)
    assert found["name"] == "mine" and found["images"] == 4 and found["compared_at"] == {"256x256": 4}
    mean = sum(float(row["lpips_alex"]) for row in rows) / 4
    assert found["metrics"]["lpips_alex"]["value"] == pytest.approx(mean, rel=1e-6)
    assert found["metrics"]["lpips_alex"]["measured_with"][0]["weights"]["file"] == "alexnet_features.safetensors"
    scores = json.loads((out / "inference_metrics/scores_lpips.json").read_text())
    assert scores["1.png"] == pytest.approx(float(rows[1]["lpips_alex"]), rel=1e-6)
    assert (out / "row.md").read_text() in capsys.readouterr().out
    for name in ("histograms.png", "worst_and_best.png"):
        assert min(Image.open(out / name).size) > 200


@pytest.mark.thorough
def test_the_batch_changes_nothing(folders: Path) -> None:
    for batch in ("1", "3"):
        assert run(folders, "--test_batch_size", batch, metrics=f"{FAST},lpips_alex", out=batch) == 0
    assert (folders / "1/per_image.csv").read_bytes() == (folders / "3/per_image.csv").read_bytes()
    assert (folders / "1/metrics.json").read_bytes() == (folders / "3/metrics.json").read_bytes()


@pytest.mark.thorough
def test_the_same_command_again_continues(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folders, "--n_images", "2") == 0
    first = (folders / "out/per_image.csv").read_text().splitlines()
    assert run(folders) == 0
    assert "4 images, 2 of them measured before" in capsys.readouterr().out
    lines = (folders / "out/per_image.csv").read_text().splitlines()
    assert [lines[k] for k in (0, 1, 3)] == first, "two of four are the first and the third"


def test_what_is_broken_or_unmatched_is_named_and_the_rest_is_measured(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "results/1.png").write_bytes(b"nothing")
    (folders / "truth/2.jpg").unlink()
    photo(9).save(folders / "truth/9.jpg")
    assert run(folders) == 1
    err = capsys.readouterr().err
    assert "results/1.png" in err and "results/2.png: no ground truth" in err and "truth/9.jpg: no result" in err
    found = record(folders / "out")
    assert found["images"] == 2 and len(found["left_out"]) == 3


def test_metrics_that_cannot_be_had(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSP_WEIGHTS_DIR", str(folders))
    monkeypatch.setenv("TORCH_HOME", str(folders))
    assert run(folders, metrics="mse,fid,kid") == 1, "what was asked for by name is missing"
    captured = capsys.readouterr()
    assert "not available: fid, kid: " in captured.err and "PSP_WEIGHTS_DIR" in captured.err
    assert "| MSE ↓ |" in captured.out and set(record(folders / "out")["not_available"]) == {"fid", "kid"}
    with pytest.raises(UserError, match="no metric can be had: fid"):
        run(folders, metrics="fid")


def test_whole_sets_are_compared_with_other_photos(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a feature network that only takes means: 6 real photos of other names and sizes, 4 results."""
    from criteria.evaluation import registry
    from criteria.extractors import Extractor

    def features(images: torch.Tensor) -> torch.Tensor:
        assert images.shape[-2:] == (64, 64), "at the results' size"
        return images.mean((2, 3))

    monkeypatch.setattr(registry, "open_extractor", lambda *_: Extractor("means", {"file": "none"}, features))
    fill_folder(folders / "real", [f"r{k}.png" for k in range(6)], lambda k: photo(k, 128))
    assert main(["--results", str(folders / "results"), "--real", str(folders / "real"), "--exp_dir",
                 str(folders / "out"), "--metrics", "fid,kid,precision,recall", "--device", "cpu"]) == 0  # fmt: skip
    found = record(folders / "out")["metrics"]
    assert found["fid"]["n_results"] == 4 and found["fid"]["n_real"] == 6 and found["fid"]["value"] < 0.1
    assert found["fid"]["measured_with"] == [{"version": 1, "extractor": "means", "weights": {"file": "none"}}]
    assert run(folders, "--overwrite", metrics="fid") == 0 and record(folders / "out")["metrics"]["fid"]["n_real"] == 4


def test_label_maps_are_recognised(folders: Path) -> None:
    for k in range(4):
        (folders / "maps").mkdir(exist_ok=True)
        label_file(np.asarray(labels(k))).save(folders / f"maps/{k}.png")
    assert run(folders, "--sources", str(folders / "maps"), metrics="mse,parser_miou,edge_f1") == 1
    found = record(folders / "out")
    assert 0 <= found["metrics"]["parser_miou"]["value"] < 0.5
    assert found["metrics"]["parser_miou"]["measured_with"][0]["against"] == "source"
    assert "for sketch inputs" in found["not_available"]["edge_f1"]


@pytest.mark.thorough
@pytest.mark.parametrize("task", ["celebs_sketch_to_face", "celebs_seg_to_face"])
def test_a_checkpoint_on_pairs(tmp_path: Path, task: str) -> None:
    checkpoint = save_tiny(tmp_path / "tiny.pt", task)
    kind = {"celebs_sketch_to_face": ("sketches", drawing), "celebs_seg_to_face": ("labels", labels)}[task]
    fill_folder(tmp_path / "data" / kind[0], [f"{k}.png" for k in range(4)], kind[1])
    fill_folder(tmp_path / "data/photos", [f"{k}.jpg" for k in range(4)], photo)
    wanted = "mse,lpips_alex,diversity,parser_miou"
    tables = []
    for batch in ("1", "3"):
        out = tmp_path / f"out{batch}"
        flags = ["--checkpoint_path", str(checkpoint), "--data_path", str(tmp_path / "data"), "--exp_dir", str(out)]
        flags += ["--metrics", wanted, "--test_batch_size", batch, "--n_outputs_to_generate", "2", "--device", "cpu"]
        assert main(flags) == 0
        tables.append((out / "per_image.csv").read_bytes())
    assert tables[0] == tables[1]
    found = record(tmp_path / "out1")
    assert found["images"] == 4 and found["compared_at"] == {"16x16": 4} and found["name"] == "tiny"
    assert found["metrics"]["diversity"]["value"] > 0
    made = sorted(path.name for path in (tmp_path / "out1/inference_results").iterdir())
    assert made == [f"{k}.png" for k in range(4)], "stored without loss whatever the photos are"
    assert main([*flags, "--n_images", "2"]) == 0 and record(tmp_path / "out3")["images"] == 2


def test_other_methods_come_through_the_same_door(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill_folder(tmp_path / "data/sketches", ["0.png", "1.png"], drawing)
    fill_folder(tmp_path / "data/photos", ["0.jpg", "1.jpg"], photo)
    flags = ["--checkpoint_path", str(pix2pix(tmp_path / "p.pt")), "--data_path", str(tmp_path / "data"), "--device"]
    flags += ["cpu", "--exp_dir", str(tmp_path / "out"), "--metrics", "mse,diversity"]
    assert main(flags) == 1, "pix2pix has one answer, so there is no diversity"
    found = record(tmp_path / "out")
    assert found["compared_at"] == {"64x64": 2} and list(found["not_available"]) == ["diversity"]
    assert "no diversity: " in capsys.readouterr().err


def test_a_broken_pair_of_a_checkpoint_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = save_tiny(tmp_path / "tiny.pt")
    fill_folder(tmp_path / "a", ["0.png", "1.png", "2.png"], drawing)
    fill_folder(tmp_path / "b", ["0.png", "1.png", "3.png"], photo)
    (tmp_path / "a/1.png").write_bytes(b"nothing")
    flags = ["--checkpoint_path", str(checkpoint), "--data_path", str(tmp_path / "a"), "--ground_truth"]
    flags += [str(tmp_path / "b"), "--exp_dir", str(tmp_path / "out"), "--metrics", "mse", "--device", "cpu"]
    assert main(flags) == 1
    err = capsys.readouterr().err
    assert "a/1.png" in err and "2.png" in err and "3.png" in err
    assert record(tmp_path / "out")["images"] == 1


@pytest.mark.thorough
def test_a_report_of_something_else_is_not_replaced(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another metric belongs to the same report; another folder of results, or other ground truth, does not."""
    assert run(folders, metrics="mse") == 0 and run(folders, metrics="mse,psnr") == 0
    before = (folders / "out/metrics.json").read_bytes()
    fill_folder(folders / "elsewhere/results", [f"{k}.png" for k in range(4)], lambda k: photo(k + 20))
    judged = ["--results", str(folders / "elsewhere/results"), "--ground_truth", str(folders / "truth")]
    judged += ["--metrics", "mse", "--device", "cpu"]
    with pytest.raises(UserError, match=r"out holds results of other results \(.*/results, now .*elsewhere/results\);"):
        main([*judged, "--exp_dir", str(folders / "out")])
    assert (folders / "out/metrics.json").read_bytes() == before
    monkeypatch.chdir(folders)
    for truth, name in (("truth", "same"), ("sketches", "same_2"), ("truth", "same")):
        flags = [*judged[:3], str(folders / truth), *judged[4:], "--name", "same"]
        assert main(flags) == 0 and (folders / "output/evaluation" / name / "metrics.json").exists()
    assert "same_2, as output/evaluation/same holds results of other ground truth (" in capsys.readouterr().out
    assert len(list((folders / "output/evaluation").iterdir())) == 2


def test_mistakes_are_one_line(folders: Path) -> None:
    results, truth = ["--results", str(folders / "results")], ["--ground_truth", str(folders / "truth")]
    for flags, words in (
        (results, "--ground_truth"),
        ([*results, *truth, "--checkpoint_path", "x.pt"], "--checkpoint_path"),
        (truth, "--results"),
        (["--data_root", "x", "--data_path", "y"], "--data_path"),
        ([*results, *truth, "--size", "3"], "--size 3"),
        ([*results, *truth, "--metrics", "beauty"], "beauty is no metric"),
        ([*results, *truth, "--features", "resnet", "--metrics", "fid"], "resnet"),
        ([*results, "--ground_truth", str(folders / "none")], "does not exist"),
        (
            [*results, "--ground_truth", str(folders / "sketches" / "0_edges.png"), "--test_batch_size", "0"],
            "--test_batch_size: 0 is too small",
        ),
    ):
        with pytest.raises(UserError, match=words):
            main([*flags, "--exp_dir", str(folders / "out")])
    photo(0).save(folders / "other.png")
    with pytest.raises(UserError, match="no names match"):
        main([*results, "--ground_truth", str(folders / "other.png"), "--metrics", "mse"])


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--metrics", "help"]) == 0
    assert "l2_norm        lower is better: per image the Euclidean norm" in capsys.readouterr().out
    wrong = subprocess.run(
        [sys.executable, str(ROOT / "scripts/evaluate.py"), "--result", "x"], capture_output=True, text=True, cwd="/"
    )
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "did you mean --results" in wrong.stderr
