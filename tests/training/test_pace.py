"""When a training will have ended: by a clock that only moves where this test lets it."""

from __future__ import annotations

import time

import pytest

from psp.training.pace import Forecast, duration


def forecast(
    monkeypatch: pytest.MonkeyPatch, *, step: float, validation: float, max_steps: int
) -> list[tuple[int, str]]:
    """Every line that a run prints, and after which of its first 40 steps."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    made, lines = Forecast(), []
    with made.validating():
        now[0] += validation
    for done in range(1, 41):
        now[0] += step if done > 1 else 100 * step
        if line := made.after_step(done, max_steps, 100):
            lines.append((done, line))
    return lines


def test_the_end_is_foretold_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the first step, which is slow, and with the validations to come."""
    told = forecast(monkeypatch, step=2.0, validation=60.0, max_steps=1011)
    assert told == [(11, "2 s a step: the 1000 to come take about 43 min, validations included")]
    told = forecast(monkeypatch, step=40.0, validation=0.0, max_steps=10)
    assert told == [(3, "40 s a step: the 7 to come take about 5 min, validations included")]


def test_days_come_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ((step, line),) = forecast(monkeypatch, step=40.0, validation=800.0, max_steps=500_000)
    assert step == 3 and "about 277.8 days" in line and line.endswith("; --max_steps 603 would take 8 hours")


def test_durations_have_a_unit_that_suits_them() -> None:
    assert [duration(s) for s in (5, 89, 3599, 5400, 200_000)] == ["5 s", "1 min", "60 min", "1.5 h", "2.3 days"]
