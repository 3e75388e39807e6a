"""The generator against what is published (names, shapes, constants, style routing) and the textbook convolution."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path

import pytest
import tiny_training as tiny
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.networks.stylegan2 import (
    EqualLinear,
    Generator,
    ModulatedConv2d,
    PixelNorm,
    StyledConv,
    ToRGB,
    default_channels,
    fir_kernel,
    generator_config,
    resolutions,
    style_count,
)

SMALL = {4: 16, 8: 16, 16: 12, 32: 8, 64: 8}


def small(size: int = 16, **options: int) -> Generator:
    return Generator(size, **{"style_dim": 16, "n_mlp": 2, **options}, channels=SMALL)


def published(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a released state dict, from tests/data."""
    lines = (Path(__file__).parents[1] / "data" / f"keys_{name}.txt").read_text().splitlines()
    pairs = (line.split() for line in lines)
    return {key: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for key, shape in pairs}


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def on_meta(size: int, **options: object) -> Generator:
    with torch.device("meta"):
        return Generator(size, **options)  # type: ignore[arg-type]


# ---- names, shapes, constants ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [256, 1024])
def test_names_and_shapes_are_the_published_ones(size: int) -> None:
    assert shapes(on_meta(size)) == published(f"decoder_{size}")


@pytest.mark.parametrize("size", [8, 16, 32, 64, 128, 512])
def test_smaller_sizes_are_the_first_layers_of_the_largest(size: int) -> None:
    levels = int(math.log2(size)) - 2
    numbered = {"convs": 2 * levels, "to_rgbs": levels}

    def has(key: str) -> bool:
        head, second = key.split(".")[:2]
        if head == "noises":
            return int(second.removeprefix("noise_")) <= 2 * levels
        return int(second) < numbered[head] if head in numbered else True

    expected = {key: shape for key, shape in published("decoder_1024").items() if has(key)}
    generator = on_meta(size)
    assert shapes(generator) == expected
    assert generator.n_styles == style_count(size) == 2 * levels + 2
    assert generator.n_noises == 2 * levels + 1


@pytest.mark.parametrize("size", [0, 4, 6, 48, 100, 2048, -8])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=str(size)):
        resolutions(size)


def test_filters_are_the_published_ones() -> None:
    state = small(32).state_dict()
    row = torch.tensor([0.0625, 0.1875, 0.1875, 0.0625])
    kernels = [key for key in state if key.endswith("kernel")]
    assert len(kernels) == 6  # one per up-convolution, one per RGB up-sampling
    for key in kernels:
        assert torch.equal(state[key][0], row)
        assert state[key].sum() == 4
        assert torch.equal(state[key], state[key].t())
    assert torch.allclose(fir_kernel(), torch.outer(row, row) * 4)


@pytest.mark.parametrize(
    "options",
    [
        {"size": 8, "style_dim": 16, "n_mlp": 1, "channels": SMALL},
        {"size": 64, "style_dim": 24, "n_mlp": 2, "channels": SMALL},
        {"size": 32, "style_dim": 7, "n_mlp": 0, "channels": SMALL},
        {"size": 256, "style_dim": 512, "n_mlp": 8, "channels": default_channels(1)},  # NVIDIA's 256 px models
        {"size": 1024, "style_dim": 512, "n_mlp": 8, "channels": default_channels()},
    ],
)
def test_structure_is_read_from_the_tensors(options: dict) -> None:
    found = generator_config(on_meta(**options).state_dict())
    assert found == options | {"channels": {r: c for r, c in options["channels"].items() if r <= options["size"]}}


def test_structure_of_something_else_is_an_error() -> None:
    for state in ({}, {"input.input": torch.zeros(1, 4, 4, 4)}, {"to_rgbs.x.bias": torch.zeros(1)}):
        with pytest.raises((KeyError, ValueError)):
            generator_config(state)
    state = small().state_dict()
    state["style.999999999.bias"] = state["to_rgbs.99999999.bias"] = torch.zeros(16)
    with pytest.raises(KeyError):  # quickly, and without building what the names promise
        generator_config(state)


# ---- the modulated convolution --------------------------------------------------------------------


