"""--enhance: the right file or one line that says where it comes from; what the restorer is given and gives."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_checkpoints import refused, written
from tiny_models import drawing, fill_folder, save_tiny
from torch import Tensor, nn

from psp.inference.enhance import NETWORKS, SIDE, WEIGHTS_FROM, Enhancer, load_enhancer
from psp.inference.options import ENHANCERS, parse
from psp.inference.run import translate_folder


class Restorer(nn.Module):
    """As the published three: [B,3,512,512] in [-1,1] -> (the same, something else), with noise unless told not to."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, randomize_noise: bool = True) -> tuple[Tensor, None]:
        self.seen.append(x.clone())
        made = x * self.gain[:, None, None]
        return made + torch.randn_like(x) if randomize_noise else made, None


class Registry:
    """As spandrel's: tells networks apart by their keys."""

    def load(self, state: dict[str, Tensor]) -> Any:
        if state.keys() != {"gain"}:
            raise RuntimeError("unsupported\nmodel")
        network = Restorer()
        network.load_state_dict(state)
        return SimpleNamespace(model=network, architecture=SimpleNamespace(id="GFPGAN"))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psp.inference.enhance._registry", lambda name: Registry())


def test_the_names_agree() -> None:
    assert set(ENHANCERS) == set(NETWORKS) == set(WEIGHTS_FROM)


def test_what_the_network_is_given_and_gives() -> None:
    network = Restorer()
    with torch.no_grad():
        network.gain.copy_(torch.tensor([1.0, 0.5, -1.0]))
    enhancer = Enhancer("gfpgan", network)
    faces = np.zeros((2, 512, 512, 3), np.uint8)
    faces[0], faces[1] = 255, 64
    made, finite = enhancer(faces)
    assert [x.shape for x in network.seen] == [(1, 3, 512, 512)] * 2
    assert float(network.seen[0].min()) == float(network.seen[0].max()) == 1.0  # the whole range, not half of it
    assert made.shape == (2, 512, 512, 3) and made.dtype == np.uint8 and finite.tolist() == [True, True]
    assert made[0, 0, 0].tolist() == [255, 191, 0] and made[1, 0, 0, 0] in (63, 64)
    assert np.array_equal(enhancer(faces)[0], made)  # GFPGAN's noise is the stored one
    assert np.array_equal(enhancer(faces[1:])[0][0], made[1])


def test_small_faces_are_enlarged() -> None:
    network = Restorer()
    made, _ = Enhancer("gfpgan", network)(np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8))
    assert made.shape == (1, SIDE, SIDE, 3) and float(network.seen[0].abs().max()) <= 1


def test_results_that_are_not_finite_are_told() -> None:
    network = Restorer()
    with torch.no_grad():
        network.gain[0] = float("nan")
    assert Enhancer("gfpgan", network)(np.zeros((1, 512, 512, 3), np.uint8))[1].tolist() == [False]


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"params_ema": s}, lambda s: {"params": s, "iter": 3}])
def test_files_of_every_layout(wrap: Callable[[Any], Any], fake: None, tmp_path: Path) -> None:
    state = {"gain": torch.tensor([1.0, 2.0, 3.0])}
    enhancer = load_enhancer("gfpgan", written(tmp_path / "g.pth", wrap(state)))
    assert torch.equal(enhancer.network.gain, state["gain"]) and not enhancer.network.training  # type: ignore[arg-type]


def test_mistakes_are_one_line_that_helps(fake: None, tmp_path: Path) -> None:
    for name in ENHANCERS:
        for path in (None, tmp_path / "none.pth"):
            assert f"takes the file {WEIGHTS_FROM[name]}" in refused(lambda n=name, p=path: load_enhancer(n, p))
    other = written(tmp_path / "other.pth", {"x": torch.zeros(3)})
    assert "holds no GFPGAN that spandrel knows (unsupported model)" in refused(lambda: load_enhancer("gfpgan", other))
    good = written(tmp_path / "g.pth", {"gain": torch.zeros(3)})
    assert "holds a GFPGAN, not a RestoreFormer" in refused(lambda: load_enhancer("restoreformer", good))
    (tmp_path / "bad.pth").write_bytes(b"\x80\x04garbage")
    assert "bad.pth" in refused(lambda: load_enhancer("gfpgan", tmp_path / "bad.pth"))
    hostile = written(tmp_path / "h.pth", {"params_ema": {"gain": SimpleNamespace(a=1)}})
    assert "never loaded" in refused(lambda: load_enhancer("gfpgan", hostile))
    text = written(tmp_path / "t.pth", {"params_ema": {"gain": "text"}})
    assert "is a str, not a tensor" in refused(lambda: load_enhancer("gfpgan", text))


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "g.pth", {"gain": torch.zeros(3)})
    monkeypatch.setitem(sys.modules, "spandrel", None)
    assert "needs the package spandrel (pip install spandrel)" in refused(lambda: load_enhancer("gfpgan", file))


