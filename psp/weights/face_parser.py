"""The face parser with its weights: the bundled one, or a file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from torch import Tensor

from psp.errors import UserError
from psp.networks.face_parser import FaceParser
from psp.networks.state import load_strictly
from psp.weights.places import PRETRAINED
from psp.weights.safe_torch import read_tensors

BUNDLED = PRETRAINED / "auxiliary" / "face_parser.safetensors"


def load_face_parser(path: str | Path | None = None) -> FaceParser:
    """The parser in a .safetensors file (default: the bundled one) or a checkpoint of `--method parser`, frozen.

    UserError: not there, damaged, or something else.
    """
    path = Path(path or BUNDLED)
    if not path.is_file():
        raise UserError(f"the face parser {path} is missing", "run from a complete checkout")
    net = FaceParser()
    load_strictly(net, read_tensors(path, "state_dict"), where=f"the face parser in {path}")
    return net.requires_grad_(False).eval()


@lru_cache(maxsize=2)
def _bundled(device: str) -> FaceParser:
    return load_face_parser().to(device)


def parse_faces(images: Tensor) -> Tensor:
    """Class ids uint8 [B,H,W], 0..18 as `psp.images.labels.LABELS`, of FFHQ-aligned faces [B,3,H,W] in [-1,1].

    By the bundled parser, on the images' device; it sees 128 px whatever their size. UserError: its file is missing.
    """
    return _bundled(str(images.device)).parse(images)
