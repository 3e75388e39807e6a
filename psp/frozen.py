"""The synthesis network prepared for inference: what does not depend on the code is computed once.

Same results as `Generator.synthesize` up to rounding, whatever the batch. The activation's gain is folded into weights,
bias and noise, and the style into one set of weights per sample: at high resolutions that is far cheaper than another
pass over the image, and the convolution can add the bias itself. Samples go through one by one: on a CPU a batch of
them is no faster.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.stylegan2 import SQRT2, Generator, ModulatedConv2d, StyledConv, ToRGB
from stylegan2_ops import upfirdn2d


class FrozenConv(nn.Module):
    """A modulated convolution with everything folded in. weight [out,in,k,k]; energy [in,out]: its squares, summed."""

    weight: Tensor
    energy: Tensor | None
    style_weight: Tensor
    style_bias: Tensor
    kernel: Tensor

    def __init__(self, conv: ModulatedConv2d, *, gain: float = 1.0):
        super().__init__()
        weight = conv.weight[0].detach() * conv.scale
        self.up, self.pad = conv.up, conv.pad
        self.register_buffer("energy", weight.square().sum((2, 3)).t().contiguous() if conv.demodulate else None)
        self.register_buffer("weight", (weight * gain).contiguous(memory_format=torch.channels_last))
        self.register_buffer("style_weight", conv.modulation.weight.detach() * conv.modulation.scale)
        self.register_buffer("style_bias", conv.modulation.bias.detach() * conv.modulation.lr_mul)
        if conv.up:
            self.register_buffer("kernel", conv.blur.kernel.detach().clone())

    def forward(self, x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
        """x [1,in,H,W], w [1,D] -> [1,out,H',W'], demodulated, with the bias [out]."""
        style = F.linear(w, self.style_weight, self.style_bias)
        weight = self.weight * style[0][None, :, None, None]
        if self.energy is not None:
            norm = torch.rsqrt(style.square() @ self.energy + 1e-8)
            weight = weight * norm[0][:, None, None, None]
        weight = weight.to(x.dtype)
        if not self.up:
            return F.conv2d(x, weight, bias, padding=self.pad)
        y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        return upfirdn2d(y, self.kernel, pad=(1, 1)).add_(bias[:, None, None])


class FrozenStyledConv(nn.Module):
    """Modulated convolution, noise, bias, leaky ReLU times sqrt(2)."""

    bias: Tensor
    noise: Tensor

    def __init__(self, layer: StyledConv, noise: Tensor):
        super().__init__()
        self.conv = FrozenConv(layer.conv, gain=SQRT2)
        self.register_buffer("bias", layer.activate.bias.detach() * SQRT2)
        self.register_buffer("noise", noise.detach() * layer.noise.weight.detach() * SQRT2)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        y = self.conv(x, w, self.bias.to(x.dtype))
        return F.leaky_relu_(y.add_(self.noise.to(x.dtype)), 0.2)


class FrozenToRGB(nn.Module):
    """The image so far, enlarged, plus this resolution's contribution; always in float32."""

    bias: Tensor
    kernel: Tensor

    def __init__(self, layer: ToRGB):
        super().__init__()
        self.conv = FrozenConv(layer.conv)
        self.register_buffer("bias", layer.bias.detach().flatten())
        if hasattr(layer, "upsample"):
            self.pad = layer.upsample.pad
            self.register_buffer("kernel", layer.upsample.kernel.detach().clone())

    def forward(self, x: Tensor, w: Tensor, skip: Tensor | None) -> Tensor:
        out = self.conv(x, w, self.bias.to(x.dtype)).float()
        return out if skip is None else out.add_(upfirdn2d(skip, self.kernel, up=2, pad=self.pad))


class FrozenGenerator(nn.Module):
    """`Generator.synthesize` with the fixed noise: W+ codes [B,N,D] -> images [B,3,S,S], not clipped, float32.

    The weights are copies: later changes of the generator do not show. dtype: of the convolutions; float32 agrees with
    the generator to about 1e-5 of the largest value, bfloat16 to about 1e-2.
    """

    input: Tensor

    def __init__(self, generator: Generator, dtype: torch.dtype = torch.float32):
        super().__init__()
        noise = generator.fixed_noise()
        constant = generator.input.input.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        self.register_buffer("input", constant)
        layers = [generator.conv1, *generator.convs]
        self.convs = nn.ModuleList(FrozenStyledConv(layer, n) for layer, n in zip(layers, noise))
        self.to_rgbs = nn.ModuleList(FrozenToRGB(layer) for layer in [generator.to_rgb1, *generator.to_rgbs])

    def forward(self, codes: Tensor) -> Tensor:
        return torch.cat([self._one(code.unbind(1)) for code in codes.split(1)])

    def _one(self, styles: tuple[Tensor, ...]) -> Tensor:
        x = self.convs[0](self.input, styles[0])
        image = self.to_rgbs[0](x, styles[1], None)
        for k in range(1, len(self.to_rgbs)):
            x = self.convs[2 * k - 1](x, styles[2 * k - 1])
            x = self.convs[2 * k](x, styles[2 * k])
            image = self.to_rgbs[k](x, styles[2 * k + 1], image)
        return image
