"""The synthesis network prepared for inference: what does not depend on the code is computed once.

Same results as `Generator.synthesize` up to rounding. The activation's gain is folded into weights, bias and noise.
There are two ways, by what is scarce:

- `FrozenGenerator`, one sample after another (CPU): the style goes into weights of the sample's own, which at high
  resolutions is far cheaper than another pass over the image, and the convolution can add the bias itself. A batch
  would be no faster.
- `BatchedGenerator` (GPU): the style scales the activations and one convolution serves all samples. Per layer there is
  the convolution and one more operation: blur, demodulation, noise, bias, activation and the next layer's style, and at
  the end of a resolution its part of the image as well (`stylegan2_ops`). All styles are computed at once.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.networks.stylegan2 import SQRT2, Generator, ModulatedConv2d, StyledConv, ToRGB
from stylegan2_ops import epilogue_to_rgb, layer_epilogue
from stylegan2_ops.upfirdn2d import upfirdn2d_reference

HALF_CLAMP = 256.0  # keeps half-precision activations in range; trained networks hardly reach it


def clamp_of(generator: Generator, dtype: torch.dtype) -> float | None:
    """The limit of activations in this dtype: the network's own, else one for half precision."""
    return HALF_CLAMP if generator.conv_clamp is None and dtype != torch.float32 else generator.conv_clamp


