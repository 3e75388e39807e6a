"""What one training step of the generator does, and that a bad one does nothing."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_training as tiny
import torch
from tiny_runs import same, whole
from torch import nn

from psp.errors import UserError
from psp.training.bad_steps import BadStep
from psp.training.methods.stylegan2.networks import build_generator
from psp.training.methods.stylegan2.options import Options
from psp.training.methods.stylegan2.step import lazy_adam
from psp.weights.load import load_generator
from psp.weights.save import save_torch


def test_terms_follow_the_schedule() -> None:
    method = tiny.gan_method(r1_interval=2, path_interval=3)
    found = [set(method.training_step([tiny.sketch_batch(i)], i)) for i in range(5)]
    usual = {"generator", "discriminator", "score_real", "score_fake", "augment"}
    assert found == [usual | {"r1", "path"}, usual, usual | {"r1"}, usual | {"path"}, usual | {"r1"}]


@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_a_bad_step_leaves_both_networks_alone(part: str) -> None:
    """Also when the generator's half of the step was fine."""
    method = tiny.gan_method(augment="ada")
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


def test_layers_without_channels_are_refused(tmp_path: Any) -> None:
    """Whatever says the size; where --channels or weights say all channels, the base is never asked."""
    save_torch({"g_ema": tiny.generator(8).state_dict()}, tmp_path / "g.pt")
    file = load_generator(tmp_path / "g.pt")
    small: dict[str, Any] = {"style_dim": tiny.STYLE_DIM, "n_mlp": 2, "channel_base": 15}
    for options, weights, px in (({}, None, 128), ({"size": 16}, None, 16), ({"size": 16}, file, 16)):
        with pytest.raises(UserError, match=f"--channel_base 15 leaves no channels at {px} px; raise it"):
            build_generator(Options(**small, **options), weights)
    assert build_generator(Options(**small), file) is file.generator
    assert build_generator(Options(**small, size=16, channels="8,8,8"), None).channels == {4: 8, 8: 8, 16: 8}


def test_generator_checkpoint_is_the_average_in_released_units(tmp_path: Any) -> None:
    method = tiny.gan_method()
    method.generator_ema.set_mapping_rate(0.5)
    method.training_step([tiny.sketch_batch(0)], 0)
    save_torch(method.checkpoint(), tmp_path / "g.pt")
    found = load_generator(tmp_path / "g.pt")
    z = torch.randn(3, tiny.STYLE_DIM)
    wanted = tiny.faces(method.generator_ema, z)
    assert (tiny.faces(found.generator, z) - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert method.generator_ema.lr_mlp == 0.5  # the training goes on as before
    assert found.latent_avg.shape == (tiny.STYLE_DIM,)
    assert found.discriminator is not None


def test_validation_and_pictures_of_a_generator() -> None:
    method = tiny.gan_method()
    before = whole(method)
    assert method.validation_step(tiny.sketch_batch(0)).keys() == {"score_held_out"}
    rows = method.pictures(tiny.sketch_batch(0))
    assert len(rows) == 8 and all(len(row) == 8 for row in rows)
    assert rows[0][0].tobytes() == method.pictures(tiny.sketch_batch(1))[0][0].tobytes()
    same(before, whole(method))
