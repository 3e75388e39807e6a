"""Which styles are mixed into which layers: what the style options mean for a model, and codes from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psp.errors import UserError, brief
from psp.files import file_hash, load_array
from psp.images.decode import open_image
from psp.images.preprocess import prepare_target
from psp.inference.editor import Editor
from psp.inference.options import InferenceOptions
from psp.models.editing import parse_edits
from psp.models.image_to_image import PictureModel
from psp.models.mixing import VARY, describe_layers, parse_layers
from psp.models.people import PartsAxes
from psp.models.plausible import FaceCodes, check_amount
from psp.models.psp import PSP
from psp.weights.code_space import beside, parts_of
from psp.weights.safe_torch import check_stored, load_torch, read_safetensors

MAX_CODE_BYTES = 64 << 20


@dataclass(frozen=True)
class Styles:
    """Which styles go into which layers.

    layers: W+ layers that are replaced; none of them means no mixing. alpha: see `psp.models.mixing.mix`.
    codes [K,N,D]: given styles, the same for every image; otherwise random ones: those of `shared_seed` for every
    image, or those of `seed` and the image's name. truncation below 1 pulls random styles towards the average face.
    n_outputs: pictures per image. faces, follow: how closely drawings are followed, see `FaceCodes.follow`. shift
    [N,D]: what edits add to the codes at the end; None: nothing. parts: makes styles those of other people, see
    `PartsAxes.people`; None: they stay as they are.
    """

    layers: tuple[int, ...] = ()
    alpha: float | None = None
    codes: Tensor | None = None
    shared_seed: int | None = None
    seed: int = 0
    truncation: float = 1.0
    n_outputs: int = 1
    faces: FaceCodes | None = None
    follow: float = 1.0
    shift: Tensor | None = None
    parts: PartsAxes | None = None


Choice = tuple[Styles, dict[str, Any], str]
"""Styles, the part of the settings record that they are, and a line about them for the user."""


def choose_styles(options: InferenceOptions, model: PSP | PictureModel) -> Choice:
    """What the style options mean for this model. UserError for layers, strengths and files that do not fit it."""
    if not isinstance(model, PSP):
        return _without_styles(options, model)
    styles, record, summary = _mixed(options, model)
    strengths = parse_edits(options.edit) if options.edit is not None else {}
    if not strengths and options.follow == 1.0:
        if options.directions is not None:
            raise UserError("--directions changes nothing without --edit or --follow", "add that, or leave it out")
        return styles, record, summary
    editor = Editor(model, options.directions)
    if editor.file is not None:
        record["directions"] = file_hash(editor.file)
    if strengths:
        record["edit"], summary = options.edit, f"{summary}; {options.edit}"
    if options.follow != 1.0:
        record["follow"], summary = options.follow, f"{summary}; drawings followed by {options.follow:g}"
    return edited(styles, editor, strengths, options.follow), record, summary


def edited(styles: Styles, editor: Editor, edits: Mapping[str, float], follow: float) -> Styles:
    """The styles with edits at the end and drawings followed by that much; errors as `Editor.edit` and `follow`."""
    check_amount(follow)
    faces = None if follow == 1 else editor.known_faces()
    return replace(styles, shift=editor.shift(edits), faces=faces, follow=follow)


def _mixed(options: InferenceOptions, model: PSP) -> Choice:
    """Which styles are mixed into which layers."""
    alpha = 1.0 if options.mix_alpha is None else float(options.mix_alpha)
    styled = any(value is not None for value in (options.style_seed, options.style_image, options.style_code))
    if options.latent_mask is not None:
        layers = parse_layers(options.latent_mask, model.n_styles)
    elif options.mixing or styled or options.vary is not None:
        strengths = zip(model.bands().values(), VARY[options.vary or "colours"], strict=True)
        layers = [layer for band, share in strengths if share for layer in band]
    else:
        if options.mix_alpha is not None:
            needed = "--latent_mask or a --style flag"
            raise UserError(f"--mix_alpha changes nothing without {needed}", "add that, or leave it out")
        return Styles(), {"layers": ""}, "each image's own (--latent_mask or --style_seed mixes in another)"
    n_outputs = options.n_outputs_to_generate if options.mixing else 1
    record: dict[str, Any] = {"layers": describe_layers(layers), "alpha": alpha}
    codes = None
    if options.style_code is not None:
        codes = load_codes(options.style_code, model.n_styles, model.style_dim)
        if not options.mixing and len(codes) > 1:
            raise UserError(f"{options.style_code} holds {len(codes)} codes", "scripts/style_mixing.py takes several")
        n_outputs = min(n_outputs, len(codes))
        part = f"the first {n_outputs} of {len(codes)} codes in " if n_outputs < len(codes) else ""
        summary = f"from {part}{options.style_code}"
        record["style_code"] = file_hash(options.style_code)
    elif options.style_image is not None:
        codes = model.style_of(prepare_target(open_image(options.style_image))[None].to(model.device))
        n_outputs = 1
        summary = f"the photo {options.style_image}'s"
        record["style_image"] = file_hash(options.style_image)
    else:
        random = "1 random style" if n_outputs == 1 else f"{n_outputs} random styles"
        if options.style_seed is not None:
            summary = f"{random} for all images (--style_seed {options.style_seed})"
            record["style_seed"] = options.style_seed
        else:
            summary = f"{random} per image (--seed {options.seed})"
            record["seed"] = options.seed
        record["truncation"] = options.truncation
    if options.mixing:
        record["n_outputs"] = n_outputs
    summary += f", in layers {describe_layers(layers)} of 0-{model.n_styles - 1}, strength {alpha:g}"
    if options.vary is not None:
        record["vary"], summary = options.vary, f"{summary}, for other {options.vary}"
    parts = parts_of(model) if options.vary == "people" else None
    if parts is not None and model.path is not None:
        record["parts"] = file_hash(beside(model.path))
    elif options.vary == "people":
        summary += " (their parts as well: scripts/find_parts.py has not been run for this model)"
    styles = Styles(
        tuple(layers), alpha, codes, options.style_seed, options.seed, options.truncation, n_outputs, parts=parts
    )
    return styles, record, summary


def _without_styles(options: InferenceOptions, model: PictureModel) -> Choice:
    """For models without W+ codes. UserError for the options that need them."""
    if options.mixing:
        raise UserError(f"{model.method} has no W+ styles to mix", "scripts/inference.py runs it")
    if options.follow != 1.0:
        raise UserError(f"--follow is about W+ codes, which {model.method} does not have", "leave it out")
    flags = ("latent_mask", "mix_alpha", "vary", "style_seed", "style_image", "style_code", "save_latents", "edit")
    for name in (*flags, "directions"):
        value = getattr(options, name)
        if value is not None and value is not False:
            raise UserError(f"--{name} is about W+ styles, which {model.method} does not have", "leave it out")
    styles, record = Styles(seed=options.seed), {"method": model.method}
    if not model.noisy:
        hint = "; its own program tests with --test_dropout" if model.public and model.has_dropout else ""
        return styles, record, f"none: {model.method} has one answer{hint}"
    summary = f"none; values are dropped at random (--seed {options.seed})"
    return styles, record | {"test_dropout": options.seed}, summary


def load_codes(path: str | Path, n_styles: int, style_dim: int) -> Tensor:
    """W+ codes of a .npy, .pt/.pth or .safetensors file (`--style_code`) as float32 [K,N,D].

    Accepted shapes: [N,D], [K,N,D], and w vectors [D] or [1,D], which count for every layer. Nothing in the file is
    executed. UserError when the file is missing, damaged, of another size, or not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"style code {path} does not exist", "see --style_code")
    if path.stat().st_size > MAX_CODE_BYTES:
        raise UserError(f"style code {path}: {path.stat().st_size >> 20} MB are too many", "see --style_code")
    try:
        array = _read_tensor(path)
    except Exception as error:  # numpy has many for a damaged file
        reason = error if isinstance(error, UserError) else f"{path} is damaged ({brief(error)})"
        raise UserError(f"style code {reason}", "see --style_code") from None
    if array.shape in ((style_dim,), (1, style_dim)):
        array = array.reshape(1, 1, style_dim).expand(1, n_styles, style_dim)
    elif array.shape == (n_styles, style_dim):
        array = array[None]
    if array.ndim != 3 or array.shape[1:] != (n_styles, style_dim) or len(array) == 0:
        raise UserError(
            f"style code {path}: its shape is {tuple(array.shape)}",
            f"this model takes [{n_styles},{style_dim}], [K,{n_styles},{style_dim}] or [{style_dim}] (--style_code)",
        )
    codes = array.float().contiguous()
    if not bool(torch.isfinite(codes).all()):
        raise UserError(f"style code {path}: holds values that are not finite", "see --style_code")
    return codes


def _read_tensor(path: Path) -> Tensor:
    suffix = path.suffix.lower()
    content: Any
    if suffix == ".npy":
        with path.open("rb") as file:
            return torch.from_numpy(np.ascontiguousarray(load_array(file, path.stat().st_size), dtype=np.float32))
    if suffix == ".safetensors":
        content = read_safetensors(path)[0]
    elif suffix in (".pt", ".pth"):
        content = load_torch(path)
    else:
        raise UserError(f"{path} is no .npy, .pt or .safetensors file")
    if isinstance(content, dict):  # one tensor, under any name
        if len(content) != 1:
            raise UserError(f"{path} holds {len(content)} entries, expected one tensor")
        content = next(iter(content.values()))
    if not isinstance(content, Tensor) or not content.is_floating_point():
        raise UserError(f"{path} holds a {type(content).__name__}, expected a tensor of floats")
    check_stored(path, {"its tensor": content})
    return content
