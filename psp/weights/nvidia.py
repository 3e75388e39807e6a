"""NVIDIA's StyleGAN2 `.pkl` files (stylegan2-ada-pytorch, stylegan3 repository) in our tensor names.

The numbers are the same ones, under other names and in other shapes; nothing is flipped or transposed:
- A linear layer is used as weight * lr/sqrt(in), bias * lr in both; a style's +1 is inside its bias in both.
- The up-convolution of both is a transposed convolution with the weight as it stands, then the low-pass filter times 4.
- A convolution with demodulation has no 1/sqrt(in k^2) there and has it here, where demodulation takes it out again.
  What remains is the 1e-8 beside the sum of squares, which weighs in k^2 times more here: nothing that fp32 shows.
- ToRGB is used times 1/sqrt(in) in both.
- Their `conv_clamp` limits layers to +-256 so that half precision does not overflow. It is reported,
  and `psp.networks.stylegan2.Generator` applies it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from torch import Tensor

from psp.networks.state import all_finite
from psp.networks.stylegan2 import LR_MLP, SQRT2, resolutions
from psp.weights.pickled_tensors import LEGACY_HEAD, RECORD, Record, StoredTensor, read_plain_pickle, read_tensor
from psp.weights.pickles import Refused, printable
from psp.weights.safe_torch import opened

MAX_WIDTH = 4096
MAX_LAYERS = 64
MAX_TENSOR_BYTES = 1 << 30  # generator and discriminator of 1024 px, config-f: 238 MB
MAX_DEPTH = 8
MAX_PARTS = 20_000  # of one network, with those that are None
MAX_NAME = 64


def looks_like_nvidia_pickle(head: bytes) -> bool:
    """Whether a file that starts with `head` (32 bytes) is a plain pickle of protocol 2 to 5, and no torch file."""
    return head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5") and LEGACY_HEAD not in head[:32]


def read_nvidia_pickle(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a `.pkl` in our names, fp32 on the CPU, and what they make up. Nothing in the file is executed.

    Tensors: `decoder.<name>` as in `psp.networks.stylegan2.Generator` (G_ema, or G where there is none), `latent_avg`
    [D], and `discriminator.<name>` as in `stylegan2_discriminator.Discriminator` when the file holds one that fits.
    Second: size, style_dim, n_mlp, channels {resolution: width}, network (which one was taken), conv_clamp (or None),
    and for a discriminator stddev_group (None: the whole batch), or discriminator_left_out with the reason.
    UserError in one line: damaged, hostile, a contradiction, or a network that is no unconditional RGB StyleGAN2.
    """
    with opened(path) as (file, size):
        return _read(file, size)


