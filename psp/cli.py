"""Command lines without torch: booleans as people type them, and one line instead of a page when a flag is wrong."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable
from typing import Any, NoReturn

from psp.errors import UserError

MAX_SEED = 2**63 - 1  # torch's generators take no more
VERSION = "0.2.0"  # of the package; pyproject.toml reads it here
_TRUE = ("true", "1", "yes", "y", "on")
_FALSE = ("false", "0", "no", "n", "off")


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose mistakes are UserErrors of one line, with the nearest flag when one is misspelt.

    Flags have to be written in full (`--resize` would otherwise silently become `--resize_outputs` or the like).
    """

    def __init__(self, description: str | None = None, **options: Any):
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", HelpFormatter)
        super().__init__(description=description, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--help lists all flags)")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [option for action in self._actions for option in action.option_strings]
            name = unknown[0].split("=")[0]
            near = difflib.get_close_matches(name.replace("-", "_").replace("__", "--", 1), flags, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.error(f"unknown {'flag' if name.startswith('-') else 'argument'} {name}{hint}")
        return parsed


class HelpFormatter(argparse.HelpFormatter):
    """Defaults are shown, one flag a line, with room for names as long as pSp's."""

    def __init__(self, prog: str, **options: Any):
        options.setdefault("max_help_position", 34)
        options.setdefault("width", 118)
        super().__init__(prog, **options)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if action.default in (None, argparse.SUPPRESS, "", False) or "%(default)" in text or not action.option_strings:
            return text
        return f"{text} (default: %(default)s)"


def parse_bool(text: str) -> bool:
    """True for true, 1, yes, on; False for their opposites, in any case. argparse adds the flag's name to the error."""
    word = text.strip().lower()
    if word not in _TRUE + _FALSE:
        raise argparse.ArgumentTypeError(f"expected true or false, not {text!r}")
    return word in _TRUE


def at_least(least: int) -> Callable[[str], int]:
    """What argparse reads a whole number by that is not below `least`."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is too small, {least} is the least")
        return value

    return number


def seed(text: str) -> int:
    """What argparse reads the seed of a random generator by."""
    value = int(text)
    if not 0 <= value <= MAX_SEED:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {MAX_SEED}")
    return value


def add_bool(parser: argparse._ActionsContainer, name: str, default: bool | None, help: str) -> argparse.Action:
    """Add a boolean flag that takes `--name`, `--name true`, `--name=false`; `name` with or without its dashes.

    `default` may be None where "not given" has a meaning of its own.
    """
    flag = "--" + name.lstrip("-")
    return parser.add_argument(
        flag, nargs="?", const=True, default=default, type=parse_bool, metavar="true|false", help=help
    )
