"""A `PictureModel` as a folder run needs it: what `psp.translate.Translator` is for pSp, without W+ and styles."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from psp.device import autocast, memory_errors, synchronize
from psp.picture_model import PictureModel
from psp.translate import Faces, Timings
from psp.visualize import to_pixels


class PictureTranslator:
    """`translator(source, names)` -> `Faces`, one picture per input.

    seed: see `PictureModel.translate`. precision: fp32, bf16 or fp16 (autocast). compile: with torch.compile.
    """

    n_outputs = 1

    def __init__(self, model: PictureModel, *, precision: str = "fp32", compile: bool = False, seed: int = 0):
        self.model, self.task, self.device = model, model.task, model.device
        self.precision, self.seed = precision, seed
        self.output_size = model.output_size
        autocast(self.device, precision)  # refuse at once what cannot work
        model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if compile:
            model.network.compile()
        self.timings = Timings()

    def __call__(self, source: Tensor, names: Sequence[str]) -> Faces:
        start = time.perf_counter()
        with memory_errors("use a smaller --test_batch_size or --device cpu"), autocast(self.device, self.precision):
            images = self.model.translate(source, self.seed)
            synchronize(self.device)
        self.timings.encode.append(0.0)
        self.timings.decode.append(time.perf_counter() - start)
        self.timings.batch.append(len(source))
        finite = torch.isfinite(images).flatten(1).all(dim=1).cpu().numpy()
        return Faces(to_pixels(images)[:, None], np.empty((len(source), 1, 0, 0), np.float32), finite)
