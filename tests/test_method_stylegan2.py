"""What one training step of the generator does, and that a bad one does nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_training as tiny
import torch
from tiny_runs import poisoned, same, whole
from torch import nn

from psp.checkpoint import load_generator, load_model, save_torch
from psp.methods.base import BadStep
from psp.methods.guide import ENOUGH, QUEUE, SPREAD, Guide
from psp.methods.stylegan2 import StyleGAN2Method, lazy_adam
from psp.tasks import get_task


def test_terms_follow_the_schedule() -> None:
    method = tiny.gan_method(guided=True, r1_interval=2, path_interval=3, adversarial_from=1)
    guide = {"guide_l1", "guide_lpips", "guide_inner_l1", "guide_inner_lpips", "guide_scale"}
    found = [set(method.training_step([tiny.sketch_batch(i)], i)) - guide for i in range(5)]
    usual = {"generator", "discriminator", "score_real", "score_fake", "augment"}
    assert found == [set(), usual, usual | {"r1"}, usual | {"path"}, usual | {"r1"}]


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_a_bad_step_leaves_both_networks_alone(guided: bool, part: str) -> None:
    """Also when the generator's half of the step was fine."""
    method = tiny.gan_method(guided=guided, augment="ada")
    for step in range(2):
        method.training_step([tiny.sketch_batch(step)], step)
    before = whole(method)
    if part == "discriminator":
        handle = method.discriminator.register_forward_hook(
            lambda _m, _a, y: (
                y * float("nan") if any(p.requires_grad for p in method.discriminator.parameters()) else None
            )
        )
    else:
        handle = method.generator.conv1.register_forward_hook(lambda _m, _a, y: y * float("inf"))
    with pytest.raises(BadStep, match=part):
        method.training_step([tiny.sketch_batch(2)], 2)
    same(before, whole(method))
    assert all(
        p.requires_grad and p.grad is None for p in (*method.generator.parameters(), *method.discriminator.parameters())
    )
    handle.remove()
    method.training_step([tiny.sketch_batch(3)], 3)


def test_a_bad_step_puts_the_statistics_of_a_structure_encoder_back() -> None:
    method = structured_method()
    method.training_step([tiny.sketch_batch(0, 4)], 0)
    before = whole(method)
    with pytest.raises(BadStep):
        method.training_step([poisoned(tiny.sketch_batch(1, 4))], 1)
    same(before, whole(method))


def structured_method() -> StyleGAN2Method:
    torch.manual_seed(0)
    base = tiny.gan_method(guided=True)
    guide = Guide(base.generator, lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)), structure=tiny.encoder())
    task = get_task("celebs_sketch_to_face")
    return StyleGAN2Method(base.generator, base.discriminator, base.options, guide=guide, task=task)


@pytest.mark.parametrize(("share", "fresh"), [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_what_the_discriminator_judges(share: float, fresh: int) -> None:
    method = tiny.gan_method(guided=True, adversarial_random=share, mixing_prob=0.0)
    made: list[int] = []
    styles = method.styles
    method.styles = lambda n: made.append(n) or styles(n)  # type: ignore[func-returns-value, method-assign]
    fake = method._generator_gradients(torch.rand(4, 3, 16, 16), None, 1, True, {})
    assert len(fake) == 4 and sum(made) == fresh


def test_other_losses_reach_the_generator() -> None:
    made = tiny.gan_method().generator
    none = Guide(made, lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)))
    torch.manual_seed(0)
    plain, _ = none.losses(made, torch.rand(2, 3, 16, 16))
    darker = Guide(
        made, lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)), others={"dark": (0.25, lambda a, b: a.mean() + 2)}
    )
    darker.encoder.load_state_dict(none.encoder.state_dict())
    torch.manual_seed(0)
    losses, rebuilt = darker.losses(made, torch.rand(2, 3, 16, 16))
    assert set(losses) - set(plain) == {"guide_dark"} and not [p for p in darker.state_dict() if "other" in p]
    assert losses["guide_dark"].item() == pytest.approx(0.25 * (rebuilt.mean().item() + 2))
    assert torch.autograd.grad(losses["guide_dark"], made.conv1.conv.weight)[0].abs().max() > 0


