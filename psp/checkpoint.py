"""Weights in and out: every format that is read, and the two that are written, in one file.

Reading builds nothing but tensors and plain containers: safetensors, or `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import argparse
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from psp.atomic import atomic_open
from psp.discriminator import Discriminator, discriminator_config
from psp.encoders import ENCODERS, compact_widths
from psp.errors import UserError
from psp.model import PSP, build_encoder
from psp.photo_encoder import PhotoEncoder
from psp.stylegan2 import Generator, generator_config
from psp.tasks import TASKS, get_task

PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"
BUNDLED_GENERATOR = PRETRAINED / "stylegan2_faces.safetensors"
# Each file holds an encoder and names the generator beside it, which the tasks share.
BUNDLED = {
    "celebs_sketch_to_face": PRETRAINED / "psp_sketch_to_face.safetensors",
    "cufs_sketch_to_face": PRETRAINED / "psp_sketch_to_face.safetensors",
    "celebs_seg_to_face": PRETRAINED / "psp_seg_to_face.safetensors",
}


@dataclass
class Weights:
    """What a weights file holds. tensors: flat, with prefixes; config: pSp's options or ours; path: for messages."""

    path: Path
    tensors: dict[str, Tensor]
    config: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """Tensors below `name.`, without the prefix."""
        return {key[len(name) + 1 :]: value for key, value in self.tensors.items() if key.startswith(name + ".")}


def read_weights(path: str | Path) -> Weights:
    """Read any supported file. UserError in one line: missing, not a checkpoint, damaged, or not loadable safely."""
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the checkpoint file itself")
        if not path.exists():
            raise UserError(f"checkpoint {path} does not exist; check --checkpoint_path or --stylegan_weights")
        if not path.is_file():
            raise UserError(f"{path} is not a regular file; give a checkpoint file")
        with path.open("rb") as file:
            head = file.read(512)
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {str(path)[:200]!r}: {getattr(error, 'strerror', None) or error}") from error
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        raise UserError(f"{path} is a web page, not weights: the download failed; fetch it again")
    if path.suffix == ".safetensors" or (head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size):
        return _read_safetensors(path)
    return _from_mapping(path, _load_torch(path))


def _read_safetensors(path: Path) -> Weights:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(metadata.get("config", "{}"))
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise UserError(f"{path} is a damaged safetensors file ({error})") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: its config is not a JSON object")
    return Weights(path, dequantise(tensors, where=path), config)


def _load_torch(path: Path) -> Mapping[str, Any]:
    version = tuple(int(n) for n in re.findall(r"\d+", torch.__version__)[:2])
    if version < (2, 10):
        raise UserError(
            f"torch {torch.__version__} cannot read {path} safely (CVE-2026-24747); upgrade to torch 2.10 or newer"
        )
    try:  # files of StyleGAN2 training runs hold their argparse options, a plain record of values
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"{path} {_why_not(error)}") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a checkpoint")
    return content


def _why_not(error: Exception) -> str:
    text = str(error)
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return f"holds Python objects ({found[1]}), which are never loaded"
    if "Weights only" in text or "weights_only" in text:
        return "is damaged, or a pickle that torch did not write, which is never loaded"
    if isinstance(error, KeyError) or not text.strip():  # the unpickler met a byte it does not know, or the end
        return "is damaged or not a checkpoint"
    return f"is damaged or not a checkpoint ({text.strip().splitlines()[0][:120]})"


