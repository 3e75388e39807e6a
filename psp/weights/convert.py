"""Weights from one layout into another: ours (safetensors with its options inside), pSp's and rosinality's StyleGAN2.

Every tensor keeps its bits (fp32), every option its value. What a layout cannot hold, or the program it belongs to
cannot build, is said in notes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psp.errors import UserError
from psp.models.psp import PSP
from psp.models.style_bank import StyleBank
from psp.networks.irse import Backbone
from psp.networks.photo_encoder import PhotoEncoder
from psp.networks.state import load_strictly
from psp.networks.stylegan2 import Generator, default_channels
from psp.weights.formats import PSP_FAMILY, Weights, read_weights
from psp.weights.image_to_image import build_generator, generators_of
from psp.weights.load import GeneratorFile, load_generator, load_model
from psp.weights.save import extras, psp_layout, save_safetensors, save_torch

PSP_ENCODERS = (
    "GradualStyleEncoder",
    "BackboneEncoderUsingLastLayerIntoW",
    "BackboneEncoderUsingLastLayerIntoWPlus",
)
PSP_TASKS = (
    "ffhq_encode", "ffhq_frontalize", "celebs_sketch_to_face", "celebs_seg_to_face", "celebs_super_resolution",
)  # fmt: skip
BANK_IS_IGNORED = "other code ignores the style bank: there, random styles come from the mapping network"
Notes = list[str]


def kind_of(weights: Weights) -> str:
    """What the tensors are: model (with its generator in the file or beside it), generator, pictures (pix2pix and its
    relatives), discriminator, backbone or unknown."""
    if weights.part("encoder"):
        return "model"
    if weights.part("decoder"):
        return "generator"
    try:
        if generators_of(weights)[0]:
            return "pictures"
    except UserError:
        return "discriminator"
    if weights.part("discriminator"):
        return "discriminator"
    names = ("input_layer.0.weight", "body.0.res_layer.1.weight", "output_layer.3.weight")
    return "backbone" if all(name in weights.tensors for name in names) else "unknown"


def check(weights: Weights) -> str:
    """Load what the file holds and say which flag takes it; UserError in one line where it does not fit together."""
    kind = kind_of(weights)
    if kind == "model":
        load_model(weights)
        return "yes, as --checkpoint_path"
    if kind == "generator":
        load_generator(weights)
        return "yes, as --stylegan_weights"
    if kind == "pictures":
        for name, tensors in generators_of(weights)[0].items():
            build_generator(tensors, {}, where=f"the {name} in {weights.path}")
        return "yes, as --checkpoint_path of scripts/inference.py"
    if kind == "backbone":
        _backbone(weights, "psp")
        return "yes, as --irse50_weights or for --id_net ir_se50"
    return "not as a model or generator"


def convert(
    source: str | Path,
    target: str | Path,
    layout: str | None = None,
    *,
    half: bool = False,
    bank_of: Callable[[PhotoEncoder], StyleBank] | None = None,
    shared: Path | None = None,
    overwrite: bool = False,
) -> tuple[str, Notes]:
    """Write what `source` holds to `target`, atomically. Returns the layout, and what is lost or will not load.

    layout: safetensors, psp or stylegan2; None: by the ending of `target`, else psp, and stylegan2 for generators.
    half: matrices and convolutions in fp16 (vectors keep fp32). bank_of: makes the style bank that goes beside the
    generator, in place of one that is there, with the photo encoder of the file. shared: file beside `target` that the
    generator and what belongs to it go into, for several encoders, or are in already; where it holds another one, it is
    replaced with overwrite alone. UserError in one line: not readable, does not fit together, the layout cannot hold
    it, or a file cannot be written. Nothing is written to the source, under whatever name it is given.
    """
    weights = read_weights(source)
    target = Path(target)
    kind = kind_of(weights)
    if layout is None:
        others = "stylegan2" if kind == "generator" else "psp"
        layout = "safetensors" if target.suffix == ".safetensors" else others
    notes = [f"left out: {', '.join(weights.left_out)}"] if weights.left_out else []
    if reason := weights.config.get("discriminator_left_out"):  # of a NVIDIA pickle
        notes.append(f"left out: the discriminator ({reason})")
    if shared is not None and kind != "model":
        raise UserError(f"{source} holds no encoder with a generator", "leave --share_generator out")
    if kind in ("model", "generator"):
        holder = load_model(weights) if kind == "model" else load_generator(weights)
        if bank_of is not None:
            if holder.photo_encoder is None:
                advice = "generators trained with --guide have one"
                raise UserError(f"{source} has no photo encoder to make a style bank with", advice)
            holder.style_bank = bank_of(holder.photo_encoder)
        if isinstance(holder, PSP):
            content, more = _model(holder, weights, layout)
        else:
            content, more = _generator(holder, weights, layout)
    elif bank_of is not None:
        raise UserError(f"{source} holds no StyleGAN2 generator for a style bank", "leave --style_bank out")
    elif kind == "backbone":
        content, more = _backbone(weights, layout)
    elif kind == "pictures":
        content, more = _pictures(weights, layout)
    else:
        holds = "a discriminator alone" if kind == "discriminator" else f"tensors like {sorted(weights.tensors)[:3]}"
        raise UserError(f"{source} holds {holds}", "a model, a generator or an IR-SE50 backbone can be converted")
    beside = weights.path.parent / str(weights.config.get("generator") or "")  # that an encoder names
    if target.exists() and any(path.exists() and target.samefile(path) for path in (weights.path, beside)):
        raise UserError(f"{target} is the file that is read", "give another name")
    if shared is not None and shared.exists() and shared.samefile(weights.path):
        raise UserError(f"{shared} is the file that is read", "give another name to --share_generator")
    if half:
        content = lowered(content, torch.float16, where=source)
    if layout == "safetensors":
        if shared is not None:
            content = _apart(content, shared, overwrite=overwrite)
        save_safetensors(content["tensors"], content["config"], target)
    else:
        save_torch(content, target)
    return layout, notes + more


def _pictures(weights: Weights, layout: str) -> tuple[dict[str, Any], Notes]:
    if layout != "safetensors":
        raise UserError(f"{weights.path} holds a picture-to-picture network, which --to {layout} cannot hold")
    parts = generators_of(weights)[0]
    tensors = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}
    notes = [] if weights.config.get("dataset_type") else ["it does not say its task: use it with --dataset_type"]
    if weights.part("discriminator") or weights.part("photo_discriminator"):
        notes.append("left out: discriminators")
    return {"tensors": tensors, "config": weights.config}, notes


def _model(model: PSP, weights: Weights, layout: str) -> tuple[dict[str, Any], Notes]:
    critic = weights.part("discriminator")
    if layout == "safetensors":
        config = {name: value for name, value in model.config.items() if name != "generator"}  # it is in the file now
        return {"tensors": model_tensors(model) | _prefixed("discriminator", critic), "config": config}, []
    if layout == "stylegan2":
        file = GeneratorFile(model.decoder, model.latent_avg, None, model.photo_encoder, model.style_bank)
        content, notes = _rosinality(file, {})
        return content | ({"d": critic} if critic else {}), [*notes, "left out: the encoder and its options"]
    content = psp_layout(model)
    notes = limits_of_psp(model, content["opts"])
    if critic:
        notes.append("left out: the discriminator")
    return content, notes


def model_tensors(model: PSP) -> dict[str, Tensor]:
    """A model as one flat dict of our safetensors layout: encoder.*, decoder.*, latent_avg, photo_encoder.*,
    style_bank.codes."""
    return {**model.state_dict(), **_beside(model)}


def _beside(holder: PSP | GeneratorFile) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for name, part in extras(holder).items() for key, value in part.items()}


def limits_of_psp(model: PSP, options: Mapping[str, Any]) -> Notes:
    """Why pSp's own code would not load or run this model, as lines; none when it would."""
    notes = []
    kind = options["encoder_type"]
    if kind not in PSP_ENCODERS:
        notes.append(f"pSp has no {kind}; the file is for {PSP_FAMILY.get(kind, 'this project alone')}")
    if not _is_standard(model.decoder, multipliers=(2,)):
        notes.append("pSp's generator has 8 mapping layers, styles of 512 and config-f's widths; this one differs")
    task = options.get("dataset_type")
    if task not in PSP_TASKS:
        reason = f"has dataset_type {task}, none of pSp's own" if task else "does not say its dataset_type"
        notes.append(f"the file {reason}; pSp's scripts look it up in configs/data_configs.py")
    if model.style_bank is not None:
        notes.append(BANK_IS_IGNORED)
    return notes


