"""StyleGAN2 as its papers describe it, with the module and attribute names of NVIDIA's PyTorch pickles, and a writer.

The forward passes are the plain, slow form: a convolution per sample with its own modulated weight, zeros inserted, a
low-pass filter, a convolution. They share no code with the project. The pickles are those of `torch_utils.persistence`:
each module becomes a record of its source text, class name and state. The source here leaves a mark when it is run.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MARK = "/nonexistent/folder/of-a-test"  # tests that look for it set another source
NETWORK = "_reconstruct_persistent_obj"


class EasyDict(dict):
    """As NVIDIA's: a dict with attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"


def _reconstruct_persistent_obj(meta: dict) -> Any:
    """What NVIDIA's code does with a record: run its source. A control; our reader never comes here."""
    exec(meta["module_src"], {})
    return meta


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


@contextlib.contextmanager
def nvidia_modules() -> Iterator[None]:
    """While it lasts, the names that the pickles use can be imported, as in NVIDIA's checkout."""
    names = ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")
    made = {name: types.ModuleType(name) for name in names}
    made["torch_utils.persistence"].__dict__[NETWORK] = _reconstruct_persistent_obj
    made["dnnlib.util"].__dict__["EasyDict"] = EasyDict
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]


def dumps(content: Any, protocol: int = 4) -> bytes:
    with nvidia_modules():
        return pickle.dumps(content, protocol=protocol)


class Persistent(nn.Module):
    """A module that is pickled as a record."""

    source = f"open({MARK!r}, 'w').close()\n"
    old = True  # torch before 2.0 kept its parts in OrderedDicts

    def __init__(self, **kwargs: Any):
        super().__init__()
        self._init_args = ()
        self._init_kwargs = kwargs

    def __reduce__(self) -> Any:
        state = dict(self.__dict__)
        if self.old:
            state |= {name: OrderedDict(state[name]) for name in ("_parameters", "_buffers", "_modules")}
        meta = {
            "type": "class", "version": 6, "module_src": Persistent.source, "class_name": type(self).__name__,
            "state": state,
        }  # fmt: skip
        return _reconstruct_persistent_obj, (meta,), None


# ---- operations --------------------------------------------------------------------------------------


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * 2**0.5


def low_pass(x: Tensor, kernel: Tensor, before: int, after: int, gain: float = 1.0) -> Tensor:
    """Convolution of each channel with the filter, in an image with that many zeros around it."""
    x = F.pad(x, (before, after, before, after))
    b, c, h, w = x.shape
    weight = kernel.flip(0, 1)[None, None].to(x) * gain
    return F.conv2d(x.reshape(b * c, 1, h, w), weight).unflatten(0, (b, c)).squeeze(2)


def insert_zeros(x: Tensor) -> Tensor:
    wide = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    wide[:, :, ::2, ::2] = x
    return wide


