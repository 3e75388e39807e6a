"""Distances of feature sets: closed forms, other programs' recorded answers, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest

from criteria import distributions
from criteria.distributions import covered, frechet_distance, frechet_of_features, kid, mmd

# pytorch-fid 0.3.0, torchmetrics 1.9.0 (poly_mmd) and torch-fidelity 0.4.0 (prc) on `sets()`
RECORDED = {"frechet": 3.718573298732977, "mmd": 0.4869123057466136, "precision_recall": (0.84, 0.66)}


def precision_recall(results: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    return covered(results, real), covered(real, results)


def sets(n: int = 150, m: int = 150, d: int = 16) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(n, d)), random.normal(0.3, 1.2, size=(m, d))


def test_frechet_closed_forms() -> None:
    eye = np.eye(4)
    assert frechet_distance(np.zeros(4), eye, np.zeros(4), eye) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(np.zeros(4), eye, np.full(4, 2.0), eye) == pytest.approx(16)
    # Commuting covariances: the sum of (s_a - s_b)^2 over the axes.
    a, b = np.diag([1.0, 4, 9, 16]), np.diag([4.0, 4, 1, 0])
    assert frechet_distance(np.zeros(4), a, np.zeros(4), b) == pytest.approx(1 + 0 + 4 + 16)
    # Turning both alike changes nothing.
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    turned = frechet_distance(np.zeros(4), turn @ a @ turn.T, np.zeros(4), turn @ b @ turn.T)
    assert turned == pytest.approx(21)
    assert frechet_distance(np.array([1.0]), np.array([[4.0]]), np.array([3.0]), np.array([[1.0]])) == pytest.approx(5)


def test_frechet_of_non_commuting_covariances_in_two_dimensions() -> None:
    # trace of the root of a 2x2 product with positive eigenvalues: sqrt(trace + 2 sqrt(det))
    a, b = np.array([[2.0, 0.7], [0.7, 1.0]]), np.array([[1.0, -0.4], [-0.4, 3.0]])
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    assert frechet_distance(np.zeros(2), a, np.zeros(2), b) == pytest.approx(np.trace(a) + np.trace(b) - 2 * root)


def test_frechet_of_features_with_many_and_with_few_images() -> None:
    for n, m in ((150, 120), (10, 12)):
        a, b = sets(n, m)
        direct = frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))
        assert frechet_of_features(a, b) == pytest.approx(direct, rel=1e-6)
    shifted = frechet_of_features(a, a + 0.5)
    assert shifted == pytest.approx(16 * 0.25) and frechet_of_features(a, a) == pytest.approx(0, abs=1e-9)


def test_sets_as_other_programs_measure_them() -> None:
    a, b = sets()
    assert frechet_of_features(a, b) == pytest.approx(RECORDED["frechet"], rel=1e-8)
    assert mmd(a, b) == pytest.approx(RECORDED["mmd"], rel=1e-8)
    assert precision_recall(b * 0.8, a) == pytest.approx(RECORDED["precision_recall"], abs=1e-6)


def test_sets_equal_other_programs_live() -> None:
    fid = pytest.importorskip("pytorch_fid.fid_score")
    a, b = sets(90, 70)
    theirs = fid.calculate_frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))
    assert frechet_of_features(a, b) == pytest.approx(theirs, rel=1e-6)


def test_kid_is_unbiased_seeded_and_takes_small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = sets()
    # All vectors in each subset: only their order differs.
    assert kid(a, b)[0] == pytest.approx(mmd(a, b)) and kid(a, b)[1] < 1e-9
    monkeypatch.setattr(distributions, "SUBSET_SIZE", 50)
    parts = kid(a, b)
    assert parts == kid(a, b) and parts[1] > 0.01
    monkeypatch.setattr(distributions, "SEED", 4)
    assert parts != kid(a, b)
    random = np.random.default_rng(0)
    same = [mmd(random.normal(size=(40, 8)), random.normal(size=(40, 8))) for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(200) and min(same) < 0


def test_precision_and_recall_of_known_layouts() -> None:
    grid = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0)), axis=-1).reshape(-1, 2)
    assert precision_recall(grid, grid) == (1.0, 1.0)
    assert precision_recall(grid + 1000, grid) == (0.0, 0.0)
    half = grid[grid[:, 0] < 4]
    precision, recall = precision_recall(half, grid)
    assert precision == 1.0 and recall == pytest.approx(40 / 64, abs=0.13)
    far = np.concatenate([grid, grid + 1000])
    assert precision_recall(far, grid) == (0.5, 1.0)


def test_order_and_blocks_do_not_matter() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(1300, 6)), random.normal(0.4, 1, size=(1100, 6))
    mixed = random.permutation(len(a))
    assert covered(a, b) == covered(a[mixed], b[::-1])
    assert frechet_of_features(a, b) == pytest.approx(frechet_of_features(a[mixed], b[::-1]), rel=1e-10)


def test_too_few_images_are_refused() -> None:
    one, few = np.zeros((1, 4)), np.zeros((3, 4))
    for function in (frechet_of_features, mmd, kid):
        with pytest.raises(ValueError, match="at least 2"):
            function(one, few)
    with pytest.raises(ValueError, match="at least 4"):
        precision_recall(few, few)
