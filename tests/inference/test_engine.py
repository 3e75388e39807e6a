"""The fast forms of encoder and generator against the plain ones, and against pSp's structure."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_psp
from torch import Tensor
from variants import thorough

from psp.benchmark import original
from psp.errors import UserError
from psp.inference.engine import Engine, Graphed
from psp.inference.frozen_encoder import frozen_encoder
from psp.inference.translator import Translator
from psp.networks.encoders import ENCODERS
from psp.networks.stylegan2 import Generator
from psp.networks.stylegan2_inference import BatchedGenerator, FrozenGenerator


def generator(size: int = 32, channels: dict[int, int] | None = None) -> Generator:
    torch.manual_seed(size)
    net = Generator(size, 16, 2, channels=channels or {4: 12, 8: 10, 16: 8, 32: 6, 64: 4}).eval().requires_grad_(False)
    for name, value in net.named_parameters():  # new networks have zeros where mistakes would hide
        if name.endswith(("noise.weight", "bias")):
            value.normal_(0, 0.5)
    return net


def difference(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("size", [8, 16, 64])
@pytest.mark.parametrize("batch", [1, 3])
def test_all_forms_of_the_generator_agree(size: int, batch: int) -> None:
    net = generator(size)
    codes = torch.randn(batch, net.n_styles, 16)
    with torch.inference_mode():
        plain, psp = net.synthesize(codes), original.synthesize(net, codes)
        alone, batched = FrozenGenerator(net)(codes), BatchedGenerator(net)(codes)
    assert alone.shape == plain.shape and alone.dtype == torch.float32
    assert all(difference(form, plain) < 1e-5 for form in (psp, alone, batched))


def test_clamped_layers_are_clamped_in_every_form() -> None:
    net = Generator(16, 16, 2, channels={4: 12, 8: 10, 16: 8}, conv_clamp=0.8).eval().requires_grad_(False)
    free = generator(16, {4: 12, 8: 10, 16: 8})
    net.load_state_dict(free.state_dict())
    codes = torch.randn(2, net.n_styles, 16)
    with torch.inference_mode():
        plain = net.synthesize(codes)
        assert difference(free.synthesize(codes), plain) > 0.01  # it matters here
        assert difference(FrozenGenerator(net)(codes), plain) < 1e-5
        assert difference(BatchedGenerator(net)(codes), plain) < 1e-5


def test_a_sample_does_not_depend_on_its_batch() -> None:
    net = generator()
    frozen, codes = FrozenGenerator(net), torch.randn(4, net.n_styles, 16)
    with torch.inference_mode():
        together = frozen(codes)
        assert all(torch.equal(together[i : i + 1], frozen(codes[i : i + 1])) for i in range(4))


def test_the_generator_is_left_alone() -> None:
    net = generator()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    frozen = FrozenGenerator(net)
    codes = torch.randn(1, net.n_styles, 16)
    with torch.inference_mode():
        first, second = frozen(codes), frozen(codes)
    assert torch.equal(first, second)  # nothing is overwritten by working in place
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_bfloat16_is_close() -> None:
    net = generator()
    codes = torch.randn(2, net.n_styles, 16)
    with torch.inference_mode():
        for form in (FrozenGenerator, BatchedGenerator):
            assert difference(form(net, torch.bfloat16)(codes), net.synthesize(codes)) < 0.05


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", 2e-5), ("bf16", 0.2)])  # a small random net amplifies
def test_the_engine_gives_the_models_results(precision: str, allowed: float) -> None:
    model = tiny_psp().eval()
    source = torch.rand(2, 1, 256, 256)
    with torch.no_grad():
        codes = model.encode(source)
        images = model.decode(codes)
    engine = Engine(model, precision=precision)
    found = engine.encode(source)
    assert found.dtype == torch.float32 and difference(found, codes) < allowed
    assert difference(engine.decode(codes), images) < allowed
    assert not found.requires_grad


def test_what_cannot_work_is_refused_at_once() -> None:
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        Engine(tiny_psp(), precision="fp16")
    with pytest.raises(UserError, match="precision 'fp8' is not known; --precision takes auto, fp32"):
        Translator(tiny_psp(), precision="fp8")


@pytest.mark.parametrize(("fast", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_what_is_fast(fast: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psp.device.has_fast_bf16", lambda device: fast)
    translator = Translator(tiny_psp(), precision="auto")
    assert translator.precision == translator.engine.precision == chosen


@pytest.mark.parametrize(
    "encoder_type",
    [
        "CompactStyleEncoder",
        *thorough("GradualStyleEncoder", "Encoder4Editing", "BackboneEncoder", "ResNetGradualStyleEncoder"),
    ],
)
def test_the_encoder_for_gpus_agrees_with_the_plain_one(encoder_type: str) -> None:
    torch.manual_seed(1)
    encoder = ENCODERS[encoder_type](9, 1, 16).eval()
    for layer in encoder.modules():  # statistics as training leaves them
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(layer.running_mean, 0, 0.2)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    frozen = frozen_encoder(encoder, torch.float32)
    with torch.inference_mode():
        x = torch.rand(2 if encoder_type == "CompactStyleEncoder" else 1, 1, 256, 256)  # the others are large
        assert difference(frozen(x), encoder(x)) < 1e-5
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    norms = [sum(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules()) for net in (encoder, frozen)]
    assert norms[1] < norms[0]
    if encoder_type == "GradualStyleEncoder":
        assert norms == [52, 24]  # only those in front of a convolution are left


def test_a_shape_that_cannot_be_recorded_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def record(self: Graphed, x: Tensor) -> None:
        raise RuntimeError("out of memory\nand more")

    double = Graphed(lambda x: 2 * x, (0, 0))
    monkeypatch.setattr(Graphed, "_record", record)
    with pytest.warns(UserWarning, match=r"no CUDA graph for inputs of \(3,\): out of memory$"):
        assert double(torch.ones(3)).tolist() == [2, 2, 2]
    assert list(double.graphs.values()) == [None]
    assert double(torch.ones(3)).tolist() == [2, 2, 2]  # without another try, and another warning
    with pytest.warns(UserWarning, match=r"\(4,\)"):
        double(torch.ones(4))


@pytest.mark.slow
def test_compiled() -> None:
    model = tiny_psp().eval()
    source = torch.rand(1, 1, 256, 256)
    plain, compiled = Engine(model), Engine(model, compile=True)
    for _ in range(3):  # once more after everything is compiled: see docs/performance.md on freezing
        codes = compiled.encode(source)
        assert difference(codes, plain.encode(source)) < 1e-4
        assert difference(compiled.decode(codes), plain.decode(codes)) < 1e-4


def test_pairs_of_psps_steps_agree_with_ours() -> None:
    model = tiny_psp().eval()
    source, z = torch.rand(1, 1, 256, 256), torch.randn(3, 8)
    with torch.no_grad():
        codes = model.encode(source)
        plain = original.synthesize(model.decoder, model.encoder(source) + model.latent_avg)
        assert difference(plain, model.decode(codes)) < 1e-5
        mixed = codes.repeat(3, 1, 1)
        mixed[:, [4, 5]] = model.map(z)[:, [4, 5]]
        assert difference(original.mix(model, source, z, [4, 5]), model.decode(mixed)) < 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "allowed"), [("fp32", 1e-4), ("tf32", 3e-2), ("bf16", 0.2), ("fp16", 0.05)])
def test_on_a_gpu(precision: str, allowed: float) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = tiny_psp().eval()
    source = torch.rand(3, 1, 256, 256)
    with torch.no_grad():
        codes = model.encode(source)
        images = model.decode(codes)
    engine = Engine(model.cuda(), precision=precision)
    for _ in range(2):  # recorded, replayed
        for n in (3, 1):
            assert difference(engine.encode(source[:n].cuda()).cpu(), codes[:n]) < allowed
            assert difference(engine.decode(codes[:n].cuda()).cpu(), images[:n]) < allowed
    for network in (engine.decoder, engine.encoder):
        assert isinstance(network, Graphed) and None not in network.graphs.values()
