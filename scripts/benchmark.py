"""How fast the networks run beside pSp's structure, in one process, with equal weights and results compared.

python scripts/benchmark.py [--cases ops,inference,mixing,training] [--sizes 256,1024] [--batches 1,8] [--out DIR] ...
python scripts/benchmark.py --count [--sizes 1024] [--batches 1,8] [--train_batch 8]   # without a GPU: launches, bytes
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import json
from argparse import ArgumentTypeError, Namespace
from dataclasses import asdict
from functools import partial

from psp.cli import Parser, add_bool, at_least
from psp.errors import UserError, run_main
from psp.files import check_settings, free_folder, make_folder, write_text

CASES = ("ops", "inference", "mixing", "training")
DEFAULT = Path("output/benchmark")


def parser() -> Parser:
    parser = Parser("Times of this project's networks beside pSp's structure, taken in turns; random weights.")
    add = parser.add_argument
    add("--cases", default=",".join(CASES), metavar="LIST", help=f"which of {', '.join(CASES)}")
    add("--sizes", type=numbers, default="256,1024", metavar="LIST", help="output sides of the generator")
    add("--batches", type=numbers, default="1", metavar="LIST", help="batch sizes for inference")
    add("--train_batch", type=at_least(1), default=2, metavar="N", help="batch size of the training step")
    add("--precisions", default="fp32,bf16", metavar="LIST", help="fp32, bf16, and on GPUs tf32, fp16")
    add("--n_outputs", type=at_least(1), default=5, metavar="N", help="outputs of style mixing")
    add("--rounds", type=at_least(1), default=5, metavar="N", help="how often everything runs; medians are reported")
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    add("--threads", type=at_least(1), metavar="N", help="CPU threads (default: torch's)")
    add_bool(parser, "compile", False, "torch.compile as well (minutes)")
    add_bool(parser, "tf32", True, "on GPUs: pSp's structure and training may use TF32 (ours: see --precisions)")
    add_bool(parser, "count", False, "measure nothing: count what a GPU would run, and predict its time by data sheets")
    add_bool(parser, "profile", False, "on a GPU: which kernels take how long, in fp16, instead of comparing")
    add("--out", metavar="DIR", help="for benchmark.json, .md and .png (default: output/benchmark, or the next free)")
    add_bool(parser, "overwrite", False, "replace results of other settings or of another device")
    return parser


def numbers(text: str) -> list[int]:
    values = [int(part) for part in text.split(",") if part.isdecimal()]
    if 0 in values or len(values) != len(text.split(",")):
        raise ArgumentTypeError(f"{text!r} is no list of whole numbers like 1,8")
    return values


def main() -> int:
    options = parser().parse_args()
    unknown = [name for name in options.cases.split(",") if name not in CASES]
    if unknown:
        raise UserError(f"--cases {unknown[0]!r} is not known", f"choose from {','.join(CASES)}")
    options.out = folder_for(options)
    if options.profile:
        return show_profile(options)
    return count(options) if options.count else run(options)


def folder_for(options: Namespace) -> Path:
    """The folder of the results; UserError where it holds those of other settings or of another device."""
    from psp.device import device_name, pick_device

    kind = "profile" if options.profile else "count" if options.count else "benchmark"
    record, result = f"{kind}.settings.json", "profile.md" if options.profile else f"{kind}.json"
    settings = {name: value for name, value in vars(options).items() if name not in ("out", "overwrite")}
    settings["device"] = None if options.count else device_name(pick_device(options.device))
    folder = Path(options.out) if options.out else free_folder(DEFAULT, record, settings, [result])[0]
    check_settings(folder / record, settings, [folder / result], overwrite=options.overwrite, flag="--out")
    return folder


def show_profile(options: Namespace) -> int:
    """Which kernels of encoder and generator take how long, in fp16, without graphs."""
    from psp.benchmark.cases import random_model, sketches
    from psp.benchmark.measure import kernels_of
    from psp.device import pick_device
    from psp.inference.engine import Engine

    device = pick_device(options.device)
    if device.type != "cuda":
        raise UserError("--profile shows the kernels of a GPU", "there is none here, or --device asks for another")
    text = ""
    for size in options.sizes:
        engine = Engine(random_model(size, device), precision="fp16", graphs=False)
        for batch in options.batches:
            source = sketches(batch, device)
            codes = engine.encode(source)
            for name, way in (
                ("encoder", partial(engine.encode, source)),
                ("generator", partial(engine.decode, codes)),
            ):
                text += f"{name}, batch {batch}\n\n```\n{kernels_of(way)}\n```\n\n"
    write_text(make_folder(options.out) / "profile.md", text)
    print(text)
    return 0


def count(options: Namespace) -> int:
    from criteria.objective import PspObjective
    from psp.benchmark import counted
    from psp.benchmark.count import CARDS
    from psp.benchmark.report import Row

    cases, out = options.cases.split(","), make_folder(options.out)
    rows: list[Row] = []
    for size in options.sizes:
        if "inference" in cases:
            for batch in options.batches:
                rows += counted.inference(size, batch)
        if "training" in cases:
            objective = PspObjective({"l2_lambda": 1.0, "lpips_lambda": 0.8}, device=counted.META)
            rows += counted.training(size, options.train_batch, objective)
    table = counted.markdown(rows)
    record = {"cards": [asdict(card) for card in CARDS], "rows": rows}
    write_text(out / "count.json", json.dumps(record, indent=1) + "\n")
    write_text(out / "count.md", table)
    print(table + f"written to {out}")
    return 0


def run(options: Namespace) -> int:
    import torch

    from psp.benchmark import cases
    from psp.benchmark.measure import ceilings, gflop, in_turns, machine, relative_error
    from psp.benchmark.report import Row, markdown, plot, rows_of
    from psp.device import device_name, pick_device

    device = pick_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.tf32
    out = make_folder(options.out)
    precisions = options.precisions.split(",")
    limits = ceilings(device)
    reached = ", ".join(f"{name} {value:.3g} TFLOP/s" for name, value in limits.tflops.items())
    print(f"{device_name(device)}: matrix products reach {reached}, a copy {limits.copy_gb:.3g} GB/s", flush=True)
    rows: list[Row] = []

    def measure(case: cases.Case) -> None:
        reference, *others = case.ways
        grad = case.name.startswith("training")
        with torch.inference_mode(not grad):
            results = {name: case.ways[name]() for name in case.ways}
            errors = {n: relative_error(results[n], results[reference]) for n in others}  # type: ignore[arg-type]
            del results
            arithmetic = gflop(case.plain or case.ways[others[0]]) if case.moved is None else None
            timings = in_turns(case.ways, device, rounds=options.rounds)
        tf32 = options.tf32 and device.type == "cuda"
        case_rows = rows_of(case, timings, errors, arithmetic, limits, tf32=tf32)
        rows.extend(case_rows)
        print(markdown(case_rows, cpu=device.type == "cpu"), flush=True)

    chosen = options.cases.split(",")
    if "ops" in chosen:
        wide = 1024 if device.type == "cuda" else 256
        for dtype in (torch.float32, torch.float16) if device.type == "cuda" else (torch.float32,):
            for case in cases.operations(device, dtype, wide, 32, batch=8 if device.type == "cuda" else 1):
                measure(case)
    for size in options.sizes if len(chosen) > chosen.count("ops") else []:
        model = cases.random_model(size, device)
        if "inference" in chosen:
            for batch in options.batches:
                for case in cases.inference(model, batch, precisions, compiled=options.compile):
                    measure(case)
        if "mixing" in chosen:
            measure(cases.mixing(model, options.n_outputs, precisions))
        if "training" in chosen:
            from criteria.objective import PspObjective

            objective = PspObjective({"l2_lambda": 1.0, "lpips_lambda": 0.8}, device=device)
            measure(cases.training(model, options.train_batch, objective, [p for p in precisions if p != "fp16"]))
        del model
    info = machine(device)
    record = {
        "command": "python scripts/benchmark.py " + " ".join(sys.argv[1:]), "machine": info,
        "ceilings": asdict(limits), "rows": rows,
    }  # fmt: skip
    write_text(out / "benchmark.json", json.dumps(record, indent=1) + "\n")
    write_text(out / "benchmark.md", markdown(rows, cpu=device.type == "cpu"))
    plot(rows, out / "benchmark.png", f"{info['device']}, torch {torch.__version__}, {info['threads']} threads")
    print(f"written to {out}")
    return 0


if __name__ == "__main__":
    run_main(main)
