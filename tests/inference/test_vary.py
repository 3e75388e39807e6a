"""--vary: colours, as without it, or other people, whose parts lie where the drawing has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_studio as tiny
import torch
from tiny_models import drawing, fill_folder, save_tiny
from tiny_studio import good

import psp
from psp.errors import UserError
from psp.inference.options import VARY, InferenceOptions, parse
from psp.models import mixing
from psp.models.people import PartsAxes
from psp.weights.code_space import CodeSpace, beside, save_code_space

AXES = torch.randn(2, 8, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fill_folder(tmp_path / "in", ["a.png"], drawing)
    save_tiny(tmp_path / "tiny.pt")
    return tmp_path


def codes(name: str, **options: object) -> np.ndarray:
    """[K,N,D] of the faces of the one drawing."""
    given = {"data_path": "in", "checkpoint_path": "tiny.pt", "exp_dir": name, "save_latents": True, **options}
    assert psp.translate_folder(InferenceOptions(mixing=True, n_outputs_to_generate=3, **given)).status == 0  # type: ignore[arg-type]
    array = np.load(f"{name}/style_mixing_latents/a.npy", allow_pickle=False)
    return np.asarray(array).reshape(3, 6, 8)


def test_colours_are_what_is_varied_without_it(place: Path) -> None:
    np.testing.assert_array_equal(codes("plain"), codes("colours", vary="colours"))


def test_people_differ_in_the_middle_layers_too(place: Path) -> None:
    plain, people = codes("plain"), codes("people", vary="people")
    assert np.array_equal(people[0, :2], people[1, :2]) and np.array_equal(people[:, :2], plain[:, :2])
    assert not np.array_equal(people[0, 2], people[1, 2])
    assert np.array_equal(people[:, 3:], plain[:, 3:])  # nothing is known about the parts here


def test_people_keep_what_moves_the_parts(place: Path) -> None:
    own = np.asarray(codes("own", latent_mask="0", mix_alpha=0.0))
    save_code_space(CodeSpace(parts=AXES), beside(Path("tiny.pt")))
    people = codes("people", vary="people")
    moved = (people - own) @ AXES.half().float().numpy().T
    assert np.abs(moved).max() < 2e-3 < np.abs(people - own)[:, 2:].max()


def test_what_cannot_go_together_is_said(place: Path) -> None:
    with pytest.raises(UserError, match="--vary says which layers are mixed; leave --latent_mask out"):
        parse(["--vary=people", "--latent_mask=3"], mixing=True)
    with pytest.raises(UserError, match="choose one of: colours, people"):
        InferenceOptions(vary="noses")
    assert set(VARY) == mixing.VARY.keys()


def test_the_studio_varies_people(monkeypatch: pytest.MonkeyPatch) -> None:
    from psp.studio import psp_model

    monkeypatch.setattr(
        psp_model, "parts_of", lambda model: PartsAxes(AXES, model.map(torch.randn(200, 8)).detach()[:, 0])
    )
    client = tiny.client()

    def faces(**fields: object) -> np.ndarray:
        answer = good(client.post("/api/generate", **tiny.form(image=tiny.drawing(1), **{"seed": 4, **fields})))
        return np.stack([tiny.latent(one) for one in answer["pictures"]])

    own, colours, people = faces(style="own"), faces(n=3), faces(n=3, vary="people")
    np.testing.assert_array_equal(colours, faces(n=3, vary="colours"))
    assert np.array_equal(people[:, :2], own.repeat(3, axis=0)[:, :2]) and not np.array_equal(
        people[0, 2], people[1, 2]
    )
    assert np.abs((people - own) @ AXES.numpy().T).max() < 2e-3
    np.testing.assert_array_equal(faces(vary="people", middle=0, fine=0), own)
    np.testing.assert_array_equal(faces(vary="people", n=2)[1], faces(vary="people", seed=5)[0])
    assert "colours, people" in tiny.refused(
        client.post("/api/generate", **tiny.form(image=tiny.drawing(1), vary="noses")), 400
    )
