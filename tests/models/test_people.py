"""Other people keep the parts of the face: what moves them is found, and left as the drawing has it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import save_tiny
from torch import Tensor

import psp
from psp.errors import UserError
from psp.models.mixing import VARY
from psp.models.people import FURTHER, PartsAxes, find_axes
from psp.models.psp import PSP
from psp.weights.code_space import CodeSpace, beside, parts_of, read_code_space, save_code_space


def random_styles(n: int = 4000, dim: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, dim, generator=generator) @ torch.randn(dim, dim, generator=generator)


def test_a_style_is_told_apart_into_what_moves_parts_and_what_is_independent_of_it() -> None:
    styles, axes = random_styles(), torch.randn(3, 8)
    known = PartsAxes(axes, styles)
    away = styles - styles.mean(0)
    moving = known.moving(away)
    torch.testing.assert_close(moving @ axes.T, away @ axes.T, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(known.moving(moving), moving, rtol=1e-3, atol=1e-3)
    together = (away - moving).T @ moving / len(styles)
    assert together.abs().max() < 1e-3 * away.square().mean() * 8


def test_other_people_have_the_parts_of_the_drawing() -> None:
    styles, axes = random_styles(), torch.randn(3, 8)
    known, average = PartsAxes(axes, styles), styles.mean(0).expand(5, 8)
    codes, others = styles[:2, None].expand(2, 5, 8), styles[2:4, None].expand(2, 5, 8)
    people = known.people(codes, others, average)
    torch.testing.assert_close((people - codes) @ axes.T, torch.zeros(2, 5, 3), rtol=0, atol=1e-3)
    rest = people - average - known.moving(people - average)
    wanted = FURTHER * (others - average - known.moving(others - average))
    torch.testing.assert_close(rest, wanted, rtol=1e-3, atol=1e-3)
    one = known.people(codes, others[:1], average)
    assert one.shape == (2, 5, 8) and torch.equal(one[0], people[0])


def test_axes_that_cannot_be_are_refused() -> None:
    styles = random_styles(100)
    for axes in (
        torch.randn(3, 9),
        torch.randn(8),
        torch.randn(0, 8),
        torch.randn(65, 8),
        torch.full((1, 8), torch.nan),
    ):
        with pytest.raises(UserError, match="axes of the parts"):
            PartsAxes(axes, styles)


def test_the_directions_that_a_parser_sees_are_found() -> None:
    """Of a generator whose picture shows two numbers of the style, and of a parser that sees one of the two."""
    seen, unseen = torch.randn(2, 8, generator=torch.Generator().manual_seed(2))

    def decode(codes: Tensor) -> Tensor:
        style = codes[:, 1:].mean(1)
        number = torch.stack([style @ seen, style @ unseen, codes[:, 0] @ unseen], dim=1)
        return number[:, :, None, None].expand(-1, 3, 12, 12)

    def parse(faces: Tensor) -> Tensor:
        share = torch.sigmoid(faces[:, :1])
        return torch.cat([share, 1 - share], dim=1)

    styles = random_styles(64)[:, None].expand(-1, 3, -1)
    axis = find_axes(decode, parse, styles, [1, 2])[0]
    assert abs(float(torch.cosine_similarity(axis, seen, dim=0))) > 0.999


def test_the_file_beside_a_model_says_it(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny.pt")
    model = psp.load(tmp_path / "tiny.pt")
    assert isinstance(model, PSP) and model.path == tmp_path / "tiny.pt"
    assert parts_of(model) is None
    file = beside(tmp_path / "tiny.pt")
    axes = torch.randn(2, 8)
    save_code_space(CodeSpace({"smile": torch.randn(8)}), file)
    assert parts_of(model) is None
    space = read_code_space(file, n_styles=model.n_styles, style_dim=8)
    space.parts = axes
    save_code_space(space, file)
    known = parts_of(model)
    assert known is not None
    torch.testing.assert_close(known.axes, axes, rtol=2e-3, atol=2e-3)
    assert list(read_code_space(file, n_styles=model.n_styles, style_dim=8).directions) == ["smile"]
    save_code_space(CodeSpace(parts=torch.randn(2, 9)), file)
    with pytest.raises(UserError, match=r"tiny_codes.safetensors: axes of the parts have the shape \[2, 9\]"):
        parts_of(model)


def test_colours_leave_all_but_the_fine_layers_alone() -> None:
    assert VARY["colours"] == (0, 0, 1) and VARY["people"][0] == 0 and min(VARY["people"][1:]) > 0
