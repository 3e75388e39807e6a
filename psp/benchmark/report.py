"""Results of the benchmark as rows, as a Markdown table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psp.benchmark.cases import REFERENCE, Case
from psp.benchmark.measure import Ceilings, Timing

Row = dict[str, Any]


def rows_of(
    case: Case,
    timings: dict[str, Timing],
    errors: dict[str, float],
    gflop: float | None,
    limits: Ceilings,
    *,
    tf32: bool = False,
) -> list[Row]:
    """The figures of one case, a row for each way, as benchmark.json has them.

    gflop: arithmetic of one run of ours, the least that is needed.
    tf32: torch may round float32 to it, which the reference and training leave to torch.
    ratio is the reference's time over this one's; error the largest difference to the reference's result, as a
    fraction of its largest value; share that of the measured ceiling, arithmetic or memory, that `bound` names.
    """
    reference = next(iter(timings.values())).median
    rows = []
    for way, timing in timings.items():
        seconds = timing.median
        tflops = gflop / seconds / 1e3 if gflop else None
        speed = case.moved / seconds / 1e9 if case.moved else None
        precision = next((name for name in limits.tflops if name in way), "fp32")
        if tf32 and precision == "fp32" and (way == REFERENCE or case.name.startswith("training")):
            precision = "tf32"
        share = speed / limits.copy_gb if speed else tflops / limits.tflops[precision] if tflops else None
        wall = sorted(timing.seconds)[len(timing.seconds) // 2]
        rows.append({
            "case": case.name, "way": way, "images": case.images, "ms_per_image": 1e3 * seconds / case.images,
            "wall_ms_per_image": 1e3 * wall / case.images, "ratio": reference / seconds, "error": errors.get(way),
            "peak_mb": timing.peak_mb, "tflops": tflops, "gb_per_s": speed, "share": share,
            "bound": "copy" if speed else f"{precision} product", "rounds": len(timing.seconds),
        })  # fmt: skip
    return rows


def markdown(rows: list[Row], *, cpu: bool) -> str:
    """A table; on a CPU the time is CPU time, which other programs disturb less than the clock on the wall."""
    unit = "CPU ms / image" if cpu else "ms / image"
    titles = ("case", "images", "way", unit, "ratio", "largest difference", "of the ceiling", "peak memory")
    lines: list[Sequence[object]] = []
    before = None
    for row in rows:
        case = (row["case"], row["images"])
        error = "" if row["error"] is None else f"{row['error']:.0e}"
        share = "" if row["share"] is None else f"{100 * row['share']:.0f} % of {row['bound']}"
        memory = "" if row["peak_mb"] is None else f"{row['peak_mb']:.0f} MB"
        figures = (row["way"], f"{row['ms_per_image']:.4g}", f"{row['ratio']:.2f}x", error, share, memory)
        lines.append((*(("", "") if case == before else case), *figures))
        before = case
    return table(titles, lines)


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in lines)


def plot(rows: list[Row], path: Path, title: str) -> None:
    """Bars of the ratio to the reference, one group per case."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if row["ratio"] != 1.0 or row["error"] is not None]
    figure = Figure(figsize=(9, 0.6 + 0.28 * max(len(shown), 3)), layout="constrained")
    axes = figure.subplots()
    names = [f"{row['case']}, {row['images']} image{'s' if row['images'] > 1 else ''}: {row['way']}" for row in shown]
    bars = axes.barh(range(len(shown)), [row["ratio"] for row in shown], color="#3b6fb6")
    axes.bar_label(bars, [f"{row['ratio']:.1f}x" for row in shown], padding=3, fontsize=8)
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.invert_yaxis()
    axes.axvline(1.0, color="#888888", linewidth=1)
    axes.set_xlabel("times as fast as the reference, in the same process")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    figure.savefig(path, dpi=120)
