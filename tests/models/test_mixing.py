"""Style mixing on W+ codes: layers as people write them, strengths, and random styles that nothing else can change."""

from __future__ import annotations

import math

import pytest
import torch

from psp.errors import UserError
from psp.models.mixing import describe_layers, fine_layers, mix, parse_layers, seeded_noise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8,9,10", [8, 9, 10]),
        ("8-17", list(range(8, 18))),
        ("0-2, 8-10", [0, 1, 2, 8, 9, 10]),
        ("10,9,9,8", [8, 9, 10]),
        (" [8, 9] ", [8, 9]),
        ("17", [17]),
    ],
)
def test_layers_are_read(text: str, expected: list[int]) -> None:
    assert parse_layers(text, 18) == expected


@pytest.mark.parametrize("text", ["", "8,", "a", "8..17", "-1", "8-", "1.5", "8 9", "²", "99999999999"])
def test_what_is_no_list_of_layers_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--latent_mask"):
        parse_layers(text, 18)


def test_layers_out_of_range_name_the_allowed_ones() -> None:
    with pytest.raises(UserError, match=r"layer 99 .* 10 styles, layers 0-9; for instance --latent_mask 8-9$"):
        parse_layers("8-99", 10)
    with pytest.raises(UserError, match="layer 18"):
        parse_layers("18", 18)
    with pytest.raises(UserError, match="backwards"):
        parse_layers("9-8", 18)


@pytest.mark.parametrize("text", ["8-17", "8,9,10,11,12,13,14,15,16,17"])
@pytest.mark.parametrize(("n_styles", "here"), [(10, "5-9"), (12, "6-11"), (14, "7-13"), (16, "8-15")])
def test_layers_of_a_1024_px_model_are_named_as_those_of_this_one(text: str, n_styles: int, here: str) -> None:
    with pytest.raises(UserError, match=f"for what is 8-17 in a 1024 px model of 18 write --latent_mask {here}$"):
        parse_layers(text, n_styles)
    assert parse_layers(here, n_styles) == list(range(math.ceil(8 * n_styles / 18), n_styles))


@pytest.mark.parametrize("text", ["0-17", "8-10,12", "3", "0,2,4"])
def test_layers_are_written_as_they_are_read(text: str) -> None:
    assert describe_layers(parse_layers(text, 18)) == text


def test_default_layers_are_those_of_psp_in_proportion() -> None:
    assert fine_layers(18) == list(range(8, 18))
    found = {n: fine_layers(n) for n in (4, 6, 8, 10, 12, 14, 16, 18)}
    assert found[10][0] == 5 and all(layers[0] > 0 and layers[-1] == n - 1 for n, layers in found.items())
    assert [layers[0] for layers in found.values()] == sorted(layers[0] for layers in found.values())


def test_mix_replaces_only_the_layers_asked_for() -> None:
    codes, styles = torch.randn(3, 6, 4), torch.randn(3, 6, 4)
    before = codes.clone()
    mixed = mix(codes, styles, [1, 4])
    assert torch.equal(mixed[:, [1, 4]], styles[:, [1, 4]])
    assert torch.equal(mixed[:, [0, 2, 3, 5]], codes[:, [0, 2, 3, 5]])
    assert torch.equal(codes, before), "the input is left alone"


def test_alpha_is_the_share_of_the_new_style() -> None:
    codes, styles = torch.randn(2, 6, 4), torch.randn(2, 6, 4)
    assert torch.equal(mix(codes, styles, [2], 0.0), codes)
    assert torch.equal(mix(codes, styles, [2], 1.0), mix(codes, styles, [2]))
    expected = 0.25 * styles[:, 2] + 0.75 * codes[:, 2]
    torch.testing.assert_close(mix(codes, styles, [2], 0.25)[:, 2], expected)


def test_one_style_serves_all_images() -> None:
    codes, style = torch.randn(3, 6, 4), torch.randn(1, 6, 4)
    assert torch.equal(mix(codes, style, [0, 5]), mix(codes, style.repeat(3, 1, 1), [0, 5]))


def test_mix_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="expected"):
        mix(torch.zeros(2, 6, 4), torch.zeros(3, 6, 4), [0])
    with pytest.raises(ValueError, match="layers"):
        mix(torch.zeros(2, 6, 4), torch.zeros(2, 6, 4), [6])


def test_noise_depends_on_seed_name_and_number_only() -> None:
    one = seeded_noise(5, 512, 3, "a/b.png")
    assert torch.equal(one, seeded_noise(5, 512, 3, "a/b.png"))
    assert torch.equal(one[:2], seeded_noise(2, 512, 3, "a/b.png")), "more outputs do not change the first ones"
    torch.manual_seed(99)
    assert torch.equal(one, seeded_noise(5, 512, 3, "a/b.png")), "nor does the global generator"
    others = [seeded_noise(5, 512, 4, "a/b.png"), seeded_noise(5, 512, 3, "b.png"), one.roll(1, 0)]
    assert all(not torch.isclose(one, other).any(dim=1).all() for other in others)
    assert abs(float(one.mean())) < 0.1 and abs(float(one.std()) - 1) < 0.1


def test_noise_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    seeded_noise(3, 8, 0, "x")
    assert torch.equal(state, torch.get_rng_state())
