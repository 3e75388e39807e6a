"""The structure that pSp runs, on our weights: what the benchmark compares with, and an independent check of results.

Written from the published description (Karras et al. 2020, section 2.2; Richardson et al. 2021): modulation goes into
one set of convolution weights per sample, which a grouped convolution applies; noise, bias and activation are steps of
their own; resampling inserts zeros and filters. Nothing is fused, frozen or kept.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.batch import Losses
from psp.models import mixing
from psp.models.psp import PSP
from psp.networks.feature_pyramid import Heads
from psp.networks.irse import BatchNorm2d, BottleneckIR, Subsample
from psp.networks.stylegan2 import SQRT2, Generator, ModulatedConv2d, StyledConv, ToRGB
from psp.training.ranger import make_optimizer


def resample(x: Tensor, kernel: Tensor, up: int, pad: tuple[int, int]) -> Tensor:
    """Zeros between the samples, padding, correlation with the flipped kernel; channels as batch. [B,C,H,W]."""
    batch, channels, height, width = x.shape
    x = x.reshape(batch * channels, 1, height, 1, width, 1)
    x = F.pad(x, [0, up - 1, 0, 0, 0, up - 1])
    x = x.reshape(batch * channels, 1, height * up, width * up)
    x = F.conv2d(F.pad(x, [*pad, *pad]), kernel.flip(0, 1)[None, None])
    return x.reshape(batch, channels, *x.shape[2:])


def modulated_conv(layer: ModulatedConv2d, x: Tensor, style: Tensor) -> Tensor:
    """One weight per sample: w * style, normalised to unit length, applied as a grouped convolution."""
    batch, in_ch = x.shape[:2]
    modulation = layer.modulation(style).view(batch, 1, in_ch, 1, 1)
    weight = layer.scale * layer.weight * modulation
    if layer.demodulate:
        weight = weight * torch.rsqrt(weight.square().sum([2, 3, 4], keepdim=True) + 1e-8)
    out_ch, side = weight.shape[1], weight.shape[-1]
    x = x.reshape(1, batch * in_ch, *x.shape[2:])
    if layer.up:
        weight = weight.transpose(1, 2).reshape(batch * in_ch, out_ch, side, side)
        x = F.conv_transpose2d(x, weight, stride=2, groups=batch)
        x = x.view(batch, out_ch, *x.shape[2:])
        return resample(x, layer.blur.kernel, 1, layer.blur.pad)
    x = F.conv2d(x, weight.reshape(batch * out_ch, in_ch, side, side), padding=layer.pad, groups=batch)
    return x.view(batch, out_ch, *x.shape[2:])


def styled_conv(layer: StyledConv, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
    x = modulated_conv(layer.conv, x, style)
    if noise is None:
        noise = torch.randn(x.shape[0], 1, *x.shape[2:], device=x.device, dtype=x.dtype)
    x = x + layer.noise.weight * noise
    return F.leaky_relu(x + layer.activate.bias.view(1, -1, 1, 1), 0.2) * SQRT2


def to_rgb(layer: ToRGB, x: Tensor, style: Tensor, skip: Tensor | None) -> Tensor:
    out = modulated_conv(layer.conv, x, style) + layer.bias
    return out if skip is None else out + resample(skip, layer.upsample.kernel, 2, layer.upsample.pad)


def synthesize(generator: Generator, codes: Tensor, *, randomize_noise: bool = False) -> Tensor:
    """W+ codes [B,N,D] -> images [B,3,S,S], as `Generator.synthesize`."""
    noise: list[Tensor | None] = [None] * generator.n_noises if randomize_noise else list(generator.fixed_noise())
    x = generator.input.input.repeat(codes.shape[0], 1, 1, 1)
    x = styled_conv(generator.conv1, x, codes[:, 0], noise[0])
    image = to_rgb(generator.to_rgb1, x, codes[:, 1], None)
    for k, layer in enumerate(generator.to_rgbs):
        x = styled_conv(generator.convs[2 * k], x, codes[:, 2 * k + 1], noise[2 * k + 1])  # type: ignore[arg-type]
        x = styled_conv(generator.convs[2 * k + 1], x, codes[:, 2 * k + 2], noise[2 * k + 2])  # type: ignore[arg-type]
        image = to_rgb(layer, x, codes[:, 2 * k + 3], image)  # type: ignore[arg-type]
    return image


def mix(model: PSP, x: Tensor, z: Tensor, layers: list[int]) -> Tensor:
    """pSp's style mixing of one input [1,C,256,256] with noise z [n,D] -> [n,3,S,S].

    For each output the generator runs on the noise alone, for its code, and then everything runs again.
    """
    images = []
    for noise in torch.split(z, 1):
        style = model.map(noise)
        synthesize(model.decoder, style)  # only its code is used
        codes = model.encoder(x) + model.latent_avg
        images.append(synthesize(model.decoder, mixing.mix(codes, style, layers)))
    return torch.cat(images)


def encoder(net: nn.Module) -> nn.Module:
    """A copy of an encoder that runs as pSp's does: in torch's default memory layout, its map2style blocks one after
    another on every device, pixels picked by max-pooling over one of them."""
    net = copy.deepcopy(net).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for module in list(net.modules()):
        if isinstance(module, Heads):
            module.codes = module.one_by_one  # type: ignore[method-assign]
        elif isinstance(module, BottleneckIR) and isinstance(module.shortcut_layer, Subsample):
            module.shortcut_layer = nn.MaxPool2d(1, module.shortcut_layer.stride)
        elif isinstance(module, BatchNorm2d):
            module.__class__ = nn.BatchNorm2d  # type: ignore[assignment]  # which counts its steps
    return net


def trainer(model: PSP, objective: Callable[..., Losses]) -> Callable[[Tensor, Tensor], Tensor]:
    """pSp's training step on a copy of the model: network input [B,C,256,256] and target [B,3,256,256] -> loss.

    pSp never freezes the generator: its parameters collect gradients that nobody uses. Every loss is read for the log.
    """
    model = copy.deepcopy(model).train().requires_grad_(True)
    model.encoder = encoder(model.encoder)
    optimiser = make_optimizer("ranger", list(model.encoder.parameters()), 1e-4)

    def step(source: Tensor, target: Tensor) -> Tensor:
        codes = model.encoder(source.to(model.device)) + model.latent_avg
        images = model.resize(synthesize(model.decoder, codes, randomize_noise=True))
        target = target.to(model.device)
        if images.shape[-1] < target.shape[-1]:
            target = F.interpolate(target, size=images.shape[-2:], mode="area")
        losses = objective(images, target, codes, model.latent_avg, None)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        for value in losses.terms.values():
            float(value)
        return losses.total.detach()

    return step
