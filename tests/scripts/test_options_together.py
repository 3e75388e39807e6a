"""Options of scripts/train.py that depend on one another: schedules, idle flags, what a checkpoint or the data says."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_training as tiny
import torch
from psp_commands import Train, mistake
from tiny_models import fill_folder, photo, save_tiny

from psp.networks.stylegan2 import Generator
from psp.training.decay import decay_span
from psp.training.flags import ignored, parse
from psp.training.methods.stylegan2.options import ALONE, GUIDED, Options
from psp.training.options import declared
from psp.training.resolve import resolve
from psp.weights.load import load_model
from psp.weights.save import save_torch

GAN = ["--method=pix2pix", "--size=32", "--width=4"]


def test_one_end_of_a_schedule_gives_the_other() -> None:
    assert decay_span(-1, -1, 100) == (-1, -1) and decay_span(-1, -1, 100, always=True) == (50, 100)
    assert decay_span(30, -1, 100) == (30, 100) and decay_span(-1, 200, 100) == (100, 200)


def test_a_rate_of_zero_before_the_end_is_refused(train: Train, data: Path, tmp_path: Path) -> None:
    said = mistake(train, f"--data_root={data}", f"--exp_dir={tmp_path}", "--decay_from=1", "--decay_until=3")
    assert said == "--decay_until 3 is before --max_steps 4: the rate is 0 in the last 1 steps; raise it as well"


@pytest.mark.thorough
def test_a_gan_is_trained_longer(train: Train, data: Path, tmp_path: Path) -> None:
    command = [*GAN, f"--data_root={data}", f"--exp_dir={tmp_path}"]
    assert train(*command, "--max_steps=2") == 0
    assert train(*command, "--max_steps=3") == 0
    assert (tmp_path / "checkpoints" / "iteration_3.pt").is_file()


def test_flags_that_change_nothing_are_named() -> None:
    assert ignored(parse(["--latent_mask=8-17"])) == "ignored by --method psp: --latent_mask"
    assert ignored(parse(["--latent_mask=8-17", "--use_latent_mask"])) == ""
    networks = ["--lpips_net=vgg", "--id_net=ir_se50"]
    alone = ["--method=stylegan2", "--lpips_lambda=0.5", "--decay_from=5", "--augment=ada", *networks]
    named = "--decay_from, --lpips_lambda, --lpips_net, --id_net"
    assert ignored(parse(alone)) == f"ignored by --method stylegan2: {named}"
    with_guide = {name for name, one in declared(Options).items() if "with --guide" in one.help} - {"discriminator"}
    assert with_guide <= {*GUIDED} <= declared(Options).keys() >= {*ALONE}
    assert ignored(parse([*alone, "--guide=source"])) == "ignored by --method stylegan2: --augment"


def test_photos_are_read_as_large_as_the_generator(tmp_path: Path) -> None:
    save_torch({"g_ema": Generator(32, tiny.STYLE_DIM, 2).state_dict()}, tmp_path / "g.pt")
    for flags, side in (([], 128), (["--size=64"], 64), ([f"--stylegan_weights={tmp_path / 'g.pt'}"], 32)):
        config, options = resolve(parse(["--method=stylegan2", "--data_root=x", *flags]), examples=False)
        assert options.data(config).target_size == side


@pytest.mark.thorough
def test_whether_codes_begin_at_the_average_is_the_checkpoints(train: Train, data: Path, tmp_path: Path) -> None:
    content = torch.load(save_tiny(tmp_path / "a.pt"), weights_only=True)
    content["opts"]["start_from_latent_avg"] = False
    save_torch(content, tmp_path / "a.pt")
    assert not load_model(tmp_path / "a.pt").start_from_latent_avg
    common = [f"--data_root={data}", "--max_steps=1"]
    assert train(*common, f"--checkpoint_path={tmp_path / 'a.pt'}", f"--exp_dir={tmp_path / 'on'}") == 0
    assert not load_model(tmp_path / "on" / "checkpoints" / "last.pt").start_from_latent_avg
    save_tiny(tmp_path / "b.pt")
    other = [f"--checkpoint_path={tmp_path / 'b.pt'}", "--start_from_latent_avg=false", f"--exp_dir={tmp_path / 'off'}"]
    assert "was trained with it; leave the flag out" in mistake(train, *common, *other)


@pytest.mark.thorough
def test_other_images_are_noticed(train: Train, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*GAN, f"--exp_dir={tmp_path / 'run'}"]
    assert train(*command, f"--data_root={data}", "--max_steps=2") == 0
    assert train(*command, f"--data_root={data}", "--max_steps=3") == 0
    assert "warning" not in capsys.readouterr().out
    renamed = tmp_path / "elsewhere" / data.name  # another folder of that name, as after a move
    fill_folder(renamed / "photos", [f"{k}.png" for k in range(6)], photo)
    assert train(*command, f"--data_root={renamed}", "--max_steps=4") == 0
    assert "warning: the training images are not those of the run so far" in capsys.readouterr().out
