"""Flags of `scripts/inference.py` and `scripts/style_mixing.py`: pSp's, under their names, and ours. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from psp.cli import MAX_SEED, Parser, add_bool
from psp.errors import UserError
from psp.inference.share import Share, find_share
from psp.tasks import DIRECTIONS, TASKS, get_task

# Value of --enhance -> what authors, spandrel and the studio call the network.
ENHANCERS = {"gfpgan": "GFPGAN", "codeformer": "CodeFormer", "restoreformer": "RestoreFormer"}
EVERYTHING = Share()
VARY = ("colours", "people")  # the names of psp.models.mixing.VARY, which needs torch
OTHERS = ("mixing", "share")  # options that are no flags
MAX_OUTPUTS = 1000  # faces of one input: they lie beside each other in one picture, and in memory at once
RANGES = {
    "test_batch_size": (1, MAX_SEED), "test_workers": (0, MAX_SEED), "n_images": (1, MAX_SEED),
    "n_outputs_to_generate": (1, MAX_OUTPUTS), "n_iters_per_batch": (1, MAX_SEED),
    "seed": (-MAX_SEED, MAX_SEED), "style_seed": (-MAX_SEED, MAX_SEED),
}  # fmt: skip
STRENGTHS = {"mix_alpha": (0.0, 1.0), "truncation": (0.0, 2.0), "follow": (0.0, 1.0)}


@dataclass(frozen=True)
class InferenceOptions:
    """What a run over a folder does, under the flags' names; see `build_parser` for their meaning.

    mixing: several faces for every input, as `scripts/style_mixing.py`; otherwise one. UserError for values that cannot
    work.
    """

    data_path: str | Path | None = None
    exp_dir: str | Path | None = None
    checkpoint_path: str | Path | None = None
    dataset_type: str | None = None
    n_images: int | None = None
    mixing: bool = False
    latent_mask: str | None = None
    mix_alpha: float | None = None
    vary: str | None = None
    n_outputs_to_generate: int = 5
    style_seed: int | None = None
    style_image: str | Path | None = None
    style_code: str | Path | None = None
    truncation: float = 1.0
    edit: str | None = None
    directions: str | Path | None = None
    follow: float = 1.0
    seed: int = 0
    direction: str | None = None
    test_dropout: bool | None = None
    enhance: str | None = None
    enhance_weights: str | Path | None = None
    fit: str = "auto"
    label_resize: str = "nearest"
    label_map: str = "celebamask"
    resize_factors: str | None = None
    cleanup: bool = True
    couple_outputs: bool = False
    resize_outputs: bool = False
    save_latents: bool = False
    save_grid: bool = False
    overwrite: bool = False
    test_batch_size: int = 2
    test_workers: int = 2
    n_iters_per_batch: int | None = None
    device: str = "auto"
    precision: str = "fp32"
    compile: bool = False
    share: Share = EVERYTHING

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} {value} is too small", f"the least is {least}")
            if value is not None and value > most:
                raise UserError(f"--{name} {value} is too large", f"the most is {most}")
        for name, (low, high) in STRENGTHS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # NaN is not
                raise UserError(f"--{name} {value:g} is out of range", f"allowed are {low:g} to {high:g}")
        if self.dataset_type is not None:
            get_task(self.dataset_type)
        for name, allowed in {"enhance": tuple(ENHANCERS), "direction": DIRECTIONS, "vary": VARY}.items():
            value = getattr(self, name)
            if value not in (None, *allowed):
                raise UserError(f"--{name} {value!r} is not known", f"choose one of: {', '.join(allowed)}")
        if self.enhance_weights is not None and self.enhance is None:
            raise UserError(f"--enhance_weights does nothing without --enhance {'|'.join(ENHANCERS)}")
        if self.vary is not None and self.latent_mask is not None:
            raise UserError("--vary says which layers are mixed", "leave --latent_mask out, or --vary")
        given = [f"--{name}" for name in ("style_seed", "style_image", "style_code") if getattr(self, name) is not None]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} were both given", "only one of them can set the style")


def build_parser(*, mixing: bool, prog: str | None = None) -> Parser:
    """The parser of `scripts/style_mixing.py` (`mixing`) or `scripts/inference.py`; both know all of pSp's flags."""
    if mixing:
        purpose = "Several different faces for every sketch, label map or photo: its own structure, other styles."
        layers = "the task's fine layers"
    else:
        purpose = "Sketches, label maps or photos become faces."
        layers = "none, or the fine layers with a --style flag"
    parser = Parser(f"{purpose} Without flags: the bundled model on the example images.", prog=prog)
    where = parser.add_argument_group("what and where").add_argument
    where(
        "--data_path",
        metavar="PATH",
        help="folder with sub-folders, zip file or one image (default: the examples of the checkout)",
    )
    where(
        "--exp_dir",
        metavar="DIR",
        help="results folder (default: the next free of output/<task>, output/<task>_2, ...)",
    )
    where("--checkpoint_path", metavar="FILE", help="weights of any format, or a folder with them (default: bundled)")
    tasks = f"{', '.join(TASKS)}: where the checkpoint does not say it, or to pick a bundled model"
    where("--dataset_type", metavar="TASK", help=tasks)
    where("--n_images", type=int, metavar="N", help="only the first N images (default: all)")

    mix = parser.add_argument_group("styles").add_argument
    mix("--latent_mask", metavar="LAYERS", help=f"layers to replace, as 8,9,10 or 8-17 (default: {layers})")
    mix("--mix_alpha", type=float, metavar="A", help="strength of the new style, 0 to 1 (default: 1, replaced)")
    mix("--vary", choices=VARY, help="what differs: colours (as without it), or people: who it is")
    mix("--n_outputs_to_generate", type=int, metavar="N", help="style_mixing.py: faces per input")
    mix("--style_seed", type=int, metavar="SEED", help="the same random style(s) for every image")
    mix("--style_image", metavar="FILE", help="the style of this photo, for every image")
    mix("--style_code", metavar="FILE", help="W+ code(s) from a .npy, .pt or .safetensors file, e.g. of --save_latents")
    mix("--truncation", type=float, metavar="T", help="below 1: random styles closer to the average face")
    mix("--edit", metavar="LIST", help="move the faces along directions, as smile=2,age=-1.5 or sefa3@0-5=1")
    mix("--directions", metavar="FILE", help="directions for --edit (default: those beside the checkpoint)")
    mix("--follow", type=float, metavar="F", help="1: every line of the drawing counts; towards 0: a face above all")
    mix("--seed", type=int, metavar="SEED", help="for random styles that differ from image to image")

    other = parser.add_argument_group("pix2pix, CycleGAN, cGAN")
    other.add_argument("--direction", choices=DIRECTIONS, help="CycleGAN: which way (default: sketch_to_photo)")
    noisy = "run it as in training: dropout (by --seed), each picture's own statistics (default: our pix2pix alone)"
    add_bool(other, "test_dropout", None, noisy)

    better = parser.add_argument_group("enhancement").add_argument
    better("--enhance", choices=ENHANCERS, help="restore the faces, at 512 px (needs the package spandrel)")
    better("--enhance_weights", metavar="FILE", help="the network's published weights; without it the run says where")

    group = parser.add_argument_group("input")
    read = group.add_argument
    read("--fit", choices=("auto", "stretch", "crop", "letterbox"), help="images that are not square")
    read("--label_resize", choices=("nearest", "bilinear"), help="bilinear: as pSp did")
    read("--label_map", metavar="MAP", help="celebamask, zllrunning, color or a .json file")
    read("--resize_factors", metavar="F", help="super-resolution: shrink the input first, by 8 or each of 4,8,16")

    write = parser.add_argument_group("output")
    add_bool(group, "cleanup", None, "sketches: make photographed paper white, invert chalk on black, keep thin lines")
    add_bool(write, "couple_outputs", None, "also save input and output side by side")
    add_bool(write, "resize_outputs", None, "results at 256 px instead of the model's size")
    add_bool(write, "save_latents", None, "also save the W+ codes, as .npy")
    add_bool(write, "save_grid", None, "also save a contact sheet of the first results, grid.png")
    add_bool(write, "overwrite", None, "make results again that are there already, or were made with other settings")

    running = parser.add_argument_group("running")
    add = running.add_argument
    add("--test_batch_size", type=int, metavar="N", help="images the network works on at a time")
    add("--test_workers", type=int, metavar="N", help="threads that read images (0: none)")
    passes = "ReStyle models: passes that refine a result (default: the checkpoint's, usually 5)"
    add("--n_iters_per_batch", type=int, metavar="N", help=passes)
    add("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    add("--precision", choices=("fp32", "tf32", "bf16", "fp16"), help="tf32, fp16: on GPUs")
    add_bool(running, "compile", None, "torch.compile: a minute more at the start, faster from then on")
    shards = "share a folder among N runs into the same --exp_dir (default: torchrun's or srun's number of processes)"
    add("--num_shards", type=int, metavar="N", help=shards)
    add("--shard_index", type=int, metavar="K", help="which of the shards this run does, from 0")
    parser.set_defaults(**{field.name: field.default for field in fields(InferenceOptions) if field.name not in OTHERS})
    return parser


def parse(argv: Sequence[str] | None = None, *, mixing: bool, prog: str | None = None) -> InferenceOptions:
    """The command line as options; UserError, one line, for anything that cannot work."""
    values = vars(build_parser(mixing=mixing, prog=prog).parse_args(argv))
    share = find_share(values.pop("num_shards"), values.pop("shard_index"))
    return InferenceOptions(mixing=mixing, share=share, **values)
