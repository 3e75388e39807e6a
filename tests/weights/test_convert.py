"""Weights from one layout into another and home again: every bit and every option, or one line that says why not."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import nvidia_networks as nvidia
import pytest
import tiny_training as tiny
import torch
from tiny_checkpoints import Content, outputs, refused, written
from torch import Tensor

from psp.models.psp import PSP
from psp.networks.encoders import ENCODERS
from psp.networks.irse import Backbone
from psp.networks.photo_encoder import PhotoEncoder
from psp.networks.stylegan2 import Generator
from psp.networks.stylegan2_discriminator import Discriminator
from psp.weights.convert import convert, kind_of
from psp.weights.describe import describe, parameters, size
from psp.weights.formats import Weights, read_weights
from psp.weights.hub import from_pretrained, save_pretrained
from psp.weights.load import load_generator, load_model
from psp.weights.places import BUNDLED, BUNDLED_GENERATOR
from psp.weights.save import psp_layout, save_safetensors, save_torch
from scripts.convert_checkpoint import main

# What pSp's own scripts look up in a checkpoint's opts before the command line adds its own.
PSP_READS = (
    "output_size", "encoder_type", "input_nc", "label_nc", "start_from_latent_avg", "learn_in_w", "device",
    "dataset_type",
)  # fmt: skip
UNKNOWN = {"my_flag": [1, 2.5, None, {"nested": "é\ud800"}], "zero": 0, "empty": "", "none": None, "big": 2**63}


def read(path: Path) -> Content:
    return torch.load(path, weights_only=True)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Equal names, types and bits."""
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


# ---- a model -----------------------------------------------------------------------------------------


def test_psp_to_ours_and_home_again(content: Content, psp: PSP, tmp_path: Path) -> None:
    content["opts"] |= UNKNOWN
    convert(written(tmp_path / "a.pt", content), tmp_path / "b.safetensors")
    assert read_weights(tmp_path / "b.safetensors").config == content["opts"]
    assert torch.equal(outputs(load_model(tmp_path / "b.safetensors")), outputs(psp))
    layout, notes = convert(tmp_path / "b.safetensors", tmp_path / "c.pt")
    assert layout == "psp" and any("CompactStyleEncoder" in note for note in notes)
    home = read(tmp_path / "c.pt")
    assert set(home) == {"state_dict", "opts", "latent_avg"}
    assert same(home["state_dict"], content["state_dict"]) and torch.equal(home["latent_avg"], content["latent_avg"])
    assert home["opts"] == {**content["opts"], "n_styles": 6}  # what pSp works out itself is filled in
    assert type(home["opts"]) is dict and all(value.is_contiguous() for value in home["state_dict"].values())


@pytest.mark.parametrize("options", ["none", "namespace", "ours"])
def test_opts_have_what_psp_reads(options: str, content: Content, psp: PSP, tmp_path: Path) -> None:
    if options == "none":
        del content["opts"]
    elif options == "namespace":
        content["opts"] = argparse.Namespace(**content["opts"], device_ids=[0])
    else:  # a file of our trainer: names without a value, and a device that torch does not know
        content["opts"] = {"dataset_type": "celebs_sketch_to_face", "device": "auto", "output_size": None}
    _, notes = convert(written(tmp_path / "a.pt", content), tmp_path / "b.pt")
    home = read(tmp_path / "b.pt")
    opts = argparse.Namespace(**home["opts"])
    missing = [name for name in PSP_READS if getattr(opts, name, None) is None]
    assert missing == (["dataset_type"] if options == "none" else [])
    assert any("does not say its dataset_type" in note for note in notes) == (options == "none")
    assert (opts.output_size, opts.input_nc, opts.label_nc, opts.learn_in_w) == (16, 1, 1, False)
    home["latent_avg"].to(torch.device(opts.device).type.replace("cuda", "cpu"))
    assert opts.device == "cuda:0"
    for part in ("encoder", "decoder"):  # as pSp splits it
        own = {k[len(part) + 1 :]: v for k, v in home["state_dict"].items() if k[: len(part)] == part}
        getattr(psp, part).load_state_dict(own, strict=True)