def grouped_reference(conv: ModulatedConv2d, x: Tensor, style: Tensor) -> Tensor:
    """The paper's form: one weight per sample, one grouped convolution over the batch (Karras et al. 2020, eq. 1-3)."""
    n, in_ch, height, width = x.shape
    out_ch, k = conv.weight.shape[1], conv.weight.shape[-1]
    linear = conv.modulation
    s = style @ linear.weight.t() / math.sqrt(style.shape[1]) + linear.bias
    w = conv.weight * s[:, None, :, None, None] / math.sqrt(in_ch * k * k)
    if conv.demodulate:
        w = w / torch.sqrt(w.pow(2).sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    x = x.reshape(1, n * in_ch, height, width)
    if not conv.up:
        y = F.conv2d(x, w.reshape(n * out_ch, in_ch, k, k), padding=k // 2, groups=n)
        return y.reshape(n, out_ch, height, width)
    w = w.transpose(1, 2).reshape(n * in_ch, out_ch, k, k)
    y = F.conv_transpose2d(x, w, stride=2, groups=n).reshape(n * out_ch, 1, 2 * height + 1, 2 * width + 1)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype)
    kernel = torch.outer(taps, taps) / 16  # sums to 4: up-sampling by zeros loses three quarters of the energy
    return F.conv2d(F.pad(y, (1, 1, 1, 1)), kernel[None, None]).reshape(n, out_ch, 2 * height, 2 * width)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize(
    ("up", "kernel", "in_ch", "out_ch", "style_dim"),
    [(False, 3, 8, 6, 16), (False, 1, 5, 3, 7), (False, 3, 64, 32, 33), (True, 3, 8, 6, 16), (True, 3, 64, 32, 33)],
)
def test_modulated_convolution_equals_the_grouped_form(
    dtype: torch.dtype,
    tolerance: float,
    demodulate: bool,
    up: bool,
    kernel: int,
    in_ch: int,
    out_ch: int,
    style_dim: int,
) -> None:
    conv = ModulatedConv2d(in_ch, out_ch, kernel, style_dim, demodulate=demodulate, up=up).to(dtype)
    x = torch.randn(3, in_ch, 6, 5, dtype=dtype, requires_grad=True)
    style = torch.randn(3, style_dim, dtype=dtype, requires_grad=True)
    ours, wanted = conv(x, style), grouped_reference(conv, x, style)
    assert ours.shape == wanted.shape
    assert (ours - wanted).abs().max() <= tolerance * wanted.abs().max()

    direction = torch.randn_like(wanted)
    inputs = (x, style, conv.weight, conv.modulation.weight, conv.modulation.bias)
    gradients = [torch.autograd.grad((y * direction).sum(), inputs, retain_graph=True) for y in (ours, wanted)]
    for a, b in zip(*gradients):
        assert (a - b).abs().max() <= 3 * tolerance * b.abs().max()


def test_equal_linear_scales_weight_and_bias() -> None:
    layer = EqualLinear(6, 4, bias_init=2.0, lr_mul=0.5, activation=True).double()
    x = torch.randn(3, 6, dtype=torch.float64)
    wanted = F.leaky_relu(x @ (layer.weight * 0.5 / math.sqrt(6)).t() + 2.0 * 0.5, 0.2) * math.sqrt(2)
    assert torch.allclose(layer(x), wanted, rtol=1e-12)
    big = EqualLinear(512, 512, lr_mul=0.01)
    assert 95 < big.weight.std() < 105  # stored as N(0,1) / lr_mul, so that any optimiser slows down


def test_whole_generator_equals_the_grouped_form() -> None:
    generator = small(32).double()
    codes = torch.randn(2, generator.n_styles, 16, dtype=torch.float64)

    def layer(x: Tensor, style: Tensor, noise: Tensor, layer: StyledConv) -> Tensor:
        y = grouped_reference(layer.conv, x, style) + layer.noise.weight * noise
        return F.leaky_relu(y + layer.activate.bias[:, None, None], 0.2) * math.sqrt(2)

    for module in generator.modules():
        if isinstance(module, StyledConv):
            nn.init.normal_(module.noise.weight)
            nn.init.normal_(module.activate.bias)
    ours = generator.synthesize(codes)
    for module in generator.modules():
        if isinstance(module, StyledConv):
            module.forward = partial(layer, layer=module)  # type: ignore[method-assign]
        elif isinstance(module, ToRGB):
            module.conv.forward = partial(grouped_reference, module.conv)  # type: ignore[method-assign]
    wanted = generator.synthesize(codes)
    assert (ours - wanted).abs().max() <= 1e-10 * wanted.abs().max()


def test_frozen_generator_passes_gradients_to_the_codes_only() -> None:
    generator = small().requires_grad_(False)
    codes = torch.randn(2, generator.n_styles, 16, requires_grad=True)
    generator.synthesize(codes).square().sum().backward()
    assert codes.grad is not None and (codes.grad.abs().sum(dim=2) > 0).all()
    assert all(p.grad is None for p in generator.parameters())


# ---- which style goes where -----------------------------------------------------------------------

# style index -> the layers that it modulates, written out for 64 px (10 styles)
ROUTING = {
    0: ["conv1"],
    1: ["to_rgb1", "convs.0"],
    2: ["convs.1"],
    3: ["to_rgbs.0", "convs.2"],
    4: ["convs.3"],
    5: ["to_rgbs.1", "convs.4"],
    6: ["convs.5"],
    7: ["to_rgbs.2", "convs.6"],  # 32 px RGB and the convolution up to 64 px
    8: ["convs.7"],  # the second convolution at 64 px: here the fine layers of pSp's style mixing begin
    9: ["to_rgbs.3"],
}


def test_each_style_reaches_its_layers() -> None:
    generator = small(64)
    codes = torch.arange(10.0)[None, :, None].expand(1, 10, 16)
    seen: dict[int, list[str]] = {}
    for name, module in generator.named_modules():
        if isinstance(module, ModulatedConv2d):

            def note(_: nn.Module, args: tuple[Tensor], name: str = name) -> None:
                seen.setdefault(int(args[0].unique().item()), []).append(name.removesuffix(".conv"))

            module.modulation.register_forward_pre_hook(note)
    generator.synthesize(codes)
    assert {k: sorted(v) for k, v in seen.items()} == {k: sorted(v) for k, v in ROUTING.items()}


@pytest.mark.parametrize("style", range(10))
def test_a_changed_style_changes_its_resolution_and_what_follows(style: int) -> None:
    generator = small(64).eval()
    outputs: list[dict[str, Tensor]] = [{}, {}]
    current = 0
    for name, module in generator.named_modules():
        if name.count(".") <= 1 and (name.startswith("convs.") or name in ("conv1", "to_rgb1") or "to_rgbs." in name):
            module.register_forward_hook(lambda _m, _a, y, name=name: outputs[current].__setitem__(name, y))
    codes = torch.randn(1, 10, 16)
    generator.synthesize(codes)
    current = 1
    codes[:, style] += 1
    generator.synthesize(codes)
    changed = {name for name, y in outputs[0].items() if not torch.equal(y, outputs[1][name])}
    order = ["conv1", "to_rgb1", *(f"{kind}.{n}" for k in range(4) for kind, n in
             (("convs", 2 * k), ("convs", 2 * k + 1), ("to_rgbs", k)))]  # fmt: skip
    first = min(order.index(name) for name in ROUTING[style])
    trunk = min((order.index(name) for name in ROUTING[style] if "conv" in name), default=len(order))
    expected = {name for i, name in enumerate(order) if (i >= first and "rgb" in name) or i >= trunk}
    assert changed == expected


# ---- mapping, truncation, noise -------------------------------------------------------------------


def test_mapping_normalises_and_has_the_asked_depth() -> None:
    generator = small(n_mlp=2)
    z = torch.randn(5, 16)
    assert torch.allclose(PixelNorm()(z).square().mean(dim=1), torch.ones(5), atol=1e-5)
    assert torch.allclose(generator.map(z), generator.map(7 * z), atol=1e-5)  # only the direction counts
    x = PixelNorm()(z)
    for layer in (generator.style[1], generator.style[2]):
        x = F.leaky_relu(x @ (layer.weight * 0.01 / 4).t() + layer.bias * 0.01, 0.2) * math.sqrt(2)
    assert torch.allclose(generator.map(z), x, atol=1e-6)


def test_mean_latent_counts_every_sample_once_and_is_repeatable() -> None:
    generator = small()
    mean = generator.mean_latent(20_500, torch.Generator().manual_seed(3))
    source = torch.Generator().manual_seed(3)
    z = torch.cat([torch.randn(n, 16, generator=source) for n in (10_000, 10_000, 500)])
    assert torch.allclose(mean, generator.map(z).mean(0, keepdim=True), atol=1e-5)
    assert torch.equal(mean, generator.mean_latent(20_500, torch.Generator().manual_seed(3)))
    assert mean.shape == (1, 16) and not mean.requires_grad


def test_noise_is_fixed_fresh_or_given() -> None:
    generator = small(32)
    codes = torch.randn(2, generator.n_styles, 16)
    quiet = generator.synthesize(codes)
    assert torch.equal(quiet, generator.synthesize(codes, randomize_noise=True))  # its weight starts at 0
    for module in generator.modules():
        if module.__class__.__name__ == "NoiseInjection":
            nn.init.constant_(module.weight, 0.5)
    fixed = generator.synthesize(codes)
    assert not torch.equal(fixed, quiet)
    assert torch.equal(fixed, generator.synthesize(codes))
    assert torch.equal(fixed, generator.synthesize(codes, generator.fixed_noise()))
    assert not torch.equal(fixed, generator.synthesize(codes, randomize_noise=True))
    same = codes[:1].expand(2, -1, -1)
    fresh = generator.synthesize(same, randomize_noise=True)
    assert not torch.equal(fresh[0], fresh[1])  # every sample gets its own
    noise: list[Tensor | None] = [torch.zeros_like(n) for n in generator.fixed_noise()]
    assert torch.allclose(generator.synthesize(codes, noise), quiet, atol=1e-5)
    assert [tuple(n.shape[2:]) for n in generator.fixed_noise()] == [
        (4, 4),
        (8, 8),
        (8, 8),
        (16, 16),
        (16, 16),
        (32, 32),
        (32, 32),
    ]


def test_noise_lists_of_another_length_are_refused() -> None:
    generator = small()
    codes = torch.randn(1, generator.n_styles, 16)
    for count in (generator.n_noises - 1, generator.n_noises + 1):
        with pytest.raises(ValueError, match=f"{generator.n_noises} noise"):
            generator.synthesize(codes, [None] * count)


def test_the_mapping_can_be_stored_for_another_learning_rate_factor() -> None:
    generator = small(lr_mlp=1.0)
    z = torch.randn(4, 16)
    with torch.no_grad():
        generator.style[1].bias.normal_()
    before = generator.map(z)
    released = copy.deepcopy(generator)
    released.set_mapping_rate(0.01)
    assert torch.allclose(released.map(z), before, rtol=1e-4, atol=1e-6)
    loaded = small()  # built with 0.01, as whoever reads a weights file does
    loaded.load_state_dict(released.state_dict())
    assert torch.allclose(loaded.map(z), before, rtol=1e-4, atol=1e-6)


# ---- sizes, batches, codes that do not fit --------------------------------------------------------


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_output_shape_and_batch_independence(size: int) -> None:
    generator = small(size)
    codes = torch.randn(3, generator.n_styles, 16)
    images = generator.synthesize(codes)
    assert images.shape == (3, 3, size, size) and torch.isfinite(images).all()
    single = torch.cat([generator.synthesize(codes[i : i + 1]) for i in range(3)])
    assert torch.allclose(images, single, atol=1e-5 * images.abs().max().item())
    assert generator.synthesize(codes[:0]).shape == (0, 3, size, size)


def test_large_sizes_have_the_right_output_shape() -> None:
    for size in (128, 256, 512, 1024):
        generator = Generator(size, 8, 1, channels=dict.fromkeys(default_channels(), 2)).requires_grad_(False)
        assert tiny.faces(generator, torch.randn(1, 8)).shape == (1, 3, size, size)


def test_odd_widths() -> None:
    generator = Generator(16, 5, 2, channels={4: 7, 8: 5, 16: 3})
    assert tiny.faces(generator, torch.randn(2, 5)).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("shape", [(1, 5, 16), (1, 6, 15), (6, 16), (1, 7, 16), (1, 1, 6, 16)])
def test_codes_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="W\\+ codes have shape"):
        small(16).synthesize(torch.zeros(shape))


def test_bfloat16_autocast_stays_close() -> None:
    generator = small(32)
    codes = torch.randn(2, generator.n_styles, 16)
    exact = generator.synthesize(codes)
    with torch.autocast("cpu", torch.bfloat16):
        rough = generator.synthesize(codes)
    assert (rough.float() - exact).abs().mean() < 0.02 * exact.abs().mean()
