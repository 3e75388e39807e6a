"""Generators of the public CycleGAN-and-pix2pix repository (`latest_net_G.pth` and the like) under our names.

Its U-Nets nest each resolution inside the next larger one, its residual generators are one numbered list; which number
is which layer is written down here once. https://github.com/junyanz/pytorch-CycleGAN-and-pix2pix
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from psp.errors import UserError

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
UNET_DROPOUT = (1, 2, 3)  # its U-Nets leave the innermost doubling alone


def unet_names(depth: int) -> dict[str, str]:
    """Layer name there -> here, for a U-Net of `depth` halvings; every layer, whether it has tensors or not."""
    names = {"model.model.0": "down.0.conv", "model.model.3": f"up.{depth - 1}.conv"}
    inside = "model.model.1.model."
    for k in range(1, depth - 1):
        up = f"up.{depth - 1 - k}"
        names |= {f"{inside}1": f"down.{k}.conv", f"{inside}2": f"down.{k}.norm"}
        names |= {f"{inside}5": f"{up}.conv", f"{inside}6": f"{up}.norm"}
        inside += "3.model."
    return names | {f"{inside}1": f"down.{depth - 1}.conv", f"{inside}3": "up.0.conv", f"{inside}4": "up.0.norm"}


def residual_names(blocks: int, *, dropout: bool = False) -> dict[str, str]:
    """Layer name there -> here, for a residual generator. dropout: a layer more in each block (not --no_dropout)."""
    names = {"model.1": "head.conv", "model.2": "head.norm"}
    for k in range(2):
        names |= {f"model.{4 + 3 * k}": f"down.{k}.conv", f"model.{5 + 3 * k}": f"down.{k}.norm"}
    second = 6 if dropout else 5
    for k in range(blocks):
        inside = f"model.{10 + k}.conv_block"
        names |= {f"{inside}.1": f"blocks.{k}.first.conv", f"{inside}.2": f"blocks.{k}.first.norm"}
        names |= {f"{inside}.{second}": f"blocks.{k}.second.conv", f"{inside}.{second + 1}": f"blocks.{k}.second.norm"}
    for k in range(2):
        at = 10 + blocks + 3 * k
        names |= {f"model.{at}": f"up.{k}.conv", f"model.{at + 1}": f"up.{k}.norm"}
    return names | {f"model.{17 + blocks}": "tail"}


def from_public(tensors: Mapping[str, Tensor], *, where: object) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The state dict under our names, and where the network has dropout, as an argument for our class (`UNet` or
    `ResidualGenerator`); None when it is not one of these.

    Tensors without a counterpart keep their name, so that strict loading names them. Instance norm of 2017 kept
    running statistics that were never used: they are dropped. Batch norm of that time did not count its batches: the
    count becomes 0. UserError for a discriminator.
    """
    state = {key.removeprefix("module."): value for key, value in tensors.items()}
    if any(key.startswith("model.model.") for key in state):
        dropout: Any = UNET_DROPOUT
        names = unet_names(sum(value.dim() == 4 for value in state.values()) // 2)
    elif any(".conv_block." in key for key in state):
        dropout = any(key.endswith(".conv_block.6.weight") and value.dim() == 4 for key, value in state.items())
        names = residual_names(len({key.split(".")[1] for key in state if ".conv_block." in key}), dropout=dropout)
    elif {"model.0.weight", "model.0.bias", "model.2.weight"} <= state.keys():
        raise UserError(
            f"{where} is a discriminator, which only judges", "give the generator beside it (..._net_G.pth)"
        )
    else:
        return None
    state_dict: dict[str, Tensor] = {}
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        if kind in STATISTICS and f"{layer}.weight" not in state:
            continue
        state_dict[f"{names[layer]}.{kind}" if layer in names else key] = value
        if kind == "running_mean" and f"{layer}.num_batches_tracked" not in state:
            state_dict[f"{names.get(layer, layer)}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    return state_dict, {"dropout": dropout}
