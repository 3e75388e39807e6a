"""Files of what is known about a model's codes: directions to edit along, and the statistics of real faces' codes.

Ours are safetensors files, which `save_code_space` writes: `directions.<name>` is a step [D] or [N,D] of
strength 1, `faces.*` what `psp.models.plausible.FaceCodes` holds, `parts` the axes of `psp.models.people.PartsAxes`,
`mark` says of which generator. InterFaceGAN's boundaries (one vector, .npy or .pt) and GANSpace's components as e4e
ships them (.pt with comp, mean, std) are read, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psp.errors import UserError, brief
from psp.files import load_array, read_json, save_bytes
from psp.models.people import PartsAxes
from psp.models.plausible import FaceCodes
from psp.models.psp import PSP
from psp.networks.stylegan2 import Generator
from psp.weights.places import locate
from psp.weights.safe_torch import below, check_stored, load_torch, read_safetensors
from psp.weights.save import save_safetensors

MAX_DIRECTIONS_BYTES = 64 << 20
SAME_MARK = 0.03  # relative distance; int8 is 0.005 away
STYLES = 2048  # random ones, by which it is told what goes along with the parts


@dataclass
class CodeSpace:
    """Directions by name, float32 [D] or [N,D]; those in `unscaled` point the way, but not how far.

    faces: statistics for `--follow`; None where the file has none. about: how a direction was found, in words.
    mark: of the generator whose codes these are, see `mark_of`; None where the file does not say.
    parts: axes [K,D] of `psp.models.people.PartsAxes`; None where the file has none.
    """

    directions: dict[str, Tensor] = field(default_factory=dict)
    unscaled: set[str] = field(default_factory=set)
    faces: FaceCodes | None = None
    about: dict[str, str] = field(default_factory=dict)
    parts: Tensor | None = None
    mark: Tensor | None = None


def mark_of(generator: Generator) -> Tensor:
    """Numbers [K] of a generator's own, by which it is told from others: they outlive float16 and int8, no training."""
    return generator.input.input.detach().float().cpu().flatten()[:512]


def check_mark(
    space: CodeSpace,
    generator: Generator,
    path: Path,
    advice: str = "scripts/find_directions.py and find_parts.py make one for this model",
) -> None:
    """UserError, with that advice, when the file at `path` says that it belongs to another generator."""
    if space.mark is None:
        return
    mark = mark_of(generator)
    if space.mark.shape != mark.shape or not float((space.mark - mark).norm() / mark.norm()) <= SAME_MARK:  # or NaN
        raise UserError(f"{path} belongs to another generator", advice)


def beside(checkpoint: Path) -> Path:
    """Where the file of a model lies unless another is named: `model.safetensors` -> `model_codes.safetensors`."""
    return checkpoint.with_name(f"{checkpoint.stem}_codes.safetensors")


def to_extend(model: PSP, out: str | None) -> tuple[Path, CodeSpace]:
    """The file that a script writes what it learned of a model to, and what is in it already.

    model: read from a file.
    out: `--out`; None: the file beside the model's.
    UserError: it is no .safetensors file, or belongs to another generator.
    """
    assert model.path is not None
    path = Path(out).expanduser() if out else beside(model.path)
    if path.suffix != ".safetensors":
        raise UserError(f"--out {path} does not end in .safetensors", "change it")
    if not path.exists():
        return path, CodeSpace()
    space = read_code_space(path, n_styles=model.n_styles, style_dim=model.style_dim)
    check_mark(space, model.decoder, path, "remove it, or --out names another file")
    return path, space


def copy_codes(source: Path, target: Path) -> Path | None:
    """Put a copy of the file of the model `source` beside the model `target`; its path, None where there is none.

    UserError when it cannot be written.
    """
    if not beside(source).is_file():
        return None
    save_bytes(beside(source).read_bytes(), beside(target))
    return beside(target)


