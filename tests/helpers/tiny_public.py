"""State dicts as the public CycleGAN-and-pix2pix repository writes them, and its networks as plain functions of one.

Written from its published layer order, independently of `psp`: each layer is looked up under its own name.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


class _Maker:
    def __init__(self, norm: str, *, bias: bool | None = None):
        self.norm, self.state, self.random = norm, State(), torch.Generator().manual_seed(5)
        self.bias = norm == "instance" if bias is None else bias

    def tensor(self, *shape: int, scale: float = 0.3) -> Tensor:
        return scale * torch.randn(*shape, generator=self.random)

    def conv(self, name: str, *shape: int, out: int, always_bias: bool = False) -> None:
        self.state[f"{name}.weight"] = self.tensor(*shape)
        if self.bias or always_bias:
            self.state[f"{name}.bias"] = self.tensor(out)

    def normalise(self, name: str, channels: int) -> None:
        if self.norm == "batch":
            self.state |= {
                f"{name}.weight": 1 + self.tensor(channels),
                f"{name}.bias": self.tensor(channels),
                f"{name}.running_mean": self.tensor(channels),
                f"{name}.running_var": 1 + self.tensor(channels).abs(),
                f"{name}.num_batches_tracked": torch.tensor(7),
            }


def unet(depth: int, norm: str, *, channels: int = 3, out: int = 3, width: int = 4) -> State:
    """latest_net_G.pth of --netG unet_<2**depth>."""
    make = _Maker(norm)
    widths = [width * min(8, 2**k) for k in range(depth)]
    make.conv("model.model.0", width, channels, 4, 4, out=width)
    name = "model.model.1.model"
    for k in range(1, depth):
        make.conv(f"{name}.1", widths[k], widths[k - 1], 4, 4, out=widths[k])
        if k == depth - 1:
            make.conv(f"{name}.3", widths[k], widths[k - 1], 4, 4, out=widths[k - 1])
            make.normalise(f"{name}.4", widths[k - 1])
        else:
            make.normalise(f"{name}.2", widths[k])
            make.conv(f"{name}.5", 2 * widths[k], widths[k - 1], 4, 4, out=widths[k - 1])
            make.normalise(f"{name}.6", widths[k - 1])
            name += ".3.model"
    make.conv("model.model.3", 2 * width, out, 4, 4, out=out, always_bias=True)
    return make.state


def resnet(blocks: int, norm: str, *, dropout: bool = False, channels: int = 3, out: int = 3, width: int = 4) -> State:
    """latest_net_G.pth of --netG resnet_<blocks>blocks."""
    make = _Maker(norm)
    make.conv("model.1", width, channels, 7, 7, out=width)
    make.normalise("model.2", width)
    for k, at in enumerate((4, 7)):
        make.conv(f"model.{at}", width * 2 ** (k + 1), width * 2**k, 3, 3, out=width * 2 ** (k + 1))
        make.normalise(f"model.{at + 1}", width * 2 ** (k + 1))
    wide, second = 4 * width, 6 if dropout else 5
    for k in range(blocks):
        for layer in (1, second):
            make.conv(f"model.{10 + k}.conv_block.{layer}", wide, wide, 3, 3, out=wide)
            make.normalise(f"model.{10 + k}.conv_block.{layer + 1}", wide)
    for k, at in enumerate((10 + blocks, 13 + blocks)):
        make.conv(f"model.{at}", wide >> k, wide >> (k + 1), 3, 3, out=wide >> (k + 1))
        make.normalise(f"model.{at + 1}", wide >> (k + 1))
    make.conv(f"model.{17 + blocks}", out, width, 7, 7, out=out, always_bias=True)
    return make.state


def _norm(state: State, name: str, x: Tensor) -> Tensor:
    if f"{name}.weight" not in state:  # without any normalisation, too, only the last convolution has a bias
        return F.instance_norm(x) if sum(key.endswith(".bias") for key in state) > 1 else x
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"])


def _layer(state: State, name: str) -> tuple[Tensor, Tensor | None]:
    return state[f"{name}.weight"], state.get(f"{name}.bias")


def run_unet(state: State, x: Tensor) -> Tensor:
    def inside(name: str, x: Tensor) -> Tensor:
        x = F.leaky_relu(x, 0.2)  # in place there, so the skip connection carries this as well
        down = F.conv2d(x, *_layer(state, f"{name}.1"), stride=2, padding=1)
        if f"{name}.5.weight" in state:
            middle, up, norm = inside(f"{name}.3.model", _norm(state, f"{name}.2", down)), f"{name}.5", f"{name}.6"
        else:
            middle, up, norm = down, f"{name}.3", f"{name}.4"
        made = F.conv_transpose2d(F.relu(middle), *_layer(state, up), stride=2, padding=1)
        return torch.cat([x, _norm(state, norm, made)], 1)

    first = F.conv2d(x, *_layer(state, "model.model.0"), stride=2, padding=1)
    rest = F.relu(inside("model.model.1.model", first))
    return torch.tanh(F.conv_transpose2d(rest, *_layer(state, "model.model.3"), stride=2, padding=1))


def run_resnet(state: State, x: Tensor) -> Tensor:
    def reflected(x: Tensor, name: str, pad: int) -> Tensor:
        return F.conv2d(F.pad(x, (pad,) * 4, mode="reflect"), *_layer(state, name))

    x = F.relu(_norm(state, "model.2", reflected(x, "model.1", 3)))
    for at in (4, 7):
        x = F.conv2d(x, *_layer(state, f"model.{at}"), stride=2, padding=1)
        x = F.relu(_norm(state, f"model.{at + 1}", x))
    at = 10
    while f"model.{at}.conv_block.1.weight" in state:
        name = f"model.{at}.conv_block"
        second = 5 if f"{name}.5.weight" in state and state[f"{name}.5.weight"].dim() == 4 else 6
        y = F.relu(_norm(state, f"{name}.2", reflected(x, f"{name}.1", 1)))
        x = x + _norm(state, f"{name}.{second + 1}", reflected(y, f"{name}.{second}", 1))
        at += 1
    for up in (at, at + 3):
        x = F.conv_transpose2d(x, *_layer(state, f"model.{up}"), stride=2, padding=1, output_padding=1)
        x = F.relu(_norm(state, f"model.{up + 1}", x))
    return torch.tanh(reflected(x, f"model.{at + 7}", 3))
