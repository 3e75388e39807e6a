"""The command `psp` of an installed package. Needs no torch for --help."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence

from psp.cli import VERSION
from psp.commands import convert, export, studio, web
from psp.errors import UserError, run_main
from psp.inference.options import parse


def infer(argv: Sequence[str] | None = None, *, prog: str | None = None, mixing: bool = False) -> int:
    """One face for every sketch, label map or photo; `mixing`: several, with other styles. Returns the exit status."""
    options = parse(argv, mixing=mixing, prog=prog)  # torch is only imported once the flags are right
    from psp.inference.run import translate_folder

    return translate_folder(options).status


mix = functools.partial(infer, mixing=True)

COMMANDS: dict[str, tuple[Callable[..., int], str]] = {
    "infer": (infer, "a face for every sketch, label map or photo"),
    "mix": (mix, "several faces for each, in other styles"),
    "convert": (convert.main, "weights from one layout into another"),
    "export": (export.main, "models as ONNX files"),
    "studio": (studio.main, "draw in the browser, and see faces as you draw"),
    "web": (web.main, "the studio's page as static files, without a server"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """`psp COMMAND ...`; returns the exit status. UserError: no such command, and what the command raises."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name == "--version":
        print(f"psp {VERSION}")
        return 0
    if name in ("--help", "-h"):
        lines = "\n".join(f"  {command:9}{use}" for command, (_, use) in COMMANDS.items())
        print(f"usage: psp COMMAND ... | --version\n\n{lines}\n\npsp COMMAND --help lists its flags.")
        return 0
    if name not in COMMANDS:
        raise UserError(f"psp has no command {name!r}", f"choose one of: {', '.join(COMMANDS)} (psp --help)")
    return COMMANDS[name][0](rest, prog=f"psp {name}")


def run() -> None:
    """Where the installed command begins."""
    run_main(main)
