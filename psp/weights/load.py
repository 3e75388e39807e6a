"""Weights into networks: what a file (`psp.weights.formats`) holds is checked against itself, built and filled.

Sizes, widths and channels come from the tensors; what the file's options say about them has to agree.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psp.errors import UserError
from psp.models.image_to_image import PictureModel
from psp.models.psp import PSP, build_encoder
from psp.models.restyle import INPUT_NC
from psp.models.style_bank import StyleBank
from psp.networks.encoders import ENCODERS, compact_widths
from psp.networks.photo_encoder import PhotoEncoder
from psp.networks.state import building, load_strictly
from psp.networks.stylegan2 import Generator, fir_kernel, generator_config, style_count
from psp.networks.stylegan2_discriminator import Discriminator, discriminator_config
from psp.tasks import DEFAULT_TASK, TASKS, get_task
from psp.weights.formats import Weights, read_weights
from psp.weights.image_to_image import generators_of, picture_model
from psp.weights.places import BUNDLED
from psp.weights.safe_torch import read_torch


@dataclass
class GeneratorFile:
    """A generator and what may be stored beside it."""

    generator: Generator
    latent_avg: Tensor | None
    discriminator: Discriminator | None
    photo_encoder: PhotoEncoder | None
    style_bank: StyleBank | None = None


def load_generator(path: str | Path | Weights) -> GeneratorFile:
    """Generator of any supported file (StyleGAN2, pSp, ours), on the CPU; size and widths are read from its tensors."""
    weights = path if isinstance(path, Weights) else read_weights(path)
    state, file = weights.part("decoder"), weights.path
    critic, style, bank = weights.part("discriminator"), weights.part("photo_encoder"), weights.part("style_bank")
    if "input.input" not in state:
        raise UserError(f"{file} holds no StyleGAN2 generator")
    photo_encoder: PhotoEncoder | None = None
    with building(f"{file}: its generator"):
        config = generator_config(state)
        generator = Generator(**config, conv_clamp=_conv_clamp(weights))
        discriminator = Discriminator(**discriminator_config(critic)) if critic else None
        if style:
            body = discriminator_config(weights.part("photo_encoder.body"))
            photo_encoder = PhotoEncoder(body["size"], config["style_dim"], channels=body["channels"])
    load_strictly(generator, _with_buffers(generator, state, file), where=f"the generator in {file}")
    if discriminator is not None:
        load_strictly(discriminator, critic, where=f"the discriminator in {file}")
    if photo_encoder is not None:
        load_strictly(photo_encoder, style, where=f"the photo encoder in {file}")
    style_bank = StyleBank.of_tensors(bank, generator.style_dim, where=f"the style bank in {file}") if bank else None
    return GeneratorFile(generator, weights.tensors.get("latent_avg"), discriminator, photo_encoder, style_bank)


def _conv_clamp(weights: Weights) -> float | None:
    """The limit of the layers' results that the file names; only NVIDIA's pickles, and what came from them, have it."""
    limit = weights.config.get("conv_clamp")
    if limit is not None and (type(limit) not in (int, float) or not 0 < limit < 1e6):
        raise weights.wrong_option("conv_clamp", "a number above 0")
    return None if limit is None else float(limit)


def _with_buffers(generator: Generator, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The state with what old conversions leave out and training never changes: filter kernels, fixed noise."""
    buffers = dict(generator.named_buffers())
    missing = [key for key in buffers if key not in state]
    kernels = {key: fir_kernel(4.0) for key in missing if key.endswith(".kernel")}
    noises = [key for key in missing if key.startswith("noises.")]
    if len(noises) == generator.n_noises:
        warnings.warn(f"{path} has no fixed noise images; new ones are used, the same for every run", stacklevel=2)
        random = torch.Generator().manual_seed(0)
        kernels |= {key: torch.randn(buffers[key].shape, generator=random) for key in noises}
    return {**state, **kernels}


