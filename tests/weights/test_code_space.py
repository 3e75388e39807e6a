"""Files of directions and of faces' codes: ours, InterFaceGAN's, GANSpace's, those that are damaged or do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_training as tiny
import torch

from psp.errors import UserError
from psp.models.plausible import FaceCodes
from psp.weights.code_space import (
    CodeSpace,
    beside,
    check_mark,
    copy_codes,
    mark_of,
    read_code_space,
    save_code_space,
)

FITS = {"n_styles": 6, "style_dim": 8}


def test_ours_come_back(tmp_path: Path) -> None:
    faces = FaceCodes.of(torch.randn(200, 6, 8), [0, 1, 2])
    space = CodeSpace({"smile": torch.randn(6, 8), "age": torch.randn(8)}, faces=faces, about={"smile": "by lips"})
    save_code_space(space, tmp_path / "codes.safetensors")
    again = read_code_space(tmp_path / "codes.safetensors", **FITS)
    assert again.about == {"smile": "by lips"} and again.unscaled == set()
    for name, direction in space.directions.items():
        torch.testing.assert_close(again.directions[name], direction, atol=2e-3, rtol=2e-3)
    assert again.faces is not None and again.faces.layers == [0, 1, 2]


def test_boundaries_of_interfacegan(tmp_path: Path) -> None:
    vector = np.random.default_rng(0).normal(size=(1, 8))
    np.save(tmp_path / "age_boundary.npy", vector)
    torch.save(torch.from_numpy(vector), tmp_path / "smile.pt")
    for name, file in (("age", "age_boundary.npy"), ("smile", "smile.pt")):
        space = read_code_space(tmp_path / file, **FITS)
        assert space.unscaled == {name} == space.directions.keys()
        np.testing.assert_allclose(space.directions[name].numpy(), vector[0], rtol=1e-6)


def test_components_of_ganspace(tmp_path: Path) -> None:
    comp, std = torch.randn(5, 1, 8), torch.rand(5)
    torch.save({"comp": comp, "mean": torch.zeros(1, 8), "std": std}, tmp_path / "pca.pt")
    space = read_code_space(tmp_path / "pca.pt", **FITS)
    assert list(space.directions) == [f"pca{k}" for k in range(5)] and not space.unscaled
    torch.testing.assert_close(space.directions["pca3"], comp[3, 0] * std[3])


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    save_code_space(CodeSpace({"smile": torch.randn(9)}), tmp_path / "other.safetensors")
    save_code_space(CodeSpace({"smile": torch.full((8,), float("nan"))}), tmp_path / "nan.safetensors")
    torch.save({"comp": torch.randn(5, 8)}, tmp_path / "half.pt")
    save_code_space(CodeSpace({"smile": torch.randn(1, 6, 8)}), tmp_path / "deep.safetensors")
    np.save(tmp_path / "short.npy", np.ones(3))
    np.save(tmp_path / "inf.npy", np.full(8, np.inf))
    np.save(tmp_path / "whole.npy", np.arange(8))
    (tmp_path / "text.npy").write_text("smile")
    (tmp_path / "words.txt").write_text("smile")
    for file, words in {
        "other.safetensors": r"direction smile has shape \[9\]; this model takes \[8\] or \[6,8\]",
        "nan.safetensors": "not finite",
        "deep.safetensors": r"direction smile has shape \[1, 6, 8\]",
        "short.npy": r"direction short has shape \[3\]; this model takes \[8\] or \[6,8\]",
        "inf.npy": "direction inf has values that are not finite",
        "half.pt": "neither a boundary",
        "whole.npy": "damaged or holds no floats",
        "text.npy": "damaged or holds no floats",
        "words.txt": "no .safetensors, .npy or .pt file",
        "missing.npy": "does not exist",
        ".": "is no file",
    }.items():
        with pytest.raises(UserError, match=words) as error:
            read_code_space(tmp_path / file, **FITS)
        assert str(tmp_path) in str(error.value)


def test_another_generator_is_told_by_its_mark() -> None:
    generator = tiny.generator()
    mark = mark_of(generator)
    check_mark(CodeSpace(mark=mark.half().float()), generator, Path("codes.safetensors"))
    for wrong in (mark + 1, mark[:-1], torch.full_like(mark, float("nan"))):
        with pytest.raises(UserError, match=r"codes\.safetensors belongs to another generator"):
            check_mark(CodeSpace(mark=wrong), generator, Path("codes.safetensors"))


def test_codes_go_where_their_model_goes(tmp_path: Path) -> None:
    source, target = tmp_path / "a.pt", tmp_path / "b.safetensors"
    assert copy_codes(source, target) is None and list(tmp_path.iterdir()) == []
    beside(source).write_bytes(b"codes")
    assert copy_codes(source, target) == beside(target) and beside(target).read_bytes() == b"codes"


def test_where_a_models_own_lie() -> None:
    assert beside(Path("a/model.v2.pt")) == Path("a/model.v2_codes.safetensors")