def test_one_style_for_all_layers_has_one_average(psp: PSP) -> None:
    psp.config["learn_in_w"] = True
    average = psp_layout(psp)["latent_avg"]
    assert average.shape == (1, tiny.STYLE_DIM) and torch.equal(average, psp.latent_avg[:1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "input_nc"),
    [("BackboneEncoderUsingLastLayerIntoW", 3), ("Encoder4Editing", 3), ("BackboneEncoder", 6)],
)
def test_large_encoders_to_ours_and_home_again(kind: str, input_nc: int, tmp_path: Path) -> None:
    encoder = ENCODERS[kind](6, input_nc, tiny.STYLE_DIM)
    model = PSP(encoder, tiny.generator(), latent_avg=torch.randn(tiny.STYLE_DIM), config={"encoder_type": kind}).eval()
    save_torch(psp_layout(model), tmp_path / "a.pt")
    convert(tmp_path / "a.pt", tmp_path / "b.safetensors")
    convert(tmp_path / "b.safetensors", tmp_path / "c.pt")
    one, other = read(tmp_path / "a.pt"), read(tmp_path / "c.pt")
    assert same(one["state_dict"], other["state_dict"]) and torch.equal(one["latent_avg"], other["latent_avg"])
    assert (
        other["opts"] == one["opts"] and other["opts"].items() >= {"encoder_type": kind, "input_nc": input_nc}.items()
    )
    into_w = kind.endswith("IntoW")
    assert other["opts"]["learn_in_w"] == into_w and len(other["latent_avg"]) == (1 if into_w else 6)
    photos = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        loaded = from_pretrained(save_pretrained(load_model(tmp_path / "c.pt"), tmp_path / "folder"))
        assert type(loaded.encoder) is type(encoder)
        assert torch.equal(loaded.decode(loaded.encode(photos)), model.decode(model.encode(photos)))


def test_photo_encoder_and_discriminator_travel_along(tmp_path: Path) -> None:
    model = tiny.model(photo_encoder=True).eval()
    critic = Discriminator(16, channels=tiny.CHANNELS).state_dict()
    parts = {"g_ema": model.decoder, "encoder": model.encoder, "photo_encoder": model.photo_encoder}
    file = {name: module.state_dict() for name, module in parts.items() if module is not None}
    written(tmp_path / "a.pt", {**file, "d": critic, "latent_avg": model.latent_avg})
    convert(tmp_path / "a.pt", tmp_path / "b.safetensors")
    assert same(read_weights(tmp_path / "b.safetensors").part("discriminator"), critic)
    photos = torch.rand(2, 3, 16, 16)
    _, notes = convert(tmp_path / "b.safetensors", tmp_path / "c.pt")
    assert torch.equal(load_model(tmp_path / "c.pt").style_of(photos), model.style_of(photos))
    assert "left out: the discriminator" in notes


def test_bundled_encoder_becomes_self_contained(tmp_path: Path) -> None:
    source = BUNDLED["celebs_seg_to_face"]
    for name in ("b.pt", "b.safetensors"):
        convert(source, tmp_path / name)
        found = read_weights(tmp_path / name)
        assert "generator" not in found.config and found.part("decoder") and found.part("photo_encoder")
        one, other = load_model(source).eval(), load_model(tmp_path / name).eval()
        assert same(one.state_dict(), other.state_dict()) and other.mixing_layers() == one.mixing_layers()


def test_generator_of_a_model(content: Content, psp: PSP, tmp_path: Path) -> None:
    layout, notes = convert(written(tmp_path / "a.pt", content), tmp_path / "g.pt", "stylegan2")
    home = read(tmp_path / "g.pt")
    assert layout == "stylegan2" and "left out: the encoder and its options" in notes
    assert same(home["g_ema"], psp.decoder.state_dict()) and torch.equal(home["latent_avg"], psp.latent_avg[0])


