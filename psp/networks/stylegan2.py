"""StyleGAN2 generator (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020).

Parameter names and shapes are those of the released PyTorch checkpoints (`style.1.weight`, `convs.0.conv.weight`, ...),
so that they load strictly. The modulated convolution is computed in the "scale the activations" form: the input is
multiplied by the style, convolved once with the shared weight, and demodulated afterwards. The result is the one of the
per-sample weight form up to rounding; no grouped convolution is needed, and no weight gradient for a frozen generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.networks.state import normal
from stylegan2_ops import bias_act, layer_epilogue, scale_channels, upfirdn2d

SQRT2 = math.sqrt(2.0)
FIR_TAPS = (1.0, 3.0, 3.0, 1.0)
LR_MLP = 0.01  # learning-rate factor of the mapping network in all released models


def default_channels(channel_multiplier: int = 2) -> dict[int, int]:
    """Channel width per resolution of the released config-f models (`channel_multiplier` 2; 1 is config-e)."""
    return {side: min(512, 16384 * channel_multiplier // side) for side in resolutions(1024)}


def resolutions(size: int) -> list[int]:
    """[4, 8, ..., size]; ValueError unless `size` is a power of two from 8 to 1024."""
    if size < 8 or size > 1024 or size & (size - 1):
        raise ValueError(f"image size {size} is not a power of two between 8 and 1024")
    return [2**i for i in range(2, size.bit_length())]


def style_count(size: int) -> int:
    """Number of W+ style vectors of a generator of this output size: 2 log2(size) - 2."""
    return 2 * (size.bit_length() - 1) - 2


def fir_kernel(gain: float = 1.0) -> Tensor:
    """The separable [1,3,3,1] low-pass filter as a [4,4] kernel that sums to `gain`."""
    scale = gain / sum(FIR_TAPS) ** 2
    return torch.tensor([[scale * a * b for b in FIR_TAPS] for a in FIR_TAPS])


class Kept:
    """What follows from parameters alone, kept from step to step where gradients flow past them without reaching them.

    Made again when a parameter changes or moves. A change through `.data`, which torch does not count, is not seen.
    """

    def __init__(self) -> None:
        self.key: object = None
        self.value: Any = None

    def __call__(self, *also: object, make: Callable[[], Any]) -> Any:
        """make(), or what it gave before. also: the parameters, and whatever else the value depends on."""
        tensors = [t for t in also if isinstance(t, Tensor)]
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return make()
        if any(t.requires_grad or t.is_inference() for t in tensors):
            return make()
        key = [(t.device, t.data_ptr(), t._version) if isinstance(t, Tensor) else t for t in also]
        if key != self.key:
            self.key, self.value = key, make()
        return self.value


class PixelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate; weight stored as N(0,1)/lr_mul, used times lr_mul/sqrt(in_dim).

    [B, in_dim] -> [B, out_dim]; with `activation=True` followed by leaky ReLU (0.2) times sqrt(2).
    """

    def __init__(
        self, in_dim: int, out_dim: int, *, bias_init: float = 0.0, lr_mul: float = 1.0, activation: bool = False
    ):
        super().__init__()
        self.weight = nn.Parameter(normal(out_dim, in_dim, divisor=lr_mul))
        self.bias = nn.Parameter(torch.full((out_dim,), float(bias_init)))
        self.scale = lr_mul / math.sqrt(in_dim)
        self.lr_mul = lr_mul
        self.activation = activation
        self.kept = Kept()

    @torch.no_grad()
    def set_rate(self, lr_mul: float) -> None:
        """Another learning-rate factor, the same function."""
        self.weight.mul_(self.lr_mul / lr_mul)
        self.bias.mul_(self.lr_mul / lr_mul)
        self.scale *= lr_mul / self.lr_mul
        self.lr_mul = lr_mul

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.kept(
            self.weight, self.bias, self.scale, make=lambda: (self.weight * self.scale, self.bias * self.lr_mul)
        )
        if self.activation:
            return bias_act(F.linear(x, weight), bias)
        return F.linear(x, weight, bias)


class Blur(nn.Module):
    """[1,3,3,1] low-pass filter; `kernel` is a buffer because released checkpoints hold it."""

    def __init__(self, pad: tuple[int, int], gain: float = 1.0, up: int = 1):
        super().__init__()
        self.kernel = nn.Buffer(fir_kernel(gain))
        self.pad = pad
        self.up = up

    def forward(self, x: Tensor) -> Tensor:
        return upfirdn2d(x, self.kernel, up=self.up, pad=self.pad)


