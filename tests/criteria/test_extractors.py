"""Feature networks: InceptionV3 against torchvision's, in both versions, and what is said when weights are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_models import vgg16_weights
from torch import nn

from criteria import extractors
from criteria.extractors import open_extractor
from criteria.inception import InceptionV3
from psp.compat import prepare_torchvision
from psp.errors import UserError


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    prepare_torchvision()
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    net = inception_v3(weights=None, init_weights=False, transform_input=False).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net


def pooled(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    found: list[torch.Tensor] = []
    hook = net.avgpool.register_forward_hook(lambda m, i, o: found.append(o.flatten(1)))
    with torch.no_grad():
        net(images)
    hook.remove()
    return found[0]


@pytest.mark.thorough
@pytest.mark.parametrize("tensorflow", [False, True])
def test_inception_equals_torchvision(theirs: nn.Module, tensorflow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The TensorFlow version: torchvision's with average pools that ignore the padding, and a last block that takes the
    maximum. (pytorch-fid 0.3.0's network with these weights gives the same numbers to the bit.)"""
    ours = InceptionV3(tensorflow=tensorflow)
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if k.split(".")[0] not in ("fc", "AuxLogits")})
    images = torch.randn(2, 3, 107, 107)
    if tensorflow:
        average = F.avg_pool2d

        def pool(x: torch.Tensor, **options: int) -> torch.Tensor:
            if x.shape[1] == 2048:
                return F.max_pool2d(x, **options)
            return average(x, count_include_pad=False, **options)

        monkeypatch.setattr("torchvision.models.inception.F.avg_pool2d", pool)
    wanted = pooled(theirs, images)
    monkeypatch.undo()
    assert wanted.shape == (2, 2048)
    assert torch.allclose(ours(images), wanted, atol=1e-6)


def save_inception(theirs: nn.Module, path: Path) -> None:
    torch.save(theirs.state_dict(), path)


@pytest.mark.thorough
def test_the_best_weights_there_are_used_and_named(
    theirs: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSP_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="pt_inception-2015.*inception_v3_google.*vgg16_features.*PSP_WEIGHTS_DIR"):
        open_extractor()
    torch.save(vgg16_weights(), tmp_path / "vgg16-397923af.pth")
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    chosen = open_extractor()
    assert (
        "VGG16" in chosen.name
        and chosen.weights["file"] == "vgg16-397923af.pth"
        and len(chosen.weights["sha256"]) == 64
    )
    with torch.inference_mode():
        assert chosen.features(images).shape == (2, 512)
    save_inception(theirs, tmp_path / "inception_v3_google-0cc3c7bd.pth")
    assert "torchvision" in open_extractor().name and "VGG16" in open_extractor("vgg16").name
    save_inception(theirs, tmp_path / "pt_inception-2015-12-05-6726825d.pth")
    best = open_extractor()
    assert "TensorFlow" in best.name
    with torch.inference_mode():
        features = best.features(images)
    assert features.shape == (2, 2048) and torch.isfinite(features).all()


def test_unknown_and_wrong_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="auto, inception_fid"):
        open_extractor("resnet")
    monkeypatch.setenv("PSP_WEIGHTS_DIR", str(tmp_path))
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "inception_v3_google-0cc3c7bd.pth")
    with pytest.raises(UserError, match="the InceptionV3 in .* does not fit"):
        open_extractor("inception_torchvision")
    assert set(extractors.EXTRACTORS) == {"inception_fid", "inception_torchvision", "vgg16"}
