"""A wider generator that makes the pictures of a narrower one: where a trained model goes on with more capacity."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from psp.networks.stylegan2 import Generator


@torch.no_grad()
def widen(generator: Generator, channels: Mapping[int, int]) -> Generator:
    """A generator with more channels and equal pictures.

    New channels feed nothing at first (their outgoing weights are 0); what they themselves see is random.

    channels: width per resolution, nowhere below the given generator's; ValueError otherwise.
    """
    if narrower := [r for r, width in generator.channels.items() if channels[r] < width]:
        raise ValueError(f"channels at {narrower[0]} px are {channels[narrower[0]]}, below {generator.channels}")
    wide = Generator(
        generator.size,
        generator.style_dim,
        generator.n_mlp,
        channels=channels,
        lr_mlp=generator.lr_mlp,
        conv_clamp=generator.conv_clamp,
    )
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
