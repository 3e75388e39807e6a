"""Weights from one layout into another: `psp convert` and `scripts/convert_checkpoint.py`. --help needs no torch."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from psp.cli import Parser
from psp.errors import UserError

if TYPE_CHECKING:
    from psp.models.style_bank import StyleBank
    from psp.networks.photo_encoder import PhotoEncoder

PHOTO_SIZE = 256  # that photos are brought to before the photo encoder makes them smaller, as the programs do
LAYOUTS = ("safetensors", "psp", "stylegan2")


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        "Convert weights that this project reads, whatever their format, bit for bit: to safetensors with the options "
        "inside, or back to pSp's or rosinality's layout. --info says what a file is.",
        prog=prog,
    )
    add = parser.add_argument
    add("source", metavar="IN", help="weights file, or a folder with model.safetensors and config.json")
    add("target", metavar="OUT", nargs="?", help="file to write: .safetensors, or .pt for the others")
    add(
        "--to",
        choices=LAYOUTS,
        help="safetensors: ours; psp: state_dict, opts and latent_avg, as pSp, e4e and ReStyle load them; stylegan2: "
        "g_ema and latent_avg, as rosinality's code does (default: by the ending of OUT)",
    )
    add("--dtype", choices=("fp32", "fp16"), default="fp32", help="of matrices and convolutions")
    add(
        "--style_bank",
        metavar="PHOTOS",
        help="folder or zip of cut-out face photos: their codes become the random styles of a generator with a photo "
        "encoder, in place of its mapping network's",
    )
    add(
        "--share_generator",
        metavar="NAME",
        help="write the generator of a model into this file beside OUT, where several encoders may share it, or leave "
        "it there if it is the same",
    )
    add("--info", action="store_true", help="only say what IN is")
    add("--overwrite", action="store_true", help="replace OUT if it is there")
    return parser


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """The command; returns the exit status: 1 where a photo could not be read."""
    flags = build_parser(prog).parse_args(argv)
    if flags.info:
        if flags.target or flags.style_bank:
            raise UserError("--info writes nothing", "leave out the second file name and --style_bank")
        return info(flags.source)
    if not flags.target:
        raise UserError("a second file name is missing: where to write (or --info to only look)")
    target = check_target(Path(flags.target), flags.to, overwrite=flags.overwrite)
    shared = generator_beside(target, flags.share_generator) if flags.share_generator else None

    from psp.weights.convert import convert
    from psp.weights.describe import size
    from psp.weights.places import locate

    unread: list[str] = []
    bank_of = functools.partial(bank_of_photos, flags.style_bank, unread) if flags.style_bank else None
    half = flags.dtype == "fp16"
    layout, notes = convert(
        flags.source, target, flags.to, half=half, bank_of=bank_of, shared=shared, overwrite=flags.overwrite
    )
    print(f"wrote   {target} ({size(target.stat().st_size)}), {layout} layout, {flags.dtype}")
    if layout != "stylegan2":
        keep_codes_beside(locate(flags.source), target, overwrite=flags.overwrite)
    for note in notes:
        print(f"note    {note}")
    for problem in unread:
        print(f"unread  {problem}")
    return 1 if unread else 0


def keep_codes_beside(source: Path, target: Path, *, overwrite: bool) -> None:
    """Directions and axes of parts lie in a file beside a model; a converted one has the same.

    overwrite: whether they may replace what lies beside `target`; what stays there may be another model's.
    """
    from psp.weights.code_space import beside, copy_codes

    copied = beside(target)
    if beside(source).resolve() == copied.resolve():
        return
    if (overwrite or not copied.exists()) and copy_codes(source, target):
        print(f"wrote   {copied}, as it lies beside {source.name}")
    elif copied.exists():
        print(f"note    {copied} was there and stays; it may belong to another model")


def bank_of_photos(photos: str, unread: list[str], encoder: PhotoEncoder) -> StyleBank:
    """Style bank with the codes of a random part of a folder's or zip's photos; what cannot be read joins `unread`."""
    import torch

    from psp.images.preprocess import prepare_target
    from psp.images.sources import open_source
    from psp.models.style_bank import SIZE, StyleBank

    source = open_source(photos)
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))
    read: list[torch.Tensor] = []
    for name in (source.names[i] for i in order):
        if len(read) == SIZE:
            break
        try:
            photo = prepare_target(source.open(name), size=max(encoder.size, PHOTO_SIZE))
        except UserError as error:
            unread.append(str(error))
            continue
        read.append(encoder.shrunk(photo[None]))
    if len(read) < 2:
        raise UserError(f"{photos}: {len(read)} photo(s) could be read", f"a style bank needs two, better {SIZE:,}")
    with torch.no_grad():
        codes = torch.cat([encoder(part) for part in torch.cat(read).split(64)])
    bank = StyleBank.from_codes(codes)
    print(f"bank    {len(bank):,} of {len(source):,} photos in {photos}")
    return bank


def check_target(target: Path, layout: str | None, *, overwrite: bool) -> Path:
    """OUT, where it can be written and its ending fits; UserError otherwise, before anything large is read."""
    if target.is_dir():
        raise UserError(f"{target} is a folder", "give the name of the file to write")
    ours = target.suffix == ".safetensors"
    if layout is not None and ours != (layout == "safetensors"):
        ending = ".safetensors" if layout == "safetensors" else ".pt"
        raise UserError(f"{target} does not end in {ending}, as --to {layout} needs", "change one of them")
    if layout is None and not ours and target.suffix not in (".pt", ".pth"):
        raise UserError(f"{target} ends in neither .safetensors nor .pt", f"change it or say --to {'|'.join(LAYOUTS)}")
    if target.exists():
        if not target.is_file():
            raise UserError(f"{target} is not a regular file", "give another name")
        if not overwrite:
            raise UserError(f"{target} is there already", "--overwrite replaces it")
    if not target.parent.is_dir():
        raise UserError(f"{target.parent} does not exist", "make the folder first")
    return target


def generator_beside(target: Path, name: str) -> Path:
    """The file of the generator beside OUT; UserError where the name cannot be one."""
    if target.suffix != ".safetensors":
        raise UserError("--share_generator is for .safetensors files", "the others hold their generator")
    if Path(name).name != name or Path(name).suffix != ".safetensors" or name == target.name:
        raise UserError(f"--share_generator {name}", "the name of another .safetensors file beside OUT is needed")
    return target.parent / name


def info(source: str) -> int:
    """Print what a file is, then try to load it: what does not fit together is said as the error it would be."""
    from psp.weights.convert import check
    from psp.weights.describe import describe
    from psp.weights.formats import read_weights

    weights = read_weights(source)
    for name, words in describe(weights):
        print(f"{name:<10}{words}")
    sys.stdout.flush()
    print(f"{'loads':<10}{check(weights)}")
    return 0
