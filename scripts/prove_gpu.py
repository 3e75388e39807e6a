"""Everything that one GPU can tell about this project, in at most eight minutes: right, how fast, and where time goes.

python scripts/prove_gpu.py [--out DIR] [--seconds 480]      (or: make prove-gpu GPU_PYTHON=python3)

Steps run one after another, each with a limit; none stops the next, and what there is lies in DIR after every step:
summary.md, whose tables belong into docs/performance.md, and the whole output of each step. Needs torch, pytest, lpips
and, for the sanitizer and the programs without torch, the CUDA toolkit. Exit status 1: a step failed or was left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from psp.cli import Parser
from psp.errors import run_main

PYTHON = sys.executable
LOAD = (
    "import torch; from stylegan2_ops import bias_act, loader; print(loader.load_kernels());"
    "print(bias_act(torch.tensor([[-1.0, 2.0]], device='cuda')))"
)
TESTS = (
    "ops/test_kernels_gpu.py", "ops/test_upfirdn2d.py", "ops/test_bias_act.py", "ops/test_ops_loader.py",
    "inference/test_engine.py", "training/test_ranger.py",
)  # fmt: skip
BENCHMARK = (PYTHON, "scripts/benchmark.py", "--device=cuda", "--sizes=1024", "--overwrite")
SHORTEST = 5.0  # seconds: less is not worth to begin a step with


@dataclass(frozen=True)
class Step:
    """command: run in the checkout. seconds: its limit. table: a Markdown file that it leaves with the results."""

    name: str
    seconds: float
    command: Sequence[str]
    table: str = ""


def steps(out: Path) -> list[Step]:
    """The most telling first: time may run out."""
    device, sanitizer = "build/kernels_device", ("compute-sanitizer", "--error-exitcode=3", "--tool")
    tests = [f"tests/{path}" for path in TESTS]
    inference = ("--cases=inference", "--batches=1,8", "--precisions=tf32,fp16", "--rounds=15")
    training = ("--cases=training", "--train_batch=8", "--precisions=bf16", "--rounds=5")
    return [
        Step("machine", 20, ("nvidia-smi",)),
        Step("kernels", 150, (PYTHON, "-c", LOAD)),
        Step("programs", 90, ("make", "-j2", device, "build/kernels_bandwidth")),
        Step("right, without torch", 40, (device, "40")),
        Step("tests", 110, (PYTHON, "-m", "pytest", "-q", "-m", "gpu", "-k", "not torch_compile", *tests)),
        Step("bandwidth", 25, ("build/kernels_bandwidth", "8")),
        Step("networks", 120, (*BENCHMARK, *inference, f"--out={out}/networks"), "networks/benchmark.md"),
        Step("training", 70, (*BENCHMARK, *training, f"--out={out}/training"), "training/benchmark.md"),
        Step("profile", 50, (*BENCHMARK, "--profile", "--batches=1,8", f"--out={out}/profile"), "profile/profile.md"),
        Step("memcheck", 35, (*sanitizer, "memcheck", device, "2")),
        Step("racecheck", 30, (*sanitizer, "racecheck", device, "1")),
    ]


def prove(todo: Sequence[Step], out: Path, seconds: float) -> bool:
    """Run the steps within `seconds` altogether; whether all of them ran and succeeded."""
    begun, lines = time.monotonic(), ["| step | exit status | seconds | last line |", "|---|---|---|---|"]
    tables: list[str] = []
    good = True
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PSP_OPS": "cuda", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    for number, step in enumerate(todo):
        start = time.monotonic()
        limit = min(step.seconds, seconds - (start - begun))
        log = out / f"{number:02d}_{step.name.split(',')[0].replace(' ', '_')}.txt"
        status = "not begun, no time" if limit < SHORTEST else outcome(step.command, log, limit, environment)
        good = good and status == "0"
        last = (log.read_text(errors="replace").strip().splitlines() or [""])[-1] if log.exists() else ""
        lines.append(f"| {step.name} | {status} | {time.monotonic() - start:.0f} | {last[:120].replace('|', ' ')} |")
        print(lines[-1], flush=True)
        table = out / step.table
        if step.table and table.is_file():
            tables += ["", f"## {step.name}", "", table.read_text(encoding="utf-8").rstrip()]
        (out / "summary.md").write_text("\n".join(["# Proof on a GPU", "", *lines, *tables]) + "\n", encoding="utf-8")
    return good


def outcome(command: Sequence[str], log: Path, limit: float, environment: dict[str, str]) -> str:
    """Run it, its output in `log`: the exit status, or why there is none."""
    with log.open("w", encoding="utf-8") as output:
        try:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        except OSError as error:
            output.write(str(error))
            return "cannot run"
        try:
            return str(process.wait(limit))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with what it has started, which would disturb the steps after it
            process.wait()
            return f"stopped after {limit:.0f} s"


def main() -> int:
    parser = Parser("Checks and measures everything on one NVIDIA GPU.")
    parser.add_argument("--out", default="output/proof", metavar="DIR", help="folder of the results")
    parser.add_argument("--seconds", type=float, default=480.0, metavar="N", help="for all steps together")
    options = parser.parse_args()
    out = Path(options.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    good = prove(steps(out), out, options.seconds)
    print(f"results: {out / 'summary.md'}")
    return 0 if good else 1


if __name__ == "__main__":
    run_main(main)
