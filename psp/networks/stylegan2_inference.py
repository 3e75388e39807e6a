"""The synthesis network prepared for inference: what does not depend on the code is computed once.

Same results as `Generator.synthesize` up to rounding. The activation's gain is folded into weights, bias and noise.
Then there are two ways, by what is scarce:

- one by one (CPU): the style goes into weights of the sample's own, which at high resolutions is far cheaper than
  another pass over the image, and the convolution can add the bias itself. A batch would be no faster.
- batched (GPU): the style scales the activations, one convolution serves all samples, and blur, demodulation, noise,
  bias and activation are one operation (`stylegan2_ops.layer_epilogue`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.networks.stylegan2 import SQRT2, Generator, ModulatedConv2d, StyledConv, ToRGB
from stylegan2_ops import layer_epilogue, upfirdn2d
from stylegan2_ops.upfirdn2d import upfirdn2d_reference

HALF_CLAMP = 256.0  # keeps half-precision activations in range; trained networks hardly reach it


def _resampled(x: Tensor, kernel: Tensor, up: int, pad: tuple[int, int]) -> Tensor:
    """`upfirdn2d` on a CPU, where there are no kernels to choose from and the layers are known to fit."""
    return upfirdn2d_reference(x, kernel, up, 1, (*pad, *pad))


class FrozenConv(nn.Module):
    """A modulated convolution. weight: scaled [out,in,k,k]; energy [in,out]: its squares, summed over the window."""

    weight: Tensor
    energy: Tensor | None
    style_weight: Tensor
    style_bias: Tensor
    kernel: Tensor

    def __init__(self, conv: ModulatedConv2d, dtype: torch.dtype, *, gain: float = 1.0):
        super().__init__()
        weight = conv.weight[0].detach() * conv.scale
        self.up, self.padding, self.dtype = conv.up, conv.pad, dtype
        self.register_buffer("energy", weight.square().sum((2, 3)).t().contiguous() if conv.demodulate else None)
        self.register_buffer("weight", (weight * gain).contiguous(memory_format=torch.channels_last))
        self.register_buffer("style_weight", conv.modulation.weight.detach() * conv.modulation.scale)
        self.register_buffer("style_bias", conv.modulation.bias.detach() * conv.modulation.lr_mul)
        if conv.up:
            self.blur_pad = conv.blur.pad
            self.register_buffer("kernel", conv.blur.kernel.detach().clone())

    def factors(self, w: Tensor) -> tuple[Tensor, Tensor | None]:
        """w [B,D] -> factors of the input channels [B,in] and, where there is demodulation, of the outputs [B,out]."""
        style = F.linear(w, self.style_weight, self.style_bias)
        if self.energy is None:
            return style, None
        if self.dtype != torch.float32:  # demodulation cancels a common factor: keep half precision in range
            style = style / style.abs().amax(dim=1, keepdim=True).clamp_min(1e-8)
        return style, torch.rsqrt(style.square() @ self.energy + 1e-8)

    def alone(self, x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
        """x [1,in,H,W], w [1,D] -> [1,out,H',W'], blurred and demodulated, with the bias [out]."""
        style, norm = self.factors(w)
        weight = self.weight * style[0][None, :, None, None]
        if norm is not None:
            weight = weight * norm[0][:, None, None, None]
        weight = weight.to(x.dtype)
        if not self.up:
            return F.conv2d(x, weight, bias, padding=self.padding)
        y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        return _resampled(y, self.kernel, 1, self.blur_pad).add_(bias[:, None, None])

    def batched(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor | None]:
        """x [B,in,H,W], w [B,D] -> the convolution alone, without blur, and the demodulation [B,out] or None."""
        style, norm = self.factors(w)
        x = x * style[:, :, None, None].to(x.dtype)
        if self.up:
            return F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2), norm
        return F.conv2d(x, self.weight, padding=self.padding), norm


class FrozenStyledConv(nn.Module):
    """Modulated convolution, noise, bias, leaky ReLU times sqrt(2)."""

    bias: Tensor
    noise: Tensor
    one: Tensor

    def __init__(self, layer: StyledConv, noise: Tensor, dtype: torch.dtype, clamp: float | None):
        super().__init__()
        self.conv, self.clamp = FrozenConv(layer.conv, dtype, gain=SQRT2), clamp
        self.register_buffer("bias", (layer.activate.bias.detach() * SQRT2).to(dtype))
        self.register_buffer("noise", (noise.detach() * layer.noise.weight.detach() * SQRT2).to(dtype))
        self.register_buffer("one", torch.ones(1))

    def alone(self, x: Tensor, w: Tensor) -> Tensor:
        y = F.leaky_relu_(self.conv.alone(x, w, self.bias).add_(self.noise), 0.2)
        return y if self.clamp is None else y.clamp_(-self.clamp, self.clamp)

    def batched(self, x: Tensor, w: Tensor) -> Tensor:
        conv = self.conv
        y, norm = conv.batched(x, w)
        return layer_epilogue(
            y,
            fir=conv.kernel if conv.up else None,
            pad=conv.blur_pad if conv.up else (0, 0),
            demodulation=norm,
            noise=self.noise,
            strength=self.one,
            bias=self.bias,
            gain=1.0,
            clamp=self.clamp,
        )


class FrozenToRGB(nn.Module):
    """The image so far, enlarged, plus this resolution's contribution; the sum is always in float32."""

    bias: Tensor
    kernel: Tensor

    def __init__(self, layer: ToRGB, dtype: torch.dtype, clamp: float | None):
        super().__init__()
        self.conv, self.clamp = FrozenConv(layer.conv, dtype), clamp
        self.register_buffer("bias", layer.bias.detach().flatten().to(dtype))
        if hasattr(layer, "upsample"):
            self.pad = layer.upsample.pad
            self.register_buffer("kernel", layer.upsample.kernel.detach().clone())

    def alone(self, x: Tensor, w: Tensor, skip: Tensor | None) -> Tensor:
        return self._sum(self.conv.alone(x, w, self.bias), skip, _resampled)

    def batched(self, x: Tensor, w: Tensor, skip: Tensor | None) -> Tensor:
        return self._sum(self.conv.batched(x, w)[0] + self.bias[:, None, None], skip, upfirdn2d)

    def _sum(self, rgb: Tensor, skip: Tensor | None, resample: Callable[..., Tensor]) -> Tensor:
        rgb = rgb.float() if self.clamp is None else rgb.float().clamp(-self.clamp, self.clamp)
        return rgb if skip is None else rgb.add_(resample(skip, self.kernel, up=2, pad=self.pad))


