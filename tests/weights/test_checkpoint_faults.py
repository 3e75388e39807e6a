"""Weights files that must be refused in one line: damaged, hostile, of something else, or not fitting."""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tiny_checkpoints import Content, outputs, refused, written
from torch import Tensor, nn

from psp.models.psp import PSP
from psp.networks.encoders import ENCODERS
from psp.networks.state import load_strictly
from psp.weights.formats import read_weights
from psp.weights.load import encoder_kind, load_model, read_training_state
from psp.weights.save import save_safetensors

# ---- files that are no checkpoint --------------------------------------------------------------------


def damaged_files(folder: Path, content: Content) -> dict[str, tuple[Path, str]]:
    """What it is -> the file, and what the message has to say."""
    good = written(folder / "good.pt", content).read_bytes()
    save_safetensors({"encoder.x": torch.ones(100)}, {}, folder / "good.safetensors")
    tensors = (folder / "good.safetensors").read_bytes()

    def file(name: str, data: bytes) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    deep = b'{"a":' * 200_000
    return {
        "missing": (folder / "none.pt", "does not exist"),
        "folder": (folder, "is a folder"),
        "page": (file("page.pt", b"<!DOCTYPE html><html>Google Drive - Quota exceeded</html>"), "web page"),
        "page with blanks": (file("page2.pt", b"\xef\xbb\xbf\n\n  <html>"), "web page"),
        "page named safetensors": (file("page.safetensors", b"<html>"), "web page"),
        "empty": (file("empty.pt", b""), "damaged"),
        "text": (file("text.pt", b"hello world, this is text"), "damaged"),
        "truncated": (file("cut.pt", good[: len(good) // 2]), "damaged"),
        "almost complete": (file("cut2.pt", good[:-10]), "damaged"),
        "truncated safetensors": (file("cut.safetensors", tensors[:-7]), "damaged"),
        "safetensors header cut": (file("cut2.safetensors", tensors[:40]), "damaged"),
        "empty safetensors": (file("empty.safetensors", b""), "damaged"),
        "deep header": (file("deep.safetensors", len(deep).to_bytes(8, "little") + deep), "damaged"),
        "protocol 4 pickle": (file("nv.pkl", pickle.dumps({"G_ema": [1] * 9}, protocol=4)), "pickle"),
        "zeros": (file("zeros.pt", bytes(4096)), "damaged"),
        "list": (written(folder / "list.pt", [1, 2]), "list"),  # type: ignore[arg-type]
        "tensor": (written(folder / "tensor.pt", torch.ones(2)), "Tensor"),  # type: ignore[arg-type]
        "other": (written(folder / "other.pt", {"epoch": 3}), "'epoch'"),
        "nothing": (written(folder / "nothing.pt", {}), "entries"),
        "last.pt": (written(folder / "last.pt", {"training": {"step": 1}}), "best_model.pt"),
        "not tensors": (written(folder / "n.pt", {"state_dict": {"encoder.x": 3}}), "encoder.x is a int"),
        "numbered keys": (written(folder / "k.pt", {"state_dict": {1: torch.ones(1)}}), "no encoder"),
        "no state": (written(folder / "s.pt", {"state_dict": None}), "no encoder"),
        "generator only": (written(folder / "g.pt", {"g_ema": {}}), "no encoder"),
        "huge by strides": (
            written(folder / "h.pt", {"state_dict": {"decoder.input.input": torch.ones(1).expand(10**6, 10**6)}}),
            "not stored in full",
        ),
        "bad config": (
            file("c.safetensors", safetensors.torch.save({"x": torch.ones(1)}, {"config": "[1]"})),
            "its options are a list",
        ),
        "broken config": (
            file("c2.safetensors", safetensors.torch.save({"x": torch.ones(1)}, {"config": "{"})),
            "damaged",
        ),
    }


def test_files_that_are_no_checkpoint(content: Content, tmp_path: Path) -> None:
    for what, (path, wanted) in damaged_files(tmp_path, content).items():
        message = refused(lambda path=path: load_model(path))
        assert wanted in message and str(path) in message, f"{what}: {message}"
    os.mkfifo(tmp_path / "fifo.pt")
    assert "regular file" in refused(lambda: read_weights(tmp_path / "fifo.pt"))
    refused(lambda: read_weights(tmp_path / ("x" * 5000)))
    refused(lambda: read_weights("nul\0byte.pt"))


@pytest.mark.parametrize("cut", range(0, 100, 7))
def test_truncated_anywhere(cut: int, content: Content, tmp_path: Path) -> None:
    data = written(tmp_path / "m.pt", content).read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) * cut // 100])
    assert "cut.pt" in refused(lambda: load_model(tmp_path / "cut.pt"))


def test_code_in_a_pickle_never_runs(tmp_path: Path) -> None:
    evidence = tmp_path / "it ran"

    class Runs:
        def __init__(self, call: Callable[..., object], *args: object):
            self.call, self.args = call, args

        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return self.call, self.args

    attacks = [
        Runs(os.system, f"touch '{evidence}'"), Runs(os.mkdir, str(evidence)), Runs(os.rmdir, str(evidence)),
        Runs(eval, f"open({str(evidence)!r}, 'w')"), Runs(exec, f"open({str(evidence)!r}, 'w')"),
    ]  # fmt: skip
    for attack in attacks:
        for write in (
            lambda a, p: torch.save({"state_dict": a}, p),
            lambda a, p: p.write_bytes(pickle.dumps(a, protocol=2)),
        ):
            path = tmp_path / "evil.pt"
            write(attack, path)
            message = refused(lambda path=path: load_model(path))
            assert "never loaded" in message or "damaged" in message, message
            refused(lambda path=path: read_training_state(path))
    assert not evidence.exists()
    torch.save({"state_dict": {}, "thing": Path("x")}, path)
    assert "pathlib" in refused(lambda: load_model(path))  # named, so that one can see what it is


# ---- checkpoints that do not fit ---------------------------------------------------------------------


def test_another_task_is_refused(content: Content, tmp_path: Path) -> None:
    path = written(tmp_path / "m.pt", content)
    message = refused(lambda: load_model(path, task="celebs_seg_to_face"))
    assert "celebs_sketch_to_face" in message and "celebs_seg_to_face" in message and "--dataset_type" in message
    assert load_model(path, task="cufs_sketch_to_face").task.name == "cufs_sketch_to_face"  # also sketches
    assert "choose one of" in refused(lambda: load_model(path, task="nonsense"))


def test_other_channels_are_refused(content: Content, tmp_path: Path) -> None:
    del content["opts"]["dataset_type"]
    path = written(tmp_path / "m.pt", content)
    message = refused(lambda: load_model(path, task="celebs_seg_to_face"))
    assert "1-channel" in message and "19 channels" in message
    content["opts"]["dataset_type"] = "ffhq_encode"
    assert "1-channel" in refused(lambda: load_model(written(path, content)))


@pytest.mark.parametrize("where", ["encoder.heads.0.weight", "decoder.conv1.conv.weight", "decoder.noises.noise_1"])
@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "nan", "inf"])
def test_faulty_tensors_are_named(where: str, fault: str, content: Content, tmp_path: Path) -> None:
    state = content["state_dict"]
    name = where.split(".", 1)[1]
    if fault == "missing":
        del state[where]
    elif fault == "extra":
        name += "_more"
        state[where + "_more"] = torch.ones(1)
    elif fault == "shape":
        state[where] = torch.zeros(*state[where].shape, 2)
    else:
        state[where] = state[where].clone().fill_(float(fault))
    message = refused(lambda: load_model(written(tmp_path / "m.pt", content)))
    assert name in message
    assert {"missing": "missing", "extra": "unexpected", "shape": "wrong shape"}.get(fault, "not finite") in message


