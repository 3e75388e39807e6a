"""Safetensors files of our own making: read back by the safetensors library, the same bytes every time."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from psp.checkpoint import save_safetensors
from psp.tensor_file import DTYPES, write_safetensors


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


def test_the_bytes_are_those_of_the_library() -> None:
    tensors = {"b": torch.randn(3), "a": torch.randn(2, 2), "c": torch.arange(3), "d": torch.ones(5).half()}
    assert written(tensors) == safetensors.torch.save(tensors)
    one = {"config": "{}"}
    assert written(tensors, one) == safetensors.torch.save(tensors, metadata=one)


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
