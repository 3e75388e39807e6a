"""The torchvision shim: torchvision, lpips and facenet-pytorch import, and nms is right, with any wheel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from psp.compat import _nms, prepare_torchvision


def run(code: str, root: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.thorough
def test_torchvision_and_its_users_import_in_a_fresh_process(root: Path) -> None:
    code = """
from psp.compat import prepare_torchvision
prepare_torchvision()
prepare_torchvision()
import torch, torchvision, lpips, facenet_pytorch
from torchvision.transforms import v2
boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
print(torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist())
print(torchvision.ops.batched_nms(boxes, torch.tensor([0.5, 0.9, 0.1]), torch.tensor([0, 1, 0]), 0.5).tolist())
print(tuple(v2.Resize((4, 4))(torch.zeros(3, 8, 8)).shape))
"""
    assert run(code, root).splitlines() == ["[1, 2]", "[1, 0, 2]", "(3, 4, 4)"]


@pytest.mark.thorough
def test_after_torchvision_was_imported_it_is_harmless(root: Path) -> None:
    code = """
from psp.compat import prepare_torchvision
prepare_torchvision()
import torchvision, psp.compat
psp.compat._torchvision_library_was = psp.compat._torchvision_library
prepare_torchvision()
assert psp.compat._torchvision_library is psp.compat._torchvision_library_was
"""
    run(code, root)


def test_nms_equals_its_definition() -> None:
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(40, 2, generator=generator) * 20
    boxes = torch.cat([corner, corner + 1 + torch.rand(40, 2, generator=generator) * 10], 1)
    scores = torch.rand(40, generator=generator)

    def overlap(a: torch.Tensor, b: torch.Tensor) -> float:
        size = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
        both = float(size.prod())
        return both / (float((a[2:] - a[:2]).prod()) + float((b[2:] - b[:2]).prod()) - both)

    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if all(overlap(boxes[i], boxes[j]) <= 0.3 for j in kept):
            kept.append(i)
    assert _nms(boxes, scores, 0.3).tolist() == kept
    assert 1 < len(kept) < 40


def test_nms_of_nothing() -> None:
    assert _nms(torch.zeros(0, 4), torch.zeros(0), 0.5).shape == (0,)


def test_calling_it_here_is_allowed() -> None:
    prepare_torchvision()