def test_average_latents_that_do_not_fit(content: Content, tmp_path: Path) -> None:
    for wrong in (torch.zeros(7, 16), torch.zeros(5), torch.full((16,), float("nan")), torch.zeros(())):
        content["latent_avg"] = wrong
        assert "latent_avg" in refused(lambda: load_model(written(tmp_path / "m.pt", content)))


@pytest.mark.parametrize(
    "options",
    [
        {"encoder_type": "os.system"}, {"encoder_type": 3}, {"encoder_type": "GradualStyleEncoder"},
        {"dataset_type": ["a"]}, {"output_size": 2**20}, {"output_size": -1}, {"output_size": "1024"},
        {"output_size": 100}, {"output_size": True}, {"output_size": 16.5}, {"input_nc": 10**9}, {"input_nc": 0},
        {"n_styles": 18}, {"start_from_latent_avg": "yes"}, {"learn_in_w": "no"}, {"label_nc": -3},
        {"label_nc": 10**9}, {"latent_mask": [8]}, {"generator": 5}, {"x": torch.ones(3)}, {"big": 1 << 70},
        {"text": "x" * 20_000}, {"many": list(range(20_000))},
    ],
    ids=lambda options: "-".join(options),
)  # fmt: skip
def test_options_that_cannot_be_meant_are_refused(options: Content, content: Content, tmp_path: Path) -> None:
    content["opts"] |= options
    path = written(tmp_path / "m.pt", content)
    message = refused(lambda: load_model(path))
    assert next(iter(options)) in message and str(path) in message


