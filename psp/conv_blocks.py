"""What the image-to-image networks share: normalisation layers by name, and the weights that training starts from."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from psp.errors import UserError

NORMS = ("batch", "instance")


def norm_layer(kind: str, channels: int) -> nn.Module:
    """Batch norm with scale and shift, or instance norm without them, as in pix2pix and CycleGAN."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels)
    raise UserError(f"--norm {kind!r} is not known; choose one of: {', '.join(NORMS)}")


def stage(**layers: nn.Module | None) -> nn.Sequential:
    """Named layers one after the other; those that are None are left out."""
    return nn.Sequential(OrderedDict((name, layer) for name, layer in layers.items() if layer is not None))


def initialise(network: nn.Module) -> None:
    """Weights ~ N(0, 0.02), scales of batch norm ~ N(1, 0.02), biases 0 (Isola et al. 2017, section 6.2)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