def _is_standard(generator: Generator, *, multipliers: tuple[int, ...]) -> bool:
    widths = [{res: default_channels(m)[res] for res in generator.channels} for m in multipliers]
    return generator.channels in widths and (generator.style_dim, generator.n_mlp) == (512, 8)


def _generator(file: GeneratorFile, weights: Weights, layout: str) -> tuple[dict[str, Any], Notes]:
    if layout == "psp":
        raise UserError(f"{weights.path} holds a generator without an encoder", "use --to stylegan2")
    if layout == "stylegan2":
        return _rosinality(file, weights.config)
    tensors = _prefixed("decoder", file.generator.state_dict()) | _beside(file)
    if file.discriminator is not None:
        tensors |= _prefixed("discriminator", file.discriminator.state_dict())
    if file.latent_avg is not None:
        tensors["latent_avg"] = file.latent_avg
    return {"tensors": tensors, "config": {"kind": "stylegan2", **weights.config}}, []


def _rosinality(file: GeneratorFile, config: Mapping[str, Any]) -> tuple[dict[str, Any], Notes]:
    """rosinality's layout: g_ema, d, latent_avg [D]; beside them our photo encoder, style bank and options, which it
    ignores."""
    notes = []
    content: dict[str, Any] = {"g_ema": file.generator.state_dict()}
    if file.discriminator is not None:
        content["d"] = file.discriminator.state_dict()
    if file.latent_avg is not None:
        rows = file.latent_avg.reshape(-1, file.generator.style_dim)
        content["latent_avg"] = rows[0].clone() if bool((rows == rows[0]).all()) else rows.mean(0)
        if not bool((rows == rows[0]).all()):
            notes.append("latent_avg differs from layer to layer; StyleGAN2 files hold one, the mean is written")
    content |= extras(file)
    if file.style_bank is not None:
        notes.append(BANK_IS_IGNORED)
    if options := {name: value for name, value in config.items() if name != "kind"}:
        content["opts"] = options
    if not _is_standard(file.generator, multipliers=(1, 2)):
        notes.append("rosinality's scripts build 8 mapping layers, styles of 512, two sets of widths; this one differs")
    return content, notes


