"""The kernels on a GPU against a float64 reference: values, gradients, second derivatives, layouts, streams, graphs.

`make test-gpu` runs this and, under compute-sanitizer, kernels_device.cu. Without a GPU it is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

import kernel_cases
import pytest
import torch
from kernel_cases import BINOMIAL, DTYPES, TOLERANCE, difference
from torch import Tensor
from torch.autograd import grad

from psp.networks.stylegan2 import Generator
from stylegan2_ops import bias_act, layer_epilogue, loader, upfirdn2d
from stylegan2_ops.epilogue import layer_epilogue_reference
from stylegan2_ops.upfirdn2d import upfirdn2d_reference

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def kernels_or_an_error(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PSP_OPS", "cuda")
    yield
    torch.cuda.synchronize()


def needs_free_memory(gib: int) -> None:
    torch.cuda.empty_cache()
    if torch.cuda.mem_get_info()[0] < gib * 2**30:
        pytest.skip(f"needs {gib} GiB of free GPU memory")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(10))
def test_layer_epilogue_on_random_shapes(seed: int, dtype: torch.dtype) -> None:
    kernel_cases.check_layer_epilogue(seed, dtype, "cuda", side=70, cases=10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(10))
def test_upfirdn2d_on_random_shapes(seed: int, dtype: torch.dtype) -> None:
    kernel_cases.check_upfirdn2d(seed, dtype, "cuda", side=70, cases=10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(10))
def test_blur_and_epilogue_on_random_shapes(seed: int, dtype: torch.dtype) -> None:
    kernel_cases.check_blur_and_epilogue(seed, dtype, "cuda", side=70, cases=10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(10))
def test_epilogue_to_rgb_on_random_shapes(seed: int, dtype: torch.dtype) -> None:
    kernel_cases.check_epilogue_to_rgb(seed, dtype, "cuda", side=40, cases=10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 8), (3, 5, 7), (2, 16, 9, 9), (0, 3, 4, 4), (1, 512, 1, 1), (2, 3, 4, 5, 2)])
def test_bias_act(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    kernel_cases.check_bias_act(shape, dtype, "cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_large_tensors_take_long_walks(channels_last: bool, dtype: torch.dtype) -> None:
    """Several rounds per thread and many partial sums, as in a 1024 px layer."""
    needs_free_memory(16)
    x = torch.randn(8, 32, 1024, 1024, device="cuda", dtype=dtype)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    scale, bias = torch.rand(8, 32, device="cuda") + 0.5, torch.randn(32, device="cuda")
    noise, strength = torch.randn(1, 1, 1024, 1024, device="cuda"), torch.randn(1, device="cuda")
    leaves = [t.requires_grad_() for t in (x, scale, strength, bias)]
    y = layer_epilogue(x, demodulation=scale, noise=noise, strength=strength, bias=bias)
    direction = torch.randn_like(y)
    dx, dscale, dstrength, dbias = grad(y, leaves, direction)
    repeated = grad(layer_epilogue(x, demodulation=scale, noise=noise, strength=strength, bias=bias), leaves, direction)
    assert all(torch.equal(a, b) for a, b in zip((dx, dscale, dstrength, dbias), repeated)), "sums always alike"
    for i in (0, 7):  # sample by sample: float64 of all would not fit everywhere
        one = [x[i : i + 1].detach().double().requires_grad_(), scale[i : i + 1].detach().double().requires_grad_()]
        wanted = layer_epilogue_reference(*one, noise.double(), strength.double(), bias.double(), 0.2, 2**0.5, None)
        assert difference(y[i : i + 1], wanted) < TOLERANCE[dtype]
        tx, tscale = grad(wanted, one, direction[i : i + 1].double())
        assert difference(dx[i : i + 1], tx) < TOLERANCE[dtype]
        assert difference(dscale[i : i + 1], tscale) < TOLERANCE[dtype]
    del dx, y, repeated
    blurred = upfirdn2d(x.detach()[:1], BINOMIAL.cuda(), pad=(1, 1))
    assert (
        difference(blurred, upfirdn2d_reference(x.detach()[:1].double(), BINOMIAL.cuda().double(), 1, 1, (1,) * 4))
        < (TOLERANCE[dtype])
    )


def test_more_than_two_to_the_31_elements() -> None:
    needs_free_memory(24)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.empty(2, 33, 8192, 4096, device="cuda", dtype=torch.float16)
        x = x.contiguous(memory_format=layout).fill_(-1.0)
        x[-1, -1, -1, -1] = 3.0
        y = layer_epilogue(x, bias=torch.ones(33, device="cuda"), gain=1.0)
        assert y[-1, -1, -1, -1] == 4 and y[0, 0, 0, 0] == 0 and y.amax() == 4 and y.amin() == 0
        del y
        z = upfirdn2d(x, BINOMIAL.cuda(), pad=(2, 1))
        assert z[-1, -1, -3, -3] == -1  # the last sees 7 by 7 of 8 by 8 weights, 9 of them on the 3
        assert (z[-1, -1, -1, -1] - (9 * 3 - 40) / 64).abs() < 1e-3
        del x, z


def synthetic() -> tuple[Generator, Tensor]:
    torch.manual_seed(0)
    generator = Generator(32, 64, 2, channels={4: 32, 8: 32, 16: 24, 32: 16}).cuda().requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith(("noise.weight", "activate.bias")):
            torch.nn.init.normal_(parameter)
    return generator, torch.randn(3, generator.n_styles, 64, device="cuda")


def test_a_generator_gives_the_same_pictures_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, codes = synthetic()
    codes.requires_grad_()
    answers = []
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        torch.backends.cuda.matmul.allow_tf32 = False
        for mode in ("cuda", "ref"):
            monkeypatch.setenv("PSP_OPS", mode)
            y = generator.synthesize(codes)
            answers.append((y, *grad(y.square().sum(), codes)))
    for ours, wanted in zip(*answers):
        assert difference(ours, wanted) < 1e-4


@pytest.mark.parametrize("training", [False, True])
def test_a_cuda_graph_replays_it(training: bool) -> None:
    """Capture fails at any synchronisation and at memory from outside of torch's allocator."""
    generator, codes = synthetic()
    codes.requires_grad_(training)

    def run() -> tuple[Tensor, ...]:
        with torch.set_grad_enabled(training):
            y = generator.synthesize(codes)
            return (y, *grad(y.square().sum(), codes)) if training else (y,)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()
    for seed in range(3):
        torch.manual_seed(seed)
        with torch.no_grad():
            codes.normal_()
        graph.replay()
        for ours, wanted in zip(results, run()):
            assert difference(ours.clone(), wanted) < 1e-4  # convolutions need not repeat to the bit


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_leaves_the_input_as_it_is(dtype: torch.dtype) -> None:
    x, bias = torch.randn(2, 8, 9, 9, device="cuda", requires_grad=True), torch.randn(8, device="cuda")
    with torch.autocast("cuda", dtype=dtype):
        for given in (x, x.detach().to(dtype)):
            y = layer_epilogue(given, fir=BINOMIAL.cuda(), pad=(1, 1), bias=bias)
            assert y.dtype == given.dtype == bias_act(given, bias).dtype == upfirdn2d(given, BINOMIAL.cuda()).dtype
        y = layer_epilogue(x, bias=bias)
        y.square().sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.float32
    assert (
        difference(y, layer_epilogue_reference(x.double(), None, None, None, bias.double(), 0.2, 2**0.5, None)) < 1e-6
    )
    generator, codes = synthetic()
    wanted = generator.synthesize(codes)
    with torch.autocast("cuda", dtype=dtype):
        assert difference(generator.synthesize(codes), wanted) < 0.1