class ModulatedConv2d(nn.Module):
    """Style-modulated convolution: x [B,in,H,W], style [B,D] -> [B,out,H,W], or [B,out,2H,2W] with `up`."""

    def __init__(
        self, in_ch: int, out_ch: int, kernel: int, style_dim: int, *, demodulate: bool = True, up: bool = False
    ):
        super().__init__()
        self.weight = nn.Parameter(normal(1, out_ch, in_ch, kernel, kernel))
        self.modulation = EqualLinear(style_dim, in_ch, bias_init=1.0)
        self.scale = 1.0 / math.sqrt(in_ch * kernel**2)
        self.demodulate = demodulate
        self.up = up
        self.kept = Kept()
        self.pad = kernel // 2
        if up:
            self.blur = Blur((1, 1), gain=4.0)

    def convolve(self, x: Tensor, style: Tensor) -> tuple[Tensor, Tensor | None]:
        """The convolution alone, without blur and demodulation: its result and the demodulation [B,out] or None."""
        weight, energy, least = self.kept(x.dtype, self.weight, make=lambda: self._scaled(x.dtype))
        modulation = self.modulation(style)
        if self.demodulate and x.dtype == torch.float16:  # cancels a common factor: keep half precision in range
            modulation = modulation / modulation.abs().amax(dim=1, keepdim=True).clamp_min(1e-8)
        x = scale_channels(x, modulation)
        if self.up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        else:
            x = F.conv2d(x, weight, padding=self.pad)
        if energy is None:
            return x, None
        return x, torch.rsqrt(F.linear(modulation.square(), energy, least))

    def _scaled(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The weight as it is used, [out,in,k,k]; to demodulate, its squares, summed over the window, [out,in], and a
        bias [out] that keeps their sum from 0."""
        weight = self.weight[0] * self.scale
        energy = weight.square().sum(dim=(2, 3)) if self.demodulate else None
        return weight.to(dtype), energy, None if energy is None else energy.new_full(energy.shape[:1], 1e-8)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x, demodulation = self.convolve(x, style)
        if self.up:
            x = self.blur(x)
        return x if demodulation is None else x * demodulation[:, :, None, None].to(x.dtype)


class NoiseInjection(nn.Module):
    """One image of noise for all channels, times a learned strength."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class ActivationBias(nn.Module):
    """Per-channel bias, leaky ReLU 0.2, gain sqrt(2)."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return bias_act(x, self.bias)


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias and activation; noise [1 or B,1,H,W], or None: N(0,1) drawn per sample."""

    def __init__(self, in_ch: int, out_ch: int, style_dim: int, *, up: bool = False):
        super().__init__()
        self.clamp: float | None = None
        self.conv = ModulatedConv2d(in_ch, out_ch, 3, style_dim, up=up)
        self.noise = NoiseInjection()
        self.activate = ActivationBias(out_ch)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        if noise is None:
            size = [side * 2 if self.conv.up else side for side in x.shape[2:]]
            noise = torch.randn(x.shape[0], 1, *size, device=x.device, dtype=x.dtype)
        x, demodulation = self.conv.convolve(x, style)
        return layer_epilogue(
            x,
            fir=self.conv.blur.kernel if self.conv.up else None,
            pad=self.conv.blur.pad if self.conv.up else (0, 0),
            demodulation=demodulation,
            noise=noise,
            strength=self.noise.weight,
            bias=self.activate.bias,
            clamp=self.clamp,
        )


class ToRGB(nn.Module):
    def __init__(self, in_ch: int, style_dim: int, *, up: bool = True):
        super().__init__()
        self.clamp: float | None = None
        if up:
            self.upsample = Blur((2, 1), gain=4.0, up=2)
        self.conv = ModulatedConv2d(in_ch, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, style: Tensor, skip: Tensor | None) -> Tensor:
        out = self.conv(x, style) + self.bias.to(x.dtype)
        if self.clamp is not None:
            out = out.clamp(-self.clamp, self.clamp)
        output: Tensor = out if skip is None else out + self.upsample(skip)
        return output


class ConstantInput(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.input = nn.Parameter(normal(1, channels, 4, 4))

    def forward(self, batch: int) -> Tensor:
        return self.input.expand(batch, -1, -1, -1)


class Generator(nn.Module):
    """StyleGAN2 generator.

    size: output side in pixels, a power of two from 8 to 1024. style_dim: D of z and w. n_mlp: mapping depth.
    channels: width per resolution, e.g. {4: 512, ..., 1024: 32}; default: the released config-f widths. conv_clamp:
    limit of what layers return, 256 in NVIDIA's networks that were trained in half precision, None in others.
    `map` turns z [B,D] into w [B,D]; `synthesize` turns W+ [B,N,D], N = `n_styles`, into images [B,3,size,size] around
    [-1,1].
    """

    def __init__(
        self,
        size: int,
        style_dim: int = 512,
        n_mlp: int = 8,
        *,
        channels: Mapping[int, int] | None = None,
        lr_mlp: float = LR_MLP,
        conv_clamp: float | None = None,
    ):
        super().__init__()
        channels = dict(default_channels() if channels is None else channels)
        self.size, self.style_dim, self.n_mlp, self.lr_mlp = size, style_dim, n_mlp, lr_mlp
        self.n_styles = style_count(size)
        self.channels = {res: channels[res] for res in resolutions(size)}
        mapping: list[nn.Module] = [PixelNorm()]
        mapping += [EqualLinear(style_dim, style_dim, lr_mul=lr_mlp, activation=True) for _ in range(n_mlp)]
        self.style = nn.Sequential(*mapping)

        self.input = ConstantInput(channels[4])
        self.conv1 = StyledConv(channels[4], channels[4], style_dim)
        self.to_rgb1 = ToRGB(channels[4], style_dim, up=False)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        self.noises = nn.Module()
        self.noises.register_buffer("noise_0", normal(1, 1, 4, 4))
        for res in resolutions(size)[1:]:
            self.convs.append(StyledConv(channels[res // 2], channels[res], style_dim, up=True))
            self.convs.append(StyledConv(channels[res], channels[res], style_dim))
            self.to_rgbs.append(ToRGB(channels[res], style_dim))
            for _ in range(2):
                self.noises.register_buffer(f"noise_{self.n_noises}", normal(1, 1, res, res))

        self.conv_clamp = conv_clamp
        for layer in (self.conv1, *self.convs, self.to_rgb1, *self.to_rgbs):
            layer.clamp = conv_clamp

    def set_mapping_rate(self, lr_mlp: float) -> None:
        """Change the learning-rate factor of the mapping network; weights are rescaled so that `map` stays as it is.

        State dicts do not hold the factor. Released ones mean 0.01, and so does everything that is saved here.
        """
        for layer in self.style:
            if isinstance(layer, EqualLinear):
                layer.set_rate(lr_mlp)
        self.lr_mlp = lr_mlp

    @property
    def n_noises(self) -> int:
        return len(self.noises._buffers)

    def fixed_noise(self) -> list[Tensor]:
        """The stored noise images, one [1,1,H,W] per styled convolution."""
        return [getattr(self.noises, f"noise_{i}") for i in range(self.n_noises)]

    def map(self, z: Tensor) -> Tensor:
        """Mapping network: z [B,D] ~ N(0,1) -> w [B,D]."""
        output: Tensor = self.style(z)
        return output

    @torch.no_grad()
    def mean_latent(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Mean of `n` mapped z vectors, [1,D]; the centre for truncation."""
        device = self.input.input.device
        total = torch.zeros(1, self.style_dim, dtype=torch.float64)
        for start in range(0, n, 10_000):
            z = torch.randn(min(10_000, n - start), self.style_dim, generator=generator).to(device)
            total += self.map(z).sum(0, keepdim=True).double().cpu()
        return (total / n).float().to(device)

    def synthesize(
        self, codes: Tensor, noise: Sequence[Tensor | None] | None = None, *, randomize_noise: bool = False
    ) -> Tensor:
        """W+ codes [B,N,D] -> images [B,3,size,size], not clipped, about [-1,1].

        noise: one [1 or B,1,H,W] tensor per styled convolution; default: the stored buffers, or fresh N(0,1) noise
        when `randomize_noise`. ValueError when the number of styles or noise images differs.
        """
        if codes.dim() != 3 or codes.shape[1:] != (self.n_styles, self.style_dim):
            raise ValueError(
                f"W+ codes have shape {tuple(codes.shape)}, this generator takes [B, {self.n_styles}, {self.style_dim}]"
            )
        if noise is None:
            noise = [None] * self.n_noises if randomize_noise else self.fixed_noise()
        if len(noise) != self.n_noises:
            raise ValueError(f"{len(noise)} noise images given, this generator takes {self.n_noises} noise images")
        styles = codes.unbind(dim=1)
        x = self.conv1(self.input(codes.shape[0]), styles[0], noise[0])
        image: Tensor = self.to_rgb1(x, styles[1], None)
        for k, to_rgb in enumerate(self.to_rgbs):
            x = self.convs[2 * k](x, styles[2 * k + 1], noise[2 * k + 1])
            x = self.convs[2 * k + 1](x, styles[2 * k + 2], noise[2 * k + 2])
            image = to_rgb(x, styles[2 * k + 3], image)
        return image


def generator_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Size, style_dim, n_mlp and channels of the generator of a state dict; KeyError or ValueError if it is none."""
    n_ups = 1 + max((int(key.split(".")[1]) for key in state if key.startswith("to_rgbs.")), default=-1)
    n_mlp = sum(key.startswith("style.") and key.endswith(".weight") for key in state)
    channels = {4: int(state["input.input"].shape[1])}
    for k in range(n_ups):
        channels[8 * 2**k] = int(state[f"convs.{2 * k}.conv.weight"].shape[1])
    return {
        "size": 4 * 2**n_ups,
        "style_dim": int(state["conv1.conv.modulation.weight"].shape[1]),
        "n_mlp": n_mlp,
        "channels": channels,
    }
