"""The cases of the benchmark: for each, pSp's way and ours on the same weights and inputs.

A case hands out functions without arguments; `scripts/benchmark.py` runs them in turns. The first way is the reference.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from psp.batch import Batch, Losses
from psp.benchmark import original
from psp.benchmark.measure import Run
from psp.inference.engine import Engine
from psp.models.mixing import fine_layers, mix
from psp.models.psp import PSP, build_encoder
from psp.networks.stylegan2 import Generator
from psp.tasks import get_task
from psp.training.methods.psp_step import PspMethod
from psp.training.ranger import make_optimizer
from stylegan2_ops import layer_epilogue, upfirdn2d
from stylegan2_ops.upfirdn2d import upfirdn2d_reference

REFERENCE = "pSp's structure"
Objective = Callable[..., Losses]


@dataclass
class Case:
    """name: what is done; images: how many come out of one run. ways: name -> function; the first is the reference.

    Each returns what it made, so that the results can be compared. moved: bytes that have to be read and written at
    least, for cases that are bound by memory. plain: our way step by step, where the ways replay graphs or are compiled
    and their arithmetic cannot be seen.
    """

    name: str
    images: int
    ways: dict[str, Run] = field(default_factory=dict)
    moved: float | None = None
    plain: Run | None = None


def random_model(size: int, device: torch.device) -> PSP:
    """pSp's sketch model of this output size with random weights and pSp's widths, seeded; none on the meta device."""
    torch.manual_seed(0)
    with torch.device("meta" if device.type == "meta" else "cpu"):
        generator = Generator(size)
        encoder = build_encoder("GradualStyleEncoder", generator.n_styles, 1, 512)
    for layer in (generator.conv1, *generator.convs):
        layer.noise.weight.data.fill_(0.1)
    task = get_task("celebs_sketch_to_face")
    return PSP(encoder, generator, latent_avg=torch.zeros(512), task=task).eval().to(device)


def sketches(batch: int, device: torch.device) -> Tensor:
    return torch.rand(batch, 1, 256, 256, generator=torch.Generator().manual_seed(1)).to(device)


def inference(model: PSP, batch: int, precisions: Sequence[str], *, compiled: bool) -> list[Case]:
    """Encoder, generator, and both together."""
    source = sketches(batch, model.device)
    with torch.inference_mode():
        codes = model.encode(source)
    plain = original.encoder(model.encoder)
    average = model.latent_avg
    encoder = Case("encoder", batch, {REFERENCE: lambda: plain(source) + average})
    size, synthesize = model.output_size, partial(original.synthesize, model.decoder)
    decoder = Case(f"generator {size}", batch, {REFERENCE: lambda: synthesize(codes)})
    both = Case(f"end to end {size}", batch, {REFERENCE: lambda: synthesize(plain(source) + average)})
    for precision in precisions:
        for compile in (False, True) if compiled else (False,):
            engine = Engine(model, precision=precision, compile=compile)
            name = f"ours, {precision}" + (", compiled" if compile else "")
            encoder.ways[name] = partial(engine.encode, source)
            decoder.ways[name] = partial(engine.decode, codes)
            both.ways[name] = lambda engine=engine: engine.decode(engine.encode(source))  # type: ignore[misc]
    encoder.plain, decoder.plain = lambda: model.encode(source), lambda: model.decode(codes)
    both.plain = lambda: model.decode(model.encode(source))
    return [encoder, decoder, both]


def mixing(model: PSP, outputs: int, precisions: Sequence[str]) -> Case:
    """Several faces for one sketch: pSp encodes and generates twice for each, we encode once."""
    source, layers = sketches(1, model.device), fine_layers(model.n_styles)
    plain = copy.copy(model)
    plain._modules = dict(model._modules) | {"encoder": original.encoder(model.encoder)}
    z = torch.randn(outputs, model.style_dim, generator=torch.Generator().manual_seed(2)).to(model.device)
    ways: dict[str, Run] = {REFERENCE: lambda: original.mix(plain, source, z, layers)}

    def ours(engine: Engine) -> Tensor:
        return engine.decode(mix(engine.encode(source).repeat(outputs, 1, 1), model.map(z), layers))

    ways |= {f"ours, {precision}": partial(ours, Engine(model, precision=precision)) for precision in precisions}
    name = f"mixing, {outputs} outputs, {model.output_size}"
    return Case(name, outputs, ways, plain=lambda: model.decode(model.encode(source).repeat(outputs, 1, 1)))


def trainer(model: PSP, objective: Objective, precision: str = "fp32") -> Callable[[Tensor, Tensor], Tensor]:
    """Our training step on a copy of the model, as `original.trainer`."""
    model = copy.deepcopy(model).train()
    model.encoder.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    optimiser = make_optimizer("ranger", [p for p in model.parameters() if p.requires_grad], 1e-4)
    assert model.task is not None
    method = PspMethod(model, objective, optimiser, task=model.task, precision=precision)
    return lambda source, target: method.training_step([Batch(source, target)], 0)["loss"]


def training(model: PSP, batch: int, objective: Objective, precisions: Sequence[str]) -> Case:
    """One training step of the encoder: forward, losses, gradients, Ranger. Each way trains a copy of its own."""
    source = sketches(batch, model.device)
    target = torch.rand(batch, 3, 256, 256, generator=torch.Generator().manual_seed(3)).to(model.device) * 2 - 1
    steps = {REFERENCE: original.trainer(model, objective)}
    steps |= {f"ours, {precision}": trainer(model, objective, precision) for precision in precisions}

    def run(step: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        torch.manual_seed(4)
        return step(source, target)

    ways: dict[str, Run] = {name: partial(run, step) for name, step in steps.items()}
    return Case(f"training step {model.output_size}", batch, ways)


def operations(device: torch.device, dtype: torch.dtype, size: int, channels: int, batch: int = 1) -> list[Case]:
    """The memory-bound steps of one large layer: what ends it, filter, enlarge, reduce. channels_last on a GPU, where
    the generator runs in it."""
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    x, wide = (
        torch.randn(batch, channels, side, side, device=device, dtype=dtype).contiguous(memory_format=layout)
        for side in (size, size + 1)
    )
    bias, scale = torch.randn(channels, device=device), torch.rand(batch, channels, device=device) + 0.5
    noise, strength = torch.randn(1, 1, size, size, device=device), torch.ones(1, device=device)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=device)
    kernel = taps[:, None] * taps[None, :] / 64
    label = f"{channels}x{size}x{size}, {str(dtype).removeprefix('torch.')}"

    def unfused(x: Tensor) -> Tensor:
        y = x * scale[:, :, None, None].to(x.dtype) + (strength * noise).to(x.dtype)
        return F.leaky_relu(y + bias[:, None, None].to(x.dtype), 0.2) * 2**0.5

    def ours(x: Tensor, fir: Tensor | None = None) -> Tensor:
        return layer_epilogue(x, demodulation=scale, noise=noise, strength=strength, bias=bias, fir=fir, pad=(1, 1))

    def blurred() -> Tensor:
        return unfused(upfirdn2d_reference(wide, kernel, 1, 1, (1, 1, 1, 1)))

    def case(name: str, moved: int, unfused: Run, fused: Run) -> Case:
        return Case(f"{name} {label}", batch, {"torch, unfused": unfused, "ours": fused}, moved * x.element_size())

    cases = [
        case("layer_epilogue", 2 * x.numel(), lambda: unfused(x), lambda: ours(x)),
        case("layer_epilogue with blur", x.numel() + wide.numel(), blurred, lambda: ours(wide, kernel)),
    ]
    for name, up, down, pad in (("blur", 1, 1, (2, 1)), ("up 2x", 2, 1, (2, 1)), ("down 2x", 1, 2, (1, 1))):
        moved = x.numel() + x.numel() * up**2 // down**2
        reference = partial(upfirdn2d_reference, x, kernel, up, down, (*pad, *pad))
        cases.append(case(f"upfirdn2d {name}", moved, reference, partial(upfirdn2d, x, kernel, up, down, pad)))
    return cases
