"""pSp's encoders against what is published, and the compact one against its promises: small, fast, self-describing."""

from __future__ import annotations

import time

import pytest
import tiny_training as tiny
import torch
import torch.nn.functional as F
from test_stylegan2 import published, shapes
from torch import Tensor, nn

from psp.models.psp import parameter_count
from psp.networks.encoders import (
    ENCODERS,
    BackboneEncoderUsingLastLayerIntoW,
    BackboneEncoderUsingLastLayerIntoWPlus,
    CompactStyleEncoder,
    GradualStyleEncoder,
    compact_widths,
)
from psp.networks.feature_pyramid import GradualStyleBlock, Heads, grouped_codes, top_down
from psp.networks.irse import Backbone, BottleneckIR, SEModule, ir_body


def on_meta(build: type[nn.Module], *args: int, **options: object) -> nn.Module:
    with torch.device("meta"):
        return build(*args, **options)


# ---- the backbone ------------------------------------------------------------------------------------


def test_names_and_shapes_are_the_published_ones() -> None:
    assert shapes(on_meta(GradualStyleEncoder, 18, 1)) == published("encoder_gradual_18")


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["GradualStyleEncoder", "IntoW", "IntoWPlus"])
@pytest.mark.parametrize("input_nc", [1, 3, 19])
def test_every_input_builds(name: str, input_nc: int) -> None:
    build = ENCODERS.get(name) or ENCODERS[f"BackboneEncoderUsingLastLayer{name}"]
    encoder = on_meta(build, 18, input_nc)
    assert len(encoder.body) == 24
    assert encoder.input_layer[0].weight.shape == (64, input_nc, 3, 3)
    out = encoder.to("meta")(torch.empty(2, input_nc, 256, 256, device="meta"))
    assert out.shape == (2, 18, 512)


def test_body_has_the_published_strides_and_widths() -> None:
    body = on_meta(ir_body)  # type: ignore[arg-type]
    strides = [unit.res_layer[3].stride[0] for unit in body]
    assert [i for i, s in enumerate(strides) if s == 2] == [0, 3, 7, 21]
    assert all(unit.res_layer[1].stride == (1, 1) for unit in body)  # the second convolution carries the stride
    widths = [unit.res_layer[3].out_channels for unit in body]
    assert widths == [64] * 3 + [128] * 4 + [256] * 14 + [512] * 3
    kinds = [type(unit.shortcut_layer) for unit in body]
    assert [i for i, kind in enumerate(kinds) if kind is nn.Sequential] == [3, 7, 21]


def test_first_unit_takes_every_second_pixel_as_its_shortcut() -> None:
    """64 to 64 channels with stride 2: a strided 1x1 max-pool, not a convolution."""
    unit = BottleneckIR(16, 16, 2).eval()
    nn.init.zeros_(unit.res_layer[3].weight)
    x = torch.randn(1, 16, 8, 8)
    assert torch.equal(unit(x), x[:, :, ::2, ::2])


def test_unit_by_hand() -> None:
    unit = BottleneckIR(16, 32, 2).eval()
    x = torch.randn(2, 16, 8, 8)
    bn1, conv1, prelu, conv2, bn2, se = unit.res_layer
    y = F.conv2d(F.batch_norm(x, bn1.running_mean, bn1.running_var, bn1.weight, bn1.bias), conv1.weight, padding=1)
    y = bn2(F.conv2d(torch.where(y > 0, y, 0.25 * y), conv2.weight, stride=2, padding=1))
    gate = torch.sigmoid(se.fc2(torch.relu(se.fc1(y.mean((2, 3), keepdim=True)))))
    short, norm = unit.shortcut_layer
    assert torch.allclose(unit(x), y * gate + norm(F.conv2d(x, short.weight, stride=2)), atol=1e-5)
    assert (bn1.eps, prelu.num_parameters) == (1e-5, 32)
    assert SEModule(64).fc1.weight.shape == (4, 64, 1, 1)


@pytest.mark.thorough
def test_face_recognition_features_have_length_one() -> None:
    backbone = Backbone().eval()
    features = backbone(torch.rand(2, 3, 112, 112) * 2 - 1)
    assert features.shape == (2, 512) and torch.allclose(features.norm(dim=1), torch.ones(2), atol=1e-5)
    assert len([key for key in backbone.state_dict() if key.startswith("output_layer")]) == 12


