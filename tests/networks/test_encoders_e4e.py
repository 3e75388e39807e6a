"""The encoders of e4e and ReStyle against what is published, and against the same networks written out plainly."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from test_stylegan2 import published, shapes
from torch import Tensor, nn

from psp.compat import prepare_torchvision
from psp.networks.encoders import ENCODERS, Encoder4Editing, GradualStyleEncoder
from psp.networks.feature_pyramid import GradualStyleBlock
from psp.weights.load import encoder_kind

State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]
IR = ("Encoder4Editing", "BackboneEncoder", "ProgressiveBackboneEncoder")
RESNET = ("ResNetBackboneEncoder", "ResNetProgressiveBackboneEncoder", "ResNetGradualStyleEncoder")
RESNET_STAGES = {"layer1": 0, "layer2": 3, "layer3": 7, "layer4": 13}  # torchvision's name -> first unit of the body


def on_meta(name: str, *args: int) -> nn.Module:
    with torch.device("meta"):
        return ENCODERS[name](*args)


def resnet34() -> nn.Module:
    prepare_torchvision()
    from torchvision.models import resnet34

    return resnet34(weights=None)


# ---- names and shapes --------------------------------------------------------------------------------


def test_e4e_has_the_names_of_psp() -> None:
    assert shapes(on_meta("Encoder4Editing", 18, 3)) == published("encoder_gradual_18") | {
        "input_layer.0.weight": (64, 3, 3, 3)
    }


def restyle_styles(n: int) -> Shapes:
    """Every style has the published block of 16 px, that of pSp's first styles."""
    block = {k.removeprefix("styles.0."): v for k, v in published("encoder_gradual_18").items() if "styles.0." in k}
    assert len(block) == 10
    return {f"styles.{i}.{key}": value for i in range(n) for key, value in block.items()}


@pytest.mark.parametrize("name", ["BackboneEncoder", "ProgressiveBackboneEncoder"])
@pytest.mark.parametrize("n_styles", [14, 16, 18])
def test_restyle_for_faces(name: str, n_styles: int) -> None:
    body = {k: v for k, v in published("encoder_gradual_18").items() if k.startswith(("input_layer", "body"))}
    wanted = body | {"input_layer.0.weight": (64, 6, 3, 3)} | restyle_styles(n_styles)
    assert shapes(on_meta(name, n_styles, 6)) == wanted
    assert list(shapes(on_meta(name, n_styles, 6))) == list(wanted)


def resnet_body() -> Shapes:
    """ReStyle takes torchvision's units, numbered through, and has a PReLU behind its own first convolution."""
    body = {}
    for key, value in shapes(resnet34()).items():
        stage, _, rest = key.partition(".")
        if stage in RESNET_STAGES:
            unit, _, rest = rest.partition(".")
            body[f"body.{RESNET_STAGES[stage] + int(unit)}.{rest}"] = value
        elif stage in ("conv1", "bn1"):
            body[key] = value
    return body | {"conv1.weight": (64, 6, 7, 7), "relu.weight": (64,)}


@pytest.mark.parametrize("name", ["ResNetBackboneEncoder", "ResNetProgressiveBackboneEncoder"])
def test_restyle_for_other_pictures(name: str) -> None:
    found = shapes(on_meta(name, 14, 6))
    assert found == resnet_body() | restyle_styles(14)
    assert len({key.split(".")[1] for key in found if key.startswith("body.")}) == 16


def test_resnet_below_the_pyramid_of_psp() -> None:
    pyramid = {k: v for k, v in published("encoder_gradual_18").items() if k.startswith(("styles", "latlayer"))}
    assert shapes(on_meta("ResNetGradualStyleEncoder", 18, 6)) == resnet_body() | pyramid


# ---- forward passes, written out ---------------------------------------------------------------------


def normalised(state: State, name: str, x: Tensor) -> Tensor:
    column = {k: state[f"{name}.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias")}
    return (x - column["running_mean"]) / (column["running_var"] + 1e-5).sqrt() * column["weight"] + column["bias"]