def test_each_stream_sees_its_own_work() -> None:
    x = torch.randn(4, 32, 256, 256, device="cuda")
    bias, taps = torch.randn(32, device="cuda"), BINOMIAL.cuda()
    wanted = [layer_epilogue(x * k, fir=taps, pad=(2, 1), bias=bias) for k in range(1, 9)]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(2)]
    results: list[Tensor] = []
    for k in range(1, 9):
        with torch.cuda.stream(streams[k % 2]):
            torch.cuda._sleep(2_000_000)  # a kernel on another stream would run before its input is there
            scaled = x * k
            results.append(layer_epilogue(scaled, fir=taps, pad=(2, 1), bias=bias))
            del scaled
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(results, wanted))


def test_a_second_device_is_used_while_the_first_is_current() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device")
    x = torch.randn(2, 8, 9, 9, device="cuda:1", requires_grad=True)
    bias, taps = torch.randn(8, device="cuda:1"), BINOMIAL.to("cuda:1")
    assert torch.cuda.current_device() == 0
    y = layer_epilogue(x, fir=taps, pad=(1, 1), bias=bias)
    (dx,) = grad(y.sum(), x)
    assert y.device == dx.device == x.device and torch.cuda.current_device() == 0
    with pytest.raises(ValueError, match="cuda:0"):
        bias_act(x, bias.to("cuda:0"))


def test_torch_compile_gives_the_same_in_one_graph() -> None:
    generator, codes = synthetic()
    codes.requires_grad_()
    compiled = torch.compile(generator.synthesize, fullgraph=True)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        ours, wanted = compiled(codes), generator.synthesize(codes)
        assert difference(ours, wanted) < 1e-4
        assert difference(*(grad(y.square().sum(), codes)[0] for y in (ours, wanted))) < 1e-4


def test_what_the_kernels_do_not_have_goes_by_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 2, 5, 5, device="cuda", dtype=torch.float64)
    with pytest.raises(loader.OpsError, match="float64"):
        bias_act(x)
    monkeypatch.setenv("PSP_OPS", "auto")
    assert bias_act(x).dtype == torch.float64
    kernel = torch.randn(4, 4, device="cuda", requires_grad=True)
    upfirdn2d(x.float(), kernel, pad=(2, 2)).sum().backward()
    assert kernel.grad is not None
