"""A larger generator that contains a smaller one: where a trained model goes on with more capacity or resolution."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from psp.networks.stylegan2 import Generator


def _enlarged(generator: Generator, channels: Mapping[int, int], size: int) -> Generator:
    depth, lr_mlp, clamp = generator.n_mlp, generator.lr_mlp, generator.conv_clamp
    return Generator(size, generator.style_dim, depth, channels=channels, lr_mlp=lr_mlp, conv_clamp=clamp)


@torch.no_grad()
def widen(generator: Generator, channels: Mapping[int, int]) -> Generator:
    """A generator with more channels and equal pictures.

    New channels feed nothing at first (their outgoing weights are 0); what they themselves see is random.

    channels: width per resolution, nowhere below the given generator's; ValueError otherwise.
    """
    if narrower := [r for r, width in generator.channels.items() if channels[r] < width]:
        raise ValueError(f"channels at {narrower[0]} px are {channels[narrower[0]]}, below {generator.channels}")
    wide = _enlarged(generator, channels, generator.size)
    for (name, new), old in zip(wide.named_parameters(), generator.parameters(), strict=True):
        if name.endswith("conv.weight"):  # [1,out,in,k,k], used times 1 / sqrt(in k k)
            n_out, n_in = old.shape[1:3]
            new[:, :n_out, n_in:] = 0
            new[:, :n_out, :n_in] = old * math.sqrt(new.shape[2] / n_in)
        else:
            new[tuple(slice(0, side) for side in old.shape)] = old
    for buffer, same in zip(wide.buffers(), generator.buffers(), strict=True):
        buffer.copy_(same)
    return wide


@torch.no_grad()
def grow(generator: Generator, channels: Mapping[int, int], size: int) -> Generator:
    """A generator of `size` px that contains `generator`; the added layers are new, and their RGB starts faint.

    channels: width per resolution; those of the given generator have to agree with it.
    """
    grown = _enlarged(generator, channels, size)
    grown.load_state_dict(generator.state_dict(), strict=False)
    for to_rgb in list(grown.to_rgbs)[len(generator.to_rgbs) :]:
        to_rgb.get_parameter("conv.weight").mul_(0.1)
    return grown
