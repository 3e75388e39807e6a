"""Recognising whose weights a file holds, from its content alone."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import Content, outputs, published, refused, written

from psp.models.psp import PSP
from psp.networks.irse import Backbone
from psp.weights.formats import read_weights
from psp.weights.load import load_generator, load_model
from psp.weights.save import save_safetensors


def generator_state(psp: PSP) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in psp.decoder.state_dict().items()}


def test_what_a_file_is_does_not_depend_on_its_name(psp: PSP, content: Content, tmp_path: Path) -> None:
    for name in ("m.pt", "m.pkl", "m", "m.png"):
        assert read_weights(written(tmp_path / name, content)).format == "pSp"
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)  # torch before 1.6
    assert torch.equal(outputs(load_model(tmp_path / "old.pt")), outputs(psp))
    tensors = {**content["state_dict"], "latent_avg": content["latent_avg"]}
    save_safetensors(tensors, content["opts"], tmp_path / "ours.pt")
    assert read_weights(tmp_path / "ours.pt").format == "safetensors"
    assert torch.equal(outputs(load_model(tmp_path / "ours.pt")), outputs(psp))


@pytest.mark.parametrize("form", ["g_ema", "g", "wrapped", "bare", "with training state"])
def test_rosinality(form: str, psp: PSP, tmp_path: Path) -> None:
    state = generator_state(psp)
    file: dict[str, Any] = {
        "g_ema": {"g_ema": state, "latent_avg": psp.latent_avg[0]},
        "g": {"g": state},
        "wrapped": {"g_ema": {f"module.{key}": value for key, value in state.items()}},
        "bare": state,
        "with training state": {
            "g_ema": state, "g": state, "args": Namespace(size=16, path="/data"), "ada_aug_p": 0.2,
            "g_optim": {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"betas": (0.0, 0.99)}]},
        },
    }[form]  # fmt: skip
    path = written(tmp_path / "g.pt", file)
    assert read_weights(path).format == ("state dict" if form == "bare" else "StyleGAN2 (rosinality)")
    found = load_generator(path)
    codes = torch.randn(1, psp.n_styles, psp.style_dim)
    assert torch.equal(found.generator.synthesize(codes), psp.decoder.synthesize(codes))
    assert (found.latent_avg is not None) == (form == "g_ema")


def test_old_conversions_without_noise_and_filters(psp: PSP, tmp_path: Path) -> None:
    state = {k: v for k, v in generator_state(psp).items() if not k.startswith("noises.") and not k.endswith(".kernel")}
    path = written(tmp_path / "g.pt", {"g_ema": state})
    with pytest.warns(UserWarning, match="no fixed noise"):
        first = load_generator(path).generator
    with pytest.warns(UserWarning):
        second = load_generator(path).generator
    codes = torch.randn(1, psp.n_styles, psp.style_dim)
    assert torch.equal(first.synthesize(codes), second.synthesize(codes))
    assert torch.equal(first.to_rgbs[0].upsample.kernel, psp.decoder.to_rgbs[0].upsample.kernel)  # type: ignore[union-attr, arg-type]
    some = {**state, "noises.noise_0": torch.zeros(1, 1, 4, 4)}  # half of it is no old conversion but damage
    assert "missing" in refused(lambda: load_generator(written(path, {"g_ema": some})))


def test_face_recognition_backbone(tmp_path: Path) -> None:
    with torch.device("meta"):
        names = Backbone().state_dict().keys()
    path = written(tmp_path / "model_ir_se50.pth", {name: torch.zeros(1) for name in names})
    weights = read_weights(path)
    assert weights.format == "state dict" and weights.tensors.keys() == names
    assert "no encoder" in refused(lambda: load_model(path)) and "no StyleGAN2" in refused(lambda: load_generator(path))


def test_the_family_is_named_by_the_options(content: Content, tmp_path: Path) -> None:
    for encoder_type, family in (("Encoder4Editing", "e4e"), ("BackboneEncoder", "ReStyle (pSp)"), (None, "pSp")):
        options = {"encoder_type": encoder_type}
        assert read_weights(written(tmp_path / "m.pt", {**content, "opts": options})).format == family


def test_a_damaged_safetensors_file_is_noticed(psp: PSP, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_safetensors({"decoder.x": torch.arange(1000.0)}, {"a": 1}, path)
    assert read_weights(path).config == {"a": 1}
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    assert "checksum" in refused(lambda: read_weights(path))


def test_torch_files_without_checksums(psp: PSP, tmp_path: Path) -> None:
    """`torch.serialization.set_crc32_options(False)` leaves them out of a file."""
    torch.serialization.set_crc32_options(False)
    try:
        path = written(tmp_path / "a.pt", published(psp))
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_weights(path).config == read_weights(written(tmp_path / "b.pt", published(psp))).config
