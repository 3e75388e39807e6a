"""Gradient checkpointing: the same step with fewer tensors kept."""

from __future__ import annotations

import pytest
import tiny_training as tiny
import torch
from torch.autograd.graph import saved_tensors_hooks

from psp.networks.encoders import GradualStyleEncoder
from psp.networks.stylegan2 import Generator
from psp.training.flags import ignored, parse
from psp.training.gradient_checkpointing import recompute_activations


def step(*, recompute: bool) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], int]:
    """Gradients and buffers after one backward pass with random noise, and the bytes kept for it."""
    torch.manual_seed(0)
    encoder, decoder = GradualStyleEncoder(6, 1, 32).train(), Generator(16, 32, 2)
    decoder.requires_grad_(False)
    if recompute:
        for network, segments in ((encoder, 24 + 6), (decoder, 5 + 3)):
            recompute_activations(network)
            assert sum("forward" in vars(module) for module in network.modules()) == segments
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    parameters = {p.untyped_storage().data_ptr() for p in [*encoder.parameters(), *decoder.parameters()]}
    torch.manual_seed(1)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        images = decoder.synthesize(encoder(torch.rand(1, 1, 128, 128)), randomize_noise=True)
    size = sum(n for pointer, n in kept.items() if pointer not in parameters)
    images.square().mean().backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    return gradients, {name: b.clone() for name, b in encoder.named_buffers()}, size


@pytest.mark.thorough
def test_same_gradients_and_statistics_with_less_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psp.networks.feature_pyramid.INPUT_SIZE", 128)  # the same layers in a quarter of the time
    plain, statistics, size = step(recompute=False)
    again, others, less = step(recompute=True)
    assert plain.keys() == again.keys() and len(plain) > 200
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=0, atol=0, msg=name)
    for name, value in statistics.items():
        assert torch.equal(others[name], value), name
    assert less < 0.5 * size


def test_results_without_gradient_and_names_stay() -> None:
    torch.manual_seed(0)
    decoder = Generator(16, 32, 2).eval()
    names, codes = list(decoder.state_dict()), torch.randn(1, 6, 32)
    with torch.no_grad():
        before = decoder.synthesize(codes)
        recompute_activations(decoder)
        assert torch.equal(decoder.synthesize(codes), before)
    assert list(decoder.state_dict()) == names


def test_a_training_step_is_the_same() -> None:
    states = []
    for recompute in (False, True):
        torch.manual_seed(9)
        method = tiny.psp_method()
        if recompute:
            recompute_activations(method.model)
        for k in range(2):
            torch.manual_seed(k)
            method.training_step([tiny.sketch_batch(k)], k)
        states.append(method.model.state_dict())
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), name


def test_other_methods_say_that_they_ignore_the_flag() -> None:
    given = parse(["--method", "pix2pix", "--gradient_checkpointing"])
    assert ignored(given) == "ignored by --method pix2pix: --gradient_checkpointing"
