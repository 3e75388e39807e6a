"""The face parser: shapes, sizes, the mirror, the bundled weights on faces, and files that are no parser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from psp.errors import UserError
from psp.images.labels import LABELS, MIRROR
from psp.images.preprocess import prepare_target
from psp.networks.face_parser import FaceParser
from psp.weights.face_parser import BUNDLED, load_face_parser, parse_faces

CLASS = {name: i for i, name in enumerate(LABELS)}


def faces(root: Path, n: int = 4, size: int = 256) -> torch.Tensor:
    paths = sorted((root / "examples/photos").glob("*.jpg"))[:n]
    return torch.stack([prepare_target(Image.open(path), size=size) for path in paths])


def test_a_new_network_takes_any_size() -> None:
    net = FaceParser(widths=(8, 8, 8, 8)).eval()
    images = torch.rand(2, 3, 96, 72) * 2 - 1
    assert net(torch.zeros(1, 3, 128, 128)).shape == (1, 19, 128, 128)
    assert net.parse(images).shape == (2, 96, 72) and net.parse(images).dtype == torch.uint8
    assert net.parse(images, size=(50, 40)).shape == (2, 50, 40)
    scores, mirrored = net.scores(images), net.scores(images.flip(-1)).flip(-1)[:, list(MIRROR)]
    assert torch.allclose(scores, mirrored, atol=1e-5), "left and right change places with the picture"


def test_bundled_parser_finds_the_parts_of_faces(root: Path) -> None:
    images = faces(root)
    maps = parse_faces(images)
    assert maps.shape == (4, 256, 256) and maps.dtype == torch.uint8 and int(maps.max()) < 19
    for found in maps.numpy():
        share = np.bincount(found.ravel(), minlength=19) / found.size
        assert share[CLASS["skin"]] > 0.1 and share[CLASS["hair"]] > 0.05 and share[CLASS["nose"]] > 0.005
        centre = {part: np.argwhere(found == CLASS[part]).mean(0) for part in ("l_eye", "r_eye", "nose", "l_lip")}
        assert centre["r_eye"][1] < centre["nose"][1] < centre["l_eye"][1], "left is the person's left"
        assert centre["l_eye"][0] < centre["nose"][0] < centre["l_lip"][0]


def test_one_by_one_and_small_faces_agree(root: Path) -> None:
    images = faces(root, 3)
    together = parse_faces(images)
    single = torch.cat([parse_faces(image[None]) for image in images])
    assert (together == single).float().mean() > 0.9999
    small = parse_faces(faces(root, 3, size=64))
    assert small.shape == (3, 64, 64)
    assert (small == together[:, 2::4, 2::4]).float().mean() > 0.85


def test_bundled_file_is_small_and_says_what_it_is() -> None:
    assert BUNDLED.stat().st_size <= 2_000_000
    net = load_face_parser()
    assert not net.training and not any(p.requires_grad for p in net.parameters())


def test_files_that_are_no_parser(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        load_face_parser(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing at all")
    with pytest.raises(UserError, match="damaged"):
        load_face_parser(tmp_path / "bad.safetensors")
    save_file({"head.weight": torch.zeros(4, 4)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="does not fit"):
        load_face_parser(tmp_path / "other.safetensors")
    torch.save({"state_dict": load_face_parser().state_dict()}, tmp_path / "own.pt")
    assert isinstance(load_face_parser(tmp_path / "own.pt"), FaceParser)
    torch.save({"state_dict": 3}, tmp_path / "own.pt")
    with pytest.raises(UserError):
        load_face_parser(tmp_path / "own.pt")