# ---- the pyramid -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "taps"), [("GradualStyleEncoder", (6, 20, 23)), ("ResNetGradualStyleEncoder", (6, 12, 15))]
)
def test_taps_are_the_ends_of_the_stages(name: str, taps: tuple[int, ...]) -> None:
    encoder = on_meta(ENCODERS[name], 3)
    assert encoder.taps == taps
    seen = {}
    for i in taps:
        encoder.body[i].register_forward_hook(lambda _m, _a, y, i=i: seen.__setitem__(i, tuple(y.shape[1:])))
    encoder(torch.empty(1, 3, 256, 256, device="meta"))
    assert list(seen.values()) == [(128, 64, 64), (256, 32, 32), (512, 16, 16)]


def test_styles_look_at_their_level() -> None:
    encoder = on_meta(GradualStyleEncoder, 18)
    assert encoder.styles.spans() == [(0, 3), (3, 7), (7, 18)]
    assert encoder(torch.empty(1, 3, 256, 256, device="meta")).shape == (1, 18, 512)
    assert [len(block.convs) // 2 for block in encoder.styles] == [4] * 3 + [5] * 4 + [6] * 11
    assert encoder.styles[0].convs[1].negative_slope == 0.01
    millions = [round(parameter_count(encoder.styles[i]) / 1e6, 2) for i in (0, 3, 7)]
    assert millions == [9.7, 12.06, 14.42]


def test_blocks_side_by_side_give_codes_and_gradients_of_each_alone() -> None:
    heads = Heads(GradualStyleBlock(4, 4, side, 5) for side in (16, 16, 32, 32, 32, 64))
    for block in heads:
        nn.init.normal_(block.linear.bias)
    assert heads.spans() == [(0, 2), (2, 5), (5, 6)]
    levels = [torch.randn(2, 4, side, side, requires_grad=True) for side in (16, 32, 64)]
    maps = [levels[0]] * 2 + [levels[1]] * 3 + [levels[2]]
    plain, grouped = heads.codes(maps), grouped_codes(heads.groups(), heads.spans(), maps)
    assert grouped.shape == (2, 6, 5) and (plain - grouped).abs().max() < 1e-5 * plain.abs().max()
    inputs, direction = [*levels, *heads.parameters()], torch.randn_like(plain)
    for a, b in zip(*(torch.autograd.grad(codes, inputs, direction) for codes in (plain, grouped))):
        assert (a - b).abs().max() <= 1e-5 * a.abs().max()


def test_pyramid_by_hand() -> None:
    """Forward of a small stand-in with the same wiring: the modules are swapped for cheap ones."""
    torch.manual_seed(0)
    encoder = on_meta(GradualStyleEncoder, 8, 3, 4)
    c1, c2, c3 = torch.randn(1, 4, 64, 64), torch.randn(1, 4, 32, 32), torch.randn(1, 4, 16, 16)

    class Gives(nn.Module):
        def __init__(self, value: Tensor):
            super().__init__()
            self.value = value

        def forward(self, x: Tensor) -> Tensor:
            return self.value

    encoder.input_layer = nn.Identity()
    encoder.body = nn.Sequential(*[Gives({6: c1, 20: c2, 23: c3}.get(i, c1)) for i in range(24)])
    encoder.latlayer1, encoder.latlayer2 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    encoder.styles = Heads(GradualStyleBlock(4, 4, s, 4) for s in [16] * 3 + [32] * 4 + [64])
    codes = encoder(torch.zeros(1, 3, 256, 256))
    p2 = F.interpolate(c3, size=(32, 32), mode="bilinear", align_corners=True) + encoder.latlayer1(c2)
    p1 = F.interpolate(p2, size=(64, 64), mode="bilinear", align_corners=True) + encoder.latlayer2(c1)
    for i, level in ((0, c3), (2, c3), (3, p2), (6, p2), (7, p1)):
        assert torch.allclose(codes[:, i], encoder.styles[i](level), atol=1e-6)
    enlarged = top_down(c3, torch.zeros(1, 4, 31, 31))[1]
    assert torch.equal(enlarged[..., -1, -1], c3[..., -1, -1])  # aligned corners


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("side", [(128, 128), (512, 512), (256, 255)])
def test_other_input_sizes_are_refused(name: str, side: tuple[int, int]) -> None:
    """A larger image would silently become more samples or other statistics."""
    with pytest.raises(ValueError, match="256x256"):
        on_meta(ENCODERS[name], 6, 3, 16)(torch.empty(1, 3, *side, device="meta"))


# ---- the two baselines -------------------------------------------------------------------------------


def stub_body(encoder: nn.Module, features: Tensor) -> None:
    class Gives(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return features

    encoder.input_layer, encoder.body = nn.Identity(), Gives()


def test_into_w_repeats_one_code() -> None:
    encoder = BackboneEncoderUsingLastLayerIntoW(6, 3, 32)
    assert {k for k in encoder.state_dict() if not k.startswith(("body", "input_layer"))} == {
        "linear.weight",
        "linear.bias",
    }
    features = torch.randn(2, 512, 16, 16)
    stub_body(encoder, features)
    codes = encoder(torch.zeros(2, 3, 256, 256))
    assert torch.allclose(codes[:, 0], encoder.linear(features.mean((2, 3))), atol=1e-5)
    assert torch.equal(codes, codes[:, :1].expand(2, 6, 32))


def test_into_w_plus_is_linear_in_the_pooled_features() -> None:
    encoder = BackboneEncoderUsingLastLayerIntoWPlus(6, 3, 32).eval()
    names = {
        k.split(".")[0] + "." + k.split(".")[1] for k in encoder.state_dict() if k.startswith(("output", "linear"))
    }
    assert names == {"output_layer_2.0", "output_layer_2.3", "linear.weight", "linear.bias"}
    features = torch.randn(2, 512, 16, 16)
    stub_body(encoder, features)
    flat = F.adaptive_avg_pool2d(encoder.output_layer_2[0](features), 7).flatten(1)
    wanted = encoder.linear(encoder.output_layer_2[3](flat)).view(2, 6, 32)
    assert torch.allclose(encoder(torch.zeros(2, 3, 256, 256)), wanted, atol=1e-5)


# ---- the compact encoder -----------------------------------------------------------------------------


@pytest.mark.parametrize("n_styles", [10, 12, 14, 16, 18])
@pytest.mark.parametrize("input_nc", [1, 3, 19])
def test_compact_encoder_stays_small(n_styles: int, input_nc: int) -> None:
    assert parameter_count(on_meta(CompactStyleEncoder, n_styles, input_nc, 512)) <= 8e6


def test_compact_encoder_is_fast() -> None:
    encoder = CompactStyleEncoder(18, 3, 512).eval()
    x = torch.zeros(1, 3, 256, 256)
    times = []
    with torch.no_grad():
        for _ in range(5):
            began = time.perf_counter()
            assert encoder(x).shape == (1, 18, 512)
            times.append(time.perf_counter() - began)
    assert min(times) < 0.5


@pytest.mark.parametrize("encoder", [tiny.encoder(), CompactStyleEncoder(10, 19, 256, units=(3, 1, 2, 1), squeeze=24)])
def test_compact_encoder_is_read_from_its_tensors(encoder: CompactStyleEncoder) -> None:
    found = CompactStyleEncoder(
        len(encoder.heads),
        encoder.input_layer[0].in_channels,
        len(encoder.heads[0].bias),
        **compact_widths(encoder.state_dict()),
    )
    found.load_state_dict(encoder.state_dict())


def test_compact_encoder_keeps_where_things_are() -> None:
    encoder = tiny.encoder(10).eval()
    x = torch.ones(1, 1, 256, 256)
    x[..., 40:90, 40:90] = 0
    a, b = encoder(x), encoder(x.flip(-1))
    assert (a - b).abs().mean() > 1e-3 * a.abs().mean()
    levels = [encoder.level(i) for i in range(10)]
    assert levels == [0] * 3 + [1] * 4 + [2] * 3


def test_codes_do_not_depend_on_the_batch() -> None:
    encoder = tiny.encoder().eval()
    x = tiny.sketch_batch(0, 3).source
    assert torch.allclose(encoder(x), torch.cat([encoder(row[None]) for row in x]), atol=1e-5)
