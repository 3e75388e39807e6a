"""Several encoders beside one generator, which `convert --share_generator` writes once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny_training as tiny
import torch
from tiny_checkpoints import Content, refused, written

from psp.models.psp import PSP
from psp.weights.formats import read_weights
from psp.weights.load import load_model
from scripts.convert_checkpoint import main


def same(one: Path | str, other: Path | str) -> bool:
    """Equal names, types and bits of two models."""
    a, b = (load_model(path).state_dict() for path in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.thorough
def test_encoders_share_a_generator(content: Content, psp: PSP, tmp_path: Path) -> None:
    one, other = str(written(tmp_path / "a.pt", content)), str(tmp_path / "b.pt")
    content["state_dict"] = {
        k: v + v.is_floating_point() * k.startswith("encoder.") for k, v in psp.state_dict().items()
    }
    torch.save(content, other)
    share = ["--share_generator", "g.safetensors"]
    for source, name in ((one, "a"), (other, "b")):
        assert main([source, str(tmp_path / f"{name}.safetensors"), *share]) == 0
        assert same(tmp_path / f"{name}.safetensors", source)
    assert not read_weights(tmp_path / "a.safetensors").part("decoder")
    before = (tmp_path / "g.safetensors").read_bytes()
    content["state_dict"]["decoder.input.input"] += 1
    torch.save(content, other)
    assert "another generator" in refused(lambda: main([other, str(tmp_path / "c.safetensors"), *share]))
    assert (tmp_path / "g.safetensors").read_bytes() == before and not (tmp_path / "c.safetensors").exists()
    assert main([other, str(tmp_path / "c.safetensors"), *share, "--overwrite"]) == 0
    assert same(tmp_path / "c.safetensors", other)


def test_shared_generators_that_cannot_be_meant(content: Content, tmp_path: Path) -> None:
    source = str(written(tmp_path / "a.pt", content))
    out = str(tmp_path / "b.safetensors")
    for name in ("b.safetensors", "x/g.safetensors", "g.pt", ".."):
        assert "another .safetensors file" in refused(lambda name=name: main([source, out, "--share_generator", name]))
    pt = str(tmp_path / "b.pt")
    assert "for .safetensors" in refused(lambda: main([source, pt, "--share_generator", "g.safetensors"]))
    torch.save({"g_ema": tiny.generator().state_dict()}, tmp_path / "g.pt")
    generator = str(tmp_path / "g.pt")
    assert "no encoder" in refused(lambda: main([generator, out, "--share_generator", "h.safetensors"]))
    assert sorted(os.listdir(tmp_path)) == ["a.pt", "g.pt"]


def test_the_source_is_never_replaced_by_its_generator(content: Content, tmp_path: Path) -> None:
    source = tmp_path / "a.safetensors"
    assert main([str(written(tmp_path / "a.pt", content)), str(source)]) == 0
    os.link(source, tmp_path / "c.safetensors")
    before = source.read_bytes()
    for name in ("a.safetensors", "c.safetensors"):
        arguments = [str(source), str(tmp_path / "b.safetensors"), "--share_generator", name, "--overwrite"]
        assert "is the file that is read" in refused(lambda arguments=arguments: main(arguments))
    assert source.read_bytes() == before and not (tmp_path / "b.safetensors").exists()
