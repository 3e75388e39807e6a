"""An ONNX file against the model that it was made from, run by onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from psp.errors import UserError
from psp.export.graphs import Graph
from psp.export.onnx_file import needed

RELATIVE = {"fp32": 1e-4, "fp16": 1e-2, "int8": 1e-1}  # the largest difference of codes over their largest value
LEVELS = {"fp32": 0.1, "fp16": 2.0, "int8": 8.0}  # of 255, the mean difference of pictures


@dataclass(frozen=True)
class Difference:
    """relative: the largest difference over the largest value. levels: of pictures, the mean one in levels of 255."""

    relative: float
    levels: float | None

    def __str__(self) -> str:
        text = f"{self.relative:.1e} of the largest value"
        return text if self.levels is None else f"{text}, {self.levels:.3f} of 255 on average"

    def within(self, dtype: str) -> bool:
        if self.levels is None or dtype == "fp32":
            return self.relative <= RELATIVE[dtype] and (self.levels or 0.0) <= LEVELS[dtype]
        return self.levels <= LEVELS[dtype]


def difference(path: Path, graph: Graph) -> Difference:
    """How far what onnxruntime gives for the examples, on the CPU, is from what the model gives.

    UserError for other shapes or NaN.
    """
    with torch.inference_mode():
        plain = graph.plain(**graph.inputs).float().numpy()
    runtime = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = session.run(None, {name: value.numpy() for name, value in graph.inputs.items()})[0]
    if given.shape != plain.shape or not np.isfinite(given).all():
        raise UserError(f"{path.name} gives {list(given.shape)}, the model {list(plain.shape)}, or no numbers")
    relative = float(np.abs(given - plain).max() / max(np.abs(plain).max(), 1e-12))
    levels = float(np.abs(given.clip(-1, 1) - plain.clip(-1, 1)).mean() * 127.5) if graph.output == "faces" else None
    return Difference(relative, levels)
