"""Models into files: pSp's checkpoint layout, and safetensors with the options inside. Whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from psp.errors import UserError
from psp.files import atomic_open
from psp.models.psp import PSP
from psp.weights.load import GeneratorFile
from psp.weights.safe_torch import check_torch, checksum, read_safetensors
from psp.weights.tensor_file import write_safetensors


def psp_state(model: PSP) -> dict[str, Any]:
    """The model in pSp's own checkpoint layout: state_dict with encoder.* and decoder.*, opts, latent_avg [N,D].

    What lies beside the generator is added, which pSp ignores.
    """
    state = {key: value.detach().cpu() for key, value in model.state_dict().items() if key != "latent_avg"}
    content = {"state_dict": state, "opts": dict(model.config), "latent_avg": model.latent_avg.detach().cpu()}
    return content | extras(model)


def extras(holder: PSP | GeneratorFile) -> dict[str, dict[str, Tensor]]:
    """What lies beside a generator, on the CPU: the state dict `photo_encoder`, and `style_bank`; none that is not."""
    parts = {}
    if holder.photo_encoder is not None:
        parts["photo_encoder"] = {key: value.cpu() for key, value in holder.photo_encoder.state_dict().items()}
    if holder.style_bank is not None:
        parts["style_bank"] = holder.style_bank.tensors()
    return parts


def psp_layout(model: PSP) -> dict[str, Any]:
    """A model as pSp's own code loads it: state_dict, complete opts, and latent_avg [N,D], or [1,D] with learn_in_w."""
    content = psp_state(model)
    content["opts"] = psp_options(model)
    if content["opts"]["learn_in_w"]:
        content["latent_avg"] = content["latent_avg"][:1].clone()  # pSp adds it to codes [B,D]
    return content


def structure(model: PSP) -> dict[str, Any]:
    """The options that a model as it is decides, whatever its config says; pSp's names."""
    options = {
        "input_nc": model.encoder_nc,
        "output_size": model.output_size,
        "n_styles": model.n_styles,
        "start_from_latent_avg": model.start_from_latent_avg,
    }
    return options | ({"dataset_type": model.task.name, "label_nc": model.task.label_nc} if model.task else {})


def psp_options(model: PSP) -> dict[str, Any]:
    """`opts` with every name that pSp, e4e and ReStyle look up when they load a checkpoint; those given stay as given.

    None counts as not given. `device` has to be one that torch knows: ours may be "auto", pSp's was "cuda:0".
    """
    options = {name: value for name, value in model.config.items() if name != "generator"}  # it is in the file now
    kind = type(model.encoder).__name__
    defaults = {
        "encoder_type": kind,
        "learn_in_w": kind.endswith("IntoW"),
        "label_nc": 0 if model.input_nc == 3 else model.input_nc,
        "device": "cuda:0",
        **structure(model),
    }
    if options.get("encoder_type") == "Encoder4Editing":
        defaults["stylegan_size"] = model.output_size
    options |= {name: value for name, value in defaults.items() if options.get(name) is None}
    try:
        torch.device(options["device"])
    except (RuntimeError, TypeError):
        options["device"] = defaults["device"]
    return options


def save_torch(content: Mapping[str, Any], path: str | Path, *, keep: str | Path | None = None) -> None:
    """`torch.save`, atomically, read back from the disk and compared with its checksums before it takes its name.

    keep: the name under which the previous file stays. UserError when it cannot be written; the old one is kept.
    """
    with atomic_open(path, verify=check_torch, keep=keep) as file:
        remembering = _Remembering(file)
        try:
            torch.save(dict(content), remembering)  # type: ignore[arg-type]
        except RuntimeError as error:  # torch's zip writer swallows what the file said
            if remembering.problem is not None:
                raise remembering.problem from None
            if "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
                raise
            raise UserError(f"cannot write {path}: the disk is full or has failed") from error


class _Remembering:
    """A file that keeps what was raised while it was written to, a second Ctrl-C for example."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.problem: BaseException | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except BaseException as problem:
            self.problem = self.problem or problem
            raise

    def flush(self) -> None:
        self.file.flush()


def save_safetensors(tensors: Mapping[str, Tensor], config: Mapping[str, Any], path: str | Path) -> None:
    """Write tensors with their config (JSON metadata), atomically. `psp.weights.convert.lowered` makes them smaller."""
    out = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    metadata = {"config": json.dumps(dict(config), sort_keys=True), "format": "pt", "crc32": checksum(out)}
    with atomic_open(path, verify=lambda written: read_safetensors(written) and None) as file:
        write_safetensors(file, out, metadata)
