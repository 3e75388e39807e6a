"""A generator that turns one picture straight into another, ready for use: pix2pix, CycleGAN in one direction, cGAN."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.errors import UserError
from psp.images.preprocess import to_network
from psp.tasks import Task


def picture_input(source: Tensor, task: Task, device: torch.device | str, *, size: int, channels: int) -> Tensor:
    """`Batch.source` -> float [B,channels,size,size]: photos and sketches in [-1,1], label maps one-hot.

    Sketches go as three equal channels into a network that takes three. UserError for other numbers of channels.
    """
    labels = task.source == "labels"
    if labels and source.shape[-1] != size:  # nearest, so that no class is invented
        source = F.interpolate(source[:, None].float(), size=(size, size), mode="nearest")[:, 0].byte()
    pictures = to_network(source, task, device)
    if not labels and pictures.shape[-1] != size:
        mode = "area" if size < pictures.shape[-1] else "bilinear"
        pictures = F.interpolate(pictures, size=(size, size), mode=mode)
    if task.source == "sketch":
        pictures = pictures * 2 - 1
        if channels == 3:
            pictures = pictures.expand(-1, 3, -1, -1)
    given = pictures.shape[1]
    if given != channels:
        raise UserError(f"the network takes {channels} channels, {task.name} gives {given}", "change --dataset_type")
    return pictures


class PictureModel:
    """One generator with what it takes and gives: `translate(source, seed)` -> images.

    network: pictures [B,C,S,S] -> [B,1 or 3,S,S] in [-1,1]. size: the side S it works at. method: its name, for
    messages. noisy: run it as it was trained (`noisy_copy`), which is how pix2pix's paper tests, instead of without
    dropout and with the averages that batch norm collected. public: it is of the CycleGAN-and-pix2pix repository,
    whose inputs are resized bicubically.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        *,
        size: int,
        method: str,
        config: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
        noisy: bool = False,
        public: bool = False,
    ):
        self.device = torch.device(device)
        self.task, self.output_size, self.method, self.noisy, self.public = task, size, method, noisy, public
        self.has_dropout = any(isinstance(module, nn.Dropout) for module in network.modules())
        self.config = dict(config or {})
        self.network = (noisy_copy(network) if noisy else network.eval()).to(self.device)
        self.channels = next(module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d))

    @torch.no_grad()
    def translate(self, source: Tensor, seed: int = 0) -> Tensor:
        """`Batch.source` [B,...] -> RGB images [B,3,S,S] in [-1,1].

        seed: of what is dropped if `noisy`, the same for every picture, so that none depends on the others.
        """
        pictures = picture_input(source, self.task, self.device, size=self.output_size, channels=self.channels)
        if not self.noisy:
            return as_rgb(self.network(pictures))
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            return as_rgb(self.network(pictures))


def as_rgb(images: Tensor) -> Tensor:
    """Float [B,3,S,S] of grey or colour images."""
    return images.float().expand(-1, 3, -1, -1)


# ---- running a generator as it was trained -----------------------------------------------------------


class OwnStatistics(nn.Module):
    """Batch norm with the statistics of each picture by itself, as of a batch of one in training. [B,C,H,W] -> same."""

    def __init__(self, norm: nn.BatchNorm2d):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


class EqualDropout(nn.Module):
    """Dropout that leaves out the same values of every picture, so that none depends on the others. [B,...] -> same."""

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return x * F.dropout(torch.ones_like(x[:1]), self.share)


def noisy_copy(network: nn.Module) -> nn.Module:
    """The network as pix2pix's paper runs it (section 3.4): dropout on, batch norm by each picture's own statistics.

    The parameters are the network's own, not copies.
    """
    network = copy.deepcopy(network, {id(p): p for p in network.parameters()})
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.BatchNorm2d):
                setattr(parent, name, OwnStatistics(module))
            elif isinstance(module, nn.Dropout):
                setattr(parent, name, EqualDropout(module.p))
    return network.eval()
