"""What one training step of the encoder does, and that a bad one does nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import tiny_training as tiny
import torch
import torch.nn.functional as F
from tiny_runs import poisoned, same, whole
from torch import Tensor, nn

from psp.batch import Batch
from psp.errors import UserError
from psp.models.mixing import VIVID
from psp.networks.encoders import GradualStyleEncoder
from psp.networks.irse import Backbone
from psp.networks.stylegan2 import NoiseInjection
from psp.tasks import get_task
from psp.training.bad_steps import BadStep, averaged_gradient_norm
from psp.training.methods.psp_step import PspMethod, start_from_tensors


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
    calls, passes = [], []
    method.optimiser.register_step_post_hook(lambda *_: calls.append(1))
    method.model.encoder.register_forward_hook(lambda *_: passes.append(1))
    method.training_step([tiny.sketch_batch(i) for i in range(3)], 0)
    assert len(calls) == 1 and len(passes) == 3


def test_the_rate_falls_if_asked() -> None:
    method = tiny.psp_method(decay=(1, 3))
    base = method.optimiser.param_groups[0]["lr"]
    for i, factor in enumerate((1, 1, 0.5, 0)):
        method.training_step([tiny.sketch_batch(0)], i)
        assert method.optimiser.param_groups[0]["lr"] == pytest.approx(factor * base)
    resumed = tiny.psp_method(decay=(1, 3))
    resumed.load_state(method.state())
    resumed.training_step([tiny.sketch_batch(0)], 0)
    assert resumed.optimiser.param_groups[0]["lr"] == base


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


@pytest.mark.thorough
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
    for step, scale in ((1, 2), (2, 1)):  # skipped, as the scale may be the reason
        method.training_step([tiny.sketch_batch(1)], step)
        assert method.scaler.get_scale() == scale
    for step in (3, 4):
        with pytest.raises(BadStep):
            method.training_step([tiny.sketch_batch(1)], step)
    for key, value in method.model.encoder.named_parameters():
        assert torch.equal(value, weights[key]), key
    method.objective = tiny.objective
    method.training_step([tiny.sketch_batch(2)], 5)  # and it goes on
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
    own = method.model.style_of(target)
    mixed = method._with_own_style(codes, own)
    assert torch.equal(mixed[:, :4], codes[:, :4])
    taken = (mixed[:, 4] != codes[:, 4]).any(dim=1)
    assert 10 < taken.sum() < 54
    assert torch.equal(mixed[taken, 4:], own[taken, 4:]) and torch.equal(mixed[~taken, 4:], codes[~taken, 4:])
    method.training_step([tiny.sketch_batch(0)], 0)


def test_distance_to_the_own_code_is_to_a_vivid_one_in_the_fine_layers() -> None:
    method = tiny.psp_method(own_fine_layers=[4, 5], code_lambda=2.0)
    batch = tiny.sketch_batch(0)
    method.model.eval()
    total, terms = method._losses(batch, training=True)
    codes, own = method.model.encode(batch.source), method.model.style_of(batch.target)
    wanted = torch.cat([own[:, :4], method.model.latent_avg[4:].lerp(own[:, 4:], VIVID)], dim=1)
    assert torch.allclose(terms["loss_code"], F.mse_loss(codes, wanted), rtol=1e-5)
    assert torch.allclose(total, terms["loss"] + 2 * terms["loss_code"], rtol=1e-5)
    assert "loss_code" not in method.validation_step(batch)
    codes = torch.randn(64, 6, tiny.STYLE_DIM, requires_grad=True)
    method._with_own_style(codes, own[:1].expand(64, -1, -1)).sum().backward()
    assert codes.grad is not None and (codes.grad[:, :4] == 1).all() and not codes.grad[:, 4:].any()
    alone = tiny.psp_method(own_fine_layers=[], code_lambda=1.0)
    assert {"loss_code", "gradient_norm"} <= alone.training_step([batch], 0).keys()


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

    def watching(*args: Any, labels: Tensor | None = None) -> tiny.TinyLosses:
        seen.append(args[4])
        assert labels is None if task != "celebs_seg_to_face" else torch.equal(labels, batch.source)
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


@pytest.mark.thorough
def test_start_from_tensors() -> None:
    torch.manual_seed(0)
    tensors = Backbone().state_dict()
    for input_nc, label_nc, fitting in ((3, 0, 385), (1, 1, 385 - 7), (19, 19, 385 - 7)):
        encoder = GradualStyleEncoder(1, input_nc)
        before = encoder.input_layer[0].weight.clone()
        assert start_from_tensors(encoder, tensors, label_nc=label_nc) == fitting
        assert torch.equal(encoder.body[5].res_layer[1].weight, tensors["body.5.res_layer.1.weight"])
        assert torch.equal(encoder.input_layer[0].weight, before) == bool(label_nc)
    with pytest.raises(UserError, match="irse50_weights"):
        start_from_tensors(tiny.encoder(), tensors, label_nc=1)


def test_gradient_norm() -> None:
    a, b, c = (torch.zeros(2, requires_grad=True) for _ in range(3))
    assert averaged_gradient_norm([a, b]) == 0
    a.grad, b.grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert averaged_gradient_norm([a, b, c]) == 5
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    scaler.scale(a)  # sets it up
    assert averaged_gradient_norm([a, b, c], scaler=scaler) == 2.5
    b.grad[0] = float("nan")
    assert averaged_gradient_norm([a, b, c], scaler=scaler).isnan()
    with pytest.raises(BadStep, match="^the gradient is nan$"):
        averaged_gradient_norm([a, b, c])
