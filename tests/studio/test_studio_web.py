"""The modules of the page without a server, in Node.js: they do to the bit what Python does. And how it is built."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_training as tiny
import torch
from PIL import Image
from tiny_checkpoints import refused
from tiny_models import drawing, labels, photo, save_tiny, save_tiny_codes

from psp.commands import web
from psp.export.check import Difference
from psp.images.drawn import drawn
from psp.images.labels import COLOURS, palette_image
from psp.images.preprocess import described_pixels
from psp.models.mixing import mix, seeded_noise
from psp.models.people import PartsAxes
from psp.studio.psp_model import PspModel
from psp.tasks import get_task
from psp.weights.load import load_model

NODE = shutil.which("node")
ROOT = Path(__file__).parents[2]
STUDIO = ROOT / "psp" / "studio"
SEEDS = [0, 1, 7, 123456, 2**31 - 10]


EDITS, AMOUNT = {"smile": 1.5}, 0.25


def thin_lines() -> Image.Image:
    pixels = np.full((1100, 1300), 255, np.uint8)
    pixels[100, 50:1200] = pixels[400:900, 600] = 0
    return Image.fromarray(pixels)


def transparent() -> Image.Image:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (200, 200, 4), np.uint8)
    pixels[:150, :, 3] = 0
    return Image.fromarray(pixels)


def chalk() -> Image.Image:
    """White lines on nothing."""
    white = Image.new("L", (256, 256), 255)
    return Image.merge("RGBA", [white, white, white, Image.fromarray(255 - np.asarray(drawing(6, 256).convert("L")))])


def noisy_map() -> Image.Image:
    """Each channel off by one at most, none of them grey."""
    pixels = np.asarray(palette_image(np.asarray(labels(3, 320))).convert("RGB")).astype(int)
    noise = np.random.default_rng(0).integers(-1, 2, pixels.shape)
    noise[..., 1] = 0  # black never becomes another number
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def on_paper(width: int, height: int, seed: int) -> Image.Image:
    """A drawing on grey paper, lit from one side, with grain and a soft shadow."""
    random = np.random.default_rng(seed)
    ink = np.asarray(drawing(seed, 256).resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    light = 205 - 70 * across - 20 * down - 40 * np.exp(-((across - 0.7) ** 2 + (down - 0.3) ** 2) / 0.02)
    return Image.fromarray(np.clip(light * (0.3 + 0.7 * ink) + random.normal(0, 2, ink.shape), 0, 255).astype(np.uint8))


PAPER = [on_paper(300, 300, 1), on_paper(640, 480, 2), on_paper(900, 1203, 3), Image.new("L", (200, 200), 150)]
EXAMPLES = ROOT / "examples"
PHOTOS = [Image.open(path).convert("RGB") for path in sorted((EXAMPLES / "photos").glob("*.jpg"))[:4]]
TOLD_APART = [
    *PAPER[:3],
    *(Image.open(path) for folder in ("sketches", "drawn") for path in sorted((EXAMPLES / folder).glob("*.*"))[:3]),
    Image.fromarray(255 - np.asarray(drawing(3, 256))),
    *PHOTOS,
    PHOTOS[0].convert("L"),
    PHOTOS[1].resize((90, 90)),
]
SKETCHES = [
    drawing(0, 256),
    drawing(1, 301),
    drawing(2, 100),
    Image.fromarray(255 - np.asarray(drawing(3, 256))),
    drawing(4, 400).resize((400, 277)),
    drawing(5, 257).resize((260, 257), Image.Resampling.BICUBIC),
    thin_lines(),
    transparent(),
    chalk(),
    *(Image.open(path) for path in sorted((ROOT / "examples" / "sketches").glob("*"))[:2]),
    Image.open(ROOT / "examples" / "drawn" / "simple_face.png"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PspModel:
    """A tiny one with everything that may be known about codes."""
    path = save_tiny(tmp_path_factory.mktemp("model") / "tiny.pt")
    save_tiny_codes(path)
    model, random = PspModel(load_model(path)), torch.Generator().manual_seed(1)
    dim = model.model.style_dim
    model.parts = PartsAxes(torch.randn(3, dim, generator=random), torch.randn(50, dim, generator=random))
    return model


@pytest.fixture(scope="module")
def codes(model: PspModel) -> torch.Tensor:
    """Those of a drawing, and a style to be mixed in: [2,1,N,D]."""
    shape = (2, 1, model.model.n_styles, model.model.style_dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, model: PspModel, codes: torch.Tensor) -> dict[str, Any]:
    if NODE is None:
        pytest.skip("no Node.js here")
    folder = tmp_path_factory.mktemp("web")
    shutil.copytree(STUDIO / "static", folder / "static")
    for path in (STUDIO / "web").glob("*.js"):
        shutil.copy(path, folder / "static")
    shutil.copy(Path(__file__).with_name("web.mjs"), folder)
    (folder / "package.json").write_text('{"type": "module"}')

    def put(name: str, image: Image.Image) -> dict[str, Any]:
        (folder / name).write_bytes(image.convert("RGBA").tobytes())
        return {"name": name, "width": image.width, "height": image.height}

    cases = {
        "space": {
            "known": web.write_space(folder, "space.npy", model),
            "dim": model.model.style_dim,
            "edits": EDITS,
            "amount": AMOUNT,
            "codes": codes[0].flatten().tolist(),
            "styles": codes[1].flatten().tolist(),
        },
        "sketches": [put(f"sketch{k}", image) for k, image in enumerate(SKETCHES)],
        "paper": [put(f"paper{k}", image) for k, image in enumerate(PAPER)],
        "maps": [
            put(f"map{k}", image)
            for k, image in enumerate((palette_image(np.asarray(labels(3, 320))), photo(1), noisy_map()))
        ],
        "drawn": [put(f"drawn{k}", image) for k, image in enumerate(TOLD_APART)],
        "seeds": SEEDS,
        "colours": [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in COLOURS],
    }
    (folder / "cases.json").write_text(json.dumps(cases))
    done = subprocess.run([NODE, "web.mjs"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def pixels_of(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(256, 256)


def test_drawings_are_prepared_to_the_bit(answers: dict[str, Any]) -> None:
    notes = set[str]()
    for image, (text, said) in zip(SKETCHES, answers["sketches"], strict=True):
        pixels, steps = described_pixels(image, get_task("celebs_sketch_to_face"))
        np.testing.assert_array_equal(pixels_of(text), pixels)
        assert said == ", ".join(steps)
        notes |= set(said.split(", "))
    assert notes == {"", "stretched", "letterboxed", "light on dark inverted", "thin lines kept"}


def test_photographed_paper_becomes_white(answers: dict[str, Any]) -> None:
    for image, (text, said) in zip(PAPER, answers["paper"], strict=True):
        pixels, steps = described_pixels(image, get_task("celebs_sketch_to_face"))
        assert said == ", ".join(steps) and "paper made white" in steps
        difference = np.abs(pixels_of(text).astype(int) - pixels)
        assert difference.max() <= 1 and difference.mean() < 0.02


def test_label_maps_are_prepared_to_the_bit_and_others_are_none(answers: dict[str, Any]) -> None:
    ids, _ = described_pixels(palette_image(np.asarray(labels(3, 320))), get_task("celebs_seg_to_face"))
    np.testing.assert_array_equal(pixels_of(answers["maps"][0]), ids)
    assert answers["maps"][1] is None
    np.testing.assert_array_equal(pixels_of(answers["maps"][2]), ids)  # where canvases are blurred on purpose


def test_drawings_and_photos_are_told_apart_as_on_the_server(answers: dict[str, Any]) -> None:
    wanted = [drawn(image) for image in TOLD_APART]
    np.testing.assert_allclose(answers["drawn"], wanted, atol=0.01)
    assert sum(value > 0 for value in wanted) == len(PAPER[:3]) + 7 and sum(value < 0 for value in wanted) == 6


def test_seeds_give_the_noise_of_the_server(answers: dict[str, Any]) -> None:
    for seed, found in zip(SEEDS, answers["noise"], strict=True):
        np.testing.assert_allclose(found, seeded_noise(1, 256, seed)[0].numpy(), atol=2e-6)
    assert answers["digest"][0] == 0xBA7816BF and answers["twisted"] == [4123659995]


def test_codes_are_mixed_and_kept_as_on_the_server(answers: dict[str, Any]) -> None:
    first = torch.arange(1.0, 7).reshape(1, 3, 2)
    wanted = [mix(first, 10 * first, [1, 2]), mix(first, 10 * first, [0], 0.25), first.lerp(10 * first, 0.5)]
    for found, codes in zip(answers["mixed"], wanted, strict=True):
        np.testing.assert_allclose(found, codes.flatten().numpy(), rtol=1e-6)
    np.testing.assert_array_equal(np.load(io.BytesIO(base64.b64decode(answers["npy"]))), first[0].numpy())
    assert answers["read"] == [first.flatten().tolist(), None, None]


def test_edits_following_and_people_are_those_of_the_server(
    answers: dict[str, Any], model: PspModel, codes: torch.Tensor
) -> None:
    own, random = codes
    assert model.parts is not None
    wanted = {
        "edited": model.editor.edit(own, EDITS),
        "followed": model.editor.follow(own, AMOUNT),
        "same": own,
        "people": model.parts.people(own, random, model.model.latent_avg),
    }
    for name, made in wanted.items():
        np.testing.assert_allclose(answers["space"][name], made.flatten().numpy(), atol=1e-4, err_msg=name)
    assert all((made - own).abs().mean() > 0.05 for name, made in wanted.items() if name != "same")


def test_both_doors_of_the_page_have_the_same_names() -> None:
    names = [
        sorted(re.findall(r"^export (?:async )?(?:function|class|const) (\w+)", path.read_text(), re.M))
        for path in (STUDIO / "static" / "api.js", STUDIO / "web" / "api.js")
    ]
    assert names[0] == names[1] == ["get", "post", "session"]


def test_what_is_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "npm is missing" in refused(lambda: web.main([str(tmp_path / "out")]))
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert "npm could not fetch" in refused(lambda: web.main([str(tmp_path / "out")]))
    (tmp_path / "mine").mkdir()
    assert "no folder that this command wrote" in refused(lambda: web.main([str(tmp_path / "mine")]))
    assert not (tmp_path / "out").exists() and list((tmp_path / "mine").iterdir()) == []
    (tmp_path / "mine" / "models.json").write_text("{}")  # a name that others use as well
    assert "no folder that this command wrote" in refused(lambda: web.main([str(tmp_path / "mine")]))
    (tmp_path / "mine" / "static" / "ort").mkdir(parents=True)
    assert "npm could not fetch" in refused(lambda: web.main([str(tmp_path / "mine")]))


def test_tasks_with_one_generator_share_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(model: object, files: dict[str, Path], **options: object) -> Iterator[tuple[Path, Difference]]:
        for target in files.values():
            assert not target.exists()
            target.write_bytes(b"network")
            yield target, Difference(0.0, None)

    monkeypatch.setattr("psp.export.write.export", export)
    web.write_models(tmp_path, "fp16")
    records = json.loads((tmp_path / "models.json").read_text())
    assert [record["input"] for record in records] == ["sketch", "labels"]
    assert len({record["files"]["encoder"] for record in records}) == 2
    assert len({record["files"]["generator"] for record in records}) == 1
    assert {path.name for path in (tmp_path / "models").iterdir()} == {
        Path(name).name for record in records for name in [*record["files"].values(), record["space"]["file"]]
    }
    examples = json.loads((tmp_path / "about.json").read_text())["examples"]
    assert examples and all((tmp_path / example["url"]).is_file() for example in examples)
    other = tiny.model().eval()
    assert web.digest_of(other) == web.digest_of(other) != web.digest_of(tiny.model().eval())
