"""NVIDIA's StyleGAN2 pickles: the same pictures and scores, every variant told apart, nothing executed."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import nvidia_networks as nvidia
import pytest
import torch
from nvidia_networks import snapshot, written
from torch import Tensor, nn

from psp.errors import UserError
from psp.networks.stylegan2 import Generator
from psp.networks.stylegan2_discriminator import Discriminator
from psp.weights.nvidia import looks_like_nvidia_pickle, read_nvidia_pickle


def refused(path: Path) -> str:
    """The one line that a file is refused with."""
    with pytest.raises(UserError) as caught:
        read_nvidia_pickle(path)
    message = str(caught.value)
    assert "\n" not in message and message.isprintable() and len(message) < 400 and str(path) in message, message
    return message


def part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(name + ".")}


def ours(tensors: dict[str, Tensor], config: dict[str, Any]) -> Generator:
    generator = Generator(config["size"], config["style_dim"], config["n_mlp"], channels=config["channels"])
    generator.load_state_dict(part(tensors, "decoder"))  # strict: names and shapes
    return generator.double().eval()


def difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def same_function(theirs: nvidia.Generator, generator: Generator) -> float:
    """Largest relative difference of mapping and pictures, in float64, with stored noise and a style per layer."""
    theirs = theirs.double()
    z = torch.randn(3, generator.style_dim, dtype=torch.float64)
    codes = torch.randn(3, generator.n_styles, generator.style_dim, dtype=torch.float64)
    with torch.no_grad():
        assert difference(generator.map(z), theirs.mapping(z)) < 1e-6
        return difference(generator.synthesize(codes), theirs.synthesis(codes))


# ---- what is read ------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"size": 8, "layers": 8}, {"size": 64, "ada": False, "clamp": None}, {"size": 32, "base": 64},
        {"size": 32, "channels_last": True}, {"lr": 0.5}, {"layers": 1, "most": 5, "z_dim": 7},
    ],
    ids=str,
)  # fmt: skip
def test_same_pictures(options: dict[str, Any], protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia.Persistent, "old", protocol != 4)
    theirs = nvidia.Generator(**options)
    tensors, config = read_nvidia_pickle(written(tmp_path / "g.pkl", snapshot(theirs), protocol))
    blocks = {s: theirs.synthesis.get_submodule(f"b{s}") for s in theirs.synthesis.block_resolutions}
    assert config == {
        "size": theirs.img_resolution, "style_dim": theirs.w_dim, "n_mlp": theirs.mapping.num_layers,
        "channels": {s: block.torgb.weight.shape[1] for s, block in blocks.items()},
        "network": "G_ema", "conv_clamp": options.get("clamp", 256),
    }  # fmt: skip
    assert all(value.dtype == torch.float32 and value.is_contiguous() for value in tensors.values())
    assert torch.equal(tensors["latent_avg"], theirs.mapping.w_avg)
    assert same_function(theirs, ours(tensors, config)) < 1e-7


def test_faint_styles_still_agree(tmp_path: Path) -> None:
    """The 1e-8 of the demodulation is the only difference; styles 100 times smaller than trained ones show it most."""
    theirs = nvidia.Generator(32)
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            if ".conv" in name and ".affine." in name:
                value.mul_(0.01)
    generator = ours(*read_nvidia_pickle(written(tmp_path / "g.pkl", snapshot(theirs))))
    assert 1e-9 < same_function(theirs, generator) < 1e-4


@pytest.mark.parametrize(("size", "batch", "group"), [(8, 4, 4), (16, 8, 4), (32, 2, 4), (64, 1, 8)])
def test_same_scores(size: int, batch: int, group: int, tmp_path: Path) -> None:
    theirs = nvidia.Discriminator(size, group_size=group)
    path = written(tmp_path / "g.pkl", snapshot(nvidia.Generator(size), theirs))
    tensors, config = read_nvidia_pickle(path)
    assert config["stddev_group"] == group and "discriminator_left_out" not in config
    critic = Discriminator(size, channels=config["channels"])
    critic.load_state_dict(part(tensors, "discriminator"))
    images = torch.randn(batch, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        assert difference(critic.double()(images), theirs.double()(images)) < 1e-12


def test_the_averaged_generator_is_taken(tmp_path: Path) -> None:
    raw, averaged = nvidia.Generator(8), nvidia.Generator(8)
    path = written(tmp_path / "g.pkl", {"G": raw, "G_ema": averaged, "D": None})
    tensors, config = read_nvidia_pickle(path)
    assert config["network"] == "G_ema"
    assert torch.equal(tensors["decoder.input.input"][0], averaged.synthesis.b4.const)
    for content in ({"G": raw, "G_ema": None}, raw):
        tensors, config = read_nvidia_pickle(written(path, content))
        assert config["network"] == "G"
        assert torch.equal(tensors["decoder.input.input"][0], raw.synthesis.b4.const)


def test_without_average_latent(tmp_path: Path) -> None:
    theirs = nvidia.Generator(8)
    theirs.mapping.register_buffer("w_avg", None)
    assert "latent_avg" not in read_nvidia_pickle(written(tmp_path / "g.pkl", snapshot(theirs)))[0]


def test_frozen_layers_are_buffers(tmp_path: Path) -> None:
    """Freeze-D and freeze-M keep weights as buffers."""
    theirs, critic = nvidia.Generator(8), nvidia.Discriminator(8)
    for layer in (theirs.mapping.fc0, critic.b8.conv0, critic.b8.skip):
        weight, bias = layer.weight.data, layer.bias
        del layer.weight, layer.bias
        layer.register_buffer("weight", weight)
        if bias is not None:
            layer.register_buffer("bias", bias.data)
        else:
            layer.bias = None
    tensors, config = read_nvidia_pickle(written(tmp_path / "g.pkl", snapshot(theirs, critic)))
    assert same_function(theirs, ours(tensors, config)) < 1e-7
    assert torch.equal(tensors["discriminator.convs.1.conv1.0.weight"], critic.b8.conv0.weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_fp32(dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = nvidia.Generator(8).to(dtype)
    tensors, _ = read_nvidia_pickle(written(tmp_path / "g.pkl", snapshot(theirs)))
    assert torch.equal(tensors["decoder.conv1.conv.weight"][0], theirs.synthesis.b4.conv1.weight.float())
    assert {value.dtype for value in tensors.values()} == {torch.float32}


def test_tensors_have_memory_of_their_own(tmp_path: Path) -> None:
    """A tensor that occurs twice, or is a part of a larger one, is copied out."""
    theirs = nvidia.Generator(8)
    many = torch.randn(3, 12)
    theirs.synthesis.b4.conv1.bias = nn.Parameter(many[1])
    theirs.synthesis.b8.conv0.bias = theirs.synthesis.b4.conv1.bias
    tensors, _ = read_nvidia_pickle(written(tmp_path / "g.pkl", snapshot(theirs)))
    first, second = tensors["decoder.conv1.activate.bias"], tensors["decoder.convs.0.activate.bias"]
    assert torch.equal(first, many[1]) and torch.equal(second, many[1])
    assert first.data_ptr() != second.data_ptr() and first.untyped_storage().nbytes() == 48


def test_a_file_cannot_become_larger_in_memory(tmp_path: Path) -> None:
    """One stored weight in the place of 60."""
    theirs = nvidia.Generator(8, 64, layers=60)
    for layer in theirs.mapping.children():
        layer.weight = theirs.mapping.fc0.weight
    message = refused(written(tmp_path / "g.pkl", snapshot(theirs)))
    assert "bytes of tensors, more than it holds" in message


def test_the_source_in_the_file_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "it ran"
    monkeypatch.setattr(nvidia.Persistent, "source", f"open({str(mark)!r}, 'w').close()\n")
    path = written(tmp_path / "g.pkl", snapshot(nvidia.Generator(8), nvidia.Discriminator(8)))
    assert str(mark) in path.read_bytes().decode("latin1")
    modules = set(sys.modules)
    read_nvidia_pickle(path)
    assert not mark.exists() and set(sys.modules) == modules
    with nvidia.nvidia_modules(), path.open("rb") as file:  # the control: an ordinary unpickler does run it
        pickle.load(file)
    assert mark.exists()


def test_protocol_2_is_refused(tmp_path: Path) -> None:
    """There, bytes are text and a function that turns it back. Python 3 has never written it unless it was asked to."""
    assert "never loaded" in refused(written(tmp_path / "g.pkl", snapshot(nvidia.Generator(8)), 2))


def test_recognised_by_content(tmp_path: Path) -> None:
    for protocol in (2, 3, 4, 5):
        assert looks_like_nvidia_pickle(nvidia.dumps({"G": 1}, protocol)[:512])
    for zipped in (True, False):
        for protocol in (2, 4):
            data = io.BytesIO()
            torch.save({"g_ema": torch.ones(1)}, data, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
            assert not looks_like_nvidia_pickle(data.getvalue()[:512])
    for data in (b"", b"\x80", b"<html>", b"\x80\x06}.", b"PK\3\4", b"\x93NUMPY", bytes(64), b"\x10\0\0\0\0\0\0\0{}"):
        assert not looks_like_nvidia_pickle(data)


# ---- what is refused ---------------------------------------------------------------------------------


def test_other_networks_say_what_they_are(tmp_path: Path) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("conditional", {"c_dim": 10}), ("1 channels", {"colours": 1}), ("4 channels", {"colours": 4}),
        ("z has 8 numbers and w has 16", {"z_dim": 8, "w_dim": 16}), ("have 4 px", {"size": 4}),
        ("have 2048 px", {"size": 2048, "base": 2048, "most": 1}),
    ]  # fmt: skip
    for wanted, options in cases:
        message = refused(written(tmp_path / "g.pkl", snapshot(nvidia.Generator(**options))))
        assert wanted in message, message


def test_a_stylegan3_generator_says_so(tmp_path: Path) -> None:
    theirs = nvidia.Generator(8)
    theirs.synthesis = nvidia.Persistent()
    theirs.synthesis.input = nvidia.Persistent()
    theirs.synthesis.input.register_buffer("freqs", torch.randn(8, 2))
    assert "StyleGAN3" in refused(written(tmp_path / "g.pkl", snapshot(theirs)))
    theirs.synthesis = nvidia.Persistent()
    assert "no StyleGAN2 generator" in refused(written(tmp_path / "g.pkl", snapshot(theirs)))


def test_tensorflow_pickles_say_so(tmp_path: Path) -> None:
    (tmp_path / "tf.pkl").write_bytes(b"\x80\x03cdnnlib.tflib.network\nNetwork\nq\x00)\x81q\x01}q\x02b.")
    message = refused(tmp_path / "tf.pkl")
    assert "TensorFlow" in message and "legacy.py" in message


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({}, "without a generator"), ({"G_ema": None}, "without a generator"), ([1], "a pickled list"), (3, "int"),
        ({"G_ema": {"b4.const": torch.ones(1)}}, "without a generator"), (torch.ones(2), "StoredTensor"),
        ({"D": nvidia.Discriminator(8)}, "without a generator"), ({"G_ema": nvidia.Discriminator(8)}, "no StyleGAN2"),
    ],
)  # fmt: skip
def test_other_pickles_say_what_is_missing(content: Any, wanted: str, tmp_path: Path) -> None:
    assert wanted in refused(written(tmp_path / "g.pkl", content))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("z_dim", 8), ("w_dim", 512), ("img_resolution", 1024), ("num_ws", 18), ("img_channels", 1), ("z_dim", "16"),
        ("mapping.num_layers", 8), ("mapping.w_dim", 17), ("mapping.num_ws", 3), ("synthesis.img_resolution", 2**40),
        ("synthesis.num_ws", [1]), ("synthesis.b8.in_channels", 512), ("synthesis.b8.architecture", "resnet"),
        ("synthesis.b4.architecture", "orig"), ("synthesis.b16.resolution", 32), ("synthesis.b8.conv0.up", 1),
        ("synthesis.b8.conv1.up", 2), ("synthesis.b8.conv1.activation", "relu"), ("mapping.fc0.activation", "linear"),
        ("synthesis.b8.conv1.act_gain", 1.0), ("synthesis.b8.torgb.weight_gain", 0.5), ("mapping.fc1.weight_gain", 1.0),
        ("synthesis.b8.torgb.affine.bias_gain", 0.01), ("mapping.fc0.bias_gain", -1), ("mapping.fc0.bias_gain", "x"),
        ("mapping.fc0.bias_gain", float("nan")), ("synthesis.b8.conv1.act_gain", float("inf")),
        ("mapping.num_layers", "a\nb\x1b[31m" * 200), ("c_dim", 3), ("mapping.c_dim", 3),
    ],
    ids=str,
)  # fmt: skip
def test_contradictions_are_named(where: str, value: Any, tmp_path: Path) -> None:
    theirs = nvidia.Generator(16)
    module, name = where.rpartition(".")[::2]
    setattr(theirs.get_submodule(module), name, value)
    message = refused(written(tmp_path / "g.pkl", snapshot(theirs)))
    assert name in message and "(G_ema) that does not fit" in message, message


@pytest.mark.parametrize("ada", [True, False])
def test_widths_contradicting_the_options_are_named(ada: bool, tmp_path: Path) -> None:
    theirs = nvidia.Generator(16, ada=ada)
    options = theirs._init_kwargs["synthesis_kwargs"] if ada else theirs._init_kwargs
    options["channel_base"] = 32768
    assert "channel_base is 32768" in refused(written(tmp_path / "g.pkl", snapshot(theirs)))


NAMES = [
    "mapping.fc0.weight", "mapping.fc1.bias", "mapping.w_avg", "synthesis.b4.const", "synthesis.b4.conv1.weight",
    "synthesis.b8.conv0.affine.weight", "synthesis.b8.conv0.resample_filter", "synthesis.b8.torgb.bias",
    "synthesis.b16.resample_filter", "synthesis.b16.conv1.noise_const", "synthesis.b16.conv1.noise_strength",
]  # fmt: skip


@pytest.mark.parametrize("where", NAMES)
def test_faulty_tensors_are_named(where: str, tmp_path: Path) -> None:
    def message(value: Tensor | None) -> str:
        theirs = nvidia.Generator(16)
        module, name = where.rpartition(".")[::2]
        owner = theirs.get_submodule(module)
        good = getattr(owner, name).data
        delattr(owner, name)
        if value is not None:
            owner.register_buffer(name, value.to(good.dtype) * good if value.numel() == 1 else value)
        return refused(written(tmp_path / "g.pkl", snapshot(theirs)))

    assert "not finite" in message(torch.tensor(float("nan"))) and "not finite" in message(torch.tensor(float("inf")))
    assert where in message(torch.randn(2, 3, 5)) or where == "synthesis.b4.const"
    if where != "mapping.w_avg":
        assert "missing" in message(None)


def test_unknown_tensors_are_named(tmp_path: Path) -> None:
    theirs = nvidia.Generator(16)
    theirs.synthesis.b8.register_buffer("extra", torch.ones(1))
    assert "1 unknown tensors (synthesis.b8.extra)" in refused(written(tmp_path / "g.pkl", snapshot(theirs)))


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.uint8])
def test_weights_that_are_no_floats_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = nvidia.Generator(16)
    theirs.synthesis.b4.conv1.noise_const = torch.ones(4, 4, dtype=dtype)
    assert str(dtype) in refused(written(tmp_path / "g.pkl", snapshot(theirs)))


@pytest.mark.parametrize(
    ("where", "value", "reason"),
    [
        ("b4.mbstd.num_channels", 2, "num_channels is 2"), ("b4.mbstd", None, "no minibatch deviation"),
        ("c_dim", 5, "c_dim is 5"), ("b4.cmap_dim", 5, "cmap_dim is 5"), ("b16.architecture", "skip", "'skip'"),
    ],
)  # fmt: skip
def test_a_discriminator_of_another_kind_is_left_out(where: str, value: Any, reason: str, tmp_path: Path) -> None:
    critic = nvidia.Discriminator(16)
    module, name = where.rpartition(".")[::2]
    setattr(critic.get_submodule(module), name, value)
    tensors, config = read_nvidia_pickle(written(tmp_path / "g.pkl", snapshot(nvidia.Generator(16), critic)))
    assert reason in config["discriminator_left_out"] and not part(tensors, "discriminator")


@pytest.mark.thorough
def test_a_faulty_discriminator_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.pkl"
    assert "32 instead of 16" in refused(written(path, snapshot(nvidia.Generator(16), nvidia.Discriminator(32))))
    for where in ("b16.fromrgb.weight", "b8.conv1.weight", "b8.skip.resample_filter", "b4.fc.bias", "b4.out.weight"):
        for value in (None, torch.randn(1, 2, 3, 4, 5), float("nan")):
            critic = nvidia.Discriminator(16)
            module, name = where.rpartition(".")[::2]
            owner = critic.get_submodule(module)
            good = getattr(owner, name).data
            delattr(owner, name)
            owner.register_buffer(name, good * value if isinstance(value, float) else value)
            message = refused(written(path, snapshot(nvidia.Generator(16), critic)))
            assert where in message or "not finite in discriminator." in message, message
    critic = nvidia.Discriminator(16)
    critic.b8.conv1.down = 1
    assert "b8.conv1.down is 1" in refused(written(path, snapshot(nvidia.Generator(16), critic)))


# ---- real sizes --------------------------------------------------------------------------------------

MEASURE = """
import json, sys, time
from pathlib import Path
import torch
from psp.weights.nvidia import read_nvidia_pickle
def peak():
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
before, start = peak(), time.perf_counter()
tensors, config = read_nvidia_pickle(Path(sys.argv[1]))
print(json.dumps({"seconds": time.perf_counter() - start, "extra": peak() - before, "config": config}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("size", "base", "layers"), [(1024, 32768, 8), (512, 16384, 8), (256, 16384, 2)])
def test_real_sizes(size: int, base: int, layers: int, tmp_path: Path) -> None:
    theirs = nvidia.Generator(size, 512, layers=layers, base=base, most=512)
    path = written(tmp_path / "g.pkl", snapshot(theirs))
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    print(size, path.stat().st_size, measured)
    assert measured["extra"] < 1.3 * path.stat().st_size and measured["seconds"] < 20
    tensors, config = read_nvidia_pickle(path)
    generator = ours(tensors, config).float()
    assert generator.channels == {s: min(base // s, 512) for s in generator.channels}
    codes = torch.randn(1, generator.n_styles, 512)
    with torch.no_grad():
        assert difference(generator.synthesize(codes), theirs.float().synthesis(codes)) < 1e-4