def bent(slope: Tensor | float, x: Tensor) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def ir_maps(state: State, x: Tensor) -> list[Tensor]:
    x = normalised(state, "input_layer.1", F.conv2d(x, state["input_layer.0.weight"], padding=1))
    x = bent(state["input_layer.2.weight"][:, None, None], x)
    maps = []
    for i in range(24):
        unit = f"body.{i}"
        stride = 2 if i in (0, 3, 7, 21) else 1
        y = F.conv2d(normalised(state, f"{unit}.res_layer.0", x), state[f"{unit}.res_layer.1.weight"], padding=1)
        y = bent(state[f"{unit}.res_layer.2.weight"][:, None, None], y)
        y = F.conv2d(y, state[f"{unit}.res_layer.3.weight"], stride=stride, padding=1)
        y = normalised(state, f"{unit}.res_layer.4", y)
        squeezed = torch.relu(F.conv2d(y.mean((2, 3), keepdim=True), state[f"{unit}.res_layer.5.fc1.weight"]))
        y = y * torch.sigmoid(F.conv2d(squeezed, state[f"{unit}.res_layer.5.fc2.weight"]))
        x = x[:, :, ::stride, ::stride]
        if f"{unit}.shortcut_layer.0.weight" in state:
            x = normalised(state, f"{unit}.shortcut_layer.1", F.conv2d(x, state[f"{unit}.shortcut_layer.0.weight"]))
        x = x + y
        if i in (6, 20, 23):
            maps.append(x)
    return maps


def resnet_maps(state: State, x: Tensor) -> list[Tensor]:
    """torchvision's own stages, filled by ReStyle's numbers; there is no max-pooling."""
    network = resnet34().eval()
    x = normalised(state, "bn1", F.conv2d(x, state["conv1.weight"], stride=2, padding=3))
    x = bent(state["relu.weight"][:, None, None], x)
    maps = []
    for name, first in RESNET_STAGES.items():
        stage = network.get_submodule(name)
        keys = {key: f"body.{first + int(key.split('.')[0])}.{key.split('.', 1)[1]}" for key in stage.state_dict()}
        stage.load_state_dict({own: state[given] for own, given in keys.items()})
        x = stage(x)
        maps.append(x)
    return maps[1:]


def enlarged(x: Tensor, side: int) -> Tensor:
    """Bilinear with the corners of both grids on each other: rows and columns by one matrix of weights."""
    positions = torch.arange(side) * (x.shape[-1] - 1) / (side - 1)
    matrix = (1 - (positions[:, None] - torch.arange(x.shape[-1])).abs()).clamp(min=0)
    return matrix @ x @ matrix.T


def style(state: State, i: int, x: Tensor) -> Tensor:
    for k in itertools.count(0, 2):
        name = f"styles.{i}.convs.{k}"
        if f"{name}.weight" not in state:
            break
        x = bent(0.01, F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=2, padding=1))
    weight = state[f"styles.{i}.linear.weight"]
    return x.flatten(1) @ weight.T / weight.shape[1] ** 0.5 + state[f"styles.{i}.linear.bias"]


