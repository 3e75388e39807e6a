"""--edit and --follow through a folder run: no change at 0 and 1, one otherwise, a line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import drawing, fill_folder, save_tiny, save_tiny_codes, tiny_psp

import psp
from psp.errors import UserError
from psp.models.plausible import FaceCodes
from psp.weights.code_space import CodeSpace, beside, mark_of, save_code_space


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiny.pt, what is known about its codes beside it, and two drawings."""
    monkeypatch.chdir(tmp_path)
    fill_folder(tmp_path / "in", ["a.png", "b.png"], drawing)
    save_tiny(tmp_path / "tiny.pt")
    save_tiny_codes(Path("tiny.pt"))
    return tmp_path


def faces(name: str, **options: object) -> np.ndarray:
    report = psp.translate_folder(
        psp.InferenceOptions(data_path="in", checkpoint_path="tiny.pt", exp_dir=name, **options)
    )  # type: ignore[arg-type]
    assert report.status == 0
    kind = "style_mixing" if options.get("mixing") else "inference_results"
    return np.stack([np.asarray(Image.open(f"{name}/{kind}/{file}.png")) for file in "ab"])


def test_nothing_changes_at_the_neutral_values(place: Path) -> None:
    plain = faces("plain")
    assert np.array_equal(plain, faces("zero", edit="smile=0,sefa1=0"))
    assert np.array_equal(plain, faces("every", follow=1.0))


@pytest.mark.thorough
@pytest.mark.parametrize("edit", ["smile=2", "smile@0-1=2", "sefa0=3", "sefa1@2-3=-3"])
@pytest.mark.parametrize("mixing", [False, True])
def test_edits_move_all_faces(place: Path, edit: str, mixing: bool) -> None:
    plain, edited = faces("plain", mixing=mixing), faces("edited", mixing=mixing, edit=edit)
    assert plain.shape == edited.shape and all((a != b).any() for a, b in zip(plain, edited, strict=True))


def test_following_less_gives_other_faces_and_keeps_the_mixed_layers(place: Path) -> None:
    plain, less = faces("plain"), faces("less", follow=0.2)
    assert (plain != less).any()
    model = psp.load("tiny.pt")
    statistics = FaceCodes.of(torch.randn(100, model.n_styles, model.style_dim), [0, 1])
    translator = psp.Translator(model, styles=psp.Styles(faces=statistics, follow=0.0))
    source = torch.rand(1, 1, 256, 256)
    codes, followed = psp.Translator(model).encode(source), translator.encode(source)
    assert torch.equal(codes[:, 2:], followed[:, 2:]) and not torch.equal(codes[:, :2], followed[:, :2])


def test_interfacegans_boundary_gets_a_unit(place: Path) -> None:
    model = psp.load("tiny.pt")
    for name, length in (("small", 0.01), ("large", 100.0)):
        np.save(f"{name}.npy", length * np.eye(1, model.style_dim))
    small = faces("small", edit="small=2", directions="small.npy")
    assert np.array_equal(small, faces("large", edit="large=2", directions="large.npy"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"edit": "grin=1"}, "no direction is called grin; there are: smile"),
        ({"edit": "smile=20"}, "allowed are -10 to 10"),
        ({"edit": "smile@0-99=1"}, "layer 99 is out of range"),
        ({"edit": "smile=1", "directions": "tiny.pt"}, "neither a boundary"),
        ({"edit": "smile=1", "directions": "gone.safetensors"}, "does not exist"),
        ({"follow": 1.5}, "--follow 1.5 is out of range"),
        ({"follow": 0.5, "directions": "one.npy"}, "no statistics of faces"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(place: Path, options: dict[str, object], words: str) -> None:
    np.save("one.npy", np.ones(psp.load("tiny.pt").style_dim))
    with pytest.raises(UserError, match=words):
        faces("wrong", **options)


def test_the_door_edits_and_follows_as_the_flags_do(place: Path) -> None:
    model = psp.load("tiny.pt")
    wanted = faces("flags", edit="smile=2,sefa1=-1", follow=0.3)[0]
    translator = psp.Translator(model, edits={"smile": 2.0, "sefa1": -1.0}, follow=0.3)
    assert np.array_equal(np.asarray(translator.translate("in/a.png")[0]), wanted)
    editor = psp.Editor(model)
    assert editor.names == ["smile"] and editor.file == beside(Path("tiny.pt"))
    codes = torch.randn(2, model.n_styles, model.style_dim)
    assert editor.edit(codes, {"smile": 0.0}) is codes and editor.follow(codes, 1.0) is codes
    torch.testing.assert_close(editor.edit(codes, {"smile": 1.5}), codes + 3)
    assert editor.edit(codes, {"smile": 0.0, "sefa0": -0.0}) is codes
    both = codes + 2 * editor.step("smile") - editor.step("sefa0")
    torch.testing.assert_close(editor.edit(codes, {"smile": 2.0, "sefa0": -1.0}), both)
    for strength in (0.0, 1.0):
        with pytest.raises(UserError, match="no direction is called grin; there are: smile, and sefa0"):
            editor.edit(codes, {"smile": 1.0, "grin": strength})
    assert not torch.equal(editor.follow(codes, 0.5), codes)


def test_the_door_refuses_what_the_flags_refuse(place: Path) -> None:
    model = psp.load("tiny.pt")
    for edits, follow, words in (
        ({"grin": 1.0}, 1.0, "no direction is called grin"), ({"smile": float("nan")}, 1.0, "allowed are -10 to 10"),
        ({"smile": 11.0}, 1.0, "allowed are -10 to 10"), ({}, 1.5, "allowed are 0"),
        ({}, float("nan"), "allowed are 0"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            psp.Translator(model, edits=edits, follow=follow)
    beside(Path("tiny.pt")).unlink()
    with pytest.raises(UserError, match="no statistics of faces"):
        psp.Editor(model).follow(torch.zeros(1, model.n_styles, model.style_dim), 0.5)


def test_a_file_of_another_generator_is_refused(place: Path) -> None:
    model, other = psp.load("tiny.pt"), tiny_psp()
    with torch.no_grad():
        other.decoder.input.input.normal_()
    for generator, fits in ((model.decoder, True), (other.decoder, False)):
        save_code_space(CodeSpace({"smile": torch.ones(model.style_dim)}, mark=mark_of(generator)), "d.safetensors")
        if fits:
            assert psp.Editor(model, "d.safetensors").names == ["smile"]
        else:
            with pytest.raises(UserError, match="belongs to another generator"):
                psp.Editor(model, "d.safetensors")