def test_flags(tmp_path: Path) -> None:
    assert "without --enhance" in refused(lambda: parse(["--enhance_weights=x.pth"], mixing=False))
    assert "gfpgan" in refused(lambda: parse(["--enhance=esrgan"], mixing=False))


@pytest.mark.thorough
@pytest.mark.parametrize("mixing", [False, True])
def test_behind_the_scripts(
    mixing: bool, fake: None, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill_folder(tmp_path / "in", ["a.png", "b.png"], drawing)
    weights = written(tmp_path / "g.pth", {"gain": torch.tensor([1.0, 0.5, 0.5])})
    common = [f"--checkpoint_path={save_tiny(tmp_path / 'm.pt')}", f"--data_path={tmp_path / 'in'}", "--test_workers=0"]
    common += ["--n_outputs_to_generate=2"]
    enhance = ["--enhance=gfpgan", f"--enhance_weights={weights}"]

    def make(name: str, *more: str) -> Image.Image:
        options = parse([*common, f"--exp_dir={tmp_path / name}", *more], mixing=mixing)
        assert translate_folder(options).status == 0
        (folder,) = (path for path in (tmp_path / name).iterdir() if path.is_dir())
        return Image.open(folder / "a.png")

    plain, enhanced = make("plain"), make("better", *enhance)
    assert "then gfpgan at 512 px" in capsys.readouterr().out
    assert plain.height == 16 and enhanced.height == 512 and enhanced.width == 512 * (3 if mixing else 1)
    left = 512 if mixing else 0
    small = np.asarray(enhanced.crop((left, 0, left + 512, 512)).resize((16, 16), Image.Resampling.BOX)).astype(int)
    before = np.asarray(plain.crop((16, 0, 32, 16)) if mixing else plain).astype(int)
    assert np.abs(small[..., 0] - before[..., 0]).mean() < 12
    assert np.abs(small[..., 1] - (before[..., 1] / 2 + 63.75)).mean() < 8  # halved around the middle
    again = parse([*common, f"--exp_dir={tmp_path / 'better'}"], mixing=mixing)
    assert "holds results of another size (512, now 16)" in refused(lambda: translate_folder(again))


# ---- the real package ----------------------------------------------------------------------------------

needs_spandrel = pytest.mark.skipif(importlib.util.find_spec("spandrel") is None, reason="needs the package spandrel")


@pytest.mark.slow
@needs_spandrel
def test_a_real_gfpgan_with_random_weights(tmp_path: Path) -> None:
    """As large as the published one (spandrel knows no other), called without spandrel's clipping."""
    from psp.compat import prepare_torchvision

    prepare_torchvision()
    from spandrel.architectures.GFPGAN import GFPGAN

    torch.manual_seed(0)
    network = GFPGAN(out_size=512, channel_multiplier=2, input_is_latent=True, different_w=True, sft_half=True)
    path = written(tmp_path / "GFPGANv1.4.pth", {"params_ema": network.state_dict()})
    enhancer = load_enhancer("gfpgan", path)
    faces = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    made, finite = enhancer(faces)
    assert made.shape == (1, 512, 512, 3) and finite.all() and np.array_equal(enhancer(faces)[0], made)
    assert "holds a GFPGAN, not a RestoreFormer" in refused(lambda: load_enhancer("restoreformer", path))


@pytest.mark.slow
@needs_spandrel
def test_a_real_restoreformer_with_random_weights(tmp_path: Path) -> None:
    from psp.compat import prepare_torchvision

    prepare_torchvision()
    from spandrel.architectures.RestoreFormer import RestoreFormer

    torch.manual_seed(0)
    network = RestoreFormer(
        n_embed=16, embed_dim=32, ch=32, out_ch=3, ch_mult=(1, 1, 1, 1, 1, 1), num_res_blocks=1, z_channels=32
    )
    enhancer = load_enhancer("restoreformer", written(tmp_path / "r.pth", {"params": network.state_dict()}))
    made, finite = enhancer(np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8))
    assert made.shape == (1, 512, 512, 3) and finite.all()
    with torch.no_grad():
        x = torch.zeros(1, 3, 512, 512)
        torch.testing.assert_close(enhancer.network(x)[0], network.eval()(x)[0])
