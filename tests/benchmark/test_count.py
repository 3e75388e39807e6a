"""Counting on the meta device: the rules one by one, and what the networks cost."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from psp.benchmark import counted as cases
from psp.benchmark.count import BLOCK, CARDS, LEAST_SECONDS, MATRIX_SHARE, MEMORY_SHARE, Count, counted
from psp.benchmark.count import multi_tensor_launches as launches
from stylegan2_ops import layer_epilogue

META = torch.device("meta")


def zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, device=META)


def test_views_cost_nothing_and_other_operations_what_they_move() -> None:
    x, y = zeros(10, 20), zeros(1, 20)
    assert counted(lambda: x.t().reshape(20, 10)[:, ::2].unsqueeze(0).expand(3, -1, -1)).total == 0
    count = counted(lambda: x + y)
    assert (count.total, count.work) == (1, [(4 * (200 + 20 + 200), 0, 1)])
    assert counted(lambda: x + y.expand(10, 20)).work == count.work, "an expanded tensor has no more elements"
    assert counted(lambda: x.add_(y)).work == count.work
    assert counted(lambda: x.copy_(y)).work == [(4 * (20 + 200), 0, 1)], "what is overwritten is not read"


def test_convolutions_and_products() -> None:
    x, weight, bias = zeros(2, 3, 8, 8), zeros(4, 3, 3, 3), zeros(4)
    flop, moved = 2 * 2 * 4 * 64 * 27, 4 * (x.numel() + weight.numel() + 2 * 4 * 64)
    assert counted(lambda: F.conv2d(x, weight, padding=1)).work == [(moved, flop, 1)]
    assert counted(lambda: F.conv2d(x, weight, bias, padding=1)).work == [(moved + 16, flop, 2)]
    assert counted(lambda: zeros(5, 6) @ zeros(6, 7)).gflop == pytest.approx(2 * 5 * 6 * 7 / 1e9)
    assert counted(lambda: torch.baddbmm(zeros(2, 1, 4), zeros(2, 3, 5), zeros(2, 5, 4))).launches["baddbmm"] == 2

    def backward(*wanting: Tensor) -> Count:
        for t in wanting:
            t.requires_grad_()
        y = F.conv2d(x, weight, padding=1)
        count = counted(lambda: torch.autograd.grad(y, wanting, zeros(2, 4, 8, 8)))
        for t in wanting:
            t.requires_grad_(False)
        return Count(Counter(), count.work[-1:])

    result = 4 * 2 * 4 * 64
    assert backward(x).work == [(4 * weight.numel() + result + 4 * x.numel(), flop, 1)], "the input is not read again"
    assert backward(x, weight).work[0][0] == 2 * 4 * (weight.numel() + x.numel()) + 2 * result


def test_operations_on_lists_are_split_as_aten_splits_them() -> None:
    assert launches([zeros(3)] * 110, 1) == 1 and launches([zeros(3)] * 111, 1) == 2
    assert launches([zeros(3)] * 100, 2) == 2 and launches([], 1) == 0
    assert launches([zeros(BLOCK * 320)], 1) == 1 and launches([zeros(BLOCK * 320 + 1)], 1) == 2
    count = counted(lambda: torch._foreach_mul_([zeros(3)] * 120, 2.0))
    assert count.launches["_foreach_mul_.Scalar"] == 2


def test_fused_operations_count_as_on_a_gpu() -> None:
    x, bias = zeros(2, 4, 8, 8), zeros(4)
    assert counted(lambda: layer_epilogue(x, bias=bias)).work == [(4 * (2 * x.numel() + 4), 0, 1)]


def test_what_makes_the_host_wait() -> None:
    x = zeros(3)
    assert counted(lambda: bool(torch.isfinite(x.sum())) and float(x[0])).blocking == 2
    assert counted(lambda: torch.ones(3).to(META)).blocking == 1
    assert counted(lambda: torch.ones(3) + 1).total == 0, "what the CPU does is not the GPU's"


def test_predictions() -> None:
    card = CARDS[0]
    memory, matrix = card.gb_per_s * 1e9 * MEMORY_SHARE, card.tflops["fp16"] * 1e12 * MATRIX_SHARE
    work = [(memory, 0.0, 1), (0.0, 2 * matrix, 1), (1.0, 1.0, 3)]
    assert Count(Counter(), work).predicted_ms(card, "fp16") == pytest.approx(1e3 * (3 + 3 * LEAST_SECONDS))


@pytest.mark.thorough
def test_what_a_picture_of_1024_px_costs() -> None:
    rows = {(row["what"], row["way"]): row for row in cases.inference(1024, 8)}
    assert rows["picture 1024", "ours"]["launches"] <= 420
    assert rows["generator 1024", "ours"]["mb_per_image"] <= 1150
    assert rows["picture 1024", "pSp's structure"]["launches"] > 1000
    assert cases.markdown(list(rows.values())).count("\n") == 2 + 6


def test_a_picture_waits_as_often_as_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "counted", lambda run: Count(Counter(), [], 2))
    assert {row["what"]: row["blocking"] for row in cases.inference(16, 1)} == {
        "encoder": 2, "generator 16": 2, "picture 16": 4,
    }  # fmt: skip


@pytest.mark.slow
def test_what_a_training_step_costs() -> None:
    def objective(output: Tensor, target: Tensor, *rest: Tensor, **labels: Tensor) -> object:
        loss = F.mse_loss(output, target)
        return type("Losses", (), {"total": loss, "terms": {"loss": loss.detach()}})

    rows = {(row["what"], row["way"]): row for row in cases.training(64, 2, objective)}
    step, backward = rows["training step 64", "ours"], rows["its backward pass 64", "ours"]
    assert step["launches"] < rows["training step 64", "pSp's structure"]["launches"]
    assert 0 < backward["launches"] < step["launches"] and 0 < backward["mb_per_image"] < step["mb_per_image"]
    assert step["blocking"] >= 1
