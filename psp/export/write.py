"""A model of any kind -> ONNX files, each checked by onnxruntime before it takes its name."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from psp.cli import VERSION
from psp.errors import UserError
from psp.export.check import Difference, difference
from psp.export.graphs import Graph, graph_of
from psp.export.onnx_file import needed, onnx_model
from psp.files import save_bytes
from psp.images.labels import LABELS
from psp.models.image_to_image import PictureModel
from psp.models.mixing import TRUNCATION, describe_layers
from psp.models.psp import PSP

LARGE = 256  # px; models above are checked with one row, to save memory


def export(
    model: PSP | PictureModel,
    files: Mapping[str, Path],
    *,
    dtype: str = "fp32",
    name: str = "",
    licence: str = "",
    seed: int = 0,
) -> Iterator[tuple[Path, Difference]]:
    """Write the model, file by file; each with how far it is from the model.

    files: part, as `graph_of` takes it -> the file that it goes into.
    dtype: fp32, fp16 or int8, of the weights. name, licence: for the files' facts. seed: see `graph_of`.
    UserError where a file would be further from the model than `psp.export.check` allows; it is not written then.
    """
    needed("onnxruntime")
    if len(files) > 1 and isinstance(model, PictureModel):
        raise UserError(f"{model.method} becomes one file, not a folder", "let the name end in .onnx")
    rows = 3 if model.output_size <= LARGE else 1
    for part, path in files.items():
        facts = {**facts_of(model), "part": part, "weights": dtype, "model": name, "licence": licence}
        yield path, _write(path, functools.partial(graph_of, model, part, seed=seed), rows, dtype, facts)


def _write(path: Path, graph: Callable[..., Graph], rows: int, dtype: str, facts: dict[str, str]) -> Difference:
    traced = graph()
    facts |= {"inputs": ",".join(traced.inputs), "outputs": traced.output}
    data = onnx_model(traced, dtype=dtype, facts=facts).SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        trial.write_bytes(data)
        error = difference(trial, graph(rows=rows))
    if not error.within(dtype):
        raise UserError(f"{path} as {dtype} is {error} away from the model", "--dtype fp32 is more exact")
    save_bytes(data, path)
    return error


def facts_of(model: PSP | PictureModel) -> dict[str, str]:
    """What whoever runs a file has to know, as text."""
    assert model.task is not None
    facts = {"made_by": f"psp-faces {VERSION}", "task": model.task.name, "source": model.task.source}
    facts["size"] = str(model.output_size)
    if model.task.source == "labels":
        facts["labels"] = ",".join(LABELS[: model.task.label_nc])
    if isinstance(model, PictureModel):
        return {**facts, "method": model.method}
    bank = model.style_bank
    return {
        **facts,
        "method": "restyle" if model.refines else str(model.config.get("encoder_type", "psp")),
        "styles": str(model.n_styles),
        "style_dim": str(model.style_dim),
        "mixing_layers": describe_layers(model.mixing_layers()),
        "truncation": f"{TRUNCATION:g}",
        "random_styles": "mapping network" if bank is None else f"bank of {len(bank)} codes of photos",
    }
