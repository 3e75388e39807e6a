"""The command line of `scripts/train.py` and its files, YAML or JSON. No torch."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from psp.cli import Parser, add_bool
from psp.errors import UserError
from psp.training.config import Config
from psp.training.method import method_named
from psp.training.options import Declared, declared
from psp.training.resolve import from_mapping, known_options

MAX_CONFIG_BYTES = 1 << 16


def build_parser() -> Parser:
    """A flag for every option, in groups by what they are for and by the methods that have them, and `--config`.

    Those not given are not in the namespace.
    """
    parser = Parser(
        usage="%(prog)s [-h] [--config FILE] [--FLAG VALUE ...]",
        description="Train a pSp encoder, the StyleGAN2 generator behind it, or one of the methods before it: "
        "pix2pix, CycleGAN, a conditional GAN. Without flags: the bundled generator and the example data.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML or JSON file with any of these options; flags win")
    groups: dict[str, argparse._ArgumentGroup] = {}
    heading = ""
    for owned in known_options().values():
        if owned[0][0]:
            heading = f"--method {', '.join(method for method, _ in owned)}"
        else:
            heading = owned[0][1].group or heading
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading)
        _add_flag(groups[heading], owned[0][1], _explained(owned))
    return parser


def _explained(owned: list[tuple[str, Declared]]) -> str:
    """The help of an option, method by method where they say different things."""
    texts: dict[str, list[str]] = {}
    for method, one in owned:
        shown = "default" in one.help or one.is_absent(one.default)
        texts.setdefault(one.help if shown else f"{one.help} [{one.default}]", []).append(method)
    if len(texts) == 1:
        return next(iter(texts))
    return "; ".join(f"{', '.join(methods)}: {text}" for text, methods in texts.items())


def _add_flag(group: argparse._ArgumentGroup, one: Declared, text: str) -> None:
    text = text.replace("%", "%%")
    if one.kind is bool:
        add_bool(group, one.name, None, text).default = argparse.SUPPRESS
        return
    group.add_argument(
        f"--{one.name}",
        type=one.kind,
        choices=tuple(one.choices) or None,
        metavar=None if one.choices else "PATH" if one.place else one.kind.__name__.upper(),
        help=text,
    )


def parse(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Command line -> given values, checked (see `psp.training.resolve.from_mapping`); `--config` first, then flags."""
    given = vars(build_parser().parse_args(argv))
    path = given.pop("config", None)
    values = read_config(path) if path else {}
    return from_mapping({**values, **given}, where=str(path or "command line"))


def read_config(path: str | Path) -> dict[str, Any]:
    """Options of a YAML or JSON file; UserError when it is missing, malformed, or not a flat mapping."""
    from psp.files import read_json, read_text, read_yaml  # which need numpy

    read = read_json if Path(path).suffix == ".json" else read_yaml
    name = f"--config {path}"
    values = read(read_text(path, most=MAX_CONFIG_BYTES, name=name), where=name)
    if not isinstance(values, Mapping):
        raise UserError(f"--config {path} must hold a mapping of option names to values")
    return {str(key): value for key, value in values.items()}


def ignored(given: Mapping[str, Any]) -> str:
    """One line that names the given options that change nothing, or "": those of other methods, and idle ones.

    An option that has its default anyway is not worth a word.
    """
    method = given.get("method", Config.method)
    own = method_named(method).Options
    read = {**declared(Config), **declared(own)}
    for name in own.idle(given):
        read.pop(name)
    others = {name: owned for name, owned in known_options().items() if name in given and name not in read}
    names = [f"--{name}" for name, owned in others.items() if any(given[name] != one.default for _, one in owned)]
    return f"ignored by --method {method}: {', '.join(names)}" if names else ""