def load_model(
    path: str | Path | Weights | None = None, *, task: str | None = None, device: str | torch.device = "cpu"
) -> PSP:
    """Model of a pSp checkpoint, of a file of ours, or the bundled one of `task` when `path` is None.

    Size, styles, channels and mapping depth come from the tensors. UserError in one line when the file does not fit,
    or was trained for another task than `task`. Returns the model in eval mode on `device`.
    """
    if path is None:
        path = bundled(task or DEFAULT_TASK)
    weights = path if isinstance(path, Weights) else read_weights(path)
    try:
        model = _model_of(weights, task).eval().to(device)
    except UserError as error:
        if str(weights.path) in str(error):
            raise
        raise UserError(f"{weights.path}: {error.problem}", error.advice) from error
    model.path = weights.path
    return model


def _model_of(weights: Weights, task: str | None) -> PSP:
    path = weights.path  # the file itself, where a folder or a bare name was given
    encoder_state, config = weights.part("encoder"), weights.config
    if not encoder_state:
        raise UserError(f"{path} holds no encoder: it is no pSp checkpoint", "change --checkpoint_path")
    name = config.get("generator") or ""
    if not isinstance(name, str) or Path(name).name != name or name == "..":
        raise weights.wrong_option("generator", "the name of a file beside it")
    if any(key.startswith("decoder.") for key in weights.tensors):
        file = load_generator(weights)
    elif name:
        file = load_generator(path.parent / name)
    else:
        raise UserError(f"{path} holds no generator and names none beside it")
    decoder = file.generator
    encoder_type, input_nc = encoder_kind(encoder_state, config, path)
    source_nc = INPUT_NC // 2 if input_nc == INPUT_NC else input_nc  # ReStyle's encoder sees its own result too
    trained = str(config.get("dataset_type", ""))
    if trained in TASKS and get_task(trained).input_nc == source_nc:
        weights.check_task(task)
    if trained == "cars_encode":  # e4e's and ReStyle's
        raise UserError(f"{path} was trained on pictures of 256x192 pixels", "only square ones can be encoded")
    task = task or (trained if trained in TASKS else None)
    if task is None and trained.endswith("_encode") and source_nc == 3:  # churches, horses, wild animals, ...
        task = "ffhq_encode"
    if task is not None and (given := get_task(task).input_nc) != source_nc:
        raise UserError(f"{path} takes {source_nc}-channel input, {task} has {given} channels", "change --dataset_type")
    with building(f"{path}: its {encoder_type}"):
        widths = compact_widths(encoder_state) if encoder_type == "CompactStyleEncoder" else {}
        check_options(weights, size=decoder.size, input_nc=input_nc)
        encoder = build_encoder(encoder_type, decoder.n_styles, input_nc, decoder.style_dim, **widths)
    load_strictly(encoder, encoder_state, where=f"the {encoder_type} in {path}")
    return PSP(
        encoder,
        decoder,
        latent_avg=weights.tensors.get("latent_avg", file.latent_avg),
        task=get_task(task) if task else None,
        start_from_latent_avg=bool(config.get("start_from_latent_avg", True)),
        config=config,
        photo_encoder=file.photo_encoder,
        style_bank=file.style_bank,
    )


def check_options(weights: Weights, *, size: int, input_nc: int) -> None:
    """UserError in one line where the options of a file contradict its tensors or cannot be meant."""
    config = weights.config
    for name, fact in {"output_size": size, "input_nc": input_nc, "n_styles": style_count(size)}.items():
        if config.get(name) is not None and (isinstance(config[name], bool) or config[name] != fact):
            raise weights.wrong_option(name, f"{fact}, as its tensors say,")
    kinds: dict[str, tuple[type, ...]] = {
        "start_from_latent_avg": (bool,), "learn_in_w": (bool,), "dataset_type": (str,), "latent_mask": (str,),
        "label_nc": (int,), "device": (str, int), "n_iters_per_batch": (int,),
    }  # fmt: skip
    for name, kind in kinds.items():
        if config.get(name) is not None and not isinstance(config[name], kind):
            raise weights.wrong_option(name, f"a {kind[0].__name__}")
    if not 0 <= (config.get("label_nc") or 0) <= 1000:
        raise weights.wrong_option("label_nc", "a number of classes up to 1000")