def _read(file: IO[bytes], size: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    content = read_plain_pickle(file, size)
    if type(content) is Record:  # a network alone
        content = {"G": content}
    if not isinstance(content, dict):
        raise Refused(f"is a pickled {type(content).__name__}, not the networks of a StyleGAN2")
    generator = first_network(content, "G_ema", "G")
    if generator is None:
        raise Refused("is a pickle without a generator (G_ema or G) of NVIDIA's PyTorch code")
    config = _generator_config(generator)
    plan = [step.below("decoder") for step in _generator_plan(generator, config)]
    if "mapping.w_avg" in generator.left:
        dim = config["style_dim"]
        plan.append(Step("latent_avg", generator.take("mapping.w_avg", dim), (dim,)))
    generator.nothing_left()
    config |= {"network": generator.label, "conv_clamp": generator.number("synthesis.b4.conv1", "conv_clamp")}
    critic = first_network(content, "D")
    if critic is not None:
        try:
            _check_discriminator(critic, config["size"])
        except Refused as error:
            config["discriminator_left_out"] = str(error)
        else:
            plan += [step.below("discriminator") for step in _discriminator_plan(critic, config["size"])]
            critic.nothing_left()
            config["stddev_group"] = critic.number("b4.mbstd", "group_size")
    total = sum(step.stored.nbytes for step in plan)
    if total > min(size, MAX_TENSOR_BYTES):
        raise Refused(f"needs {total} bytes of tensors, more than it holds or than a StyleGAN2 has")
    tensors = {}
    for step in plan:
        if not step.stored.storage.dtype.is_floating_point:
            raise Refused(f"has numbers of type {step.stored.storage.dtype} where weights belong ({step.name})")
        tensor = read_tensor(file, step.stored).contiguous().float().reshape(step.shape)
        if not all_finite(tensor):
            raise Refused(f"has numbers that are not finite in {step.name}")
        tensors[step.name] = tensor if step.factor == 1.0 else tensor.mul_(step.factor)
    return tensors, config


class Step(NamedTuple):
    """One tensor to read: our name, where it is, our shape, and what to multiply it with."""

    name: str
    stored: StoredTensor
    shape: tuple[int, ...]
    factor: float = 1.0

    def below(self, prefix: str) -> Step:
        return self._replace(name=f"{prefix}.{self.name}")


class _Network:
    """One network of the file, called `label` there, as a flat record; Refused unless it is a tree of modules.

    tensors: by dotted name; those in `left` were not taken yet. options: the other attributes of each module.
    """

    def __init__(self, label: str, record: Record):
        self.label, self.class_name = label, record.args[0]
        self.tensors: dict[str, StoredTensor] = {}
        self.options: dict[str, dict[str, Any]] = {}
        waiting: list[tuple[str, Record, int]] = [("", record, 0)]
        left = MAX_PARTS
        while waiting:
            prefix, module, depth = waiting.pop()
            if module.name != RECORD or depth > MAX_DEPTH:
                raise Refused("holds something else than modules inside of a network")
            self.options[prefix.removesuffix(".")] = module.state
            for kind in ("_parameters", "_buffers", "_modules"):
                parts = module.state.get(kind, {})
                if not isinstance(parts, dict):
                    raise Refused("is a damaged pickle: a module without parts")
                left -= 1 + len(parts)
                for name, value in parts.items():
                    if left < 0 or type(name) is not str or len(name) > MAX_NAME:
                        raise Refused("holds something else than modules inside of a network")
                    if value is None:
                        continue
                    full = prefix + name
                    if kind == "_modules" and type(value) is Record:
                        waiting.append((full + ".", value, depth + 1))
                    elif kind != "_modules" and type(value) is StoredTensor:
                        self.tensors[full] = value
                    else:
                        raise Refused(f"has a {type(value).__name__} in the place of {printable(full)}")
        self.left = dict(self.tensors)

    def refuse(self, reason: str) -> NoReturn:
        raise Refused(f"has a {printable(self.class_name)} ({self.label}) that does not fit: {reason}")

    def shape(self, name: str, *expected: int | None) -> tuple[int, ...]:
        """Shape of a tensor, which has to be `expected`; None stands for any width."""
        if name not in self.tensors:
            self.refuse(f"{name} is missing")
        shape = self.tensors[name].shape
        fits = len(shape) == len(expected) and all(
            1 <= n <= MAX_WIDTH if w is None else n == w for n, w in zip(shape, expected)
        )
        if not fits:
            asked = "x".join("?" if w is None else str(w) for w in expected)
            given = "x".join(str(n) for n in shape[:6])
            self.refuse(f"{name} is {given or 'one number'} instead of {asked or 'one number'}")
        return shape

    def take(self, name: str, *expected: int | None) -> StoredTensor:
        self.shape(name, *expected)
        return self.left.pop(name)

    def option(self, module: str, name: str) -> Any:
        """A plain attribute of a module; None where it has none."""
        value = self.options.get(module, {}).get(name)
        return value if type(value) in (int, float, str, bool) else None

    def number(self, module: str, name: str) -> int | float | None:
        value = self.option(module, name)
        return value if type(value) in (int, float) else None

    def expect(self, module: str, **expected: int | float | str) -> None:
        """Refuse where the file says something else; what it does not say is not asked."""
        given = self.options.get(module, {})
        for name, value in expected.items():
            stated = given.get(name, value)
            if isinstance(value, float) and isinstance(stated, (int, float)):
                agrees = math.isclose(stated, value, rel_tol=1e-5)
            else:
                agrees = stated == value
            if not agrees:
                text = printable(repr(stated)) if type(stated) in (int, float, str, bool) else type(stated).__name__
                self.refuse(f"{f'{module}.{name}'.strip('.')} is {text} instead of {value!r}")

    def nothing_left(self) -> None:
        """Refuse tensors that were not taken; but each layer has a filter, and only resampling ones use it."""
        unknown = sorted(name for name in self.left if not name.endswith(".resample_filter"))
        if unknown:
            self.refuse(f"{len(unknown)} unknown tensors ({', '.join(map(printable, unknown[:3]))})")


def first_network(content: Mapping[str, Any], *names: str) -> _Network | None:
    """The first of the named entries that is there."""
    for name in names:
        value = content.get(name)
        if type(value) is Record and value.name == RECORD:
            return _Network(name, value)
    return None


def _generator_config(part: _Network) -> dict[str, Any]:
    """Size, style_dim, n_mlp and channels as the tensors say; refused where the records say something else."""
    names = part.tensors
    if "synthesis.b4.const" not in names:
        if "synthesis.input" in part.options:
            part.refuse("it is a StyleGAN3 generator; only StyleGAN2 generators can be used")
        part.refuse("it is no StyleGAN2 generator (synthesis.b4.const is missing)")
    if part.option("", "c_dim") or part.option("mapping", "c_dim") or "mapping.embed.weight" in names:
        part.refuse("it is conditional (c_dim is not 0); only generators without class labels can be used")
    colours = part.tensors.get("synthesis.b4.torgb.bias")
    if colours is not None and len(colours.shape) == 1 and colours.shape != (3,):
        part.refuse(f"its pictures have {colours.shape[0]} channels; only RGB can be used")
    for module in ("", "synthesis", "synthesis.b4"):
        part.expect(module, img_channels=3)
    sides: list[int] = []
    while len(sides) < 16 and f"synthesis.b{4 << len(sides)}.conv1.weight" in names:
        sides.append(4 << len(sides))
    part.shape("synthesis.b4.conv1.weight", None, None, 3, 3)
    size = sides[-1]
    if size not in (8, 16, 32, 64, 128, 256, 512, 1024):
        part.refuse(f"its pictures have {size} px; 8 to 1024 are possible")
    style_dim = part.shape("synthesis.b4.conv1.affine.weight", None, None)[1]
    n_mlp = 0
    while f"mapping.fc{n_mlp}.weight" in names and n_mlp < MAX_LAYERS:
        n_mlp += 1
    if n_mlp == 0:
        part.refuse("mapping.fc0.weight is missing")
    channels = {side: part.shape(f"synthesis.b{side}.conv1.weight", None, None, 3, 3)[0] for side in sides}

    z_dim = part.shape("mapping.fc0.weight", None, None)[1]
    if z_dim != style_dim:
        part.refuse(f"z has {z_dim} numbers and w has {style_dim}; only equal ones can be used")
    n_styles = 2 * len(sides)
    part.expect("", z_dim=style_dim, w_dim=style_dim, img_resolution=size, num_ws=n_styles)
    part.expect("mapping", z_dim=style_dim, w_dim=style_dim, num_ws=n_styles, num_layers=n_mlp)
    part.expect("synthesis", w_dim=style_dim, img_resolution=size, num_ws=n_styles)
    _check_widths(part, channels)
    return {"size": size, "style_dim": style_dim, "n_mlp": n_mlp, "channels": channels}


def _check_widths(part: _Network, channels: dict[int, int]) -> None:
    """The widths that the constructor was asked for, min(channel_base / resolution, channel_max), are those there."""
    asked = part.options[""].get("_init_kwargs")
    asked = asked if isinstance(asked, dict) else {}
    inner = asked.get("synthesis_kwargs")  # stylegan2-ada-pytorch; the stylegan3 repository has them one level up
    asked = asked | inner if isinstance(inner, dict) else asked
    base, most = asked.get("channel_base"), asked.get("channel_max", 512)
    if type(base) is int and type(most) is int:
        for side, width in channels.items():
            if width != min(base // side, most):
                part.refuse(f"{width} channels at {side} px, but channel_base is {base} and channel_max {most}")


def _generator_plan(part: _Network, config: dict[str, Any]) -> Iterator[Step]:
    dim, channels = config["style_dim"], config["channels"]
    for i in range(config["n_mlp"]):
        theirs, ours = f"mapping.fc{i}", f"style.{i + 1}"
        factor = _learning_rate(part, theirs) / LR_MLP
        part.expect(theirs, activation="lrelu", weight_gain=LR_MLP * factor / math.sqrt(dim))
        yield Step(f"{ours}.weight", part.take(f"{theirs}.weight", dim, dim), (dim, dim), factor)
        yield Step(f"{ours}.bias", part.take(f"{theirs}.bias", dim), (dim,), factor)
    yield Step("input.input", part.take("synthesis.b4.const", channels[4], 4, 4), (1, channels[4], 4, 4))
    noise = 0
    for k, (side, width) in enumerate(channels.items()):
        block, below = f"synthesis.b{side}", channels.get(side // 2, 0)
        part.expect(block, architecture="skip", resolution=side, in_channels=below)
        layers = [("conv0", f"convs.{2 * k - 2}", below, 2)] if below else []
        layers.append(("conv1", f"convs.{2 * k - 1}" if below else "conv1", width, 1))
        for name, ours, width_in, up in layers:
            theirs = f"{block}.{name}"
            part.expect(theirs, up=up, activation="lrelu", act_gain=SQRT2, resolution=side)
            yield from _modulated(part, theirs, f"{ours}.conv", (width, width_in, 3, dim))
            yield Step(f"{ours}.noise.weight", part.take(f"{theirs}.noise_strength"), (1,))
            yield Step(f"{ours}.activate.bias", part.take(f"{theirs}.bias", width), (width,))
            yield Step(f"noises.noise_{noise}", part.take(f"{theirs}.noise_const", side, side), (1, 1, side, side))
            noise += 1
            if up == 2:
                yield Step(f"{ours}.conv.blur.kernel", part.take(f"{theirs}.resample_filter", 4, 4), (4, 4), 4.0)
        theirs, ours = f"{block}.torgb", f"to_rgbs.{k - 1}" if below else "to_rgb1"
        part.expect(theirs, weight_gain=1 / math.sqrt(width))
        yield from _modulated(part, theirs, f"{ours}.conv", (3, width, 1, dim))
        yield Step(f"{ours}.bias", part.take(f"{theirs}.bias", 3), (1, 3, 1, 1))
        if below:
            yield Step(f"{ours}.upsample.kernel", part.take(f"{block}.resample_filter", 4, 4), (4, 4), 4.0)


def _modulated(part: _Network, theirs: str, ours: str, shape: tuple[int, int, int, int]) -> Iterator[Step]:
    """Weight and style layer of a modulated convolution; shape: out, in, kernel, style_dim."""
    width, width_in, side, dim = shape
    part.expect(f"{theirs}.affine", activation="linear", bias_gain=1.0, weight_gain=1 / math.sqrt(dim))
    yield Step(f"{ours}.weight", part.take(f"{theirs}.weight", width, width_in, side, side), (1, *shape[:3], side))
    yield Step(f"{ours}.modulation.weight", part.take(f"{theirs}.affine.weight", width_in, dim), (width_in, dim))
    yield Step(f"{ours}.modulation.bias", part.take(f"{theirs}.affine.bias", width_in), (width_in,))


def _learning_rate(part: _Network, module: str) -> float:
    """The factor that a mapping layer's weights are used with; ours are stored for 0.01."""
    rate = part.option(module, "bias_gain")
    if rate is None:
        return LR_MLP
    if type(rate) not in (int, float) or not 1e-6 <= rate <= 100:
        part.refuse(f"{module}.bias_gain is {printable(repr(rate))}")
    return float(rate)


def _check_discriminator(part: _Network, size: int) -> None:
    """Refused where a discriminator that is whole cannot be used here."""
    for module in ("", "b4", f"b{size}"):
        part.expect(module, c_dim=0, cmap_dim=0, architecture="resnet", img_channels=3)
    if "b4.mbstd" not in part.options:
        part.refuse("it has no minibatch deviation")
    part.expect("b4.mbstd", num_channels=1)


def _discriminator_plan(part: _Network, size: int) -> Iterator[Step]:
    part.expect("", img_resolution=size)
    width = part.shape(f"b{size}.fromrgb.weight", None, 3, 1, 1)[0]
    yield from _plain(part, f"b{size}.fromrgb", "convs.0", (width, 3, 1))
    for k, side in enumerate(resolutions(size)[:0:-1], 1):
        block, ours = f"b{side}", f"convs.{k}"
        part.expect(block, architecture="resnet", resolution=side)
        out = part.shape(f"{block}.conv1.weight", None, width, 3, 3)[0]
        yield from _plain(part, f"{block}.conv0", f"{ours}.conv1", (width, width, 3))
        yield from _plain(part, f"{block}.conv1", f"{ours}.conv2", (out, width, 3), down=2)
        yield from _plain(part, f"{block}.skip", f"{ours}.skip", (out, width, 1), down=2, bias=False)
        width = out
    yield from _plain(part, "b4.conv", "final_conv", (width, width + 1, 3))
    for name, ours, n_in, n_out in (("fc", "final_linear.0", 16 * width, width), ("out", "final_linear.1", width, 1)):
        theirs, activation = f"b4.{name}", "lrelu" if name == "fc" else "linear"
        part.expect(theirs, activation=activation, bias_gain=1.0, weight_gain=1 / math.sqrt(n_in))
        yield Step(f"{ours}.weight", part.take(f"{theirs}.weight", n_out, n_in), (n_out, n_in))
        yield Step(f"{ours}.bias", part.take(f"{theirs}.bias", n_out), (n_out,))


def _plain(
    part: _Network, theirs: str, ours: str, shape: tuple[int, int, int], *, down: int = 1, bias: bool = True
) -> Iterator[Step]:
    """Convolution of the discriminator: filter (if down), weight, bias, in the places of our sequential layers."""
    out, n_in, side = shape
    gain, activation = (SQRT2, "lrelu") if bias else (1.0, "linear")
    part.expect(theirs, up=1, down=down, activation=activation, act_gain=gain, weight_gain=1 / math.sqrt(n_in) / side)
    place = 0
    if down == 2:
        yield Step(f"{ours}.0.kernel", part.take(f"{theirs}.resample_filter", 4, 4), (4, 4))
        place = 1
    yield Step(f"{ours}.{place}.weight", part.take(f"{theirs}.weight", out, n_in, side, side), (out, n_in, side, side))
    if bias:
        yield Step(f"{ours}.{place + 1}.bias", part.take(f"{theirs}.bias", out), (out,))
