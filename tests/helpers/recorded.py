"""Weights and pictures that are the same on every machine, and what the original code made of them (tests/data/psp_*).

The answers in tests/data/psp_*.npz are the output of pixel2style2pixel at 5cfff38 on a CPU: its encoders, StyleGAN2
generator (with the plain-torch form of its two CUDA operations), `pSp.forward`, `IDLoss`, `MocoLoss`, `LPIPS`,
`WNormLoss`, `Ranger` and `BilinearResize`, filled by `fill` and shown `picture`. Of large tensors every k-th number is
kept, of gradients the length and the product with `direction`.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

DATA = Path(__file__).resolve().parents[1] / "data"


def uniform(name: str, shape: tuple[int, ...]) -> Tensor:
    """float32 in [-1,1), a pure function of name and shape."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return torch.from_numpy(np.asarray(generator.random(shape, dtype=np.float32) * 2 - 1))


@torch.no_grad()
def fill(module: nn.Module) -> nn.Module:
    """Every weight from its own name, of the size it has in trained networks; eval mode."""
    for name, value in module.state_dict().items():
        if not value.is_floating_point() or name.endswith("kernel"):
            continue
        u = uniform(name, tuple(value.shape))
        unit = 3**0.5 * u  # variance 1
        parent = name.split(".")[0]
        if name.endswith("running_var"):
            u = 1 + 0.5 * u
        elif name.endswith("running_mean") or name.endswith("noise.weight"):
            u = 0.2 * u
        elif parent.startswith("to_rgb") and value.ndim == 5:  # pictures about [-1,1]
            u = 0.3 * unit
        elif parent in ("noises", "input") or value.ndim == 5 or name.endswith("modulation.weight"):
            u = unit
        elif name.endswith("modulation.bias"):
            u = 1 + 0.1 * u
        elif parent == "style":  # the mapping network stores its weights times 100
            u = 100 * unit if value.ndim == 2 else 10 * u
        elif name.endswith("linear.weight"):  # EqualLinear
            u = unit
        elif name.endswith("bias"):
            u = 0.1 * u
        elif value.ndim > 1:
            u = unit / value[0].numel() ** 0.5
        else:
            u = 1 + 0.1 * u
        value.copy_(u)
    for name, part in module.named_modules():
        if isinstance(part, nn.PReLU):
            part.weight.copy_(0.25 + 0.1 * uniform(name, tuple(part.weight.shape)))
    return module.eval()


def picture(name: str, channels: int, size: int = 256, batch: int = 1) -> Tensor:
    """[batch,channels,size,size] in [-1,1]: smooth shapes and a little grain."""
    y, x = np.mgrid[0:size, 0:size] / size
    grain = uniform(name, (batch, channels, size, size)).numpy()
    places = uniform(name + " shapes", (batch, channels, 5, 4)).numpy().astype(np.float64)
    out = 0.1 * grain.astype(np.float64)
    for k in range(5):
        a, b, phase, height = (places[:, :, k, i, None, None] for i in range(4))
        out += 0.45 * height * np.cos(12 * (a * x + b * y) + 3 * phase)
    return torch.from_numpy(out.clip(-1, 1).astype(np.float32))


def direction(name: str, like: Tensor) -> Tensor:
    """A fixed direction of length about 1 to project a gradient on."""
    return uniform("direction " + name, tuple(like.shape)) * (3 / like.numel()) ** 0.5


def projections(gradients: dict[str, Tensor]) -> np.ndarray:
    """[n,2] float64: length of each gradient, and its product with its `direction`."""
    return np.array(
        [[float(g.double().norm()), float((g.double() * direction(n, g)).sum())] for n, g in gradients.items()]
    )


def recorded(name: str) -> dict[str, np.ndarray]:
    """The arrays of tests/data/psp_<name>.npz."""
    with np.load(DATA / f"psp_{name}.npz", allow_pickle=False) as file:
        return dict(file)


def error(found: Tensor | np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, relative to the largest wanted number."""
    if isinstance(found, Tensor):
        found = found.detach().cpu().double().numpy()
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())
