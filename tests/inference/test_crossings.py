"""The walk of one sketch through a run over a folder: how often it goes from one file of the project to another."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from tiny_models import fill_folder, save_tiny

from psp.inference.options import InferenceOptions
from psp.inference.run import prepare_run

MOST = 30


def file_of(frame: FrameType | None, root: str) -> str | None:
    """The file of the project that a function lies in; None for other packages."""
    name = frame.f_code.co_filename if frame is not None else ""
    ours = ("psp", "stylegan2_ops", "criteria", "datasets")
    return name[len(root) :] if name.startswith(tuple(f"{root}{package}/" for package in ours)) else None


def test_a_sketch_crosses_few_files(tmp_path: Path, root: Path) -> None:
    fill_folder(tmp_path / "in", ["a.png"])
    options = InferenceOptions(
        data_path=tmp_path / "in", exp_dir=tmp_path / "out", checkpoint_path=save_tiny(tmp_path / "tiny.pt"),
        test_workers=0, device="cpu",
    )  # fmt: skip
    prepared = prepare_run(options)
    crossings: Counter[tuple[str, str]] = Counter()

    def count(frame: FrameType, event: str, argument: object) -> None:
        caller, called = file_of(frame.f_back, f"{root}/"), file_of(frame, f"{root}/")
        if event == "call" and caller and called and caller != called:
            crossings[f"{caller} {frame.f_back.f_code.co_name}", f"{called} {frame.f_code.co_name}"] += 1  # type: ignore[union-attr]

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        report = prepared.folder_run.run(prepared.items)
    finally:
        sys.setprofile(before)
    assert report.made == 1 and any("sketch_cleanup" in called for _, called in crossings), "the counter sees nothing"
    assert sum(crossings.values()) <= MOST, "\n".join(f"{n} {a} -> {b}" for (a, b), n in crossings.most_common())
