"""The benchmark: ways in turns, results compared, figures that follow from the times."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_psp

from criteria.objective import PspObjective
from psp.benchmark import cases, original
from psp.benchmark.measure import Ceilings, Timing, ceilings, gflop, in_turns, relative_error
from psp.benchmark.report import markdown, rows_of
from psp.errors import UserError
from psp.inference.engine import tf32
from scripts.benchmark import folder_for, parser

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


def test_a_new_bundled_model_is_evaluated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    page = importlib.import_module("make_benchmark")
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(page, "evaluate", lambda *given: calls.append(given))
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"")
    row = page.Row("ours", {"checkpoint": str(model)}, {"name": "faces", "evaluate": []}, tmp_path)
    row.report.mkdir(parents=True)
    (row.report / "metrics.json").write_text(json.dumps({"checkpoint": str(model)}))
    os.utime(model, (1, 1))
    row.evaluate()
    assert not calls
    os.utime(row.report / "metrics.json", (0, 0))
    row.evaluate()
    assert len(calls) == 1 and calls[0][0] == row.report and calls[0][-1] == "--overwrite"


def test_ways_take_turns() -> None:
    calls: list[str] = []
    timings = in_turns({name: lambda name=name: calls.append(name) for name in "ab"}, CPU, rounds=3)  # type: ignore[misc]
    assert calls == ["a", "b", *"ababab"]  # once each to warm up, then in turns
    assert all(len(timing.seconds) == len(timing.cpu_seconds) == 3 for timing in timings.values())


@pytest.mark.thorough
def test_arithmetic_is_counted() -> None:
    a, b = torch.randn(20, 30), torch.randn(30, 40)
    assert gflop(lambda: a @ b) == pytest.approx(2 * 20 * 30 * 40 / 1e9)


def test_rows() -> None:
    case = cases.Case("x", 2, {"reference": lambda: None, "ours, fp32": lambda: None})
    timings = {"reference": Timing([4.0], [4.0]), "ours, fp32": Timing([9.0, 1.0, 1.0], [1.0, 1.0, 9.0])}
    limits = Ceilings({"fp32": 1.0, "bf16": 2.0}, 10.0)
    rows = rows_of(case, timings, {"ours, fp32": 1e-6}, 500.0, limits)
    assert [row["ratio"] for row in rows] == [1.0, 4.0]
    assert rows[1]["ms_per_image"] == 500.0 and rows[1]["tflops"] == 0.5 and rows[1]["share"] == 0.5
    assert "| 4.00x | 1e-06 | 50 % of fp32 product |" in markdown(rows, cpu=True)
    case.moved = 5e9
    assert rows_of(case, timings, {}, None, limits)[1]["share"] == 0.5


def test_the_ceiling_of_what_torch_rounds_to_tf32() -> None:
    ways = (cases.REFERENCE, "ours, fp32", "ours, tf32", "ours, bf16")
    case = cases.Case("encoder", 1, {way: lambda: None for way in ways})
    limits = Ceilings({"fp32": 1.0, "bf16": 8.0, "tf32": 4.0}, 10.0)
    timings = {way: Timing([1.0]) for way in ways}

    def bounds(name: str, allowed: bool) -> list[str]:
        case.name = name
        return [row["bound"].split()[0] for row in rows_of(case, timings, {}, 500.0, limits, tf32=allowed)]

    assert bounds("encoder", True) == ["tf32", "fp32", "tf32", "bf16"]
    assert bounds("training step 64", True) == ["tf32", "tf32", "tf32", "bf16"]
    assert bounds("encoder", False) == ["fp32", "fp32", "tf32", "bf16"]


def test_the_ceiling_of_fp32_is_not_that_of_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(
        "psp.benchmark.measure._best", lambda *_: seen.append(torch.backends.cuda.matmul.allow_tf32) or 1.0
    )
    with tf32(True):
        ceilings(CPU)
    assert seen == [False, False, True], "fp32, bf16, and the copy as torch is set"


@pytest.mark.thorough
def test_every_case_compares_equal_results() -> None:
    model = tiny_psp().eval()
    objective = PspObjective({"l2_lambda": 1.0})
    found = cases.inference(model, 2, ["fp32"], compiled=False) + [cases.mixing(model, 3, ["fp32"])]
    found += cases.operations(CPU, torch.float32, 16, 4)
    for case in found:
        with torch.inference_mode():
            reference, *others = (run() for run in case.ways.values())
        assert others and all(relative_error(other, reference) < 1e-4 for other in others), case.name  # type: ignore[arg-type]
    training = cases.training(model, 2, objective, ["fp32"])
    first, second = (run() for run in training.ways.values())  # the same loss on the same noise
    assert relative_error(second, first) < 1e-3  # type: ignore[arg-type]


def test_a_training_step_has_the_gradients_of_the_reference() -> None:
    source, found = cases.sketches(2, CPU), []
    for ours in (False, True):
        model = tiny_psp().train()
        model.requires_grad_(True)
        torch.manual_seed(4)
        codes = model.encoder(source) + model.latent_avg
        noisy = {"randomize_noise": True}
        images = model.decode(codes, **noisy) if ours else original.synthesize(model.decoder, codes, **noisy)
        images.square().mean().backward()
        found.append(torch.cat([p.grad.flatten() for p in model.encoder.parameters() if p.grad is not None]))
    assert relative_error(found[1], found[0]) < 1e-4 and found[0].abs().max() > 0


@pytest.mark.slow
def test_the_script(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/benchmark.py"), "--cases=ops", "--rounds=1", f"--out={tmp_path}"]
    done = subprocess.run([*command, "--device=cpu"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "benchmark.json").read_text())
    assert record["rows"] and record["machine"]["torch"] == torch.__version__ and record["ceilings"]["copy_gb"] > 0
    assert (tmp_path / "benchmark.md").read_text().startswith("| case") and (tmp_path / "benchmark.png").exists()


def test_results_of_other_settings_are_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def folder(*flags: str) -> str:
        chosen = folder_for(parser().parse_args(["--count", *flags]))
        (chosen / "count.json").write_text("{}")
        return str(chosen)

    assert folder() == folder() == "output/benchmark" and folder("--sizes=64") == "output/benchmark_2"
    with pytest.raises(UserError, match=r"output/benchmark holds results of other sizes \(.*64\); give another --out"):
        folder("--sizes=64", "--out=output/benchmark")
    assert folder("--sizes=64", "--out=output/benchmark", "--overwrite") == "output/benchmark"


def test_unknown_cases_are_refused() -> None:
    command = [sys.executable, str(ROOT / "scripts/benchmark.py"), "--cases=speed"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "--cases 'speed'" in done.stderr and done.stderr.count("\n") == 1