class FrozenGenerator(nn.Module):
    """`Generator.synthesize` with the fixed noise: W+ codes [B,N,D] -> images [B,3,S,S], not clipped, float32.

    The weights are copies: later changes of the generator do not show. dtype: of the convolutions; float32 agrees with
    the generator to about 1e-5 of the largest value, bfloat16 and float16 to about 1e-2. batched: see above.
    """

    input: Tensor

    def __init__(self, generator: Generator, dtype: torch.dtype = torch.float32, *, batched: bool = False):
        super().__init__()
        self.batched = batched
        clamp = generator.conv_clamp
        if clamp is None and dtype != torch.float32:
            clamp = HALF_CLAMP
        constant = generator.input.input.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        self.register_buffer("input", constant)
        layers = [generator.conv1, *generator.convs]
        self.convs = nn.ModuleList(
            FrozenStyledConv(layer, noise, dtype, clamp)
            for layer, noise in zip(layers, generator.fixed_noise(), strict=True)
        )
        self.to_rgbs = nn.ModuleList(
            FrozenToRGB(layer, dtype, clamp) for layer in [generator.to_rgb1, *generator.to_rgbs]
        )
        if batched:
            for module in self.modules():
                if isinstance(module, FrozenConv):
                    module.weight = module.weight.to(dtype)

    def forward(self, codes: Tensor) -> Tensor:
        if self.batched:
            return self._run("batched", codes)
        return torch.cat([self._run("alone", code) for code in codes.split(1)])

    def _run(self, way: str, codes: Tensor) -> Tensor:
        styles = codes.unbind(1)
        convs = [getattr(layer, way) for layer in self.convs]
        to_rgbs = [getattr(layer, way) for layer in self.to_rgbs]
        x = convs[0](self.input.expand(len(codes), -1, -1, -1), styles[0])
        image = to_rgbs[0](x, styles[1], None)
        for k in range(1, len(to_rgbs)):
            x = convs[2 * k - 1](x, styles[2 * k - 1])
            x = convs[2 * k](x, styles[2 * k])
            image = to_rgbs[k](x, styles[2 * k + 1], image)
        return image
