"""Edits: what a list of them may be, what they do to codes, and the directions in a generator's own weights."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_psp

from psp.errors import UserError
from psp.models.editing import find_direction, in_layers, modulated, parse_edits, sefa


def test_a_list_of_edits() -> None:
    assert parse_edits("smile=2, age=-1.5") == {"smile": 2.0, "age": -1.5}
    assert parse_edits("sefa3@0-2=1,age=.5") == {"sefa3@0-2": 1.0, "age": 0.5}


@pytest.mark.parametrize(
    "text", ["", "smile", "smile=", "=2", "smile=2=3", "smile=nan", "smile=two", "smile=2,", "smile=2,,age=1", "a=1,b"]
)
def test_what_is_no_list_of_edits_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="not a list of name=strength"):
        parse_edits(text)


@pytest.mark.parametrize("text", ["smile=11", "smile=-10.5", "smile=inf"])
def test_strengths_have_a_range(text: str) -> None:
    with pytest.raises(UserError, match="allowed are -10 to 10"):
        parse_edits(text)


def test_a_name_counts_once() -> None:
    with pytest.raises(UserError, match="twice"):
        parse_edits("smile=1,smile=2")


def test_a_direction_of_one_style_moves_the_chosen_layers() -> None:
    step = in_layers(torch.arange(1.0, 5.0), 6, [1, 2])
    assert step.shape == (6, 4) and step[1].tolist() == [1, 2, 3, 4] and not step[[0, 3, 4, 5]].any()
    assert in_layers(torch.ones(6, 4), 6, [5]).sum() == 4


def test_each_layers_convolutions_are_those_that_its_style_changes() -> None:
    generator = tiny_psp().decoder
    called: list[object] = []
    codes = torch.randn(1, generator.n_styles, generator.style_dim)
    seen: dict[object, torch.Tensor] = {}
    for conv in (c for convs in modulated(generator) for c in convs):
        conv.modulation.register_forward_hook(lambda m, args, out: seen.__setitem__(m, args[0].clone()))
    with torch.no_grad():
        generator.synthesize(codes)
    for layer, convs in enumerate(modulated(generator)):
        for conv in convs:
            assert torch.equal(seen[conv.modulation], codes[:, layer]), layer
            called.append(conv)
    assert len(called) == len(set(called)) == len(seen)


def test_factorisation_finds_what_changes_the_modulations_most() -> None:
    generator = tiny_psp().decoder
    styles = torch.randn(500, generator.style_dim)
    first = sefa(generator, 0, styles, [0, 1])
    assert not first[2:].any() and torch.equal(first[0], first[1])
    unit = first[0] / first[0].norm()
    assert float((styles @ unit).std()) == pytest.approx(float(first[0].norm()), rel=1e-4)
    rows = torch.cat([conv.modulation.weight for convs in modulated(generator)[:2] for conv in convs]).detach()
    rows = rows / rows.norm(dim=1, keepdim=True)
    effects = [float((rows @ d / d.norm()).norm()) for d in torch.randn(50, generator.style_dim)]
    assert float((rows @ unit).norm()) > max(effects)
    last = sefa(generator, generator.style_dim - 1, styles, [0, 1])[0]
    assert float((rows @ last / last.norm()).norm()) < min(effects)
    assert torch.equal(first, find_direction("sefa0@0-1", {}, generator, lambda: styles))
    with pytest.raises(UserError, match="have sefa0 to sefa"):
        sefa(generator, generator.style_dim, styles)


def test_directions_are_found_by_name_and_layers() -> None:
    generator = tiny_psp().decoder
    known = {"smile": torch.ones(generator.style_dim), "age": torch.ones(generator.style_dim)}

    def styles() -> torch.Tensor:
        raise AssertionError("not needed")

    step = find_direction("smile@1-2", known, generator, styles)
    assert step[1:3].eq(1).all() and not step[0].any() and not step[3:].any()
    with pytest.raises(UserError, match="no direction is called grin; there are: smile, age, and sefa0"):
        find_direction("grin", known, generator, styles)
    with pytest.raises(UserError, match="out of range"):
        find_direction("smile@99", known, generator, styles)