def _backbone(weights: Weights, layout: str) -> tuple[dict[str, Any], Notes]:
    """IR-SE50 as pSp's `model_ir_se50.pth` has it: bare tensors in either layout."""
    if layout == "stylegan2":
        raise UserError(f"{weights.path} holds an IR-SE50 backbone, no generator", "use --to psp (a bare state dict)")
    with torch.device("meta"):
        backbone = Backbone()
    load_strictly(backbone, weights.tensors, where=f"the IR-SE50 backbone in {weights.path}")
    tensors = dict(backbone.state_dict())
    return ({"tensors": tensors, "config": {"kind": "ir_se50"}} if layout == "safetensors" else tensors), []


def _apart(content: dict[str, Any], shared: Path, *, overwrite: bool) -> dict[str, Any]:
    """A model's content without its generator, which is written to `shared` unless it is there already."""
    parts: tuple[dict[str, Tensor], dict[str, Tensor]] = {}, {}
    for name, value in content["tensors"].items():
        parts[name.startswith("encoder.")][name] = value
    generator, encoder = parts
    held = read_weights(shared).tensors if shared.exists() else {}
    if held.keys() != generator.keys() or not all(torch.equal(held[name], generator[name]) for name in held):
        if held and not overwrite:
            raise UserError(f"{shared} holds another generator", "--overwrite replaces it, for all encoders beside it")
        save_safetensors(generator, {"kind": "stylegan2"}, shared)
    return {"tensors": encoder, "config": {**content["config"], "generator": shared.name}}


def _prefixed(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for key, value in tensors.items()}


def lowered(content: Mapping[str, Any], dtype: torch.dtype, *, where: object) -> dict[str, Any]:
    """(Nested) dicts with matrices and convolutions in `dtype`; vectors weigh little and keep their precision.

    UserError naming a tensor whose values `dtype` cannot hold.
    """

    def lower(value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            return {key: lower(item, f"{name}.{key}") for key, item in value.items()}
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() < 2:
            return value
        if value.element_size() <= dtype.itemsize:  # a style bank is small already
            return value
        smaller = value.detach().to(dtype)
        if not bool(torch.isfinite(smaller).all()):
            kind = str(dtype).removeprefix("torch.")
            raise UserError(f"{where}: {name} has values that {kind} cannot hold", "write float32 (--dtype fp32)")
        return smaller

    return {key: lower(value, key) for key, value in content.items()}
