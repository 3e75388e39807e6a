"""Which program wrote a weights file, told from its content.

Whatever the format, the result is `Weights`: flat tensors under `encoder.`, `decoder.`, `discriminator.`,
`photo_encoder.`, `style_bank.`, a `latent_avg` where the file has one, and the options as plain values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psp.errors import UserError
from psp.files import read_json, read_text
from psp.tasks import TASKS, get_task
from psp.weights.nvidia import looks_like_nvidia_pickle, read_nvidia_pickle
from psp.weights.places import FOLDER_WEIGHTS, config_beside, is_published, locate
from psp.weights.safe_torch import below, check_stored, plain_options, read_safetensors, read_torch

Content = Mapping[str, Any]
Tensors = dict[str, Tensor]


@dataclass
class Weights:
    """What a weights file holds. tensors: flat, with prefixes; config: pSp's options or ours; path: the file itself.

    dtypes: how the file stores its numbers (tensors are float32). left_out: entries of the file that are not read.
    """

    path: Path
    tensors: Tensors
    config: dict[str, Any]
    format: str = "safetensors"
    dtypes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def part(self, name: str) -> Tensors:
        """Tensors below `name.`, without the prefix."""
        return below(self.tensors, name)

    def wrong_option(self, name: str, needed: str) -> UserError:
        """The error of an option that cannot be meant, to be raised."""
        return UserError(f"{self.path} says {name} {str(self.config.get(name))[:40]!r}", f"{needed} is needed there")

    def check_task(self, task: str | None) -> None:
        """UserError where the file was trained for another task; sketch models serve every sketch task."""
        trained = str(self.config.get("dataset_type", ""))
        if trained not in TASKS or task in (None, trained):
            return
        if {get_task(trained).source, get_task(str(task)).source} != {"sketch"}:
            advice = "change --dataset_type or --checkpoint_path"
            raise UserError(f"{self.path} was trained for {trained}, not for {task}", advice)


# Entries of PyTorch files that become tensors or options; so does `g`, where there is no average of it, `g_ema`.
READ = {"networks", "state_dict", "opts", "latent_avg", "photo_encoder", "style_bank", "g_ema", "d", "encoder"}
PSP_FAMILY = {  # opts.encoder_type -> whose checkpoint it is
    "Encoder4Editing": "e4e",
    "ProgressiveBackboneEncoder": "ReStyle (e4e)",
    "ResNetProgressiveBackboneEncoder": "ReStyle (e4e)",
    "BackboneEncoder": "ReStyle (pSp)",
    "ResNetBackboneEncoder": "ReStyle (pSp)",
}


def read_weights(path: str | Path) -> Weights:
    """Read any supported file. UserError in one line: missing, not a checkpoint, damaged, or not loadable safely.

    path: the file; a folder with model.safetensors and config.json, as Hugging Face lays them out; or the bare name of
    a file in a weights folder (`psp.weights.places`).
    """
    path = locate(path)
    head, size = _look(path)
    if path.suffix == ".safetensors" or (head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size):
        tensors, metadata = read_safetensors(path)
        check_stored(path, tensors)
        text, where = metadata.get("config", "{}"), f"{path}: its config"
        if (beside := config_beside(path)) is not None:
            text, where = read_text(beside), str(beside)
        config = plain_options(read_json(text, where=where), where=where)
        return Weights(path, dequantise(tensors, where=path), config, dtypes=dtypes_of(tensors))
    if looks_like_nvidia_pickle(head):
        tensors, config = read_nvidia_pickle(path)
        return Weights(path, tensors, config, "StyleGAN2 (NVIDIA)", dtypes_of(tensors))
    return _from_torch(path, read_torch(path, lambda entry: entry != "training"))  # of a last.pt: most of it


def _look(path: Path) -> tuple[bytes, int]:
    """First bytes and size of a regular file; UserError when it is none or cannot be read."""
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder without {FOLDER_WEIGHTS}", "give the checkpoint file itself")
        if not path.exists():
            fetch = f"python scripts/fetch_pretrained.py {path.name} fetches it"
            advice = fetch if is_published(path.name) else "check --checkpoint_path or --stylegan_weights"
            raise UserError(f"checkpoint {path} does not exist", advice)
        if not path.is_file():
            raise UserError(f"{path} is not a regular file", "give a checkpoint file")
        with path.open("rb") as file:
            return file.read(512), path.stat().st_size
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {str(path)[:200]!r}: {getattr(error, 'strerror', None) or error}") from error


def _below(content: Content, name: str, prefix: str = "") -> dict[str, Any]:
    """The entries of the dict `name` as `prefix + key`; a DistributedDataParallel wrapper's `module.` is dropped."""
    entries = content.get(name)
    if not isinstance(entries, Mapping):
        return {}
    wrapped = len(entries) > 0 and all(str(key).startswith("module.") for key in entries)
    return {prefix + str(key).removeprefix("module." if wrapped else ""): value for key, value in entries.items()}