def test_average_is_exponential_with_the_asked_half_life() -> None:
    method = tiny.gan_method(ema_kimg=0.01)
    start = method.generator_ema.conv1.conv.weight.clone()
    with torch.no_grad():
        method.generator.conv1.conv.weight.add_(1)
    method._average(10, 10**6)  # 10 of 10 images: one half-life
    assert torch.allclose(method.generator_ema.conv1.conv.weight, start + 0.5)
    method._average(2, 0)  # at the first step it follows at once
    assert (method.generator_ema.conv1.conv.weight - start - 1).abs().max() < 1e-5


def test_adaptive_augmentation_is_steered() -> None:
    method = tiny.gan_method(augment="ada", ada_target=0.6)
    assert method.ada_probability == 0
    method._steer_augmentation(torch.ones(4, 1), 5000)
    assert method.ada_probability == pytest.approx(0.01)
    method._steer_augmentation(-torch.ones(4, 1), 50_000)
    assert method.ada_probability == 0
    assert tiny.gan_method(augment="diffaugment").ada_probability == 1
    assert tiny.gan_method(augment="none").ada_probability == 0


def test_styles_are_mixed_at_one_layer() -> None:
    codes = tiny.gan_method(mixing_prob=0.0).styles(5)
    assert torch.equal(codes, codes[:, :1].expand(-1, 6, -1))
    codes = tiny.gan_method(mixing_prob=1.0).styles(50)
    changes = (codes[:, 1:] != codes[:, :-1]).any(dim=2).sum(dim=1)
    assert (changes == 1).all()


def test_rate_is_adapted_to_the_regulariser() -> None:
    weight = [nn.Parameter(torch.zeros(1))]
    group = lazy_adam(weight, 2e-3, 16).param_groups[0]
    assert group["lr"] == pytest.approx(2e-3 * 16 / 17) and group["betas"] == pytest.approx((0.0, 0.99 ** (16 / 17)))
    assert lazy_adam(weight, 2e-3, 0).param_groups[0]["lr"] == 2e-3


def test_path_length_is_that_of_the_jacobian() -> None:
    """For a linear generator, J^T y has a known length."""
    method = tiny.gan_method()
    method.generator.synthesize = lambda codes, randomize_noise: (
        3 * codes.sum(dim=(1, 2))[:, None, None, None].expand(-1, 3, 16, 16)
    )
    torch.manual_seed(1)
    penalty = method._path_penalty(4000)
    # J^T y = 3 * sum(noise) / 16 in every one of the D elements of all layers; sum of 768 normals / 16 ~ N(0, 3)
    lengths = 3 * (torch.randn(100_000) * 3**0.5).abs() * tiny.STYLE_DIM**0.5
    assert method.path_mean == pytest.approx(0.01 * float(lengths.mean()), rel=0.05)
    assert float(penalty.detach()) == pytest.approx(float((lengths - method.path_mean).square().mean()), rel=0.1)


