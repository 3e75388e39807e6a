"""How good are the results? A folder of results against the ground truth, or a checkpoint on pairs.

python scripts/evaluate.py --results FOLDER --ground_truth FOLDER [--sources FOLDER] [--metrics lpips_alex,ssim]
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from typing import Any

from psp.cli import Parser
from psp.errors import UserError, run_main


def build_parser() -> Parser:
    parser = Parser(description="Measure results against ground truth, input and each other.")
    what = parser.add_argument_group("what is judged").add_argument
    what("--results", metavar="DIR", help="folder or zip of results, whoever made them")
    what("--ground_truth", metavar="DIR", help="folder or zip of the wanted photos, matched by name")
    what("--sources", metavar="DIR", help="folder or zip of the sketches or label maps, matched by name")
    what("--metrics", metavar="LIST", help="comma-separated names (default: all that can be had)")
    what("--size", type=int, metavar="N", help="compare at N x N (default: the results' own size, at most 256)")
    write = parser.add_argument_group("output").add_argument
    write("--exp_dir", metavar="DIR", help="folder for the report (default: output/evaluation/<name>)")
    write("--name", metavar="TEXT", help="what the row is called (default: the name of the results' folder)")
    run = parser.add_argument_group("running").add_argument
    run("--test_batch_size", type=int, default=8, metavar="N", help="images measured at a time; changes no result")
    run("--test_workers", type=int, default=2, metavar="N", help="threads that read images")
    run("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    return parser


def main(argv: list[str] | None = None) -> int:
    flags = build_parser().parse_args(argv)
    if not flags.results:
        raise UserError("nothing to judge: give --results and --ground_truth")
    if flags.size is not None and not 11 <= flags.size <= 4096:
        raise UserError(f"--size {flags.size} is not possible; it goes from 11 to 4096")

    from criteria.evaluation import report
    from criteria.evaluation.cache import Cache
    from criteria.evaluation.examples import Example, Reader
    from criteria.evaluation.registry import choose, parse_metrics
    from criteria.evaluation.run import measure
    from datasets import open_source
    from datasets.matching import match_names
    from psp.device import device_name, pick_device
    from psp.outputs import prepare_folder, save_bytes, save_json

    names = parse_metrics(flags.metrics)
    device = pick_device(flags.device)
    images: dict[str, Any] = {"result": open_source(flags.results)}
    partners: dict[str, dict[str, str]] = {}
    problems: list[str] = []
    for role, where in (("target", flags.ground_truth), ("source", flags.sources)):
        if where:
            images[role] = open_source(where)
            found = match_names(images["result"].names, images[role].names)
            partners[role] = dict(found.pairs)
            problems += [f"{images['result'].label(n)}: nothing of that name in {where}" for n in found.unmatched_source]
            problems += [f"{images[role].label(n)}: no result of that name" for n in found.unmatched_target]
            problems += [f"{n}: left out, another file has the same stem" for n in found.duplicates]
    examples = [
        Example(name, {"result": name, **{role: found[name] for role, found in partners.items()}})
        for name in images["result"].names
        if all(name in found for found in partners.values())
    ]
    if not examples:
        raise UserError(f"no name in {flags.results} matches one in {flags.ground_truth or flags.sources}")
    label = flags.name or Path(flags.results).resolve().name
    exp_dir = Path(flags.exp_dir or Path("output") / "evaluation" / label)
    prepare_folder(exp_dir)
    chosen = choose(names, set(images), device)
    if not chosen.metrics:
        raise UserError("no metric can be had: " + "; ".join(f"{k}: {v}" for k, v in chosen.unavailable.items()))
    cache = Cache(exp_dir / "measured.sqlite")
    measured = measure(
        examples, Reader(images, flags.size), chosen.measurements, cache,
        batch_size=flags.test_batch_size, workers=flags.test_workers,
    )  # fmt: skip
    cache.close()
    problems += measured.failed.values()
    values = report.columns(chosen.metrics, measured)
    summary = report.summarise(chosen.metrics, measured)
    targets = partners.get("target", {})
    report.save_table(values, measured.names, [targets.get(n, "") for n in measured.names], exp_dir / "per_image.csv")
    row = report.markdown(label, chosen.metrics, summary, len(measured.names))
    save_bytes(row.encode(), exp_dir / "row.md")
    save_json(
        {
            "name": label, "images": len(measured.names), "compared_at": measured.shapes, "metrics": summary,
            "not_available": chosen.unavailable, "left_out": problems, "device": device_name(device),
        },
        exp_dir / "metrics.json",
    )  # fmt: skip
    print(row, end="")
    for name, reason in chosen.unavailable.items():
        print(f"{name}: not available: {reason}", file=sys.stderr)
    for line in problems[:20]:
        print(f"left out: {line}", file=sys.stderr)
    print(f"report {exp_dir}")
    return 1 if problems else 0


if __name__ == "__main__":
    run_main(main)