def _from_torch(path: Path, content: Content) -> Weights:
    beside = _below(content, "photo_encoder", "photo_encoder.") | _below(content, "style_bank", "style_bank.")
    read = READ if "g_ema" in content else READ | {"g"}
    if "state_dict" in content:  # pSp's, e4e's, ReStyle's, ours
        program, tensors = "pSp", _below(content, "state_dict") | beside
    elif "networks" in content:  # ours: pix2pix, CycleGAN, cGAN
        program, tensors = "picture to picture", {}
        for name in content["networks"] if isinstance(content["networks"], Mapping) else ():
            tensors |= _below(content["networks"], name, f"{name}.")
    elif "g_ema" in content or "g" in content:
        program = "StyleGAN2 (rosinality)"
        tensors = _below(content, "g_ema", "decoder.") or _below(content, "g", "decoder.")
        tensors |= _below(content, "d", "discriminator.") | beside | _below(content, "encoder", "encoder.")
    elif content and all(isinstance(value, Tensor) for value in content.values()):  # one network alone
        critic = {"final_linear.0.weight", "convs.0.0.weight"} <= content.keys()
        prefix = "decoder." if "input.input" in content else "discriminator." if critic else ""
        program, tensors = "state dict", {f"{prefix}{key}": value for key, value in content.items()}
        read = {*map(str, content)}
    elif "training" in content:
        advice = "give best_model.pt or iteration_*.pt beside it, or go on with that run"
        raise UserError(f"{path} is the state of a training run alone, as older versions wrote it", advice)
    else:
        names = [key[:40] for key in sorted(map(str, content))[:6]]
        raise UserError(f"{path} has the entries {names}", "expected state_dict (pSp) or g_ema (StyleGAN2)")
    if isinstance(content.get("latent_avg"), Tensor):
        tensors["latent_avg"] = content["latent_avg"]
    config = plain_options(content.get("opts"), where=str(path))
    check_stored(path, tensors)
    if program == "pSp":
        program = PSP_FAMILY.get(str(config.get("encoder_type")), program)
    left_out = tuple(str(key)[:80] for key in content if str(key) not in read)
    return Weights(path, in_float32(tensors), config, program, dtypes_of(tensors), left_out)


def dtypes_of(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The number formats of the tensors by name, the most used first; counters are left out where there are others."""
    count = Counter[torch.dtype]()
    for value in tensors.values():
        count[value.dtype] += value.numel()
    floating = [dtype for dtype, _ in count.most_common() if dtype.is_floating_point or dtype == torch.int8]
    return tuple(str(dtype).removeprefix("torch.") for dtype in floating or count)


def in_float32(tensors: Mapping[str, Tensor]) -> Tensors:
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def dequantise(tensors: Mapping[str, Tensor], *, where: object = "the file") -> Tensors:
    """fp32 tensors of a file in fp16, or in int8 with a `<name>.scale` beside each: one number, or one per output."""
    result = {}
    for key, value in tensors.items():
        if value.dtype == torch.int8:
            scale = tensors.get(f"{key}.scale")
            outputs = value.shape[: 2 if value.dim() == 5 else 1]  # a generator's convolutions are [1,O,I,k,k]
            if scale is None or value.dim() == 0 or scale.numel() not in (1, outputs.numel()):
                raise UserError(f"{where}: the int8 tensor {key} has no fitting {key}.scale")
            shape = outputs if scale.numel() > 1 else outputs[:0]
            result[key] = value.float() * scale.float().reshape(*shape, *[1] * (value.dim() - len(shape)))
        elif not (key.endswith(".scale") and key[:-6] in tensors):
            result[key] = value.float() if value.is_floating_point() else value
    return result
