"""What one training step of each method does, and that a bad one does nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import tiny_training as tiny
import torch
import torch.nn.functional as F
from test_trainer import same
from torch import Tensor, nn

from psp.checkpoint import load_generator, load_model, save_torch
from psp.encoders import GradualStyleEncoder
from psp.errors import UserError
from psp.irse import Backbone
from psp.methods.base import BadStep, total_gradient_norm
from psp.methods.guide import MATCHED, QUEUE, Guide, sliced_wasserstein
from psp.methods.psp import PspMethod, start_from_face_recognition
from psp.methods.stylegan2 import StyleGAN2Method, lazy_adam
from psp.stylegan2 import NoiseInjection
from psp.tasks import get_task
from psp.types import Batch


class PlainEncoder(nn.Module):
    """Without batch statistics: what it makes of an image does not depend on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 6 * tiny.STYLE_DIM)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.avg_pool2d(x, 32).flatten(1)).view(-1, 6, tiny.STYLE_DIM)


def plain_method() -> PspMethod:
    torch.manual_seed(0)
    model = tiny.model()
    model.encoder = PlainEncoder()
    for module in model.decoder.modules():
        if isinstance(module, NoiseInjection):
            nn.init.zeros_(module.weight)
    optimiser = torch.optim.SGD(model.encoder.parameters(), 0.1)
    return PspMethod(model, tiny.objective, optimiser, task=get_task("celebs_sketch_to_face"))


def whole(method: Any) -> Any:
    return copy.deepcopy(method.state())


def poisoned(batch: Batch, value: float = float("nan")) -> Batch:
    return Batch(batch.source * value, batch.target * value, batch.names)


# ---- psp ---------------------------------------------------------------------------------------------


def test_accumulation_equals_the_larger_batch() -> None:
    a, b = plain_method(), plain_method()
    halves = [tiny.sketch_batch(0, 2), tiny.sketch_batch(1, 2)]
    four = Batch(*(torch.cat([getattr(h, k) for h in halves]) for k in ("source", "target")))
    for step in range(3):
        terms = [method.training_step(batches, step) for method, batches in ((a, [four]), (b, halves))]
        for key in terms[0]:
            assert torch.allclose(terms[0][key], terms[1][key], rtol=1e-4), key
    before = plain_method().model.encoder.linear.weight
    moved = (a.model.encoder.linear.weight - before).abs().max()
    assert moved > 1e-4
    assert (a.model.encoder.linear.weight - b.model.encoder.linear.weight).abs().max() < 1e-3 * moved


def test_accumulation_counts_batches() -> None:
    method = tiny.psp_method()
    calls = []
    method.optimiser.register_step_post_hook(lambda *_: calls.append(1))
    method.training_step([tiny.sketch_batch(i) for i in range(3)], 0)
    assert len(calls) == 1
    assert int(method.model.encoder.input_layer[1].num_batches_tracked) == 3


def test_only_the_encoder_is_trained() -> None:
    method = tiny.psp_method()
    before = whole(method)
    terms = method.training_step([tiny.sketch_batch(0)], 0)
    after = whole(method)
    changed = {key for key, value in before["state_dict"].items() if not torch.equal(value, after["state_dict"][key])}
    assert changed and all(key.startswith("encoder.") for key in changed)
    assert {"loss", "loss_l2", "loss_w_norm", "gradient_norm"} <= terms.keys()
    assert not any(value.requires_grad for value in terms.values())


