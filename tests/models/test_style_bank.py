"""Random styles from a bank of codes: the map, the model that uses it, files that hold it, the script that adds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_training as tiny
import torch
from PIL import Image
from torch import Tensor

from psp.errors import UserError
from psp.inference.styles import Styles
from psp.inference.translator import Translator
from psp.models.mixing import TRUNCATION, seeded_noise
from psp.models.psp import PSP
from psp.models.style_bank import MAX_BYTES, NEIGHBOURS, SIZE, StyleBank
from psp.studio.models import Ask
from psp.studio.psp_model import PspModel
from psp.weights.convert import convert, lowered, model_tensors
from psp.weights.describe import describe
from psp.weights.formats import read_weights
from psp.weights.hub import from_pretrained, model_card, save_pretrained
from psp.weights.load import load_generator, load_model
from psp.weights.save import psp_state, save_safetensors, save_torch
from scripts.convert_checkpoint import main

D = tiny.STYLE_DIM


def codes(n: int = 50, dim: int = D) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(7)) + 3


def noise(n: int, dim: int = D) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(8))


@pytest.fixture
def model() -> PSP:
    return tiny.model(photo_encoder=True, style_bank=StyleBank(codes())).eval()


def refused(call: Callable[[], object], *words: str) -> None:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    assert all(word in message for word in words), message


# ---- the map -------------------------------------------------------------------------------------------


def test_each_row_depends_on_its_own_noise_alone() -> None:
    bank, z = StyleBank(codes(300, 64)), noise(97, 64)
    whole = bank.map(z)
    assert whole.dtype == torch.float32 and whole.shape == z.shape
    assert torch.equal(whole, torch.cat([bank.map(row[None]) for row in z]))
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(0))
    assert torch.equal(bank.map(z[order]), whole[order])
    assert torch.equal(bank.map(z.double()), whole) and torch.equal(StyleBank(bank.codes).map(z), whole)
    assert torch.equal(bank.map(z[:, torch.arange(64)].T.contiguous().T), whole)  # whatever lies where in memory
    assert len(bank.map(z[:0])) == 0


@pytest.mark.gpu
def test_the_device_does_not_matter() -> None:
    bank, z = StyleBank(codes(300, 64)), noise(97, 64)
    assert bank.map(z.cuda()).is_cuda and torch.equal(bank.map(z.cuda()).cpu(), bank.map(z))


def test_every_code_is_used_equally_often_and_stays_the_larger_part() -> None:
    bank = StyleBank(codes(20))
    drawn = bank.map(noise(20_000))
    away = torch.nn.functional.normalize(bank.codes - bank.mean(), dim=1)
    nearest = (torch.nn.functional.normalize(drawn - bank.mean(), dim=1) @ away.T).argmax(1)
    share = torch.bincount(nearest, minlength=20) / len(drawn)
    assert share.min() > 0.03 and share.max() < 0.07
    assert len(drawn.unique(dim=0)) > 20 * NEIGHBOURS


def test_the_spread_is_that_of_the_codes() -> None:
    """A straight line between two codes comes closer to the mean; what is drawn has their distances from it."""
    bank = StyleBank(codes(500, 64))
    length = (bank.codes - bank.mean()).norm(dim=1)
    drawn = (bank.map(noise(5000, 64)) - bank.mean()).norm(dim=1)
    assert torch.allclose(
        drawn.quantile(torch.tensor([0.1, 0.5, 0.9])), length.quantile(torch.tensor([0.1, 0.5, 0.9])), rtol=0.05
    )
    assert drawn.min() >= length.min() * 0.999 and drawn.max() <= length.max() * 1.001


def test_a_rare_kind_stays_as_frequent() -> None:
    given = codes(400, 32)
    rare = torch.arange(len(given)) % 20 == 0
    given[rare] += 6 * torch.nn.functional.one_hot(torch.tensor(5), 32)
    border = 3 + 3.0
    drawn = StyleBank(given).map(noise(8000, 32))
    assert 0.03 < float((drawn[:, 5] > border).float().mean()) < 0.07


@pytest.mark.parametrize("given", [torch.ones(5, D), codes(2), codes(3), torch.eye(2, 3), 6e4 * codes(9).sign()])
def test_degenerate_codes_give_finite_styles(given: Tensor) -> None:
    bank = StyleBank(given)
    drawn = bank.map(noise(500, given.shape[1]))
    assert drawn.isfinite().all() and drawn.abs().max() <= 4 * bank.codes.abs().max()
    assert bank.map(torch.full((1, given.shape[1]), float("nan"))).isfinite().all()


def test_a_random_part_of_many_codes() -> None:
    many = codes(3000)
    bank = StyleBank.from_codes(many)
    assert len(bank) == SIZE and torch.equal(bank.codes, StyleBank.from_codes(many).codes)
    for start in (0, len(many) - SIZE):
        assert not torch.equal(bank.codes, many[start : start + SIZE].half().float())
    assert (many.half().float()[:, None] == bank.codes[:5]).all(2).any(0).all()
    assert torch.equal(StyleBank.from_codes(codes(30)).codes, codes(30).half().float())
    wide = StyleBank.from_codes(codes(700, 512))
    assert 2 * wide.codes.numel() <= MAX_BYTES and len(wide) == MAX_BYTES // 1024
    assert torch.allclose(bank.mean(), bank.codes.mean(0))


def test_what_is_no_bank_is_refused() -> None:
    for given in (codes(1), codes(9, 2), codes()[0], codes().long(), torch.zeros(0, D)):
        refused(lambda given=given: StyleBank(given, where="it"), "it ")  # type: ignore[misc]
        refused(lambda given=given: StyleBank.from_codes(given))  # type: ignore[misc]
    for value in (float("nan"), float("inf"), 1e6):
        given = codes()
        given[3, 4] = value
        refused(lambda given=given: StyleBank(given), "not finite")  # type: ignore[misc]
    refused(lambda: StyleBank(torch.zeros(MAX_BYTES, D)), "allowed")
    with pytest.raises(ValueError, match="takes"):
        StyleBank(codes()).map(noise(2, D + 1))


# ---- the model -----------------------------------------------------------------------------------------


def test_random_styles_of_a_model_come_from_its_bank(model: PSP) -> None:
    z = noise(3)
    bank = model.style_bank
    assert bank is not None
    drawn = bank.map(z)
    assert torch.equal(model.map(z), drawn[:, None].expand(3, model.n_styles, D))
    assert torch.equal(model.map(z, 0.0), model.latent_avg.expand(3, -1, -1))
    assert torch.equal(model.map(z, 0.5), model.latent_avg.lerp(model.map(z), 0.5))
    plain = tiny.model(photo_encoder=True)
    assert model.state_dict().keys() == plain.state_dict().keys() and plain.style_bank is None
    assert torch.equal(plain.map(z)[:, 0], plain.decoder.map(z))


def test_without_an_average_the_bank_has_one() -> None:
    bank = StyleBank(codes())
    model = tiny.model(latent_avg=None, style_bank=bank)
    assert torch.equal(model.latent_avg[0], bank.mean())


def test_a_bank_of_another_width_is_refused() -> None:
    refused(lambda: tiny.model(style_bank=StyleBank(codes(9, D + 1))), f"{D + 1}", f"{D}")


def test_the_same_seed_gives_the_same_style_everywhere(model: PSP) -> None:
    """In inference, for any batch and number of outputs, and in the studio."""
    source = tiny.sketch_batch(0, 1).source
    layers = tuple(model.mixing_layers())
    style = model.map(seeded_noise(1, D, 5), 0.8)[0]
    assert model.style_bank is not None and torch.equal(
        style, model.latent_avg.lerp(model.style_bank.map(seeded_noise(1, D, 5)), 0.8)
    )
    for outputs in (1, 3):
        translator = Translator(model, styles=Styles(layers, shared_seed=5, truncation=0.8, n_outputs=outputs))
        made = torch.from_numpy(translator(source, ["a"]).codes[0, 0])
        assert torch.equal(made[list(layers)], style[list(layers)])
    studio = PspModel(model)
    sketch = Image.fromarray((np.random.default_rng(0).random((32, 32)) * 255).astype(np.uint8))
    (face,) = studio.generate(Ask(source=sketch, seed=5, truncation=0.8), lambda: None)
    assert face.latent is not None and torch.equal(torch.from_numpy(face.latent)[list(layers)], style[list(layers)])


def test_the_studio_truncates_what_comes_from_a_bank_as_all_else(model: PSP) -> None:
    for made in (model, tiny.model().eval()):
        studio, sketch = PspModel(made), Image.new("L", (32, 32), 255)
        assert studio.info.truncation == TRUNCATION
        (face,) = studio.generate(Ask(source=sketch, seed=5), lambda: None)
        (same,) = studio.generate(Ask(source=sketch, seed=5, truncation=TRUNCATION), lambda: None)
        (other,) = studio.generate(Ask(source=sketch, seed=5, truncation=0.5), lambda: None)
        assert face.image.tobytes() == same.image.tobytes() != other.image.tobytes()


# ---- files ---------------------------------------------------------------------------------------------


def same_bank(found: PSP, wanted: PSP) -> bool:
    z = noise(20)
    return found.style_bank is not None and torch.equal(found.map(z), wanted.map(z))


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_a_bank_travels_with_a_model(ending: str, model: PSP, tmp_path: Path) -> None:
    path = tmp_path / f"m.{ending}"
    if ending == "pt":
        save_torch(psp_state(model), path)
    else:
        save_safetensors(model_tensors(model), model.config, path)
    assert same_bank(load_model(path), model)
    assert ("random", f"styles from a bank of codes [50, {D}]") in describe(read_weights(path))
    assert read_weights(path).left_out == ()
    stored = torch.load(path, weights_only=True)["style_bank"]["codes"] if ending == "pt" else None
    assert stored is None or stored.dtype == torch.float16


def test_a_bank_lies_beside_a_generator(model: PSP, tmp_path: Path) -> None:
    """In rosinality's layout, as a training writes it, and in ours, which an encoder's file may name."""
    assert model.style_bank is not None
    bank = model.style_bank.tensors()
    save_torch({"g_ema": model.decoder.state_dict(), "style_bank": bank}, tmp_path / "g.pt")
    found = load_generator(tmp_path / "g.pt").style_bank
    assert found is not None and torch.equal(found.codes, model.style_bank.codes)
    tensors = model_tensors(model)
    split = {key: value for key, value in tensors.items() if key.startswith("encoder.")}
    rest = {key: value for key, value in tensors.items() if key not in split}
    rest = lowered(rest, torch.float16, where="the generator")
    save_safetensors(rest, {"kind": "stylegan2"}, tmp_path / "g.safetensors")
    save_safetensors(split, model.config | {"generator": "g.safetensors"}, tmp_path / "e.safetensors")
    loaded = load_model(tmp_path / "e.safetensors")
    assert loaded.style_bank is not None and torch.equal(loaded.style_bank.codes, model.style_bank.codes)


def test_folders_keep_the_bank(model: PSP, tmp_path: Path) -> None:
    assert same_bank(from_pretrained(save_pretrained(model, tmp_path / "a")), model)
    for dtype in (torch.float16, torch.bfloat16):
        assert same_bank(from_pretrained(save_pretrained(model, tmp_path / str(dtype), dtype=dtype)), model)
    assert "50 codes" in model_card(model, "m") and "codes of photos" not in model_card(tiny.model(), "m")


@pytest.mark.thorough
@pytest.mark.parametrize("half", [False, True])
def test_conversions_keep_the_bank_and_say_who_ignores_it(half: bool, model: PSP, tmp_path: Path) -> None:
    save_torch(psp_state(model), tmp_path / "m.pt")
    assert model.style_bank is not None
    steps = [("m.pt", "a.safetensors", "safetensors"), ("a.safetensors", "b.pt", "psp"), ("b.pt", "g.pt", "stylegan2")]
    steps += [("g.pt", "g.safetensors", "safetensors"), ("g.safetensors", "again.pt", "stylegan2")]
    for source, target, layout in steps:
        _, notes = convert(tmp_path / source, tmp_path / target, layout, half=half)
        found = load_generator(tmp_path / target).style_bank
        assert found is not None and torch.equal(found.codes, model.style_bank.codes), target
        assert any("ignores the style bank" in note for note in notes) == (layout != "safetensors")


def hostile(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    bad = {
        "empty": torch.zeros(0, D),
        "one": codes(1),
        "flat": codes()[0],
        "wide": codes(9, D + 1),
        "whole numbers": codes().long(),
        "nan": codes() * float("nan"),
        "beyond float16": codes() * 1e30,
        "huge": torch.zeros(MAX_BYTES, D),
    }
    files = {name: tensors | {"style_bank.codes": value} for name, value in bad.items()}
    return files | {
        "another name": tensors | {"style_bank.kodes": codes()},
        "more": tensors | {"style_bank.b": codes()},
    }


@pytest.mark.thorough
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_hostile_banks_are_refused_with_the_name_of_the_file(ending: str, model: PSP, tmp_path: Path) -> None:
    for name, tensors in hostile(model_tensors(model)).items():
        path = tmp_path / f"{name}.{ending}"
        if ending == "safetensors":
            save_safetensors(tensors, model.config, path)
        else:
            bank = {key.removeprefix("style_bank."): value for key, value in tensors.items() if "style_bank" in key}
            save_torch(psp_state(model) | {"style_bank": bank}, path)
        refused(lambda path=path: load_model(path), str(path))  # type: ignore[misc]
        assert describe(read_weights(path))


# ---- adding one ----------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(12):
        pixels = np.full((40, 40, 3), 20 * i, np.uint8) ^ random.integers(0, 16, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def test_a_bank_of_a_folder_of_photos(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = tiny.model(photo_encoder=True).eval()
    save_torch(psp_state(plain), tmp_path / "m.pt")
    assert main([str(tmp_path / "m.pt"), str(tmp_path / "b.safetensors"), "--style_bank", str(photos)]) == 0
    assert "12 of 12 photos" in capsys.readouterr().out
    made = load_model(tmp_path / "b.safetensors")
    assert made.style_bank is not None and len(made.style_bank) == 12
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in made.state_dict().items())
    with Image.open(photos / "3.png") as image:
        from psp.images.preprocess import prepare_target

        own = plain.style_of(prepare_target(image)[None])[0, 0]
    assert (made.style_bank.codes - own).abs().max(1).values.min() < 0.01 * own.abs().max()
    assert main([str(tmp_path / "b.safetensors"), str(tmp_path / "again.pt"), "--style_bank", str(photos)]) == 0
    again = load_model(tmp_path / "again.pt").style_bank
    assert again is not None and torch.equal(again.codes, made.style_bank.codes)


def test_photos_that_cannot_be_read_are_named(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_torch(psp_state(tiny.model(photo_encoder=True)), tmp_path / "m.pt")
    (photos / "broken.png").write_bytes(b"no picture")
    assert main([str(tmp_path / "m.pt"), str(tmp_path / "b.safetensors"), "--style_bank", str(photos)]) == 1
    assert "broken.png" in capsys.readouterr().out
    assert load_model(tmp_path / "b.safetensors").style_bank is not None


def test_what_can_have_no_bank_is_said(photos: Path, tmp_path: Path) -> None:
    save_torch(psp_state(tiny.model()), tmp_path / "m.pt")
    add = ["--style_bank", str(photos)]
    refused(lambda: main([str(tmp_path / "m.pt"), str(tmp_path / "o.pt"), *add]), "no photo encoder")
    save_torch(psp_state(tiny.model(photo_encoder=True)), tmp_path / "m.pt")
    refused(lambda: main([str(tmp_path / "m.pt"), "--info", *add]), "--style_bank")
    lonely = tmp_path / "lonely"
    lonely.mkdir()
    refused(lambda: main([str(tmp_path / "m.pt"), str(tmp_path / "o.pt"), "--style_bank", str(lonely)]), "no images")
    (photos / "0.png").rename(lonely / "0.png")
    refused(lambda: main([str(tmp_path / "m.pt"), str(tmp_path / "o.pt"), "--style_bank", str(lonely)]), "two")
    assert not (tmp_path / "o.pt").exists()