# ---- a generator, a backbone -------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("average", ["[D]", "[1,D]", "[N,D]", "none"])
def test_rosinality_to_ours_and_home_again(average: str, tmp_path: Path) -> None:
    g, d = tiny.generator(), Discriminator(16, channels=tiny.CHANNELS)
    photo = PhotoEncoder(16, tiny.STYLE_DIM, channels=tiny.CHANNELS)
    row = torch.randn(tiny.STYLE_DIM)
    content: Content = {"g_ema": g.state_dict(), "d": d.state_dict(), "photo_encoder": photo.state_dict()}
    content |= {"g": g.state_dict(), "args": argparse.Namespace(size=16), "g_optim": {"state": {}}, "opts": {"mine": 3}}
    if average != "none":
        content["latent_avg"] = {"[D]": row, "[1,D]": row[None], "[N,D]": row.expand(6, -1).clone()}[average]
    layout, notes = convert(written(tmp_path / "a.pt", content), tmp_path / "b.safetensors")
    assert layout == "safetensors" and notes == ["left out: g, args, g_optim"]
    assert read_weights(tmp_path / "b.safetensors").config == {"kind": "stylegan2", "mine": 3}
    layout, notes = convert(tmp_path / "b.safetensors", tmp_path / "c.pt")
    home = read(tmp_path / "c.pt")
    assert layout == "stylegan2" and any("rosinality's scripts" in note for note in notes)
    assert all(same(home[name], content[name]) for name in ("g_ema", "d", "photo_encoder"))
    assert home["opts"] == {"mine": 3}
    assert ("latent_avg" in home) == (average != "none")
    assert average == "none" or torch.equal(home["latent_avg"], row)


@pytest.mark.parametrize("critic_fits", [True, False])
def test_nvidia_pickles(critic_fits: bool, tmp_path: Path) -> None:
    critic = nvidia.Discriminator()
    critic.c_dim = 0 if critic_fits else 5
    source = nvidia.written(tmp_path / "a.pkl", nvidia.snapshot(nvidia.Generator(), critic))
    wanted = read_weights(source)
    _, notes = convert(source, tmp_path / "b.safetensors")
    assert any("the discriminator (" in note for note in notes) != critic_fits
    found = read_weights(tmp_path / "b.safetensors")
    assert same(found.tensors, wanted.tensors) and ("discriminator.convs.0.0.weight" in found.tensors) == critic_fits
    assert found.config.items() >= {"kind": "stylegan2", "size": 16, "n_mlp": 2}.items()
    convert(tmp_path / "b.safetensors", tmp_path / "c.pt")
    home = read(tmp_path / "c.pt")
    assert same(home["g_ema"], wanted.part("decoder")) and home["latent_avg"].shape == (16,)
    said = dict(describe(wanted))
    assert said["format"] == "StyleGAN2 (NVIDIA)" and said["numbers"] == "float32"
    assert ("not read" in said) != critic_fits


def test_average_that_differs_from_layer_to_layer(tmp_path: Path) -> None:
    average = torch.randn(6, tiny.STYLE_DIM)
    written(tmp_path / "a.pt", {"g_ema": tiny.generator().state_dict(), "latent_avg": average})
    _, notes = convert(tmp_path / "a.pt", tmp_path / "b.pt")
    assert any("the mean is written" in note for note in notes)
    assert torch.equal(read(tmp_path / "b.pt")["latent_avg"], average.mean(0))


@pytest.mark.thorough
def test_standard_generators_need_no_note(tmp_path: Path) -> None:
    widths = {4: 512, 8: 512}
    for size_px, channels, fits in ((8, widths, True), (8, widths | {8: 256}, False)):
        g = Generator(size_px, channels=channels)
        _, notes = convert(written(tmp_path / "a.pt", {"g_ema": g.state_dict()}), tmp_path / "b.pt")
        assert (notes == []) == fits


@pytest.mark.slow
def test_backbone_to_ours_and_home_again(tmp_path: Path) -> None:
    state = Backbone().state_dict()
    assert convert(written(tmp_path / "a.pth", state), tmp_path / "b.safetensors") == ("safetensors", [])
    assert convert(tmp_path / "b.safetensors", tmp_path / "c.pth") == ("psp", [])
    assert same(read(tmp_path / "c.pth"), dict(state))
    assert "--to psp" in refused(lambda: convert(tmp_path / "a.pth", tmp_path / "d.pt", "stylegan2"))


# ---- less precision, other sources -------------------------------------------------------------------


def test_half_precision(content: Content, psp: PSP, tmp_path: Path) -> None:
    source = written(tmp_path / "a.pt", content)
    for name in ("b.safetensors", "b.pt"):
        convert(source, tmp_path / name, half=True)
        assert (tmp_path / name).stat().st_size < 0.65 * source.stat().st_size
        loaded = load_model(tmp_path / name)
        assert (outputs(loaded) - outputs(psp)).abs().max() < 0.02 * outputs(psp).abs().max()
        vectors = {key: value for key, value in psp.state_dict().items() if value.dim() < 2}
        assert same({key: loaded.state_dict()[key] for key in vectors}, vectors)
    content["state_dict"]["decoder.style.1.weight"][0, 0] = 7e4
    message = refused(lambda: convert(written(source, content), tmp_path / "d.pt", half=True))
    assert "style.1.weight" in message and "--dtype fp32" in message and not (tmp_path / "d.pt").exists()


