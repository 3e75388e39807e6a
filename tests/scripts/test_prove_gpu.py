"""`scripts/prove_gpu.py`: steps with limits, results after each, whatever happens to them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts import prove_gpu
from scripts.prove_gpu import Step, prove

ROOT = Path(__file__).resolve().parents[2]


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_a_step_that_fails_stops_no_other(tmp_path: Path) -> None:
    table = f"open({str(tmp_path / 'table.md')!r}, 'w').write('| a |')"
    todo = [
        Step("good", 60, python("print('fine | it is')")),
        Step("bad, somehow", 60, python("import sys; print('no'); sys.exit(7)")),
        Step("missing", 60, ("there-is-no-such-program",)),
        Step("last", 60, python(table), "table.md"),
    ]
    assert not prove(todo, tmp_path, 300)
    summary = (tmp_path / "summary.md").read_text()
    assert "| good | 0 |" in summary and "fine   it is" in summary
    assert "| bad, somehow | 7 |" in summary and "| missing | cannot run |" in summary
    assert "| last | 0 |" in summary and summary.endswith("## last\n\n| a |\n")
    assert (tmp_path / "01_bad.txt").read_text() == "no\n"
    assert prove(todo[:1], tmp_path, 300)


@pytest.mark.thorough
def test_time_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove_gpu, "SHORTEST", 0.05)
    slow = python("import time; print('begun', flush=True); time.sleep(60)")
    assert not prove([Step("slow", 2, slow), Step("later", 60, slow), Step("never", 60, slow)], tmp_path, 4)
    summary = (tmp_path / "summary.md").read_text()
    assert "| slow | stopped after 2 s |" in summary and "| later | stopped after" in summary
    assert "| never | not begun, no time |" in summary and not (tmp_path / "02_never.txt").exists()


def test_what_it_runs_is_there(tmp_path: Path) -> None:
    todo = prove_gpu.steps(tmp_path)
    paths = [word for step in todo for word in step.command if word.startswith(("tests/", "scripts/"))]
    assert len(paths) >= 7 and all((ROOT / path).is_file() for path in paths)
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"tests/{path}".removeprefix("tests/") in makefile for path in prove_gpu.TESTS)
    assert sum(step.seconds for step in todo[:6]) < 480, "the first half is never left out"