def test_options_nested_or_repeated_absurdly(content: Content, tmp_path: Path) -> None:
    deep: list[object] = []
    for _ in range(50):
        deep = [deep]
    wide: list[object] = [1]
    for _ in range(60):  # 2**60 values when written out, 60 in the file
        wide = [wide, wide]
    for hostile in (deep, wide):
        path = written(tmp_path / "m.pt", {**content, "opts": {**content["opts"], "nested": hostile}})
        assert "absurdly" in refused(lambda path=path: load_model(path))
    assert "record" in refused(lambda: load_model(written(path, {**content, "opts": [1, 2]})))


@pytest.mark.parametrize("options", [{"dataset_type": "my_own"}, {"device": "cuda:3"}, {"unknown": {"a": [1, None]}}])
def test_options_that_do_no_harm(options: Content, psp: PSP, content: Content, tmp_path: Path) -> None:
    content["opts"] |= options
    model = load_model(written(tmp_path / "m.pt", content))
    assert torch.equal(outputs(model), outputs(psp))
    assert model.config.items() >= options.items()


@pytest.mark.parametrize(
    "change",
    [
        {"decoder.style.999999999.bias": torch.ones(1)}, {"decoder.to_rgbs.99999999.bias": torch.ones(1)},
        {"decoder.to_rgbs.x.bias": torch.ones(1)}, {"decoder.input.input": torch.ones(1, 0, 4, 4)},
        {"decoder.conv1.conv.modulation.weight": torch.ones(0, 0)}, {"decoder.input.input": torch.ones(1)},
        {"encoder.stages.0.999999999.x": torch.ones(1)}, {"encoder.input_layer.0.weight": torch.ones(1)},
        {"encoder.laterals.0.weight": torch.ones(0, 0)}, {"encoder.stages.x.y.z": torch.ones(1)},
        {"encoder.stages.0.0.res_layer.1.weight": torch.ones(0, 1)},
    ],
)  # fmt: skip
def test_hostile_names_and_shapes_are_refused_quickly(change: Content, content: Content, tmp_path: Path) -> None:
    content["state_dict"] |= change
    refused(lambda: load_model(written(tmp_path / "m.pt", content)))


def test_kind_of_encoder_is_read_from_the_tensors() -> None:
    with torch.device("meta"):
        states = {name: build(6, 3, 32).state_dict() for name, build in ENCODERS.items()}

    def kind(state: Mapping[str, Tensor], **options: object) -> tuple[str, int]:
        return encoder_kind(state, options)

    for name, state in states.items():
        assert kind(state, encoder_type=name) == (name, 3)
        for other in ENCODERS:
            if states[other].keys() != state.keys():
                assert other in refused(functools.partial(kind, state, encoder_type=other))
        if name != "BackboneEncoderUsingLastLayerIntoW":
            assert "learn_in_w" in refused(functools.partial(kind, state, encoder_type=name, learn_in_w=True))
    assert "known ones" in refused(lambda: encoder_kind({"x": torch.ones(1)}, {}))


def test_load_strictly_counts_and_leaves_the_module_alone() -> None:
    module = nn.Linear(3, 2)
    before = [p.clone() for p in module.parameters()]
    many = {f"extra{i}": torch.ones(1) for i in range(9)}
    message = refused(lambda: load_strictly(module, {"weight": torch.ones(2, 4), **many}, where="it"))
    assert "1 missing (bias)" in message and "9 unexpected (extra0, extra1, extra2, ...)" in message
    assert "weight (2, 4) instead of (2, 3)" in message
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters()))
