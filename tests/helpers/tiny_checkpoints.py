"""Checkpoints of tiny models, and what both files of checkpoint tests ask of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_training as tiny
import torch
from torch import Tensor

from psp.errors import UserError
from psp.models.psp import PSP
from psp.weights.save import psp_state

Content = dict[str, Any]


def refused(action: Callable[[], object]) -> str:
    """The message of the UserError that `action` raises; one line."""
    with pytest.raises(UserError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600, message
    return message


def outputs(psp: PSP) -> Tensor:
    with torch.no_grad():
        return psp.eval().decode(psp.encode(tiny.sketch_batch(5).source))


def published(psp: PSP) -> Content:
    """A pSp checkpoint: state_dict, opts as the published ones have them, latent_avg."""
    options = {
        "dataset_type": "celebs_sketch_to_face", "encoder_type": "CompactStyleEncoder", "device": "cuda:0",
        "input_nc": 1, "label_nc": 1, "output_size": 16, "start_from_latent_avg": True, "learn_in_w": False,
        "exp_dir": "/somewhere/else", "stylegan_weights": "x.pt", "batch_size": 8, "max_steps": 500000,
    }  # fmt: skip
    return psp_state(psp) | {"opts": options}


def written(path: Path, content: Content) -> Path:
    torch.save(content, path)
    return path