def test_generator_checkpoint_is_the_average_in_released_units(tmp_path: Any) -> None:
    method = tiny.gan_method(guided=True)
    method.generator_ema.set_mapping_rate(0.5)
    method.training_step([tiny.sketch_batch(0)], 0)
    save_torch(method.checkpoint(), tmp_path / "g.pt")
    found = load_generator(tmp_path / "g.pt")
    z = torch.randn(3, tiny.STYLE_DIM)
    wanted = method.generator_ema(z)
    assert (found.generator(z) - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert method.generator_ema.lr_mlp == 0.5  # the training goes on as before
    photos = torch.rand(2, 3, 16, 16)
    assert torch.equal(found.photo_encoder(photos), method.encoders_ema["photo"](photos))
    assert found.latent_avg.shape == (tiny.STYLE_DIM,)
    assert found.discriminator is not None


def test_a_guide_with_structure_leaves_a_complete_model(tmp_path: Any) -> None:
    method = structured_method()
    for step in range(2):
        terms = method.training_step([tiny.sketch_batch(step, 4)], step)
    assert {"guide_l1", "guide_lpips", "guide_scale", "guide_w_norm"} <= terms.keys()
    save_torch(method.checkpoint(), tmp_path / "m.pt")
    model = load_model(tmp_path / "m.pt", task="celebs_sketch_to_face")
    x = tiny.sketch_batch(7).source
    codes = method.encoders_ema["structure"](x) + method.guide.centre
    assert torch.allclose(model.encode(x), codes, atol=1e-5)
    assert model.photo_encoder is not None
    other = structured_method()
    other.load_state(whole(method))
    same(whole(other), whole(method))


def test_guide_fills_its_queue_and_samples_from_it() -> None:
    made = tiny.generator()
    guide = Guide(made, lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)))
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    _, rebuilt = guide.losses(made, images)
    assert rebuilt.shape == images.shape and len(guide.queue) == 4 and not guide.knows_enough
    torch.manual_seed(0)
    guide.queue = torch.randn(QUEUE, 3) @ torch.randn(3, tiny.STYLE_DIM) + 1
    samples = guide.sample(20_000)
    assert torch.allclose(samples.mean(0), guide.queue.mean(0), atol=0.1)
    wanted = torch.cov(guide.queue.T)
    assert (torch.cov(samples.T) - wanted).abs().max() < 0.06 * wanted.abs().max()
    guide.losses(made, images)
    assert len(guide.queue) == QUEUE and ENOUGH <= QUEUE


def test_random_codes_come_from_the_queue_and_so_do_those_of_the_checkpoint(tmp_path: Path) -> None:
    method = tiny.gan_method(guided=True, mixing_prob=0.0)
    assert method.guide is not None
    method.guide.queue = torch.full((QUEUE, tiny.STYLE_DIM), 3.0)
    assert (method.styles(2) == 3).all()
    assert method._path_penalty(2).isfinite()
    method.guide.queue = torch.randn(QUEUE, tiny.STYLE_DIM) + 2
    before = whole(method)
    found = method.checkpoint()
    same(before, whole(method))
    save_torch(found, tmp_path / "g.pt")
    read = load_generator(tmp_path / "g.pt")
    photos = torch.rand(2, 3, 16, 16) * 2 - 1
    assert method.encoders_ema is not None and read.photo_encoder is not None
    codes = method.encoders_ema["photo"](photos)
    moved = read.photo_encoder(photos)
    assert (moved - codes).abs().min() > 1  # W moved, and everything with it
    images = [
        g.synthesize(w[:, None].expand(-1, 6, -1)) for g, w in ((method.generator_ema, codes), (read.generator, moved))
    ]
    assert torch.allclose(images[0], images[1], atol=1e-4)
    again = Guide(read.generator, lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)))
    again.encoder, again.centre = read.photo_encoder, read.latent_avg.reshape(-1, tiny.STYLE_DIM)[0]
    assert again.losses(read.generator, photos)[0]["guide_scale"] < 1  # training goes on where W is now
    sampled = read.generator.map(torch.randn(5000, tiny.STYLE_DIM)) - (moved - codes)[:1]
    assert torch.allclose(sampled.mean(0), method.guide.queue.mean(0), atol=0.1)
    assert torch.allclose(sampled.std(0), SPREAD * method.guide.queue.std(0), rtol=0.1)


def test_validation_and_pictures_of_a_generator() -> None:
    for guided in (False, True):
        method = tiny.gan_method(guided=guided)
        before = whole(method)
        terms = method.validation_step(tiny.sketch_batch(0))
        assert terms.keys() == {"score_held_out"} | ({"l1_held_out"} if guided else set())
        rows = method.pictures(tiny.sketch_batch(0))
        assert len(rows) == 8 and all(len(row) == 8 for row in rows)
        assert rows[0][0].tobytes() == method.pictures(tiny.sketch_batch(1))[0][0].tobytes()
        same(before, whole(method))