def modulated(x: Tensor, weight: Tensor, style: Tensor, kernel: Tensor | None, demodulate: bool) -> Tensor:
    """One image after the other, each with its own weight; with a filter: twice the size."""
    images = []
    for image, scales in zip(x, style):
        own = weight * scales[None, :, None, None]
        if demodulate:
            own = own / (own.pow(2).sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if kernel is None:  # correlation
            images.append(F.conv2d(image[None], own, padding=own.shape[2] // 2))
        else:  # zeros, filter with all that it smears over the edge, convolution
            images.append(F.conv2d(low_pass(insert_zeros(image[None]), kernel, 3, 2, 4.0), own.flip(2, 3)))
    return torch.cat(images)


def setup_filter() -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


# ---- layers ------------------------------------------------------------------------------------------


class FullyConnectedLayer(Persistent):
    def __init__(self, n_in: int, n_out: int, activation: str = "linear", lr: float = 1.0, bias_init: float = 0.0):
        super().__init__(in_features=n_in, out_features=n_out, activation=activation, lr_multiplier=lr)
        self.activation = activation
        self.weight_gain = lr / np.sqrt(n_in)
        self.bias_gain = lr
        self.weight = nn.Parameter(torch.randn(n_out, n_in) / lr)
        self.bias = nn.Parameter(torch.full([n_out], np.float32(bias_init)) + 0.1 * torch.randn(n_out) / lr)

    def forward(self, x: Tensor) -> Tensor:
        y = x @ (self.weight * float(self.weight_gain)).t() + self.bias * self.bias_gain
        return lrelu(y) if self.activation == "lrelu" else y


class SynthesisLayer(Persistent):
    def __init__(self, n_in: int, n_out: int, w_dim: int, side: int, up: int, clamp: float | None, last: bool):
        super().__init__(in_channels=n_in, out_channels=n_out)
        self.resolution, self.up, self.use_noise, self.activation = side, up, True, "lrelu"
        self.conv_clamp, self.padding, self.act_gain = clamp, 1, np.sqrt(2)
        self.register_buffer("resample_filter", setup_filter())
        self.affine = FullyConnectedLayer(w_dim, n_in, bias_init=1)
        form = torch.channels_last if last else torch.contiguous_format
        self.weight = nn.Parameter(torch.randn(n_out, n_in, 3, 3).to(memory_format=form))
        self.register_buffer("noise_const", torch.randn(side, side))
        self.noise_strength = nn.Parameter(torch.randn([]))
        self.bias = nn.Parameter(torch.randn(n_out))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        kernel = self.resample_filter if self.up == 2 else None
        x = modulated(x, self.weight, self.affine(w), kernel, True)  # type: ignore[arg-type]
        return lrelu(x + self.noise_const * self.noise_strength + self.bias[:, None, None])


class ToRGBLayer(Persistent):
    def __init__(self, n_in: int, colours: int, w_dim: int, clamp: float | None):
        super().__init__(in_channels=n_in, out_channels=colours)
        self.conv_clamp, self.weight_gain = clamp, 1 / np.sqrt(n_in)
        self.affine = FullyConnectedLayer(w_dim, n_in, bias_init=1)
        self.weight = nn.Parameter(torch.randn(colours, n_in, 1, 1))
        self.bias = nn.Parameter(torch.randn(colours))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) * float(self.weight_gain)
        return modulated(x, self.weight, style, None, False) + self.bias[:, None, None]


class SynthesisBlock(Persistent):
    def __init__(self, n_in: int, n_out: int, w_dim: int, side: int, colours: int, clamp: float | None, last: bool):
        super().__init__(in_channels=n_in, out_channels=n_out, resolution=side)
        self.in_channels, self.w_dim, self.resolution, self.img_channels = n_in, w_dim, side, colours
        self.architecture, self.use_fp16, self.is_last = "skip", last, False
        self.register_buffer("resample_filter", setup_filter())
        self.num_conv, self.num_torgb = 2 if n_in else 1, 1
        if n_in:
            self.conv0 = SynthesisLayer(n_in, n_out, w_dim, side, 2, clamp, last)
        else:
            self.const = nn.Parameter(torch.randn(n_out, 4, 4))
        self.conv1 = SynthesisLayer(n_out, n_out, w_dim, side, 1, clamp, last)
        self.torgb = ToRGBLayer(n_out, colours, w_dim, clamp)

    def forward(self, x: Tensor | None, image: Tensor | None, ws: list[Tensor]) -> tuple[Tensor, Tensor]:
        if x is None:
            x = self.const.expand(len(ws[0]), -1, -1, -1)
            x = self.conv1(x, ws[0])
        else:
            x = self.conv1(self.conv0(x, ws[0]), ws[1])
        rgb = self.torgb(x, ws[self.num_conv])
        if image is not None:  # the filter alone: 2 zeros before and 1 after keep the pixels in their places
            rgb = rgb + low_pass(insert_zeros(image), self.resample_filter, 2, 1, 4.0)
        return x, rgb


class SynthesisNetwork(Persistent):
    def __init__(self, w_dim: int, size: int, colours: int, base: int, most: int, clamp: float | None, last: bool):
        super().__init__(w_dim=w_dim, img_resolution=size, img_channels=colours, channel_base=base, channel_max=most)
        self.w_dim, self.img_resolution, self.img_channels = w_dim, size, colours
        self.img_resolution_log2 = int(np.log2(size))
        self.block_resolutions = [2**i for i in range(2, self.img_resolution_log2 + 1)]
        self.num_ws = 2 * len(self.block_resolutions)
        width = {side: min(base // side, most) for side in self.block_resolutions}
        for side in self.block_resolutions:
            below = width[side // 2] if side > 4 else 0
            self.add_module(f"b{side}", SynthesisBlock(below, width[side], w_dim, side, colours, clamp, last))

    def forward(self, ws: Tensor) -> Tensor:
        x = image = None
        first = 0
        for side in self.block_resolutions:
            block = getattr(self, f"b{side}")
            x, image = block(x, image, list(ws.unbind(1))[first : first + block.num_conv + 1])
            first += block.num_conv
        assert image is not None
        return image


class MappingNetwork(Persistent):
    def __init__(self, z_dim: int, c_dim: int, w_dim: int, num_ws: int, layers: int, lr: float):
        super().__init__(z_dim=z_dim, c_dim=c_dim, w_dim=w_dim, num_ws=num_ws, num_layers=layers)
        self.z_dim, self.c_dim, self.w_dim, self.num_ws, self.num_layers = z_dim, c_dim, w_dim, num_ws, layers
        self.w_avg_beta = 0.995
        if c_dim:
            self.embed = FullyConnectedLayer(c_dim, w_dim)
        for i in range(layers):
            n_in = w_dim if i else z_dim + (w_dim if c_dim else 0)
            self.add_module(f"fc{i}", FullyConnectedLayer(n_in, w_dim, "lrelu", lr))
        self.register_buffer("w_avg", torch.randn(w_dim))

    def forward(self, z: Tensor) -> Tensor:
        x = z / (z.pow(2).mean(1, keepdim=True) + 1e-8).sqrt()
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)
        return x


class Generator(Persistent):
    """ada: options nested as in stylegan2-ada-pytorch, else flat as in the stylegan3 repository. Clamps nothing."""

    def __init__(
        self, size: int = 16, z_dim: int = 16, *, w_dim: int | None = None, layers: int = 2, base: int = 128,
        most: int = 12, c_dim: int = 0, colours: int = 3, lr: float = 0.01, clamp: float | None = 256,
        ada: bool = True, channels_last: bool = False,
    ):  # fmt: skip
        w_dim = w_dim or z_dim
        inner = {"channel_base": base, "channel_max": most, "num_fp16_res": 4, "conv_clamp": clamp}
        options = {"c_dim": c_dim, "img_resolution": size, "img_channels": colours, "z_dim": z_dim, "w_dim": w_dim}
        options |= {"synthesis_kwargs": EasyDict(inner)} if ada else inner
        super().__init__(mapping_kwargs=EasyDict(num_layers=layers), **options)
        self.z_dim, self.c_dim, self.w_dim, self.img_resolution, self.img_channels = z_dim, c_dim, w_dim, size, colours
        self.synthesis = SynthesisNetwork(w_dim, size, colours, base, most, clamp, channels_last)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, layers, lr)


class Conv2dLayer(Persistent):
    def __init__(self, n_in: int, n_out: int, side: int, down: int = 1, bias: bool = True):
        super().__init__(in_channels=n_in, out_channels=n_out, kernel_size=side)
        self.activation, self.up, self.down = "lrelu" if bias else "linear", 1, down
        self.conv_clamp, self.padding = None, side // 2
        self.register_buffer("resample_filter", setup_filter())
        self.weight_gain = 1 / np.sqrt(n_in * side**2)
        self.act_gain = np.sqrt(2) if bias else 1
        self.weight = nn.Parameter(torch.randn(n_out, n_in, side, side))
        self.bias = nn.Parameter(torch.randn(n_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * float(self.weight_gain)
        if self.down == 2:  # filter, then every second pixel of the convolution
            x = low_pass(x, self.resample_filter, self.padding + 1, self.padding + 1)  # type: ignore[arg-type]
            x = F.conv2d(x, weight)[:, :, ::2, ::2]
        else:
            x = F.conv2d(x, weight, padding=self.padding)
        return x if self.bias is None else lrelu(x + self.bias[:, None, None])


class DiscriminatorBlock(Persistent):
    def __init__(self, first: bool, n_in: int, n_out: int, side: int):
        super().__init__(in_channels=0 if first else n_in, resolution=side)
        self.in_channels, self.resolution, self.img_channels, self.architecture = n_in * (not first), side, 3, "resnet"
        self.register_buffer("resample_filter", setup_filter())
        if first:
            self.fromrgb = Conv2dLayer(3, n_in, 1)
        self.conv0 = Conv2dLayer(n_in, n_in, 3)
        self.conv1 = Conv2dLayer(n_in, n_out, 3, down=2)
        self.skip = Conv2dLayer(n_in, n_out, 1, down=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.in_channels:
            x = self.fromrgb(x)
        return (self.skip(x) + self.conv1(self.conv0(x))) * 0.5**0.5


class MinibatchStdLayer(Persistent):
    def __init__(self, group_size: int | None, num_channels: int = 1):
        super().__init__(group_size=group_size)
        self.group_size, self.num_channels = group_size, num_channels

    def forward(self, x: Tensor) -> Tensor:
        group = min(self.group_size or len(x), len(x))
        count = len(x) // group
        means = [(x[i::count].var(0, unbiased=False) + 1e-8).sqrt().mean() for i in range(count)]
        extra = torch.stack(means * group)[:, None, None, None].expand(-1, 1, *x.shape[2:])
        return torch.cat([x, extra], 1)


class DiscriminatorEpilogue(Persistent):
    def __init__(self, width: int, group_size: int | None):
        super().__init__(in_channels=width, cmap_dim=0, resolution=4)
        self.in_channels, self.cmap_dim, self.resolution, self.img_channels = width, 0, 4, 3
        self.architecture = "resnet"
        self.mbstd = MinibatchStdLayer(group_size)
        self.conv = Conv2dLayer(width + 1, width, 3)
        self.fc = FullyConnectedLayer(width * 16, width, "lrelu")
        self.out = FullyConnectedLayer(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.fc(self.conv(self.mbstd(x)).flatten(1)))


class Discriminator(Persistent):
    def __init__(self, size: int = 16, *, base: int = 128, most: int = 12, group_size: int | None = 4):
        super().__init__(c_dim=0, img_resolution=size, img_channels=3, channel_base=base, channel_max=most)
        self.c_dim, self.img_resolution, self.img_channels = 0, size, 3
        self.block_resolutions = [2**i for i in range(int(np.log2(size)), 2, -1)]
        width = {side: min(base // side, most) for side in [*self.block_resolutions, 4]}
        for side in self.block_resolutions:
            self.add_module(f"b{side}", DiscriminatorBlock(side == size, width[side], width[side // 2], side))
        self.b4 = DiscriminatorEpilogue(width[4], group_size)

    def forward(self, image: Tensor) -> Tensor:
        for side in self.block_resolutions:
            image = getattr(self, f"b{side}")(image)
        return self.b4(image)


def snapshot(generator: Generator, discriminator: Discriminator | None = None, **more: Any) -> dict[str, Any]:
    """What a training run writes: the networks under their names, frozen."""
    networks = {"G": generator, "D": discriminator, "G_ema": generator} if discriminator else {"G_ema": generator}
    for network in networks.values():
        network.eval().requires_grad_(False)
    data = {"path": "/data/faces.zip", "use_labels": False, "max_size": None, "xflip": True, "resolution": 16}
    return {"training_set_kwargs": data, **networks, "augment_pipe": None, **more}


def written(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(dumps(content, protocol))
    return path