def test_folder_as_source_and_its_config_counts(content: Content, psp: PSP, tmp_path: Path) -> None:
    save_pretrained(psp, tmp_path / "folder")
    (tmp_path / "folder" / "config.json").write_text('{"dataset_type": "cufs_sketch_to_face", "mine": 1}')
    _, notes = convert(tmp_path / "folder", tmp_path / "b.pt")
    assert read(tmp_path / "b.pt")["opts"].items() >= {"dataset_type": "cufs_sketch_to_face", "mine": 1}.items()
    assert any("cufs_sketch_to_face, none of pSp's own" in note for note in notes)


# ---- what is refused ---------------------------------------------------------------------------------


def test_the_source_is_never_written(content: Content, tmp_path: Path) -> None:
    source = written(tmp_path / "a.pt", content)
    os.symlink(source, tmp_path / "link.pt")
    os.link(source, tmp_path / "hard.pt")
    before = source.read_bytes()
    for name in ("a.pt", "link.pt", "hard.pt", "../" + tmp_path.name + "/a.pt"):
        assert "is read" in refused(lambda name=name: main([str(source), str(tmp_path / name), "--overwrite"]))
    assert source.read_bytes() == before and (tmp_path / "link.pt").is_symlink()
    decoder = {k: v for k, v in content["state_dict"].items() if k.startswith("decoder.")}
    encoder = {k: v for k, v in content["state_dict"].items() if k.startswith("encoder.")}
    save_safetensors(decoder, {}, tmp_path / "g.safetensors")
    save_safetensors(encoder, {"generator": "g.safetensors"}, tmp_path / "e.safetensors")
    assert "is read" in refused(lambda: convert(tmp_path / "e.safetensors", tmp_path / "g.safetensors"))


def test_targets_that_cannot_be_meant(content: Content, tmp_path: Path) -> None:
    source = str(written(tmp_path / "a.pt", content))
    (tmp_path / "there.pt").write_bytes(b"old")
    os.mkfifo(tmp_path / "fifo.pt")
    cases = {
        "there.pt": "--overwrite", "fifo.pt": "regular file", "none/b.pt": "does not exist", "b.bin": "--to",
        "": "folder",
    }  # fmt: skip
    for name, wanted in cases.items():
        assert wanted in refused(lambda name=name: main([source, str(tmp_path / name)]))
    assert "regular file" in refused(lambda: main([source, "/dev/null", "--to", "psp", "--overwrite"]))
    for layout, name in (("safetensors", "b.pt"), ("psp", "b.safetensors"), ("stylegan2", "b.safetensors")):
        message = refused(lambda layout=layout, name=name: main([source, str(tmp_path / name), "--to", layout]))
        assert f"--to {layout}" in message
    assert "second file name" in refused(lambda: main([source]))
    assert "leave out" in refused(lambda: main([source, str(tmp_path / "x.pt"), "--info"]))
    assert (tmp_path / "there.pt").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["a.pt", "fifo.pt", "there.pt"]
    assert main([source, str(tmp_path / "there.pt"), "--overwrite"]) == 0
    assert main([source, str(tmp_path / "b.bin"), "--to", "psp"]) == 0
    load_model(tmp_path / "b.bin")


