"""ONNX files give what the models give, for every kind of model, any batch and every kind of weights."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_training as tiny
import torch
from PIL import Image
from tiny_checkpoints import refused
from tiny_image_gans import cyclegan, pix2pix
from tiny_models import drawing, labels, photo
from torch import Tensor
from variants import thorough

from psp.commands import export as command
from psp.export.check import difference
from psp.export.graphs import graph_of
from psp.export.onnx_file import onnx_model, shrink
from psp.export.write import export, facts_of
from psp.inference.styles import Styles
from psp.inference.translator import Translator
from psp.models.image_to_image import PictureModel
from psp.models.mixing import TRUNCATION, seeded_noise
from psp.models.psp import PSP
from psp.models.style_bank import StyleBank
from psp.networks.encoders import Encoder4Editing
from psp.tasks import get_task
from psp.weights.load import load_any_model
from psp.weights.save import psp_state, save_torch

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed (pip install {package})")
DIM = tiny.STYLE_DIM


def restyle(size: int) -> PSP:
    decoder = tiny.Generator(size, DIM, 2, channels=dict.fromkeys((4, 8, 16, 32, 64, 128, 256, 512), 4))
    encoder = tiny.encoder(decoder.n_styles, 6, DIM)
    config = {"dataset_type": "ffhq_encode", "n_iters_per_batch": 3}
    return PSP(encoder, decoder, latent_avg=torch.randn(DIM), task=get_task("ffhq_encode"), config=config).eval()


def banked() -> PSP:
    return tiny.model(style_bank=StyleBank(torch.randn(50, DIM))).eval()


def rows_of(graph_rows: int, model: PSP | PictureModel, part: str, path: Path) -> float:
    return difference(path, graph_of(model, part, rows=graph_rows)).relative


def written(model: PSP | PictureModel, part: str, path: Path, dtype: str = "fp32") -> Path:
    path.write_bytes(onnx_model(graph_of(model, part), dtype=dtype, facts=facts_of(model)).SerializeToString())
    return path


@pytest.mark.parametrize(
    ("part", "size", "dtypes"),
    [
        *thorough(("generator", 8, ("fp32", "fp16"))),
        pytest.param("all", 32, ("fp32", "fp16", "int8"), marks=pytest.mark.slow),
    ],
)
def test_one_graph_takes_any_batch_and_keeps_its_faces_in_fewer_bytes(
    part: str, size: int, dtypes: tuple[str, ...], tmp_path: Path
) -> None:
    from onnx import ModelProto

    model, path = tiny.model(size=size).eval(), tmp_path / "model.onnx"
    traced, sizes = onnx_model(graph_of(model, part), dtype="fp32", facts={}), []
    for dtype in dtypes:
        small = ModelProto()
        small.CopyFrom(traced)
        if dtype != "fp32":
            shrink(small, dtype)
        path.write_bytes(small.SerializeToString())
        sizes.append(path.stat().st_size)
        for rows in (1, 3) if dtype == "fp32" else (2,):
            found = difference(path, graph_of(model, part, rows=rows))
            assert found.levels is not None and found.levels < {"fp32": 0.01, "fp16": 2.0, "int8": 8.0}[dtype]
            assert dtype != "fp32" or found.relative < 1e-4
    assert part != "all" or sizes[0] > sizes[1] > sizes[2]  # tensors of a few numbers stay as they are
    elsewhere = graph_of(tiny.model(size=size).eval(), part)  # other weights: the comparison can fail
    assert difference(path, elsewhere).relative > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        banked,
        lambda: tiny.model("celebs_seg_to_face", latent_avg=torch.randn(6, DIM), start_from_latent_avg=False).eval(),
        lambda: tiny.model("ffhq_encode", size=32).eval(),
        lambda: restyle(16),
        lambda: restyle(512),
    ],
    ids=["bank", "labels", "photo", "restyle", "restyle 512"],
)
def test_every_kind_of_model_in_one_graph(make: object, tmp_path: Path) -> None:
    model = make()  # type: ignore[operator]
    path = written(model, "all", tmp_path / "all.onnx")
    for rows in (1, 3):
        assert rows_of(rows, model, "all", path) < 1e-4


@pytest.mark.thorough
def test_the_bank_is_drawn_from_as_in_the_model(tmp_path: Path) -> None:
    model = banked()
    path = written(model, "mapping", tmp_path / "mapping.onnx")
    graph = graph_of(model, "mapping")
    z = torch.randn(500, DIM)
    assert difference(path, replace(graph, inputs={"z": z, "truncation": torch.ones(1)})).relative < 1e-4
    assert difference(path, replace(graph, inputs={"z": z, "truncation": torch.tensor([0.4])})).relative < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("encoder", [None, Encoder4Editing])
@pytest.mark.parametrize("size", [256, 1024])
def test_published_encoders_and_sizes(encoder: object, size: int, tmp_path: Path) -> None:
    widths = dict.fromkeys((4, 8, 16, 32, 64, 128, 256, 512, 1024), 4)
    decoder = tiny.Generator(size, DIM, 2, channels=widths)
    own = tiny.encoder(decoder.n_styles, 3) if encoder is None else Encoder4Editing(decoder.n_styles, 3, DIM)
    model = PSP(own, decoder, latent_avg=torch.randn(DIM), task=get_task("ffhq_encode")).eval()
    assert rows_of(1, model, "all", written(model, "all", tmp_path / "all.onnx")) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pix2pix", "noisy pix2pix", "sketch_to_photo", "photo_to_sketch"])
def test_pictures_to_pictures(kind: str, tmp_path: Path) -> None:
    if "pix2pix" in kind:
        model = load_any_model(pix2pix(tmp_path / "model.pt"), noisy=kind.startswith("noisy"))
    else:
        model = load_any_model(cyclegan(tmp_path / "model.pt"), direction=kind)
    assert isinstance(model, PictureModel) and model.noisy == kind.startswith("noisy")
    ((path, error),) = export(model, {"all": tmp_path / "faces.onnx"})
    assert error.relative < 1e-4
    assert rows_of(1, model, "all", path) < 1e-4
    if model.noisy:  # what was dropped is that of the seed, so another seed gives another picture
        assert difference(path, graph_of(model, "all", seed=1)).relative > 1e-3


@pytest.mark.slow
def test_a_file_that_is_too_far_away_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model().eval()
    exact = graph_of

    def wrong(model: PSP, part: str, **options: int) -> object:
        graph = exact(model, part, **options)

        def shifted(**inputs: Tensor) -> Tensor:
            return graph.plain(**inputs) * 1.001

        return replace(graph, plain=shifted)

    monkeypatch.setattr("psp.export.write.graph_of", wrong)
    message = refused(lambda: list(export(model, {"generator": tmp_path / "generator.onnx"})))
    assert "away from the model" in message and list(tmp_path.iterdir()) == []


def checkpoint(tmp_path: Path, task: str = "celebs_sketch_to_face") -> Path:
    save_torch(psp_state(tiny.model(task).eval()), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_the_noise_of_the_example_is_ours(root: Path) -> None:
    namespace: dict[str, object] = {"__name__": "infer"}
    exec(compile((root / "examples/onnx/infer.py").read_text(), "infer.py", "exec"), namespace)
    for seed in (0, 7, 2**31 - 1):
        given = namespace["noise"](seed, 3, 256)  # type: ignore[operator]
        np.testing.assert_allclose(given, seeded_noise(3, 256, seed).numpy(), atol=2e-6)


@pytest.mark.slow
def test_the_example_needs_nothing_of_ours_and_gives_our_faces(root: Path, tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    assert command.main([str(path), str(tmp_path / "parts")]) == 0
    assert command.main([str(path), str(tmp_path / "one.onnx")]) == 0
    drawing(3, 256).save(tmp_path / "drawing.png")
    model = load_any_model(path)
    assert isinstance(model, PSP)
    styles = Styles(tuple(model.mixing_layers()), shared_seed=4, truncation=TRUNCATION, n_outputs=5)
    ours = Translator(model, styles=styles).translate(tmp_path / "drawing.png")
    for given in ("parts", "one.onnx"):
        faces = infer(root, tmp_path, given, "drawing.png", "--seed", "4")
        assert len(faces) == 5
        for face, own in zip(faces, ours, strict=True):
            assert np.abs(face.astype(int) - np.asarray(own)).max() <= 1
    codes = model.map(torch.randn(2, DIM))
    np.savez(tmp_path / "codes.npz", codes.numpy())
    faces = infer(root, tmp_path, "parts", "drawing.png", "--styles", "codes.npz")
    own = Translator(model, styles=Styles(tuple(model.mixing_layers()), codes=codes, n_outputs=2))
    for face, expected in zip(faces, own.translate(tmp_path / "drawing.png"), strict=True):
        assert np.abs(face.astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("task", ["celebs_seg_to_face", "ffhq_encode"])
def test_the_example_reads_maps_and_photos(task: str, root: Path, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, task)
    assert command.main([str(path), str(tmp_path / "one.onnx")]) == 0
    (labels if task == "celebs_seg_to_face" else photo)(1).save(tmp_path / "given.png")
    model = load_any_model(path)
    assert isinstance(model, PSP)
    styles = Styles(tuple(model.mixing_layers()), shared_seed=0, truncation=TRUNCATION)
    (face,) = infer(root, tmp_path, "one.onnx", "given.png", "--n", "1")
    (own,) = Translator(model, styles=styles).translate(tmp_path / "given.png")
    assert np.abs(face.astype(int) - np.asarray(own)).max() <= 1


def infer(root: Path, folder: Path, model: str, picture: str, *flags: str) -> list[np.ndarray]:
    """The faces of the example, run where torch and this project cannot be imported."""
    code = (
        "import runpy, sys; sys.modules['torch'] = sys.modules['psp'] = sys.modules['onnx'] = None;"
        "del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(root / "examples/onnx/infer.py"), model, picture, "out", *flags]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [np.asarray(Image.open(folder / line)) for line in done.stdout.split()]


@pytest.mark.slow
def test_files_say_what_they_are(tmp_path: Path) -> None:
    import onnx

    path = checkpoint(tmp_path)
    assert command.main([str(path), str(tmp_path / "a.onnx"), "--part", "mapping", "--licence", "CC0"]) == 0
    facts = {entry.key: entry.value for entry in onnx.load(tmp_path / "a.onnx").metadata_props}
    wanted = {
        "task": "celebs_sketch_to_face", "source": "sketch", "size": "16", "styles": "6", "style_dim": str(DIM),
        "part": "mapping", "inputs": "z,truncation", "outputs": "codes", "licence": "CC0", "mixing_layers": "3-5",
        "random_styles": "mapping network", "truncation": "0.8", "weights": "fp32", "model": "model.pt",
    }  # fmt: skip
    assert {key: facts[key] for key in wanted} == wanted
    assert str(tmp_path).encode() not in (tmp_path / "a.onnx").read_bytes()


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    path, out = str(checkpoint(tmp_path)), tmp_path / "out.onnx"
    assert "does not end in .onnx" in refused(lambda: command.main([path, str(tmp_path / "x.pt")]))
    assert "takes all parts" in refused(lambda: command.main([path, str(tmp_path / "x"), "--part", "encoder"]))
    out.write_bytes(b"")
    assert "--overwrite" in refused(lambda: command.main([path, str(out)]))
    picture = str(pix2pix(tmp_path / "pix.pt"))
    assert "has no encoder" in refused(lambda: command.main([picture, str(out), "--overwrite", "--part", "encoder"]))
    assert "not a folder" in refused(lambda: command.main([picture, str(tmp_path / "folder")]))
    assert f"0 to {2**63 - 1}" in refused(lambda: command.main([picture, str(tmp_path / "a.onnx"), f"--seed={2**64}"]))
    assert out.read_bytes() == b""
