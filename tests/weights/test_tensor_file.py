"""Safetensors files of our own making: read back by the safetensors library, the same bytes every time."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from psp.weights.formats import read_weights
from psp.weights.save import save_safetensors
from psp.weights.tensor_file import ALIGNMENT, DTYPES, write_safetensors


def written(tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> bytes:
    file = io.BytesIO()
    write_safetensors(file, tensors, metadata or {})
    return file.getvalue()


def some(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    values = torch.randn(shape) * 50
    return values > 0 if dtype == torch.bool else values.to(dtype)


def test_the_library_reads_every_number_format_and_shape() -> None:
    tensors = {f"{dtype}.{shape}": some(dtype, *shape) for dtype in DTYPES for shape in ((), (1,), (0, 3), (3, 2, 5))}
    tensors["transposed"] = torch.randn(3, 4).T
    tensors["channels last"] = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    tensors["expanded"] = torch.randn(1).expand(7)
    tensors["negative zero"] = torch.tensor([-0.0, float("inf"), 1e-45])
    found = safetensors.torch.load(written(tensors))
    assert found.keys() == tensors.keys()
    for key, value in tensors.items():
        assert found[key].dtype == value.dtype and found[key].shape == value.shape and torch.equal(found[key], value), (
            key
        )
    assert str(found["negative zero"][0]) == "tensor(-0.)"


def test_tensors_start_where_memory_of_their_own_would() -> None:
    """And those whose bytes do not divide by 64 come last, at multiples of what does divide them."""
    shapes = {"a": (3,), "b": (16, 3), "c": (), "d": (5, 7), "e": (64, 2), "f": (0,), "g": (8, 4), "h": (6,)}
    tensors: dict[str, torch.Tensor] = {name: torch.randn(shape) for name, shape in shapes.items()}
    tensors |= {"count": torch.tensor(3), "flags": torch.ones(3, dtype=torch.bool), "half": torch.ones(33).half()}
    data = written(tensors, {"x": "y" * 7})
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert (8 + length) % ALIGNMENT == 0
    for name, value in tensors.items():
        start, end = header[name]["data_offsets"]
        count = value.numel() * value.element_size()
        assert end - start == count and all(start % step == 0 for step in (64, 32, 16, 8, 4, 2) if count % step == 0)


def test_results_do_not_depend_on_the_container(tmp_path: Path) -> None:
    """Matrices at odd places of a mapped file give other last bits; what is read lies at even places."""
    tensors = {"bias": torch.randn(3), "weight": torch.randn(512, 4608)}
    x = torch.randn(7, 4608)
    (tmp_path / "theirs.safetensors").write_bytes(safetensors.torch.save(tensors))
    save_safetensors(tensors, {}, tmp_path / "ours.safetensors")
    for name in ("theirs", "ours"):
        found = read_weights(tmp_path / f"{name}.safetensors").tensors
        assert all(value.data_ptr() % ALIGNMENT == 0 for value in found.values()), name
        assert torch.equal(x @ found["weight"].t(), x @ tensors["weight"].t()), name


def test_order_does_not_matter_and_metadata_survives(tmp_path: Path) -> None:
    tensors = {"b": torch.randn(3), 'ä "quoted" \n': torch.randn(2), "c": torch.arange(3)}
    metadata = {"z": "1", "config": '{"é": "\\ud800"}', "a": ""}
    first = written(tensors, metadata)
    assert first == written(dict(reversed(tensors.items())), dict(reversed(metadata.items())))
    (tmp_path / "x.safetensors").write_bytes(first)
    with safetensors.safe_open(tmp_path / "x.safetensors", framework="pt") as content:
        assert content.metadata() == metadata
    for name in ("y", "z"):
        save_safetensors(tensors, {"mine": 1}, tmp_path / name)
    assert (tmp_path / "y").read_bytes() == (tmp_path / "z").read_bytes()


def test_number_formats_without_a_name_are_refused() -> None:
    with pytest.raises(ValueError, match="x is torch.complex64"):
        written({"x": torch.ones(2, dtype=torch.complex64)})
    assert safetensors.torch.load(written({})) == {}
