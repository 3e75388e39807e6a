"""Generators of the public CycleGAN-and-pix2pix repository, and our own files, become models: by content, strictly."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import tiny_public as public
import torch
from safetensors.torch import save_file
from tiny_checkpoints import refused, written
from tiny_games import game
from tiny_models import save_tiny
from torch import Tensor, nn

from psp.models.image_to_image import PictureModel
from psp.models.psp import PSP
from psp.networks.resnet_generator import ResidualGenerator
from psp.networks.unet import UNet
from psp.weights.convert import check, convert
from psp.weights.describe import describe
from psp.weights.formats import read_weights
from psp.weights.junyanz import from_public, residual_names, unet_names
from psp.weights.load import load_any_model

SKETCHES = "celebs_sketch_to_face"


def load(path: Path, **options: object) -> PictureModel:
    model = load_any_model(path, **{"task": SKETCHES, **options})
    assert isinstance(model, PictureModel)
    return model


def sketch(side: int = 256, n: int = 2) -> Tensor:
    return torch.rand(n, 1, side, side)


@pytest.mark.parametrize("depth", [7, 8])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_public_unets_give_what_they_gave(depth: int, norm: str, tmp_path: Path) -> None:
    state = public.unet(depth, norm)
    model = load(written(tmp_path / "latest_net_G.pth", OrderedDict(state)))
    assert isinstance(model.network, UNet) and model.output_size == 1 << depth
    x = torch.rand(2, 3, 1 << depth, 1 << depth) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(model.network(x), public.run_unet(state, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize(("blocks", "norm"), [(6, "instance"), (9, "instance"), (9, "batch")])
def test_public_residual_generators_give_what_they_gave(blocks: int, norm: str, dropout: bool, tmp_path: Path) -> None:
    state = public.resnet(blocks, norm, dropout=dropout)
    model = load(written(tmp_path / "latest_net_G_A.pth", OrderedDict(state)))
    assert isinstance(model.network, ResidualGenerator) and len(model.network.blocks) == blocks
    assert model.output_size == 256  # that repository's --crop_size, whatever the number of blocks
    assert any(isinstance(module, nn.Dropout) for module in model.network.modules()) == dropout
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(model.network(x), public.run_resnet(state, x), rtol=1e-4, atol=1e-5)


def test_the_mapping_is_one_to_one_and_complete() -> None:
    for depth in (5, 7, 8):
        names, ours = unet_names(depth), UNet(3, size=1 << depth, width=1).state_dict()
        assert len(set(names.values())) == len(names)
        assert {key.rpartition(".")[0] for key in ours} == set(names.values())
        assert {key.rpartition(".")[0] for key in public.unet(depth, "batch", width=1)} == set(names)
    for blocks, dropout in ((6, False), (9, True)):
        names = residual_names(blocks, dropout=dropout)
        ours = ResidualGenerator(3, width=1, blocks=blocks, norm="batch").state_dict()
        assert {key.rpartition(".")[0] for key in ours} == set(names.values()) and len(names) == len(
            set(names.values())
        )
        there = public.resnet(blocks, "batch", dropout=dropout, width=1)
        assert {key.rpartition(".")[0] for key in there} == set(names)


def test_instance_norm_of_2017_kept_statistics(tmp_path: Path) -> None:
    state = public.resnet(6, "instance")
    old = dict(state)
    for name in residual_names(6):
        if residual_names(6)[name].endswith("norm"):
            old |= {f"{name}.running_mean": torch.ones(4), f"{name}.running_var": torch.ones(4)}
            old[f"{name}.num_batches_tracked"] = torch.tensor(3)
    model = load(written(tmp_path / "latest_net_G.pth", old))
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.network(x), public.run_resnet(state, x), rtol=1e-4, atol=1e-5)


def test_batch_norm_of_2017_did_not_count(tmp_path: Path) -> None:
    state = {key: value for key, value in public.unet(7, "batch").items() if "num_batches" not in key}
    assert isinstance(load(written(tmp_path / "G.pth", state)).network, UNet)


def test_names_of_a_parallel_wrapper(tmp_path: Path) -> None:
    state = {f"module.{key}": value for key, value in public.unet(7, "batch").items()}
    assert isinstance(load(written(tmp_path / "G.pth", state)).network, UNet)


def test_strictly(tmp_path: Path) -> None:
    good = public.unet(7, "batch")
    last = "model.model.3.bias"
    cases = {
        "1 missing (up.6.conv.bias)": {key: value for key, value in good.items() if key != last},
        "1 unexpected (model.model.9.weight)": good | {"model.model.9.weight": torch.zeros(3)},
        "1 wrong shape (up.6.conv.bias (4,) instead of (3,))": good | {last: torch.zeros(4)},
        "1 not finite (up.6.conv.bias)": good | {last: torch.full((3,), float("nan"))},
    }
    for wanted, state in cases.items():
        path = written(tmp_path / "G.pth", state)
        assert wanted in refused(lambda path=path: load(path))


def test_a_discriminator_is_named_so(tmp_path: Path) -> None:
    state = {"model.0.weight": torch.zeros(64, 6, 4, 4), "model.0.bias": torch.zeros(64)}
    state |= {"model.2.weight": torch.zeros(128, 64, 4, 4)}
    path = written(tmp_path / "latest_net_D.pth", state)
    assert "is a discriminator" in refused(lambda: load(path))


def test_other_state_dicts_are_none_of_these() -> None:
    assert from_public({"fc.weight": torch.zeros(2, 2)}, where="x") is None
    assert from_public(UNet(3, size=32, width=4).state_dict(), where="x") is None


def test_the_task_has_to_be_known(tmp_path: Path) -> None:
    path = written(tmp_path / "G.pth", public.unet(7, "batch"))
    assert "add --dataset_type" in refused(lambda: load_any_model(path))
    label_model = load(path, task="celebs_seg_to_face")
    assert "takes 3 channels, celebs_seg_to_face gives 19" in refused(
        lambda: label_model.translate(torch.zeros(1, 256, 256, dtype=torch.uint8))
    )


def own(path: Path, network: nn.Module, **options: object) -> Path:
    opts = {"method": "cgan", "dataset_type": SKETCHES, "size": 64, **options}
    return written(path, {"networks": {"generator": network.state_dict()}, "opts": opts})


def test_our_files_say_size_and_task(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ResidualGenerator(1, width=4, blocks=2, norm="batch").eval()
    model = load_any_model(own(tmp_path / "a.pt", network))
    assert isinstance(model, PictureModel) and (model.output_size, model.method) == (64, "cgan")
    assert model.task.name == SKETCHES
    images = model.translate(sketch())
    assert images.shape == (2, 3, 64, 64)
    for bad in (0, -4, 1 << 20, "64", True, 63, 2048):
        assert "says size" in refused(lambda bad=bad: load_any_model(own(tmp_path / "b.pt", network, size=bad)))
    assert "says method" in refused(lambda: load_any_model(own(tmp_path / "b.pt", network, method="os.system")))
    labels = "celebs_seg_to_face"
    assert "was trained for" in refused(lambda: load_any_model(own(tmp_path / "b.pt", network), task=labels))
    assert (
        load_any_model(own(tmp_path / "b.pt", network), task="cufs_sketch_to_face").task.name == "cufs_sketch_to_face"
    )


def test_our_files_as_safetensors(tmp_path: Path) -> None:
    network = UNet(1, size=32, width=4)
    tensors = {f"generator.{key}": value for key, value in network.state_dict().items()}
    options = {"method": "pix2pix", "dataset_type": SKETCHES, "size": 32}
    save_file(tensors, tmp_path / "g.safetensors", metadata={"config": json.dumps(options), "format": "pt"})
    model = load_any_model(tmp_path / "g.safetensors")
    assert isinstance(model, PictureModel)
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.network(x), network.eval()(x))


def test_damaged_structures(tmp_path: Path) -> None:
    state = UNet(1, size=32, width=4).state_dict()
    for change in (
        {"down.0.conv.weight": torch.zeros(4)},
        {f"down.{k}.conv.weight": torch.zeros(1, 1, 1, 1) for k in range(40)},
    ):
        content = {"networks": {"generator": {**state, **change}}, "opts": {"dataset_type": SKETCHES}}
        path = written(tmp_path / "g.pt", content)
        assert "unknown structure" in refused(lambda path=path: load_any_model(path))


def test_pictures_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = UNet(1, size=64, width=4)
    x = sketch(n=3)
    for noisy in (False, True):
        model = PictureModel(network, load(own(tmp_path / "a.pt", network)).task, size=64, method="x", noisy=noisy)
        together = model.translate(x, 5)
        torch.testing.assert_close(together, torch.cat([model.translate(one[None], 5) for one in x]))
        assert torch.equal(together, model.translate(x, 5))
        assert torch.equal(together, model.translate(x, 6)) != noisy


def test_noise_is_dropout_and_each_pictures_own_statistics(tmp_path: Path) -> None:
    network = UNet(1, size=32, width=4, dropout=())
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(4, 1, 32, 32))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    task = load(own(tmp_path / "a.pt", network)).task
    model = PictureModel(network, task, size=32, method="x", noisy=True)
    x = sketch(32, n=1)
    made = model.translate(x)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    torch.testing.assert_close(made, network.train()(x * 2 - 1).detach())  # a batch of one: the same statistics


def test_the_random_state_is_left_alone(tmp_path: Path) -> None:
    network = UNet(1, size=32, width=4)
    model = PictureModel(network, load(own(tmp_path / "a.pt", network)).task, size=32, method="x", noisy=True)
    x = sketch(32)
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    model.translate(x)
    assert torch.equal(torch.rand(3), wanted)


def test_psp_files_still_load_and_refuse_these_flags(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "p.pt")
    model = load_any_model(path)
    assert isinstance(model, PSP) and model.encode(sketch()).shape == (2, 6, 8)
    assert "--direction is for" in refused(lambda: load_any_model(path, direction="photo_to_sketch"))
    assert "--test_dropout is for" in refused(lambda: load_any_model(path, noisy=True))


# ---- convert_checkpoint.py ---------------------------------------------------------------------------


def test_a_public_file_becomes_safetensors_of_ours(tmp_path: Path) -> None:
    state = public.unet(7, "batch")
    path = written(tmp_path / "latest_net_G.pth", state)
    weights = read_weights(path)
    words = dict(describe(weights))
    assert words["holds"].startswith("picture-to-picture network") and "U-Net for 128 px" in words["generator"]
    assert "3 to 3 channels, batch norm" in words["generator"] and check(weights).startswith(
        "yes, as --checkpoint_path"
    )
    layout, notes = convert(path, tmp_path / "g.safetensors")
    assert layout == "safetensors" and "--dataset_type" in notes[0]
    x = torch.rand(1, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        there, here = load(path).network(x), load(tmp_path / "g.safetensors").network(x)
    assert torch.equal(there, here)
    assert "which --to psp cannot hold" in refused(lambda: convert(path, tmp_path / "g.pt"))


def test_both_directions_are_converted(tmp_path: Path) -> None:
    path = written(tmp_path / "c.pt", game("cyclegan").checkpoint())
    words = dict(describe(read_weights(path)))
    assert "1 residual blocks" in words["photo"] and "1 residual blocks" in words["sketch"]
    assert convert(path, tmp_path / "c.safetensors")[1] == ["left out: discriminators"]
    batch = torch.rand(1, 3, 256, 256)
    for direction in ("sketch_to_photo", "photo_to_sketch"):
        first, second = (load_any_model(tmp_path / f"c.{e}", direction=direction) for e in ("pt", "safetensors"))
        source = batch if direction == "photo_to_sketch" else batch[:, :1]
        assert torch.equal(first.translate(source), second.translate(source)) and second.output_size == 32
