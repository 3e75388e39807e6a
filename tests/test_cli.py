"""Flags as people type them."""

from __future__ import annotations

import pytest

from psp.cli import Parser, add_bool, at_least
from psp.errors import UserError
from psp.inference.options import parse


def parser() -> Parser:
    made = Parser("A program.")
    add_bool(made, "--flag", False, "a flag")
    add_bool(made, "other", None, "another")
    made.add_argument("--couple_outputs", type=int, default=3, help="100%% of them")
    made.add_argument("--rounds", type=at_least(1))
    return made


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([], False), (["--flag"], True), (["--flag", "true"], True), (["--flag=True"], True), (["--flag", "1"], True),
        (["--flag=false"], False), (["--flag", "False"], False), (["--flag=no"], False), (["--flag", "--other"], True),
    ],
)  # fmt: skip
def test_booleans(words: list[str], value: bool) -> None:
    assert parser().parse_args(words).flag is value


def test_a_boolean_that_was_not_given() -> None:
    assert parser().parse_args([]).other is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--flag=perhaps"], "--flag: expected true or false"),
        (["--couple_output", "1"], "unknown flag --couple_output; did you mean --couple_outputs?"),
        (["--couple-outputs=1"], "did you mean --couple_outputs?"),
        (["stray"], "unknown argument stray"),
        (["--couple_outputs", "x"], "invalid int value"),
        (["--rounds", "0"], "--rounds: 0 is too small, 1 is the least"),
        (["--rounds", "x"], "--rounds: invalid number value"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError) as raised:
        parser().parse_args(words)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert capsys.readouterr() == ("", "")


def test_help_shows_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        parser().parse_args(["--help"])
    assert raised.value.code == 0
    assert "100% of them (default: 3)" in capsys.readouterr().out


def test_a_published_command_line_is_understood() -> None:
    words = (
        "--exp_dir=experiment --checkpoint_path=best_model.pt --data_path=images --test_batch_size=4 --test_workers=4 "
        "--n_images=25 --n_outputs_to_generate=5 --latent_mask=8,9,10,11,12,13,14,15,16,17 --mix_alpha=0.5 "
        "--couple_outputs --resize_outputs"
    )
    options = parse(words.split(), mixing=True)
    assert (options.n_images, options.mix_alpha, options.resize_outputs) == (25, 0.5, True)
    assert parse(["--resize_factors=8"], mixing=False).resize_factors == "8"