def test_a_replaced_model_has_the_codes_of_the_new_one(
    content: Content, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(written(tmp_path / "a.pt", content))
    target, codes = str(tmp_path / "b.safetensors"), tmp_path / "b_codes.safetensors"
    codes.write_bytes(b"another model's")
    assert main([source, target]) == 0 and main([source, target, "--overwrite"]) == 0
    said = f"note    {codes} was there and stays; it may belong to another model"
    assert capsys.readouterr().out.splitlines().count(said) == 2
    (tmp_path / "a_codes.safetensors").write_bytes(b"its own")
    assert main([source, target, "--overwrite"]) == 0 and codes.read_bytes() == b"its own"
    assert f"wrote   {codes}, as it lies beside a.pt" in capsys.readouterr().out
    assert main([source, str(tmp_path / "a.safetensors")]) == 0 and "_codes" not in capsys.readouterr().out


def test_contents_that_a_layout_cannot_hold(content: Content, tmp_path: Path) -> None:
    critic = Discriminator(16, channels=tiny.CHANNELS).state_dict()
    encoder = {k: v for k, v in content["state_dict"].items() if k.startswith("encoder.")}
    g = tiny.generator().state_dict()
    cases: dict[str, tuple[Content, str]] = {
        "g": ({"g_ema": g}, "--to stylegan2"),
        "d": (dict(critic), "a discriminator alone"),
        "unknown": ({"conv1.weight": torch.ones(2)}, "conv1.weight"),
        "encoder": ({"state_dict": encoder}, "holds no generator"),
        "damaged": ({"g_ema": g | {"conv1.noise.weight": torch.tensor([float("nan")])}}, "not finite"),
        "opts": ({**content, "opts": {"output_size": 2**20}}, "output_size"),
        "object": ({**content, "opts": {"a": torch.ones(1)}}, "plain values"),
    }
    for name, (file, wanted) in cases.items():
        message = refused(lambda file=file: convert(written(tmp_path / "a.pt", file), tmp_path / "b.pt", "psp"))
        assert wanted in message, name
        assert os.listdir(tmp_path) == ["a.pt"], name


def test_full_disk_keeps_the_old_file(content: Content, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    source = written(tmp_path / "a.pt", content)
    (tmp_path / "b.pt").write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        assert "cannot write" in refused(lambda: convert(source, tmp_path / "b.pt"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "b.pt").read_bytes() == b"old" and sorted(os.listdir(tmp_path)) == ["a.pt", "b.pt"]


# ---- --info ------------------------------------------------------------------------------------------


def test_info_says_what_a_file_is(content: Content, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = written(tmp_path / "a.pt", {**content, "optimizer": {}})
    assert main([str(source), "--info"]) == 0
    said = capsys.readouterr().out
    for words in (
        "pSp", "CompactStyleEncoder, 1 input channel,", "16 px, 6 styles of 16, 2 mapping layers", "4:8 8:8 16:8",
        "float32", "celebs_sketch_to_face: sketch or drawing", "latent_avg [6, 16]", "stylegan_weights", "optimizer",
        "loads     yes",
    ):  # fmt: skip
        assert words in said, words
    assert os.listdir(tmp_path) == ["a.pt"]
    content["opts"]["output_size"] = 32  # a contradiction: what it is, and then why it does not load
    message = refused(lambda: main([str(written(source, content)), "--info"]))
    assert "output_size" in message and "16 px" in capsys.readouterr().out


def test_info_of_the_other_kinds(tmp_path: Path) -> None:
    def lines(content: Content) -> dict[str, str]:
        return dict(describe(read_weights(written(tmp_path / "a.pt", content))))

    bundled = dict(describe(read_weights(BUNDLED["celebs_sketch_to_face"])))
    assert bundled["numbers"] == "float16, float32" and BUNDLED_GENERATOR.name in bundled["generator"]
    g = {key: value.half() for key, value in tiny.generator().state_dict().items()}
    assert lines({"g_ema": g})["numbers"] == "float16"
    assert "16 px" in lines(dict(Discriminator(16, channels=tiny.CHANNELS).state_dict()))["critic"]
    assert "structure that is not known" in lines({"g_ema": {"input.input": torch.ones(1)}})["generator"]
    assert "not known" in lines({"state_dict": {"encoder.x": torch.ones(1)}})["encoder"]
    assert "x.weight" in lines({"x.weight": torch.ones(3)})["tensors"]
    assert (
        "not one known here"
        in lines({"state_dict": {"encoder.x": torch.ones(1)}, "opts": {"dataset_type": "y"}})["task"]
    )


def test_kinds_and_counts() -> None:
    names = ["input_layer.0.weight", "body.0.res_layer.1.weight", "output_layer.3.weight"]
    assert kind_of(Weights(Path("x"), {name: torch.ones(1) for name in names}, {})) == "backbone"
    assert kind_of(Weights(Path("x"), {name: torch.ones(1) for name in names[:2]}, {})) == "unknown"
    g = tiny.generator()
    assert parameters(g.state_dict()) == f"{sum(p.numel() for p in g.parameters()):,}"
    assert [size(n) for n in (3, 1_500, 5_424_546, 1_201_649_680)] == ["3 bytes", "1.5 kB", "5.42 MB", "1.2 GB"]
    assert load_generator(BUNDLED_GENERATOR).latent_avg is not None
