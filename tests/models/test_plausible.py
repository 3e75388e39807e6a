"""Codes drawn towards those of real faces: nothing at 1, faces' own axes and lengths at 0, files that fit or do not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from psp.errors import UserError
from psp.models.plausible import MAX_BYTES, FaceCodes

LAYERS = [0, 1, 3]


@pytest.fixture
def faces() -> Tensor:
    """400 codes [400,5,6] that vary along three axes in the layers LAYERS."""
    axes = torch.linalg.qr(torch.randn(18, 3)).Q.T.reshape(3, 3, 6)
    codes = torch.randn(400, 5, 6)
    along = torch.randn(400, 3) * torch.tensor([3.0, 2.0, 1.0])
    codes[:, LAYERS] = 0.5 + torch.einsum("bk,kld->bld", along, axes)
    return codes


def test_what_faces_are_stays_and_what_they_are_not_goes(faces: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psp.models.plausible.RADIUS", 10)
    known = FaceCodes.of(faces, LAYERS)
    assert known.deviations[:3].tolist() == pytest.approx([3, 2, 1], rel=0.15)
    assert len(known.deviations) == 3
    strange = faces[:8].clone()
    across = torch.linalg.qr(torch.cat([known.axes.flatten(1), torch.randn(1, 18)]).T).Q[:, 3]
    strange[:, LAYERS] += 5 * across.reshape(3, 6)
    near = known.follow(strange, 0.0)
    torch.testing.assert_close(near, faces[:8], atol=1e-3, rtol=1e-3)


def test_no_code_lies_further_out_than_faces_do(faces: Tensor) -> None:
    known = FaceCodes.of(faces, LAYERS)
    far = faces.clone()
    far[:, LAYERS] = known.mean + 20 * (faces[:, LAYERS] - known.mean)
    near = known.follow(far, 0.0)
    along = (near[:, LAYERS] - known.mean).flatten(1) @ known.axes.flatten(1).T / known.deviations
    assert float(along.square().mean(1).sqrt().max()) <= 1 + 1e-3


def test_one_follows_every_line_and_the_way_there_is_even(faces: Tensor) -> None:
    known = FaceCodes.of(faces, LAYERS)
    codes = torch.randn(2, 5, 6) * 4
    assert known.follow(codes, 1.0) is codes
    zero, half = known.follow(codes, 0.0), known.follow(codes, 0.5)
    torch.testing.assert_close(half, (zero + codes) / 2)
    assert torch.equal(zero[:, [2, 4]], codes[:, [2, 4]])
    for amount in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="allowed are 0"):
            known.follow(codes, amount)


@pytest.mark.thorough
def test_they_fit_into_a_file_and_come_back(faces: Tensor) -> None:
    known = FaceCodes.of(faces, LAYERS)
    again = FaceCodes.of_tensors(known.tensors(), 5, 6)
    codes = torch.randn(2, 5, 6)
    torch.testing.assert_close(again.follow(codes, 0.3), known.follow(codes, 0.3), atol=1e-2, rtol=1e-2)
    large = FaceCodes.of(torch.randn(600, 18, 512), list(range(8))).tensors()
    assert sum(part.nbytes for part in large.values()) <= MAX_BYTES


def test_those_of_another_model_are_refused(faces: Tensor) -> None:
    tensors = FaceCodes.of(faces, LAYERS).tensors()
    with pytest.raises(UserError, match="this model has 3 styles of 6"):
        FaceCodes.of_tensors(tensors, 3, 6)
    with pytest.raises(UserError, match="this model has 5 styles of 8"):
        FaceCodes.of_tensors(tensors, 5, 8)
    with pytest.raises(UserError, match="expected"):
        FaceCodes.of_tensors({"mean": tensors["mean"]}, 5, 6)
    with pytest.raises(UserError, match="not finite"):
        FaceCodes.of_tensors(tensors | {"mean": tensors["mean"] * float("nan")}, 5, 6)