class FrozenConv(nn.Module):
    """A modulated convolution. weight: scaled [out,in,k,k]; energy [in,out]: its squares, summed over the window."""

    def __init__(self, conv: ModulatedConv2d, dtype: torch.dtype, *, gain: float = 1.0):
        super().__init__()
        weight = conv.weight[0].detach() * conv.scale
        self.up, self.padding, self.dtype = conv.up, conv.pad, dtype
        self.energy = nn.Buffer(energy_of(weight)) if conv.demodulate else None
        self.weight = nn.Buffer((weight * gain).contiguous(memory_format=torch.channels_last))
        self.style_weight = nn.Buffer(conv.modulation.weight.detach() * conv.modulation.scale)
        self.style_bias = nn.Buffer(conv.modulation.bias.detach() * conv.modulation.lr_mul)
        if conv.up:
            self.blur_pad = conv.blur.pad
            self.kernel = nn.Buffer(conv.blur.kernel.detach().clone())

    def forward(self, x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
        """x [1,in,H,W], w [1,D] -> [1,out,H',W'], blurred and demodulated, with the bias [out]."""
        style = F.linear(w, self.style_weight, self.style_bias)
        if self.energy is not None and self.dtype != torch.float32:
            # demodulation cancels a common factor: keep half precision in range
            style = style / style.abs().amax(dim=1, keepdim=True).clamp_min(1e-8)
        weight = self.weight * style[0][None, :, None, None]
        if self.energy is not None:
            weight = weight * torch.rsqrt(style.square() @ self.energy + 1e-8)[0][:, None, None, None]
        weight = weight.to(x.dtype)
        if not self.up:
            return F.conv2d(x, weight, bias, padding=self.padding)
        y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        return upfirdn2d_reference(y, self.kernel, 1, 1, (*self.blur_pad, *self.blur_pad)).add_(bias[:, None, None])


class FrozenStyledConv(nn.Module):
    """Modulated convolution, noise, bias, leaky ReLU times sqrt(2)."""

    def __init__(self, layer: StyledConv, noise: Tensor, dtype: torch.dtype, clamp: float | None):
        super().__init__()
        self.conv, self.clamp = FrozenConv(layer.conv, dtype, gain=SQRT2), clamp
        self.bias = nn.Buffer((layer.activate.bias.detach() * SQRT2).to(dtype))
        self.noise = nn.Buffer((noise.detach() * layer.noise.weight.detach() * SQRT2).to(dtype))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        y = F.leaky_relu_(self.conv(x, w, self.bias).add_(self.noise), 0.2)
        return y if self.clamp is None else y.clamp_(-self.clamp, self.clamp)


class FrozenToRGB(nn.Module):
    """The image so far, enlarged, plus this resolution's contribution; the sum is always in float32."""

    def __init__(self, layer: ToRGB, dtype: torch.dtype, clamp: float | None):
        super().__init__()
        self.conv, self.clamp = FrozenConv(layer.conv, dtype), clamp
        self.bias = nn.Buffer(layer.bias.detach().flatten().to(dtype))
        if hasattr(layer, "upsample"):
            self.pad = layer.upsample.pad
            self.kernel = nn.Buffer(layer.upsample.kernel.detach().clone())

    def forward(self, x: Tensor, w: Tensor, skip: Tensor | None) -> Tensor:
        rgb: Tensor = self.conv(x, w, self.bias).float()
        if self.clamp is not None:
            rgb = rgb.clamp(-self.clamp, self.clamp)
        if skip is not None:
            rgb.add_(upfirdn2d_reference(skip, self.kernel, 2, 1, (*self.pad, *self.pad)))
        return rgb


class FrozenGenerator(nn.Module):
    """`Generator.synthesize` with the fixed noise: W+ codes [B,N,D] -> images [B,3,S,S], not clipped, float32.

    The weights are copies: later changes of the generator do not show. dtype: of the convolutions; float32 agrees with
    the generator to about 1e-5 of the largest value, bfloat16 and float16 to about 1e-2.
    """

    def __init__(self, generator: Generator, dtype: torch.dtype = torch.float32):
        super().__init__()
        clamp = clamp_of(generator, dtype)
        constant = generator.input.input.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        self.input = nn.Buffer(constant)
        layers = [generator.conv1, *generator.convs]
        self.convs = nn.ModuleList(
            FrozenStyledConv(layer, noise, dtype, clamp)
            for layer, noise in zip(layers, generator.fixed_noise(), strict=True)
        )
        self.to_rgbs = nn.ModuleList(
            FrozenToRGB(layer, dtype, clamp) for layer in [generator.to_rgb1, *generator.to_rgbs]
        )

    def forward(self, codes: Tensor) -> Tensor:
        return torch.cat([self._one(code.unbind(1)) for code in codes.split(1)])

    def _one(self, styles: tuple[Tensor, ...]) -> Tensor:
        x = self.convs[0](self.input, styles[0])
        image: Tensor = self.to_rgbs[0](x, styles[1], None)
        for k in range(1, len(self.to_rgbs)):
            x = self.convs[2 * k - 1](x, styles[2 * k - 1])
            x = self.convs[2 * k](x, styles[2 * k])
            image = self.to_rgbs[k](x, styles[2 * k + 1], image)
        return image


def energy_of(weight: Tensor) -> Tensor:
    """A convolution's weight [out,in,k,k] -> its squares, summed over the window, [in,out]."""
    return weight.square().sum((2, 3)).t().contiguous()


def padded_stack(matrices: list[Tensor]) -> Tensor:
    """Matrices [a_i,b_i] -> [n, max a, max b], with zeros behind them."""
    rows, columns = (max(m.shape[axis] for m in matrices) for axis in (0, 1))
    return torch.stack([F.pad(m, (0, columns - m.shape[1], 0, rows - m.shape[0])) for m in matrices])


class StyleProducts(nn.Module):
    """The style layers of several convolutions as one batched product: W+ codes [B,n,D] -> styles [n,B,widest]."""

    def __init__(self, convs: list[ModulatedConv2d]):
        super().__init__()
        linears = [conv.modulation for conv in convs]
        self.weight = nn.Buffer(padded_stack([layer.weight.detach().t() * layer.scale for layer in linears]))
        self.bias = nn.Buffer(padded_stack([layer.bias.detach()[None] * layer.lr_mul for layer in linears]))

    def forward(self, codes: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, codes.transpose(0, 1), self.weight)


class BatchedConv(nn.Module):
    """The tensors of a styled convolution: weight packed as its convolution reads it, noise and bias in float32."""

    def __init__(self, layer: StyledConv, noise: Tensor, dtype: torch.dtype):
        super().__init__()
        self.up, self.padding = layer.conv.up, layer.conv.pad
        self.in_ch, self.out_ch = layer.conv.weight.shape[2], layer.conv.weight.shape[1]
        weight = layer.conv.weight[0].detach() * (layer.conv.scale * SQRT2)
        weight = (weight.transpose(0, 1) if self.up else weight).to(dtype)
        self.weight = nn.Buffer(weight.contiguous(memory_format=torch.channels_last))
        self.noise = nn.Buffer(noise.detach() * layer.noise.weight.detach() * SQRT2)
        self.bias = nn.Buffer(layer.activate.bias.detach() * SQRT2)
        if self.up:
            self.pad = layer.conv.blur.pad
            self.kernel = nn.Buffer(layer.conv.blur.kernel.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """The convolution alone: x [B,in,H,W] that is already scaled -> [B,out,H,W], or [B,out,2H+1,2W+1] with `up`."""
        if self.up:
            return F.conv_transpose2d(x, self.weight, stride=2)
        return F.conv2d(x, self.weight, padding=self.padding)


class BatchedGenerator(nn.Module):
    """`FrozenGenerator`, made for GPUs: the same arguments, the same results up to rounding."""

    def __init__(self, generator: Generator, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.dtype, self.clamp = dtype, clamp_of(generator, dtype)
        layers = [generator.conv1, *generator.convs]
        to_rgbs = [generator.to_rgb1, *generator.to_rgbs]
        convs = [layer.conv for layer in layers]
        self.convs = nn.ModuleList(
            BatchedConv(layer, noise, dtype) for layer, noise in zip(layers, generator.fixed_noise(), strict=True)
        )
        self.styles = StyleProducts(convs)
        self.rgb_styles = StyleProducts([layer.conv for layer in to_rgbs])
        self.energy = nn.Buffer(padded_stack([energy_of(c.weight[0].detach() * c.scale) for c in convs]))
        colours = [layer.conv.weight[0, :, :, 0, 0].detach() * layer.conv.scale for layer in to_rgbs]
        self.rgb_weight = nn.Buffer(padded_stack(colours)[:, None])
        self.rgb_bias = nn.Buffer(torch.stack([layer.bias.detach().flatten() for layer in to_rgbs]))
        self.kernel = nn.Buffer(to_rgbs[1].upsample.kernel.detach().clone())
        self.input = nn.Buffer(generator.input.input.detach().clone())
        self.one = nn.Buffer(torch.ones(1, device=self.input.device))

    def factors(self, codes: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """W+ codes [B,N,D] -> per convolution the factors of its inputs [B,in] and outputs [B,out]; and per resolution
        the 1x1 convolution to colours [B,3,C]."""
        styles = self.styles(codes[:, :-1])
        if self.dtype != torch.float32:  # demodulation cancels a common factor: keep half precision in range
            styles = styles / styles.abs().amax(2, keepdim=True).clamp_min(1e-8)
        demodulation = torch.rsqrt(torch.bmm(styles.square(), self.energy) + 1e-8)
        colours = self.rgb_styles(codes[:, 1::2])[:, :, None] * self.rgb_weight
        return (
            [style[:, : conv.in_ch] for style, conv in zip(styles, self.convs, strict=True)],
            [norm[:, : conv.out_ch] for norm, conv in zip(demodulation, self.convs, strict=True)],
            [colour[..., : conv.out_ch] for colour, conv in zip(colours, self.convs[::2], strict=True)],
        )

    def forward(self, codes: Tensor) -> Tensor:
        styles, demodulation, colours = self.factors(codes)
        x = (self.input * styles[0][:, :, None, None]).to(self.dtype, memory_format=torch.channels_last)
        image: Tensor | None = None
        for k, conv in enumerate(self.convs):
            parts: dict[str, Any] = {
                "demodulation": demodulation[k],
                "noise": conv.noise,
                "strength": self.one,
                "bias": conv.bias,
                "gain": 1.0,
                "clamp": self.clamp,
                "next_scale": styles[k + 1] if k + 1 < len(styles) else None,
            }
            if conv.up:
                x = layer_epilogue(conv(x), fir=conv.kernel, pad=conv.pad, **parts)  # type: ignore[arg-type]
                continue
            x, image = epilogue_to_rgb(  # type: ignore[assignment]
                conv(x),
                weight=colours[k // 2],
                rgb_bias=self.rgb_bias[k // 2],
                rgb_clamp=self.clamp,
                kernel=self.kernel,
                skip=image,
                keep=k + 1 < len(styles),
                **parts,
            )
        return image  # type: ignore[return-value]