def _from_mapping(path: Path, content: Mapping[str, Any]) -> Weights:
    def part(name: str, prefix: str = "") -> dict[str, Any]:
        found = content.get(name)
        return {prefix + str(key): value for key, value in found.items()} if isinstance(found, Mapping) else {}

    options = content.get("opts")
    config = vars(options) if isinstance(options, argparse.Namespace) else part("opts")
    if "state_dict" in content:  # pSp, and ours, which may add a photo encoder
        tensors = part("state_dict") | part("photo_encoder", "photo_encoder.")
    elif "g_ema" in content:  # rosinality's StyleGAN2, and ours
        tensors = part("g_ema", "decoder.") | part("d", "discriminator.")
        tensors |= part("photo_encoder", "photo_encoder.") | part("encoder", "encoder.")
    elif "training" in content:
        raise UserError(f"{path} is the state of a training run; give the best_model.pt or iteration_*.pt beside it")
    elif content and all(isinstance(value, Tensor) for value in content.values()):  # a bare state dict
        tensors = {str(key): value for key, value in content.items()}
        if "input.input" in tensors:
            tensors = {f"decoder.{key}": value for key, value in tensors.items()}
    else:
        names = sorted(map(str, content))[:6]
        raise UserError(f"{path} has the entries {names}; expected state_dict (pSp) or g_ema (StyleGAN2)")
    if isinstance(content.get("latent_avg"), Tensor):
        tensors["latent_avg"] = content["latent_avg"]
    for key, value in tensors.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{path}: {key} is a {type(value).__name__}, not a tensor")
        if value.layout != torch.strided or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UserError(f"{path}: the tensor {key} is not stored in full")
    return Weights(path, tensors, config)


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state dict, naming what is missing, left over, mis-shaped or not finite; UserError in one line.

    A module on the meta device takes the given tensors themselves: nothing large exists twice.
    """
    own = module.state_dict()
    problems = []
    missing = [key for key in own if key not in tensors]
    extra = [key for key in tensors if key not in own]
    shapes = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    nan = [key for key in own if key in tensors and not all_finite(tensors[key])]
    for label, keys in (("missing", missing), ("unexpected", extra), ("wrong shape", shapes), ("not finite", nan)):
        if keys:
            problems.append(f"{len(keys)} {label} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})")
    if problems:
        raise UserError(f"{where} does not fit: {'; '.join(problems)}")
    fitting = {key: value.to(own[key].dtype) for key, value in tensors.items()}
    module.load_state_dict(fitting, assign=any(value.is_meta for value in own.values()))


def all_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


@dataclass
class GeneratorFile:
    """A generator and what may be stored beside it."""

    generator: Generator
    latent_avg: Tensor | None
    discriminator: Discriminator | None
    photo_encoder: PhotoEncoder | None


def load_generator(path: str | Path) -> GeneratorFile:
    """Generator of any supported file (StyleGAN2, pSp, ours), on the CPU; size and widths are read from its tensors."""
    return _generator_of(read_weights(path))


def _generator_of(weights: Weights) -> GeneratorFile:
    state, path = weights.part("decoder"), weights.path
    if "input.input" not in state:
        raise UserError(f"{path} holds no StyleGAN2 generator")
    try:
        config = generator_config(state)
        with torch.device("meta"):
            generator = Generator(**config)
            style = weights.part("photo_encoder")
            body = discriminator_config(weights.part("photo_encoder.body")) if style else config
            photo_encoder = PhotoEncoder(body["size"], config["style_dim"], channels=body["channels"])
            critic = weights.part("discriminator")
            discriminator = Discriminator(**discriminator_config(critic)) if critic else None
    except (KeyError, ValueError, IndexError, RuntimeError, ArithmeticError) as error:
        raise UserError(f"{path}: its generator has an unknown structure ({error})") from error
    load_strictly(generator, state, where=f"the generator in {path}")
    if discriminator is not None:
        load_strictly(discriminator, critic, where=f"the discriminator in {path}")
    if style:
        load_strictly(photo_encoder, style, where=f"the photo encoder in {path}")
    return GeneratorFile(generator, weights.tensors.get("latent_avg"), discriminator, photo_encoder if style else None)


def load_model(path: str | Path | None = None, *, task: str | None = None, device: str | torch.device = "cpu") -> PSP:
    """Model of a pSp checkpoint, of a file of ours, or the bundled one of `task` when `path` is None.

    Size, styles, channels and mapping depth come from the tensors. UserError in one line when the file does not fit,
    or was trained for another task than `task`. Returns the model in eval mode on `device`.
    """
    if path is None:
        path = bundled(task or "celebs_sketch_to_face")
    weights = read_weights(path)
    encoder_state = weights.part("encoder")
    if not encoder_state:
        raise UserError(
            f"{path} holds no encoder: it is a generator or something else; give a pSp checkpoint to --checkpoint_path"
        )
    config = weights.config
    if any(key.startswith("decoder.") for key in weights.tensors):
        found = _generator_of(weights)
    else:
        name = str(config.get("generator", ""))
        if Path(name).name != name or not name:
            raise UserError(f"{path} holds no generator and names none beside it")
        found = load_generator(Path(path).parent / name)
    decoder = found.generator
    latent_avg = weights.tensors.get("latent_avg", found.latent_avg)
    model_task = str(config.get("dataset_type", ""))
    if task is not None and model_task in TASKS and not _serves(model_task, task):
        raise UserError(
            f"{path} was trained for {model_task}, not for {task}; change --dataset_type or --checkpoint_path"
        )
    task_name = task or (model_task if model_task in TASKS else None)
    encoder_type, input_nc = encoder_kind(encoder_state, config)
    if task_name and get_task(task_name).input_nc != input_nc:
        raise UserError(
            f"{path} takes {input_nc}-channel input, {task_name} gives {get_task(task_name).input_nc} channels; "
            f"change --dataset_type"
        )
    try:
        widths = compact_widths(encoder_state) if encoder_type == "CompactStyleEncoder" else {}
        with torch.device("meta"):
            encoder = build_encoder(encoder_type, decoder.n_styles, input_nc, decoder.style_dim, **widths)
    except (KeyError, ValueError, IndexError, RuntimeError, ArithmeticError) as error:
        raise UserError(f"{path}: its {encoder_type} has an unknown structure ({error})") from error
    load_strictly(encoder, encoder_state, where=f"the {encoder_type} in {path}")
    model = PSP(
        encoder,
        decoder,
        latent_avg=latent_avg,
        task=get_task(task_name) if task_name else None,
        start_from_latent_avg=bool(config.get("start_from_latent_avg", True)),
        config=config,
        photo_encoder=found.photo_encoder,
    )
    return model.eval().to(device)


def _serves(model_task: str, task: str) -> bool:
    """Sketch models serve every sketch task; otherwise the task must be the one of the model."""
    return model_task == task or (get_task(model_task).source == get_task(task).source == "sketch")


def bundled(task: str) -> Path:
    """File of the bundled model of a task; UserError naming the tasks that have one."""
    get_task(task)
    if task not in BUNDLED:
        raise UserError(f"no bundled model for {task} (there is one for: {', '.join(BUNDLED)}); give --checkpoint_path")
    if not BUNDLED[task].exists():
        raise UserError(
            f"the bundled model {BUNDLED[task]} is missing; run from a complete checkout or give --checkpoint_path"
        )
    return BUNDLED[task]


def encoder_kind(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> tuple[str, int]:
    """(encoder_type, input channels) read from the tensors; UserError when the config says otherwise."""
    if any(key.startswith("trunks.") for key in state):
        kind = "CompactStyleEncoder"
    elif any(key.startswith("styles.") for key in state):
        kind = "GradualStyleEncoder"
    elif any(key.startswith("output_layer_2.") for key in state):
        kind = "BackboneEncoderUsingLastLayerIntoWPlus"
    elif "linear.weight" in state:
        kind = "BackboneEncoderUsingLastLayerIntoW"
    else:
        raise UserError(f"unknown encoder with tensors like {sorted(state)[:3]}; known ones: {', '.join(ENCODERS)}")
    if config.get("encoder_type") not in (None, kind):
        raise UserError(f"the checkpoint says encoder_type {config['encoder_type']!r}, its tensors are those of {kind}")
    first = state.get("input_layer.0.weight")
    if first is None or first.dim() != 4:
        raise UserError(f"the {kind} has no usable input_layer.0.weight")
    return kind, int(first.shape[1])


def dequantise(tensors: Mapping[str, Tensor], *, where: object = "the file") -> dict[str, Tensor]:
    """fp32 tensors of a file stored in fp16, or in int8 with a per-output-channel `<name>.scale` beside each tensor."""
    result = {}
    for key, value in tensors.items():
        if value.dtype == torch.int8:
            scale = tensors.get(f"{key}.scale")
            if scale is None or value.dim() == 0 or scale.numel() not in (1, value.shape[0]):
                raise UserError(f"{where}: the int8 tensor {key} has no fitting {key}.scale")
            result[key] = value.float() * scale.float().reshape(-1, *[1] * (value.dim() - 1))
        elif not (key.endswith(".scale") and key[:-6] in tensors):
            result[key] = value.float() if value.is_floating_point() else value
    return result


def psp_state(model: PSP) -> dict[str, Any]:
    """The model in pSp's own checkpoint layout: state_dict with encoder.* and decoder.*, opts, latent_avg [N,D].

    A photo encoder beside the generator is added as `photo_encoder`, which pSp ignores.
    """
    state = {key: value.detach().cpu() for key, value in model.state_dict().items() if key != "latent_avg"}
    content = {"state_dict": state, "opts": dict(model.config), "latent_avg": model.latent_avg.detach().cpu()}
    if model.photo_encoder is not None:
        content["photo_encoder"] = {key: value.cpu() for key, value in model.photo_encoder.state_dict().items()}
    return content


def save_torch(content: Mapping[str, Any], path: str | Path) -> None:
    """`torch.save`, atomically; UserError when the file cannot be written, and the old one is kept."""
    with atomic_open(path) as file:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:  # torch's zip writer swallows what the operating system said
            if "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
                raise
            raise UserError(f"cannot write {path}: the disk is full or has failed") from error


def save_safetensors(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], path: str | Path, *, dtype: torch.dtype | None = None
) -> None:
    """Write tensors with their config (JSON metadata), atomically.

    dtype: for floating-point weights of two dimensions and more. Vectors (biases, BatchNorm statistics, which can be
    too large for float16) weigh little and keep theirs.
    """

    def stored(value: Tensor) -> Tensor:
        smaller = dtype is not None and value.is_floating_point() and value.dim() > 1
        return (value.to(dtype) if smaller else value).detach().cpu().contiguous()

    out = {key: stored(value) for key, value in tensors.items()}
    with atomic_open(path) as file:
        file.write(
            safetensors.torch.save(out, metadata={"config": json.dumps(dict(config), sort_keys=True), "format": "pt"})
        )


def read_training_state(path: str | Path) -> dict[str, Any]:
    """The `training` record of a `last.pt`; UserError when the file is damaged or is something else."""
    content = _load_torch(Path(path))
    training = content.get("training")
    if not isinstance(training, dict) or not {"step", "options", "method"} <= training.keys():
        raise UserError(f"{path} is not a training state of this program; move it away to start anew")
    return training
