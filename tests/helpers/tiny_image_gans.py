"""Checkpoints of tiny pix2pix and CycleGAN models."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_checkpoints import written

from psp.networks.resnet_generator import ResidualGenerator
from psp.networks.unet import UNet

SKETCHES = "celebs_sketch_to_face"


def pix2pix(path: Path) -> Path:
    torch.manual_seed(0)
    opts = {"method": "pix2pix", "dataset_type": SKETCHES, "size": 64}
    return written(path, {"networks": {"generator": UNet(1, size=64, width=4).state_dict()}, "opts": opts})


def cyclegan(path: Path) -> Path:
    torch.manual_seed(0)
    names = ("sketch_to_photo", "photo_to_sketch")
    networks = {name: ResidualGenerator(3, width=4, blocks=1).state_dict() for name in names}
    return written(path, {"networks": networks, "opts": {"method": "cyclegan", "dataset_type": SKETCHES, "size": 64}})
