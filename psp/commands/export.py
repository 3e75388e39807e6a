"""Models as ONNX files: `psp export` and `scripts/export_onnx.py`. --help needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from psp.cli import Parser, seed
from psp.errors import UserError
from psp.tasks import DIRECTIONS, TASKS

PARTS = ("all", "encoder", "mapping", "generator")


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        "Write a model as ONNX, which onnxruntime runs without Python or torch; each file is compared with the model "
        "before it gets its name. Needs: pip install onnx onnxscript onnxruntime.",
        prog=prog,
    )
    add = parser.add_argument
    add("source", metavar="IN", help="checkpoint of any method, model folder, or a bundled model's task")
    add("target", metavar="OUT", help="a file ending in .onnx; or a folder, for {encoder,mapping,generator}.onnx")
    add("--part", choices=PARTS, default="all", help="what goes into the file; all: from a drawing to faces")
    add(
        "--dtype", choices=("fp32", "fp16", "int8"), default="fp32", help="of stored weights; computation is in float32"
    )
    add("--dataset_type", choices=TASKS, help="where the file does not say what it was trained for")
    add("--direction", choices=DIRECTIONS, help="of a CycleGAN, which has two")
    add("--seed", type=seed, default=0, help="of the dropout mask that a pix2pix's file stores")
    add("--licence", help="of the weights, for the file (default: where it is known)")
    add("--overwrite", action="store_true", help="replace files that are there")
    return parser


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """The command; returns the exit status."""
    flags = build_parser(prog).parse_args(argv)
    target = Path(flags.target).expanduser()
    one = target.suffix == ".onnx"
    if not one and (flags.part != "all" or target.suffix):
        raise UserError(f"{target} does not end in .onnx", "a folder without --part takes all parts")
    files = {flags.part: target} if one else {part: target / f"{part}.onnx" for part in PARTS[1:]}
    for path in files.values():
        if path.exists() and not flags.overwrite:
            raise UserError(f"{path} is there already", "--overwrite replaces it")

    from psp.export.write import export
    from psp.files import make_folder
    from psp.weights.describe import size
    from psp.weights.load import load_any_model
    from psp.weights.places import locate, read_manifest

    file = locate(Path(flags.source).expanduser())
    known = read_manifest().get(file.name)
    licence = flags.licence or (known.licence if known else "not stated: that of the weights and of their data")
    model = load_any_model(flags.source, task=flags.dataset_type, direction=flags.direction)
    make_folder(target.parent if one else target)
    for path, error in export(model, files, dtype=flags.dtype, name=file.name, licence=licence, seed=flags.seed):
        print(f"wrote   {path} ({size(path.stat().st_size)}), differs by {error}")
    return 0
