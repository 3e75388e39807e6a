"""LPIPS against the `lpips` package with the same trunk, and what the package cannot do: caching and safe gradients."""

from __future__ import annotations

import hashlib
import json
import math
import urllib.request
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import vgg16_weights

from criteria.lpips import LPIPS, _unit_length
from criteria.weights import read_tensors
from psp.compat import prepare_torchvision
from psp.errors import UserError
from psp.weights.places import find_weights

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ours() -> LPIPS:
    return LPIPS("alex")


def images(batch: int, size: int, seed: int = 0) -> torch.Tensor:
    """Smooth random colour pictures in [-1,1]."""
    rough = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(rough, size=size, mode="bicubic").clamp(-1, 1)


def package(net: str, trunk: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The lpips package's own network with our trunk, built without a download."""
    prepare_torchvision()
    pytest.importorskip("lpips")
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    names = theirs.net.state_dict()  # slice1.0.weight: the number is torchvision's
    theirs.net.load_state_dict({name: trunk["features." + name.split(".", 1)[1]] for name in names})
    return theirs


@pytest.mark.parametrize("size", [32, 33, 64, 100])
def test_equals_the_lpips_package(ours: LPIPS, size: int) -> None:
    trunk = find_weights("alexnet_features.safetensors")
    assert trunk is not None
    theirs = package("alex", read_tensors(trunk))
    a, b = images(3, size, 1), images(3, size, 2)
    found, wanted = ours(a, b), theirs(a, b).flatten()
    assert found.shape == (3,)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert (wanted > 0.05).all(), "the pictures must differ for the comparison to mean something"


@pytest.mark.thorough
def test_vgg_equals_the_lpips_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # VGG16's weights are too large to commit: any weights test the wiring, in a file as a user would provide it.
    torch.manual_seed(0)
    trunk = vgg16_weights()
    save_file({k: v.half() for k, v in trunk.items()}, tmp_path / "vgg16_features.safetensors")
    monkeypatch.setenv("PSP_WEIGHTS_DIR", str(tmp_path))
    theirs = package("vgg", {k: v.half().float() for k, v in trunk.items()})
    a, b = images(2, 48, 1), images(2, 48, 2)
    assert torch.allclose(LPIPS("vgg")(a, b), theirs(a, b).flatten(), rtol=1e-4, atol=1e-5)


def test_zero_for_equal_images_and_cached_features(ours: LPIPS) -> None:
    a, b = images(2, 64, 3), images(2, 64, 4)
    assert ours(a, a).abs().max() == 0
    kept = ours.features(b)
    assert torch.equal(ours.distance(ours.features(a), kept), ours(a, b))
    assert torch.allclose(ours(a, b)[:1], ours(a[:1], b[:1]), atol=1e-6), "the batch must not matter"


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_gradient_is_finite_for_constant_images(ours: LPIPS, value: float) -> None:
    flat = torch.full((1, 3, 64, 64), value, requires_grad=True)
    target = images(1, 64).requires_grad_()
    ours(flat, target).sum().backward()
    assert flat.grad is not None and flat.grad.isfinite().all() and flat.grad.abs().max() > 0
    assert target.grad is None
    assert all(p.grad is None and not p.requires_grad for p in ours.parameters())


def test_all_zero_sites_have_a_zero_not_an_undefined_gradient() -> None:
    x = torch.zeros(1, 4, 2, 2)
    x[:, :, 0, 0] = torch.tensor([3.0, 0.0, 4.0, 0.0])
    x.requires_grad_()
    y = _unit_length(torch.relu(x))
    assert torch.allclose(y[0, :, 0, 0], torch.tensor([0.6, 0.0, 0.8, 0.0])) and y[..., 1, 1].abs().max() == 0
    (y - 1).square().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad[..., 1, 1].abs().max() == 0


def test_small_images_are_enlarged(ours: LPIPS) -> None:
    assert ours(images(1, 20, 1), images(1, 20, 2)).item() > 0


def test_committed_trunk_is_what_the_manifest_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PSP_WEIGHTS_DIR", raising=False)
    path = find_weights("alexnet_features.safetensors")
    assert path is not None and path.stat().st_size < 10_000_000
    manifest = json.loads((ROOT / "pretrained" / "manifest.json").read_text())
    entry = next(f for f in manifest["files"] if f["name"] == path.name)
    found = (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    assert entry["committed"] and ROOT / entry["path"] == path and found == (entry["size"], entry["sha256"])
    tensors = load_file(path)
    assert sum(t.numel() for t in tensors.values()) == 2_469_696
    assert all(t.dtype == torch.float32 and t.isfinite().all() for t in tensors.values())


def test_mistakes_are_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="alex or vgg"):
        LPIPS("squeeze")  # type: ignore[arg-type]
    monkeypatch.setenv("PSP_WEIGHTS_DIR", str(tmp_path))
    page = tmp_path / "vgg16-397923af.pth"
    page.write_text("<html>quota exceeded</html>")
    with pytest.raises(UserError, match="web page"):
        LPIPS("vgg")
    torch.save({"features.0.weight": torch.zeros(1)}, page)
    with pytest.raises(UserError, match="does not fit"):
        LPIPS("vgg")
    page.unlink()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))

    def no_network(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", no_network)
    with pytest.raises(UserError, match=r"no route to host.*PSP_WEIGHTS_DIR") as caught:
        LPIPS("vgg")
    assert "\n" not in str(caught.value)


def test_bfloat16_autocast_is_close_and_returns_float32(ours: LPIPS) -> None:
    a, b = images(2, 64, 1), images(2, 64, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = ours(a, b)
    assert found.dtype == torch.float32 and torch.allclose(found, ours(a, b), rtol=0.05)


def test_value_of_a_known_pair(ours: LPIPS) -> None:
    """A number to notice changed weights by: a grey square against a black one."""
    grey, black = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    black[..., 16:48, 16:48] = -1
    assert math.isclose(ours(black, grey).item(), 0.84290, abs_tol=1e-4)