def plain(name: str, state: State, x: Tensor, n: int) -> Tensor:
    """The published forward passes: [B,n,D]."""
    c1, c2, c3 = (ir_maps if name in IR else resnet_maps)(state, x)
    maps = [c3] * n
    if name in ("Encoder4Editing", "ResNetGradualStyleEncoder"):
        p2 = enlarged(c3, c2.shape[-1]) + F.conv2d(c2, state["latlayer1.weight"], state["latlayer1.bias"])
        p1 = enlarged(p2, c1.shape[-1]) + F.conv2d(c1, state["latlayer2.weight"], state["latlayer2.bias"])
        maps = [c3] * 3 + [p2] * 4 + [p1] * (n - 7)
    rows = [style(state, i, level) for i, level in enumerate(maps)]
    if name in ("Encoder4Editing", "ProgressiveBackboneEncoder", "ResNetProgressiveBackboneEncoder"):
        rows = rows[:1] + [rows[0] + delta for delta in rows[1:]]
    return torch.stack(rows, dim=1)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 16 channels instead of 512, the same wiring in a hundredth of the memory, for pictures of any size."""

    def block(in_ch: int, _width: int, spatial: int, style_dim: int) -> GradualStyleBlock:
        return GradualStyleBlock(in_ch, 16, spatial, style_dim)

    monkeypatch.setattr("psp.networks.feature_pyramid.GradualStyleBlock", block)
    monkeypatch.setattr("psp.networks.feature_pyramid.check_input_size", lambda x: None)


def seeded(name: str, n_styles: int, input_nc: int, style_dim: int = 32) -> nn.Module:
    """Random weights with statistics and slopes that differ everywhere, so that nothing can be mixed up unseen."""
    encoder = ENCODERS[name](n_styles, input_nc, style_dim).eval()
    for key, value in encoder.state_dict().items():
        if key.endswith(("running_mean", "bias")):
            value.uniform_(-0.2, 0.2)
        elif value.dim() == 1:
            value.uniform_(0.5, 1.0)
        elif "styles" in key and value.dim() == 4:
            value.mul_(3)  # else the biases drown what comes from the picture
    return encoder


def compare(name: str, side: int) -> None:
    n, nc = (18, 3) if name == "Encoder4Editing" else (10, 6)
    encoder, x = seeded(name, n, nc), torch.rand(2, nc, side, side) * 2 - 1
    with torch.no_grad():
        codes, alone, wanted = encoder(x), encoder(x[1:]), plain(name, encoder.state_dict(), x, n)
    assert codes.shape == (2, n, 32)
    scale = float(wanted.abs().max())
    assert (codes - wanted).abs().max() <= 1e-5 * scale
    assert (codes[1:] - alone).abs().max() <= 1e-5 * scale
    assert (wanted[0] - wanted[1]).abs().max() > 1e-3 * scale  # a hundred times that: the picture matters


@pytest.mark.thorough
@pytest.mark.parametrize("name", [*IR, *RESNET])
@pytest.mark.usefixtures("narrow")
def test_forward_is_the_published_one(name: str) -> None:
    compare(name, 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*IR, *RESNET])
@pytest.mark.usefixtures("narrow")
def test_forward_is_the_published_one_at_full_size(name: str) -> None:
    compare(name, 256)


# ---- one code and differences ------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.usefixtures("narrow")
def test_e4e_adds_what_psp_takes_by_itself() -> None:
    """Equal weights: layer 0 is equal, the others are that plus pSp's."""
    e4e = seeded("Encoder4Editing", 18, 3)
    psp = GradualStyleEncoder(18, 3, 32).eval()
    psp.load_state_dict(e4e.state_dict())
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        codes, absolute = e4e(x), psp(x)
    assert torch.equal(codes[:, 0], absolute[:, 0])
    assert torch.equal(codes[:, 1:], absolute[:, :1] + absolute[:, 1:])


# ---- which one a file holds --------------------------------------------------------------------------


def test_options_tell_apart_what_tensors_cannot() -> None:
    pairs = {
        "GradualStyleEncoder": "Encoder4Editing",
        "BackboneEncoder": "ProgressiveBackboneEncoder",
        "ResNetBackboneEncoder": "ResNetProgressiveBackboneEncoder",
    }
    for first, second in pairs.items():
        state = on_meta(first, 6, 6).state_dict()
        assert state.keys() == on_meta(second, 6, 6).state_dict().keys()
        assert encoder_kind(state, {}) == (first, 6)
        assert encoder_kind(state, {"encoder_type": None}) == (first, 6)
        assert encoder_kind(state, {"encoder_type": second}) == (second, 6)


def test_an_e4e_encoder_is_never_mistaken_for_psps() -> None:
    """A model that was built without options still writes which encoder it has."""
    import tiny_training as tiny

    from psp.models.psp import PSP

    decoder = tiny.generator(8)
    encoder = on_meta("Encoder4Editing", decoder.n_styles, 3, tiny.STYLE_DIM)
    assert isinstance(encoder, Encoder4Editing)
    assert PSP(encoder, decoder, latent_avg=torch.zeros(tiny.STYLE_DIM)).config == {"encoder_type": "Encoder4Editing"}