def bundled(task: str) -> Path:
    """File of the bundled model of a task; UserError naming the tasks that have one."""
    get_task(task)
    if task not in BUNDLED:
        raise UserError(f"no bundled model for {task}, only for {', '.join(BUNDLED)}", "give --checkpoint_path")
    if not BUNDLED[task].exists():
        raise UserError(f"the bundled model {BUNDLED[task]} is missing", "get the whole checkout or --checkpoint_path")
    return BUNDLED[task]


# What an encoder's tensors are called -> the encoders that have such tensors, the first where the options name none.
ENCODER_LAYOUTS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("trunks.0.",), ("CompactStyleEncoder",)),
    (("styles.0.", "latlayer1.", "conv1."), ("ResNetGradualStyleEncoder",)),
    (("styles.0.", "latlayer1."), ("GradualStyleEncoder", "Encoder4Editing")),
    (("styles.0.", "conv1."), ("ResNetBackboneEncoder", "ResNetProgressiveBackboneEncoder")),
    (("styles.0.",), ("BackboneEncoder", "ProgressiveBackboneEncoder")),
    (("output_layer_2.",), ("BackboneEncoderUsingLastLayerIntoWPlus",)),
    (("linear.weight",), ("BackboneEncoderUsingLastLayerIntoW",)),
)


def encoder_kind(
    state: Mapping[str, Tensor], config: Mapping[str, Any], where: object = "the checkpoint"
) -> tuple[str, int]:
    """(encoder_type, input channels) of an encoder's tensors; UserError when the config says otherwise.

    Where the same tensors belong to several encoders (pSp's and e4e's), the config's `encoder_type` decides.
    """

    def present(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in state)

    fitting = [kinds for prefixes, kinds in ENCODER_LAYOUTS if all(map(present, prefixes))]
    if not fitting:
        raise UserError(f"unknown encoder with tensors like {sorted(state)[:3]}", f"known ones: {', '.join(ENCODERS)}")
    kinds, stated = fitting[0], config.get("encoder_type")
    if stated not in (None, *kinds):
        raise UserError(f"{where} says encoder_type {str(stated)[:80]!r}, its tensors are {' or '.join(kinds)}'s")
    kind = kinds[0] if stated is None else str(stated)
    if config.get("learn_in_w") and kind != "BackboneEncoderUsingLastLayerIntoW":
        raise UserError(f"{where} says learn_in_w, one w for all layers, but its tensors are those of {kind}")
    name = "conv1.weight" if "conv1.weight" in state else "input_layer.0.weight"
    if name not in state or state[name].dim() != 4:
        raise UserError(f"the {kind} has no usable {name}")
    return kind, int(state[name].shape[1])


def read_training_state(path: str | Path) -> dict[str, Any]:
    """The `training` record of a `last.pt`; UserError when the file is damaged or is something else."""
    training = read_torch(Path(path), lambda entry: entry == "training").get("training")
    if not isinstance(training, dict) or not {"step", "options", "method"} <= training.keys():
        raise UserError(f"{path} is not a training state of this program", "move it away to start anew")
    return training


def load_any_model(
    path: str | Path | None = None,
    *,
    task: str | None = None,
    direction: str | None = None,
    noisy: bool | None = None,
    device: str | torch.device = "cpu",
) -> PSP | PictureModel:
    """The model of a checkpoint of any method, or the bundled one of `task` when `path` is None; on `device`, for use.

    path: also the name of a task, for its bundled model.
    direction, noisy: see `psp.weights.image_to_image.picture_model`; UserError where they do not apply. Other errors as
    there and in `load_model`.
    """
    weights = read_weights(bundled(task or DEFAULT_TASK) if path is None else path)
    if task is None and str(path) in BUNDLED and weights.path == BUNDLED[str(path)]:
        task = str(path)
    if generators_of(weights)[0]:
        return picture_model(weights, task=task, direction=direction, device=device, noisy=noisy)
    for flag, given in (("--direction", direction), ("--test_dropout", noisy)):
        if given:
            raise UserError(f"{flag} is for pix2pix, CycleGAN and cGAN", f"{weights.path} holds none of them")
    return load_model(weights, task=task, device=device)