def test_the_decoder_is_trained_if_asked() -> None:
    model = tiny.model(train_decoder=True)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-3)
    method = PspMethod(model, tiny.objective, optimiser, task=get_task("celebs_sketch_to_face"))
    before = copy.deepcopy(model.decoder.state_dict())
    method.training_step([tiny.sketch_batch(0)], 0)
    assert not torch.equal(before["conv1.conv.weight"], model.decoder.conv1.conv.weight)
    assert torch.equal(before["noises.noise_0"], model.decoder.noises.noise_0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", [0, 1])
def test_a_bad_loss_changes_nothing(value: float, where: int) -> None:
    method = tiny.psp_method()
    method.training_step([tiny.sketch_batch(0)], 0)
    before = whole(method)
    batches = [tiny.sketch_batch(1), tiny.sketch_batch(2)]
    batches[where] = poisoned(batches[where], value)
    with pytest.raises(BadStep, match="loss is"):
        method.training_step(batches, 1)
    same(before, whole(method))
    assert all(p.grad is None for p in method.model.parameters())


class BadGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * float("inf")


def bad_gradient(*args: Any) -> tiny.TinyLosses:
    losses = tiny.objective(*args)
    return tiny.TinyLosses(BadGradient.apply(losses.total), losses.terms)


def test_a_bad_gradient_changes_nothing() -> None:
    method = tiny.psp_method()
    method.objective = bad_gradient
    before = whole(method)
    with pytest.raises(BadStep, match="gradient is"):
        method.training_step([tiny.sketch_batch(1)], 1)
    same(before, whole(method))


def test_the_loss_scale_of_fp16_is_found_before_steps_count_as_bad() -> None:
    method = tiny.psp_method()
    method.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    method.training_step([tiny.sketch_batch(0)], 0)
    exact = tiny.psp_method()
    weights = copy.deepcopy(method.model.encoder.state_dict())
    method.objective = bad_gradient
    method.training_step([tiny.sketch_batch(1)], 1)  # 4 -> 2: skipped, as the scale may be the reason
    assert method.scaler.get_scale() == 2
    for step in (2, 3):
        with pytest.raises(BadStep):
            method.training_step([tiny.sketch_batch(1)], step)
    for key, value in method.model.encoder.named_parameters():
        assert torch.equal(value, weights[key]), key
    method.objective = tiny.objective
    method.training_step([tiny.sketch_batch(2)], 4)  # and it goes on
    assert not torch.equal(method.model.encoder.heads[0].weight, weights["heads.0.weight"])
    same(method.state()["scaler"], method.scaler.state_dict())
    other = tiny.psp_method()
    other.scaler = torch.amp.GradScaler("cpu")
    other.load_state(whole(method))
    assert other.scaler.get_scale() == method.scaler.get_scale()
    assert exact.scaler.state_dict() == {}


def test_validation_is_repeatable_and_independent_of_the_batch_size() -> None:
    method = tiny.psp_method(own_fine_layers=[4, 5])
    before = whole(method)
    batch = tiny.sketch_batch(3, 4)
    first, again = method.validation_step(batch), method.validation_step(batch)
    same(first, again)
    singles = [
        method.validation_step(Batch(batch.source[i : i + 1], batch.target[i : i + 1])) for i in range(4)
    ]  # fmt: skip
    for key, value in first.items():
        assert torch.allclose(value, torch.stack([s[key] for s in singles]).mean(), atol=1e-5), key
    same(before, whole(method))


def test_fine_styles_of_the_target_replace_only_theirs() -> None:
    method = tiny.psp_method(own_fine_layers=[4, 5])
    codes = torch.randn(64, 6, tiny.STYLE_DIM)
    target = torch.rand(64, 3, 32, 32) * 2 - 1
    mixed, own = method._with_own_style(codes, target), method.model.style_of(target)
    assert torch.equal(mixed[:, :4], codes[:, :4])
    taken = (mixed[:, 4] != codes[:, 4]).any(dim=1)
    assert 10 < taken.sum() < 54
    assert torch.equal(mixed[taken, 4:], own[taken, 4:]) and torch.equal(mixed[~taken, 4:], codes[~taken, 4:])
    method.training_step([tiny.sketch_batch(0)], 0)


@pytest.mark.parametrize("start", [True, False])
def test_codes_are_measured_from_where_the_encoder_starts(start: bool) -> None:
    seen = []

    def watching(output: Tensor, target: Tensor, codes: Tensor, average: Tensor | None, source: Any) -> tiny.TinyLosses:
        seen.append(average)
        assert source is None  # a sketch says nothing about identity
        return tiny.objective(output, target, codes, average)

    method = tiny.psp_method()
    method.objective = watching
    method.model.start_from_latent_avg = start
    method.training_step([tiny.sketch_batch(0)], 0)
    assert (seen[0] is None) != start


@pytest.mark.parametrize("task", ["celebs_sketch_to_face", "celebs_seg_to_face", "ffhq_encode"])
def test_every_kind_of_source(task: str) -> None:
    model = tiny.model(task)
    seen = []

    def watching(*args: Any) -> tiny.TinyLosses:
        seen.append(args[4])
        return tiny.objective(*args)

    optimiser = torch.optim.Adam(model.encoder.parameters(), 1e-3)
    method = PspMethod(model, watching, optimiser, task=get_task(task))
    batch = tiny.sketch_batch(0, 3, task)
    assert torch.isfinite(method.training_step([batch], 0)["loss"])
    assert torch.isfinite(method.validation_step(batch)["loss"])
    rows = method.pictures(batch)
    assert [len(row) for row in rows] == [3, 3, 3] and rows[0][2].size == (16, 16)
    if task == "ffhq_encode":
        assert seen[0].shape == (3, 3, 16, 16)  # the photo, as large as the output
    else:
        assert seen[0] is None


def test_start_from_face_recognition() -> None:
    torch.manual_seed(0)
    tensors = Backbone(112, 50, "ir_se").state_dict()
    for input_nc, label_nc, fitting in ((3, 0, 385), (1, 1, 385 - 7), (19, 19, 385 - 7)):
        encoder = GradualStyleEncoder(1, input_nc)
        before = encoder.input_layer[0].weight.clone()
        assert start_from_face_recognition(encoder, tensors, label_nc=label_nc) == fitting
        assert torch.equal(encoder.body[5].res_layer[1].weight, tensors["body.5.res_layer.1.weight"])
        assert torch.equal(encoder.input_layer[0].weight, before) == bool(label_nc)
    with pytest.raises(UserError, match="irse50_weights"):
        start_from_face_recognition(tiny.encoder(), tensors, label_nc=1)


def test_gradient_norm() -> None:
    a, b, c = (torch.zeros(2, requires_grad=True) for _ in range(3))
    assert total_gradient_norm([a, b]) == 0
    a.grad, b.grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert total_gradient_norm([a, b, c]) == 5
    b.grad[0] = float("nan")
    assert total_gradient_norm([a, b, c]).isnan()


# ---- stylegan2 ---------------------------------------------------------------------------------------


def test_terms_follow_the_schedule() -> None:
    method = tiny.gan_method(guided=True, r1_interval=2, path_interval=3, adversarial_from=1)
    guide = {"guide_l1", "guide_lpips", "guide_scale"}
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


def test_guide_fills_its_queue_and_matches_the_mapping() -> None:
    made = tiny.generator()
    guide = Guide(made, lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)))
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    losses, rebuilt = guide.losses(made, images)
    assert rebuilt.shape == images.shape and len(guide.queue) == 4 and "guide_match" not in losses
    guide.queue = torch.randn(QUEUE, tiny.STYLE_DIM)
    losses, _ = guide.losses(made, images)
    assert len(guide.queue) == QUEUE and "guide_match" in losses
    losses["guide_match"].backward()
    assert made.style[1].weight.grad is not None and guide.encoder.body.final_linear[1].weight.grad is None
    assert MATCHED <= QUEUE


def test_sliced_wasserstein_of_a_shift() -> None:
    a = torch.randn(200, 8)
    assert sliced_wasserstein(a, a[torch.randperm(200)]) < 1e-10
    shift = torch.zeros(8)
    shift[0] = 2.0
    assert float(sliced_wasserstein(a, a + shift, 20_000)) == pytest.approx(4 / 8, rel=0.05)  # mean of cos^2 is 1/D


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
