"""Models that are small enough for every test: the compact encoder and a 16 px generator, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tiny_training
import torch
from PIL import Image

from psp.compat import prepare_torchvision
from psp.models.plausible import FaceCodes
from psp.models.psp import PSP
from psp.networks.stylegan2 import Generator
from psp.tasks import get_task
from psp.weights.code_space import CodeSpace, beside, mark_of, save_code_space
from psp.weights.save import psp_state, save_torch


def tiny_psp(task: str = "celebs_sketch_to_face", *, size: int = 16, style_dim: int = 8) -> PSP:
    """6 styles of 8 at 16 px; outputs depend visibly on the input. In eval mode."""
    torch.manual_seed(1)
    decoder = Generator(size, style_dim, 2, channels={2**k: 8 for k in range(2, 11)})
    kind = get_task(task)
    encoder = tiny_training.encoder(decoder.n_styles, kind.input_nc, style_dim)
    with torch.no_grad():  # random weights barely react to the input: enlarge that, around codes of common size
        for head in encoder.heads:
            head.weight.mul_(200)  # type: ignore[union-attr, operator]
        offset = encoder.eval()(torch.full((1, kind.input_nc, 256, 256), 0.5))[0]
    config = {"dataset_type": task, "encoder_type": "CompactStyleEncoder"}
    return PSP(encoder, decoder, latent_avg=torch.randn(style_dim) - offset, task=kind, config=config).eval()


def save_tiny(path: Path, task: str = "celebs_sketch_to_face", **options: Any) -> Path:
    """The same as a checkpoint file in pSp's format."""
    save_torch(psp_state(tiny_psp(task, **options)), path)
    return path


def save_tiny_codes(path: Path) -> None:
    """Beside a tiny model's file: a direction "smile", and statistics of faces in the first half of the layers."""
    model = tiny_psp()
    random = torch.Generator().manual_seed(2)
    codes = torch.randn(100, model.n_styles, model.style_dim, generator=random)
    faces = FaceCodes.of(codes, range(model.n_styles // 2))
    smile = torch.full((model.style_dim,), 2.0)
    save_code_space(CodeSpace({"smile": smile}, faces=faces, mark=mark_of(model.decoder)), beside(path))


def drawing(seed: int, side: int = 64) -> Image.Image:
    """A few dark strokes on white, different for every seed."""
    random = np.random.default_rng(seed)
    pixels = np.full((side, side), 255, np.uint8)
    for _ in range(6):
        x, y = random.integers(4, side - 20, 2)
        pixels[y : y + 3, x : x + 16] = 20
        pixels[y : y + 16, x : x + 3] = 60
    return Image.fromarray(pixels)


def labels(seed: int, side: int = 64) -> Image.Image:
    """Blocks of label ids."""
    random = np.random.default_rng(seed)
    return Image.fromarray(np.kron(random.integers(0, 19, (8, 8)), np.ones((side // 8, side // 8))).astype(np.uint8))


def photo(seed: int, side: int = 64) -> Image.Image:
    """Coloured noise, smooth enough to survive JPEG."""
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (8, 8, 3)).astype(np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )


def fill_folder(folder: Path, names: list[str], make: Any = drawing) -> Path:
    """Write one picture per name."""
    for k, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        make(k).save(folder / name)
    return folder


def vgg16_weights() -> dict[str, torch.Tensor]:
    """Random weights under torchvision's names, those of VGG16 up to relu5_3."""
    prepare_torchvision()
    from torchvision.models import vgg16

    with torch.device("meta"):
        state = vgg16(weights=None, init_weights=False).features.state_dict()
    return {f"features.{k}": torch.randn(v.shape) * (2 / v[0].numel()) ** 0.5 for k, v in state.items()}
