"""A network becomes an ONNX file: traced by torch, its weights stored in few bytes, its facts written beside them.

Weights of fewer bytes are made float32 again inside the graph, by operations on constants that onnxruntime folds when
it reads the file: what is computed, and how fast, does not change.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from psp.errors import UserError
from psp.export.graphs import Graph

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
SMALL = 1024  # numbers; tensors with fewer stay float32
NOT_IN_INT8 = ("energy", "bank")  # sums of squares, and codes that are rounded to float16 already
MOST_BYTES = 2_000_000_000  # that one file of this format can hold


def onnx_model(graph: Graph, *, dtype: str, facts: Mapping[str, str]) -> ModelProto:
    """The graph with any number of rows, its weights as `dtype` (fp32, fp16, int8), and `facts` as its metadata.

    UserError where the packages are missing, or the file would be too large for its format.
    """
    onnx = needed("onnx")
    needed("onnxscript")
    rows = {name: {0: torch.export.Dim(f"{name}s", min=1)} for name in graph.batched}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch about itself
        program = torch.onnx.export(
            graph.network.eval(),
            tuple(graph.inputs.values()),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=[graph.output],
            dynamic_shapes=tuple(rows.get(name, {}) for name in graph.inputs),
        )
    assert program is not None
    model: ModelProto = program.model_proto
    if dtype != "fp32":
        shrink(model, dtype)
    if model.ByteSize() > MOST_BYTES:
        raise UserError(f"the file would have {model.ByteSize():,} bytes", "--dtype fp16 makes it smaller")
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(facts))
    for node in model.graph.node:  # where in which file of ours each one came from
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    return model


def needed(package: str) -> Any:
    """The module of a package that only exporting needs; UserError where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(f"exporting needs {package}", "pip install onnx onnxscript onnxruntime") from None


def shrink(model: ModelProto, dtype: str) -> None:
    """In place: float32 weights are stored as float16 or int8 with a factor for every output, and cast by the graph."""
    from onnx import TensorProto, helper, numpy_helper

    graph, casts = model.graph, []
    floats = [w for w in graph.initializer if w.data_type == TensorProto.FLOAT and len(w.dims) > 1]
    for weight in [w for w in floats if math.prod(w.dims) >= SMALL]:
        values, name = numpy_helper.to_array(weight), weight.name
        int8 = dtype == "int8" and values.shape[0] > 1 and not name.endswith(NOT_IN_INT8)
        if not int8 and float(np.abs(values).max()) > np.finfo(np.float16).max:
            continue
        small, wide = f"{name}.{'int8' if int8 else 'fp16'}", f"{name}.wide" if int8 else name
        casts.append(helper.make_node("Cast", [small], [wide], to=TensorProto.FLOAT))
        if int8:
            axes = (1,) if values.ndim == 3 else tuple(range(1, values.ndim))  # [n,in,out] are n matrices
            scale = np.maximum(np.abs(values).max(axes, keepdims=True), 1e-12).astype(np.float32) / np.float32(127)
            casts.append(helper.make_node("Mul", [wide, f"{name}.scale"], [name]))
            graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
            stored = np.rint(values / scale).astype(np.int8)
        else:
            stored = values.astype(np.float16)
        graph.initializer.append(numpy_helper.from_array(stored, small))
        graph.initializer.remove(weight)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
