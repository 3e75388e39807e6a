"""One way in for every kind of checkpoint: pSp, pix2pix, CycleGAN, cGAN, told apart by what the file holds."""

from __future__ import annotations

from pathlib import Path

import torch

from psp.checkpoint import bundled, load_model
from psp.errors import UserError
from psp.formats import read_weights
from psp.model import PSP
from psp.picture_files import is_picture_file, picture_model
from psp.picture_model import PictureModel
from psp.tasks import DEFAULT_TASK


def load_any_model(
    path: str | Path | None = None,
    *,
    task: str | None = None,
    direction: str | None = None,
    noisy: bool | None = None,
    device: str | torch.device = "cpu",
) -> PSP | PictureModel:
    """The model of a checkpoint of any method, or the bundled one of `task` when `path` is None; on `device`, for use.

    direction, noisy: see `psp.picture_files.picture_model`; UserError where they do not apply. Other errors as there
    and in `psp.checkpoint.load_model`.
    """
    weights = read_weights(bundled(task or DEFAULT_TASK) if path is None else path)
    if is_picture_file(weights):
        return picture_model(weights, task=task, direction=direction, device=device, noisy=noisy)
    for flag, given in (("--direction", direction), ("--test_dropout", noisy)):
        if given:
            raise UserError(f"{flag} is for pix2pix, CycleGAN and cGAN; {weights.path} holds none of them")
    return load_model(weights, task=task, device=device)
