"""Directions learned from measures: on faces that are linear, each moves its own measure alone; probes learn labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from criteria.evaluation.directions import (
    Effect,
    deviations,
    effect,
    find_steps,
    mixtures,
    regress,
    shortcoming,
)
from criteria.evaluation.face_probe import FaceProbe, Seen
from psp.errors import UserError

BANDS = ([0, 1], [2, 3])
WAYS = torch.linalg.qr(torch.randn(32, 3, generator=torch.Generator().manual_seed(0))).Q.double()


def look(codes: Tensor) -> Seen:
    """Three linear measures of codes [M,4,8]; who it is is the code itself."""
    flat = codes.double().flatten(1)
    return Seen((flat @ WAYS).numpy(), flat.numpy())


@pytest.fixture(scope="module")
def codes() -> Tensor:
    """600 codes whose measures are correlated: the second goes along with the first, as age with grey hair."""
    random = torch.Generator().manual_seed(1)
    flat = torch.randn(600, 32, generator=random).double()
    flat = flat + 1.5 * torch.randn(600, 1, generator=random).double() * (WAYS[:, 0] + WAYS[:, 1])
    return flat.float().reshape(-1, 4, 8)


def test_regression_parts_what_goes_together(codes: Tensor) -> None:
    measures = look(codes).measures
    assert np.corrcoef(measures.T)[0, 1] > 0.5
    steps = regress(codes, measures)
    moved = (steps.double().flatten(1) @ WAYS).numpy() / measures.std(0)
    np.testing.assert_allclose(moved, np.eye(3), atol=1e-4)
    gaps = measures.copy()
    gaps[::7, 1] = np.nan
    gaps[:, 2] = np.nan  # never seen
    assert torch.isfinite(regress(codes, gaps)).all()


def test_each_direction_moves_its_own_measure_by_deviations_of_the_codes(codes: Tensor) -> None:
    measures = look(codes).measures
    spread = deviations(measures)[1]
    steps = find_steps(codes, measures, BANDS, look, spread, tries=16)
    before = look(codes[:50])
    for own, step in enumerate(steps):
        way = step.flatten() / step.norm()
        assert float((codes.flatten(1) @ way).std()) == pytest.approx(float(step.norm()), rel=1e-3)
        result = effect(look, codes[:50], before, step, spread)
        assert result.moved[own] > 1 and np.abs(np.delete(result.moved, own)).max() < result.moved[own] / 3
        assert result.identity == pytest.approx(2 * float(step.norm()), rel=1e-4)
        assert shortcoming(result.moved, own, ["a", "b", "c"]) == ""


def test_steps_that_change_who_it_is_count_less() -> None:
    same = Effect(np.array([1.0, 0.0]), 0.1)
    other = Effect(np.array([1.0, 0.0]), 2.0)
    weights = mixtures([same, other])
    assert weights.shape == (2, 2) and weights[0, 0] > 5 * weights[0, 1] > 0


def test_measures_that_are_not_seen_do_not_move() -> None:
    blind = Seen(np.full((2, 3), np.nan), np.zeros((2, 4)))
    result = effect(lambda codes: blind, torch.zeros(2, 4, 8), blind, torch.ones(4, 8), np.ones(3))
    assert result.moved.tolist() == [0, 0, 0] and result.identity == 0
    mean, spread = deviations(np.array([[1.0, 2.0], [3.0, 2.0], [np.nan, 2.0]]))
    assert mean.tolist() == [2, 2] and spread.tolist() == [1, np.inf]


def test_a_name_that_would_promise_too_much_is_refused() -> None:
    names = ["smile", "age"]
    assert "0.30 deviations only" in shortcoming(np.array([0.3, 0.0]), 0, names)
    assert "moves age more (-1.50)" in shortcoming(np.array([1.0, -1.5]), 0, names)
    assert shortcoming(np.array([1.0, -0.9]), 0, names) == ""


def test_labels_of_photos_become_a_measure() -> None:
    probe = FaceProbe(torch.device("cpu"))
    random = np.random.default_rng(0)
    descriptors = random.normal(size=(300, 128))
    ages = 40 + 10 * descriptors[:, 3] + random.normal(size=300)
    labels = ages.copy()
    labels[200:] = np.nan
    assert probe.learn(descriptors, {"age": labels})["age"] > 0.5 and probe.names[-1] == "age"
    seen = Seen(np.zeros((300, len(probe.names) - 1)), descriptors)
    guess = probe.complete(seen).measures[200:, -1]
    assert np.corrcoef(guess, ages[200:])[0, 1] > 0.5 and abs(guess.mean() - 40) < 5
    assert probe.complete(probe.complete(seen)).measures.shape[1] == len(probe.names)
    assert probe.look(torch.rand(2, 3, 16, 16)).measures.shape == (2, len(probe.names))
    for few in (np.where(np.arange(300) < 39, ages, np.nan), np.full(300, 5.0)):
        with pytest.raises(UserError, match="40 with different values are needed"):
            probe.learn(descriptors, {"beard": few})
    with pytest.raises(UserError, match="smile is measured already; give the column of --labels another name"):
        probe.learn(descriptors, {"smile": ages})
