"""The MoCo similarity loss with an untrained ResNet-50 in a file shaped like MoCo's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from criteria.moco import MocoLoss, encoder_tensors, resnet50_features
from psp.errors import UserError


@pytest.fixture(scope="module")
def backbone() -> torch.nn.Module:
    torch.manual_seed(0)
    return resnet50_features().eval()


@pytest.fixture(scope="module")
def loss(backbone: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> MocoLoss:
    tensors = {"module.encoder_q." + k: v for k, v in backbone.state_dict().items()}
    tensors["module.encoder_q.fc.0.weight"] = torch.zeros(3, 3)
    tensors["module.queue"] = torch.zeros(2, 2)
    path = tmp_path_factory.mktemp("weights") / "moco_v2_800ep_pretrain.pt"
    torch.save({"epoch": 800, "state_dict": tensors}, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PSP_WEIGHTS_DIR", str(path.parent))
        return MocoLoss()


@pytest.mark.thorough
def test_formula_and_batch_of_one(loss: MocoLoss, backbone: torch.nn.Module) -> None:
    a, b = (torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(s)) * 2 - 1 for s in (0, 1))
    with torch.no_grad():
        fa, fb = (F.normalize(backbone(F.interpolate(x, size=(224, 224))), dim=1) for x in (a, b))
    assert fa.shape == (1, 2048)
    value, terms = loss(a.requires_grad_(), b)
    assert value.item() == pytest.approx(1 - (fa * fb).sum().item(), abs=1e-5)
    assert terms["moco_diff_target"].item() == pytest.approx(1 - value.item(), abs=1e-6)
    value.backward()
    assert a.grad is not None and a.grad.isfinite().all() and a.grad.abs().max() > 0
    assert loss(b, b)[0].item() == pytest.approx(0, abs=1e-5)


@pytest.mark.thorough
def test_source_may_be_anything(loss: MocoLoss) -> None:
    x = torch.rand(1, 3, 32, 32)
    assert set(loss(x, x, torch.rand(1, 19, 32, 32))[1]) == {"moco_diff_target"}
    assert set(loss(x, x, x)[1]) == {
        "moco_diff_target",
        "moco_diff_input",
        "moco_diff_views",
        "moco_id_improve",
    }


def test_frozen_even_in_training_mode(loss: MocoLoss) -> None:
    loss.train()
    assert not any(m.training for m in loss.modules()) and not any(p.requires_grad for p in loss.parameters())


def test_encoder_tensors_of_both_formats() -> None:
    one = torch.zeros(1)
    assert set(encoder_tensors({"module.encoder_q.conv1.weight": one, "module.encoder_k.conv1.weight": one})) == {
        "conv1.weight"
    }
    assert set(encoder_tensors({"conv1.weight": one, "fc.weight": one})) == {"conv1.weight"}


def test_missing_or_wrong_weights_are_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psp.weights.places.weight_folders", lambda: [tmp_path])
    with pytest.raises(UserError, match="moco_v2_800ep_pretrain"):
        MocoLoss()
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, tmp_path / "moco_v2_800ep_pretrain.pth.tar")
    with pytest.raises(UserError, match="the ResNet in .* does not fit"):
        MocoLoss()
