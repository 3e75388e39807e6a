"""The pSp wrapper: what is frozen, how codes are made and mixed, and the average latent."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_training import STYLE_DIM, encoder, generator, model, sketch_batch
from torch import Tensor

from psp.errors import UserError
from psp.models.mixing import fine_layers
from psp.models.psp import PSP, build_encoder
from psp.tasks import get_task


def sketches(n: int = 2) -> Tensor:
    return sketch_batch(0, n).source


def test_frozen_decoder_passes_the_gradient_on_and_keeps_none() -> None:
    psp = model().train()
    before = {key: value.clone() for key, value in psp.decoder.state_dict().items()}
    images = psp.decode(psp.encode(sketches()))
    images.square().sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in psp.decoder.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in psp.encoder.heads.parameters())
    torch.optim.SGD([p for p in psp.parameters() if p.requires_grad], 1.0).step()
    assert all(torch.equal(before[key], value) for key, value in psp.decoder.state_dict().items())


@pytest.mark.parametrize("train_decoder", [False, True])
def test_train_and_eval(train_decoder: bool) -> None:
    psp = model(train_decoder=train_decoder)
    assert psp.training and psp.encoder.training and psp.decoder.training == train_decoder
    psp.eval()
    assert not psp.encoder.training and not psp.decoder.training
    psp.train()
    assert psp.encoder.training and psp.decoder.training == train_decoder
    assert all(p.requires_grad == train_decoder for p in psp.decoder.parameters())


@pytest.mark.parametrize("shape", [(STYLE_DIM,), (1, STYLE_DIM), (6, STYLE_DIM)])
def test_every_published_shape_of_the_average_latent(shape: tuple[int, ...]) -> None:
    average = torch.randn(shape)
    psp = model(latent_avg=average).eval()
    assert psp.latent_avg.shape == (6, STYLE_DIM)
    assert torch.equal(psp.latent_avg, average.expand(6, STYLE_DIM))
    difference = psp.encode(sketches()) - psp.encoder(sketches())
    assert torch.allclose(difference, average.expand(2, 6, STYLE_DIM), atol=1e-5)
    assert "latent_avg" in dict(psp.named_buffers())  # moves with .to(device)


@pytest.mark.parametrize("shape", [(7, STYLE_DIM), (STYLE_DIM + 1,), (2, 6, STYLE_DIM)])
def test_average_latents_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="latent_avg has shape"):
        model(latent_avg=torch.zeros(shape))


def test_average_latent_that_is_not_finite_is_refused() -> None:
    with pytest.raises(UserError, match="not finite"):
        model(latent_avg=torch.full((STYLE_DIM,), float("nan")))


def test_unknown_average_latent_is_the_mean_of_mapped_noise() -> None:
    torch.manual_seed(3)
    decoder = generator()
    psp = PSP(encoder(), decoder)
    fresh = decoder.map(torch.randn(50_000, STYLE_DIM)).mean(0)
    assert (psp.latent_avg[0] - fresh).abs().max() < 0.02 * decoder.map(torch.randn(1000, STYLE_DIM)).std()
    assert torch.equal(psp.latent_avg[0], psp.latent_avg[5])
    assert torch.equal(PSP(encoder(), decoder).latent_avg, psp.latent_avg)  # the same every time


def test_without_the_average_latent_codes_are_the_encoders_own() -> None:
    psp = model(start_from_latent_avg=False).eval()
    assert torch.equal(psp.encode(sketches()), psp.encoder(sketches()))


def test_noise_is_fixed_unless_asked_otherwise() -> None:
    psp = model().eval()
    codes = psp.encode(sketches())
    images = psp.decode(codes)
    assert torch.equal(images, psp.decode(codes))
    assert not torch.equal(images, psp.decode(codes, randomize_noise=True))


def test_map_leaves_the_average_out() -> None:
    psp = model().eval()
    z = torch.randn(3, STYLE_DIM)
    assert torch.equal(psp.map(z), psp.decoder.map(z)[:, None].expand(3, 6, -1))


def test_map_truncates_towards_the_average() -> None:
    psp = model().eval()
    z = torch.randn(3, STYLE_DIM)
    full = psp.map(z)
    assert full.shape == (3, 6, STYLE_DIM)
    assert torch.equal(psp.map(z, truncation=0.0), psp.latent_avg.expand(3, -1, -1))
    assert torch.allclose(psp.map(z, truncation=0.5), (psp.latent_avg + full) / 2, atol=1e-6)


def test_resize_pools_to_256_and_leaves_smaller_images_alone() -> None:
    psp = model()
    for side in (64, 256):
        images = torch.randn(1, 3, side, side)
        assert psp.resize(images) is images
    large = torch.randn(1, 3, 512, 512)
    assert torch.allclose(psp.resize(large), F.avg_pool2d(large, 2), atol=1e-6)


def test_style_of_a_photo() -> None:
    photos = torch.rand(2, 3, 64, 64) * 2 - 1
    beside = model(photo_encoder=True).eval()
    codes = beside.style_of(photos)
    assert codes.shape == (2, 6, STYLE_DIM) and torch.equal(codes[:, 0], codes[:, 5])
    assert not any("photo" in key for key in beside.state_dict())  # pSp's layout stays pSp's
    own = model("ffhq_encode").eval()
    wanted = own.encode(F.interpolate(photos, size=256, mode="bilinear", antialias=True))
    assert torch.equal(own.style_of(photos), wanted)
    with pytest.raises(UserError, match="photo encoder"):
        model().style_of(photos)


def test_attributes_follow_the_generator() -> None:
    psp = model(size=32)
    assert (psp.n_styles, psp.style_dim, psp.output_size, psp.device) == (8, STYLE_DIM, 32, torch.device("cpu"))
    assert psp.task is get_task("celebs_sketch_to_face")


def test_unknown_encoder_is_named() -> None:
    with pytest.raises(UserError, match="GradualStyleEncoder"):
        build_encoder("os.system", 6, 3, 512)


def test_mixing_layers_come_from_the_model_else_from_psp() -> None:
    psp = model()
    for task in (None, get_task("celebs_sketch_to_face"), get_task("ffhq_encode")):
        psp.task = task
        assert psp.mixing_layers() == fine_layers(psp.n_styles)
    psp.config["latent_mask"] = "5"
    assert psp.mixing_layers() == [5]
    psp.config["latent_mask"] = "99"
    with pytest.raises(UserError, match="99"):
        psp.mixing_layers()