def read_code_space(path: str | Path, *, n_styles: int, style_dim: int) -> CodeSpace:
    """Whatever of the formats above the file is. UserError in one line: missing, something else, of another model."""
    path = locate(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist or is no file", "--directions takes .safetensors, .npy and .pt files")
    if path.stat().st_size > MAX_DIRECTIONS_BYTES:
        raise UserError(f"{path}: {path.stat().st_size >> 20} MB are too many for directions (--directions)")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        space = _ours(path, n_styles, style_dim)
    elif suffix == ".npy":
        try:
            with path.open("rb") as file:
                boundary = torch.from_numpy(np.ascontiguousarray(load_array(file, path.stat().st_size), np.float32))
        except Exception as error:  # numpy has many for a damaged file
            raise UserError(f"{path} is damaged or holds no floats ({brief(error)})") from None
        space = _boundary(path, boundary)
    elif suffix in (".pt", ".pth"):
        content = load_torch(path)
        space = _boundary(path, content) if isinstance(content, Tensor) else _components(path, content)
    else:
        raise UserError(f"{path} is no .safetensors, .npy or .pt file (--directions)")
    for name, direction in space.directions.items():
        if direction.shape not in ((style_dim,), (n_styles, style_dim)):
            advice = f"this model takes [{style_dim}] or [{n_styles},{style_dim}]"
            raise UserError(f"{path}: direction {name} has shape {list(direction.shape)}", advice)
        if not torch.isfinite(direction).all():
            raise UserError(f"{path}: direction {name} has values that are not finite")
    return space


def save_code_space(space: CodeSpace, path: str | Path) -> None:
    """Write it in our format, numbers in float16. UserError when it cannot be written."""
    tensors = {f"directions.{name}": direction.half() for name, direction in space.directions.items()}
    if space.mark is not None:
        tensors["mark"] = space.mark.half()
    if space.faces is not None:
        tensors |= {f"faces.{name}": tensor for name, tensor in space.faces.tensors().items()}
    if space.parts is not None:
        tensors["parts"] = space.parts.half()
    save_safetensors(tensors, {"about": space.about}, path)


def parts_of(model: PSP) -> PartsAxes | None:
    """What is known about which styles move the parts of a face; None where no file beside the model's says it.

    UserError for a file that cannot be read or belongs to another model.
    """
    file = beside(model.path) if model.path is not None else None
    if file is None or not file.is_file():
        return None
    space = read_code_space(file, n_styles=model.n_styles, style_dim=model.style_dim)
    check_mark(space, model.decoder, file)
    if (axes := space.parts) is None:
        return None
    noise = torch.randn(STYLES, model.style_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        styles = model.map(noise.to(model.device))[:, 0]
    try:
        return PartsAxes(axes, styles)
    except UserError as error:
        raise UserError(f"{file}: {error.problem}", error.advice) from error


def _ours(path: Path, n_styles: int, style_dim: int) -> CodeSpace:
    tensors, metadata = read_safetensors(path)
    check_stored(path, tensors)
    faces, directions = below(tensors, "faces"), below(tensors, "directions")
    if not faces and not directions and "parts" not in tensors:
        raise UserError(f"{path} holds neither directions nor statistics of faces")
    config = read_json(metadata.get("config", "{}"), where=f"{path}: its config")
    about = config.get("about") if isinstance(config, dict) else None
    try:
        return CodeSpace(
            {name: step.float() for name, step in directions.items()},
            faces=FaceCodes.of_tensors(faces, n_styles, style_dim) if faces else None,
            about={str(name): str(text) for name, text in about.items()} if isinstance(about, dict) else {},
            parts=tensors["parts"].float() if "parts" in tensors else None,
            mark=tensors["mark"].float() if "mark" in tensors else None,
        )
    except UserError as error:
        raise UserError(f"{path}: {error.problem}", error.advice) from error


def _boundary(path: Path, boundary: Tensor) -> CodeSpace:
    """InterFaceGAN's: the normal of a hyperplane, [1,D] or [D], called as the file is."""
    check_stored(path, {"its tensor": boundary})
    name = path.stem.removesuffix("_boundary")
    return CodeSpace({name: boundary.float().reshape(-1)}, {name}, about={name: f"InterFaceGAN's, from {path.name}"})


def _components(path: Path, content: Any) -> CodeSpace:
    """GANSpace's: principal components of w, the largest first, called pca0, pca1, ..."""
    if not isinstance(content, Mapping) or not all(isinstance(content.get(key), Tensor) for key in ("comp", "std")):
        raise UserError(f"{path} is neither a boundary (one vector) nor GANSpace's components (comp, mean, std)")
    check_stored(path, {key: content[key] for key in ("comp", "std")})
    deviations = content["std"].float().flatten()
    components = content["comp"].float().reshape(len(content["comp"]), -1)
    if len(components) != len(deviations):
        raise UserError(f"{path} has {len(components)} components and {len(deviations)} standard deviations")
    steps = components * deviations[:, None]
    return CodeSpace({f"pca{k}": step for k, step in enumerate(steps)})
