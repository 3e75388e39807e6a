"""torch.ops.stylegan2_ops on the CPU: what the kernels have to compute, and the gradients that are built on them.

The gradients are the same code on every device, so first and second derivatives are checked here without a GPU.
"""

from __future__ import annotations

import random
from typing import Any

import cpu_operators  # noqa: F401  # registers them
import pytest
import torch
from torch import Tensor, library
from torch.autograd import gradcheck, gradgradcheck

from stylegan2_ops import bias_act, epilogue_to_rgb, layer_epilogue, loader, scale_channels, upfirdn2d
from stylegan2_ops.operators import SIGNATURES

ops = torch.ops.stylegan2_ops


@pytest.fixture
def pretend_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The public operations take the way that they take on a GPU."""
    monkeypatch.setattr(loader, "use_kernels", lambda x: True)


def parts(x: Tensor, size: tuple[int, int] | None = None, noises: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, c, *own = x.shape
    scale, noise = torch.rand(n, c, dtype=x.dtype) + 0.5, torch.randn(noises, 1, *(size or own), dtype=x.dtype)
    return scale, noise, torch.randn(1, dtype=x.dtype), torch.randn(c, dtype=x.dtype)


def image(dtype: torch.dtype = torch.float64, channels_last: bool = False) -> Tensor:
    x = torch.randn(2, 3, 4, 5, dtype=dtype)
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def wanting(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(t.detach().requires_grad_() for t in tensors)


@pytest.mark.thorough
@pytest.mark.parametrize(("dtype", "channels_last"), [(torch.float32, True), (torch.bfloat16, False)])
def test_torch_finds_nothing_wrong(dtype: torch.dtype, channels_last: bool) -> None:
    """Schema, gradients, shapes without data, and that torch.compile gets the same; with static and dynamic shapes."""
    x = image(dtype, channels_last)
    scale, noise, strength, bias = parts(x)
    numbers = (0.2, 1.5)
    wx, *wparts = wanting(x, scale, noise, strength, bias)
    kernel = torch.randn(4, 4)
    library.opcheck(ops.epilogue.default, (wx, *wparts, *numbers, None))
    library.opcheck(ops.epilogue.default, (wx, None, None, None, wparts[3], *numbers, 2.0))
    library.opcheck(ops.epilogue_slope.default, (wx, x, scale, noise, strength, bias, *numbers, 2.0, False))
    library.opcheck(
        ops.epilogue_backward.default,
        (x, x.clone(), scale, noise, strength, bias, *numbers, None, False, True, False, True),
    )
    library.opcheck(ops.upfirdn2d.default, (wx, kernel, 2, 1, 2, 1, 1, 2, True))
    blurred = parts(x, (4, 5))
    library.opcheck(ops.blur_epilogue.default, (wx, kernel, 1, 2, 2, 1, *wanting(*blurred), *numbers, None))


def test_all_operations_are_checked() -> None:
    assert set(SIGNATURES) == {
        "epilogue", "epilogue_slope", "epilogue_backward", "upfirdn2d", "blur_epilogue", "epilogue_to_rgb",
    }  # fmt: skip


def test_what_is_for_inference_refuses_a_gradient() -> None:
    x, following = image(), torch.rand(2, 3, dtype=torch.float64)
    wx, wscale, kernel = (*wanting(x, following), torch.randn(4, 4, dtype=torch.float64))
    rest = (None, None, None, None, 0.2, 1.5, None)
    with pytest.raises(NotImplementedError, match="layer_epilogue has one"):
        ops.epilogue(wx, *rest, following)
    with pytest.raises(NotImplementedError, match="layer_epilogue has one"):
        ops.blur_epilogue(x, kernel, 1, 2, 2, 1, *rest, wscale)
    with pytest.raises(NotImplementedError, match="the function epilogue_to_rgb"):
        ops.epilogue_to_rgb(wx, *rest, None, True, x.new_ones(2, 3, 3), x.new_ones(3), None, None, kernel)
    for keep in (True, False):
        small = (x.float(), *rest, following.float(), keep, torch.ones(2, 3, 3), torch.ones(3), None, None, kernel)
        library.opcheck(ops.epilogue_to_rgb.default, small)
    library.opcheck(ops.epilogue.default, (x.float(), *rest, following.float()))


@pytest.mark.usefixtures("pretend_kernels")
@pytest.mark.parametrize("fused", [False, True])
def test_derivatives_with_the_next_layers_style(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the fused operation and a product where there are kernels, by the reference else."""
    monkeypatch.setattr(loader, "use_kernels", lambda x: fused)
    x, kernel = torch.randn(1, 2, 2, 4, dtype=torch.float64), torch.randn(4, 4, dtype=torch.float64)
    scale, noise, strength, bias = parts(x)
    weight, rgb_bias = torch.randn(1, 3, 2, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    skip = torch.randn(1, 3, 1, 2, dtype=torch.float64)

    def layer(x: Tensor, scale: Tensor, following: Tensor) -> Tensor:
        rest = {"demodulation": scale, "noise": noise, "strength": strength, "bias": bias, "next_scale": following}
        return layer_epilogue(x, fir=kernel, pad=(1, 2), clamp=2.0, **rest)

    def resolution(x: Tensor, scale: Tensor, following: Tensor, weight: Tensor, bias: Tensor, skip: Tensor) -> Any:
        rest = {"weight": weight, "rgb_bias": bias, "skip": skip, "next_scale": following, "demodulation": scale}
        return epilogue_to_rgb(x, kernel=kernel, rgb_clamp=3.0, **rest)

    inputs = wanting(x, scale, torch.rand(1, 2, dtype=torch.float64) + 0.5)
    assert gradcheck(layer, inputs) and gradgradcheck(layer, inputs, fast_mode=True)
    assert gradcheck(scale_channels, inputs[:2]) and gradgradcheck(scale_channels, inputs[:2], fast_mode=True)
    inputs = (*inputs, *wanting(weight, rgb_bias, skip))
    assert gradcheck(resolution, inputs) and gradgradcheck(resolution, inputs, fast_mode=True)


@pytest.mark.thorough
@pytest.mark.parametrize(("up", "down", "pad"), [(1, 1, (1, 1, 2, 1)), (2, 1, (2, 1, -1, 2)), (1, 2, (1, 2, 0, 3))])
@pytest.mark.parametrize("flip", [False, True])
def test_derivatives_of_upfirdn2d(up: int, down: int, pad: tuple[int, ...], flip: bool) -> None:
    kernel = torch.randn(4, 3, dtype=torch.float64)
    (x,) = wanting(image())

    def f(x: Tensor) -> Tensor:
        return ops.upfirdn2d(x, kernel, up, down, *pad, flip)

    assert gradcheck(f, (x,))
    assert gradgradcheck(f, (x,))


def test_the_fused_backward_runs_unless_its_gradient_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = wanting(image(), *parts(image()))
    y = ops.epilogue(*inputs, 0.2, 1.5, None)
    direction = torch.randn_like(y)
    with torch.profiler.profile() as profile:
        fused = torch.autograd.grad(y, inputs, direction, retain_graph=True)
    assert "stylegan2_ops::epilogue_backward" in {event.name for event in profile.events()}
    with torch.profiler.profile() as profile:
        composed = torch.autograd.grad(y, inputs, direction, create_graph=True)
    assert "stylegan2_ops::epilogue_backward" not in {event.name for event in profile.events()}
    for a, b in zip(fused, composed):
        torch.testing.assert_close(a, b)
        assert a.dtype == b.dtype and b.requires_grad


def test_the_fused_backward_says_that_it_cannot_be_differentiated() -> None:
    grad, x = wanting(image(), image())
    dx = ops.epilogue_backward(grad, x, *parts(x), 0.2, 1.5, None, False, False, False, False)[0]
    with pytest.raises(NotImplementedError, match="create_graph"):
        dx.sum().backward()


def test_a_frozen_layer_asks_for_no_sums_of_its_own() -> None:
    x, scale = wanting(image(), parts(image())[0])
    _, noise, strength, bias = parts(x)
    seen: list[tuple[Any, ...]] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is ops.epilogue_backward.default:
                seen.append(args[-3:])
            return func(*args, **(kwargs or {}))

    y = ops.epilogue(x, scale, noise, strength, bias, 0.2, 1.5, None)
    with Watch():
        torch.autograd.grad(y.sum(), (x, scale))
    assert seen == [(True, False, False)]


@pytest.mark.usefixtures("pretend_kernels")
@pytest.mark.parametrize("seed", range(4))
def test_the_public_operations_give_the_same_through_the_operators(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)

    def both(f: Any, *inputs: Tensor) -> None:
        through = f(*inputs)
        with monkeypatch.context() as inside:
            inside.setattr(loader, "use_kernels", lambda x: False)
            wanted = f(*inputs)
        torch.testing.assert_close(through, wanted, check_stride=wanted.ndim == 4)
        again = [torch.autograd.grad(y.sum(), inputs) for y in (through, wanted)]
        torch.testing.assert_close(*again)

    x, bias = wanting(image(torch.float32, rng.random() < 0.5), torch.randn(3))
    for shape in ((2, 3), (2, 3, 7), (2, 3, 4, 5), (2, 3, 2, 2, 2)):
        both(lambda x, bias: bias_act(x, bias, gain=1.5), *wanting(torch.randn(shape), bias))
    both(lambda x, bias: bias_act(x[:, :, ::2], bias), x, bias)
    both(lambda x: bias_act(x.transpose(0, 1)), *wanting(torch.randn(3, 4)))
    kernel = torch.randn(rng.randint(1, 5), 4)
    for up, down in ((1, 1), (2, 1), (1, 2), (2, 3)):
        both(lambda x, up=up, down=down: upfirdn2d(x, kernel, up, down, (2, 3, 4, 1)), x)
    both(lambda x, kernel: upfirdn2d(x, kernel, pad=(2, 2)), *wanting(x, torch.randn(4, 4)))
    scale, noise, strength, _ = wanting(*parts(x, noises=rng.choice([1, 2])))
    for fir in (None, torch.randn(4, 4), torch.randn(2, 2)):
        extra = 0 if fir is None else 3 - (fir.shape[0] - 1)
        big = torch.randn(noise.shape[0], 1, 4 + extra, 5 + extra)

        def epilogue(x: Tensor, scale: Tensor, noise: Tensor, strength: Tensor, bias: Tensor, fir: Any = fir) -> Tensor:
            return layer_epilogue(
                x, fir=fir, pad=(1, 2), demodulation=scale, noise=noise, strength=strength, bias=bias, clamp=3.0
            )

        both(epilogue, *wanting(x, scale, big, strength, bias))


@pytest.mark.usefixtures("pretend_kernels")
def test_a_kernel_that_learns_goes_by_the_reference() -> None:
    (kernel,) = wanting(torch.randn(4, 4))
    upfirdn2d(image(torch.float32), kernel, pad=(2, 2)).sum().backward()
    assert kernel.grad is not None and kernel.grad.abs().sum() > 0


@pytest.mark.usefixtures("pretend_kernels")
def test_torch_compile_keeps_the_fused_operations() -> None:
    graphs: list[torch.fx.GraphModule] = []

    def note(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(graph)
        return graph

    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    backend = aot_autograd(fw_compiler=lambda g, i: make_boxed_func(note(g, i)))
    x = image(torch.float32)
    scale, noise, strength, bias = parts(x)
    inputs = wanting(x, scale, strength, bias)

    def layer(x: Tensor, scale: Tensor, strength: Tensor, bias: Tensor) -> Tensor:
        return layer_epilogue(
            x, fir=torch.ones(4, 4), pad=(1, 2), demodulation=scale, noise=noise, strength=strength, bias=bias
        )

    wanted = torch.autograd.grad(layer(*inputs).square().sum(), inputs)
    compiled = torch.compile(layer, backend=backend, fullgraph=True)
    ours = torch.autograd.grad(compiled(*inputs).square().sum(), inputs)
    torch.testing.assert_close(ours, wanted)
    names = [str(node.target) for graph in graphs for node in graph.graph.nodes if "stylegan2_ops" in str(node.target)]
    assert names.count("stylegan2_ops.blur_epilogue.default") == 1
    assert names.count("stylegan2_ops.epilogue_backward.default") == 2  # before and after the blur's adjoint
    assert names.count("stylegan2_ops.upfirdn2d.default") == 1 and len(names) == 4
