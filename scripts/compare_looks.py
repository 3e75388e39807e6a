"""What the studio could show first, and what it varies, measured on held-out photos: one table.

python scripts/compare_looks.py [--checkpoint_path FILE] [--data_path PATH] [--n_drawings 30] [--n_faces 9]
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psp.cli import Parser
from psp.errors import UserError, run_main
from psp.tasks import DEFAULT_TASK

if TYPE_CHECKING:
    from torch import Tensor

    from psp.inference.translator import Translator
    from psp.models.people import PartsAxes


@dataclass(frozen=True)
class Look:
    """vary: see `psp.models.mixing.VARY`; None: the encoder's own styles. truncation: None is the model's default.
    several: whether faces of one drawing are compared."""

    vary: str | None
    truncation: float | None = 1.0
    several: bool = False


@dataclass(frozen=True)
class Drawing:
    """codes: W+ [1,N,D] of the encoder. photo: RGB [1,3,S,S] in [-1,1]. key: what its random styles depend on."""

    codes: Tensor
    photo: Tensor
    key: str


EXAMPLES = ROOT / "examples" / "train_data" / "train"
LOOKS = {
    "own colours": Look(None),
    "chance": Look("colours"),
    "chance, truncation 0.7": Look("colours", 0.7),
    "chance, truncation 0.5": Look("colours", 0.5),
    "colours": Look("colours", None, several=True),
    "people": Look("people", several=True),
}
COLUMNS = ("frechet", "lpips", "identity", "identity_among", "parts_kept")
WORDS = """frechet: squared Frechet distance of the first faces to the photos ({features}); lower is better
lpips: LPIPS (AlexNet) of the first face and its photo; lower is better
identity: distance of dlib's descriptors of the first face and its photo; below 0.6 is the same person
identity_among: the same, mean over all pairs of {n_faces} faces of one drawing; above 0.6 are different people
parts_kept: share of the pixels where the face parser finds what it finds in the first of them"""


def build_parser() -> Parser:
    parser = Parser("Measure looks: own colours, chance, chance nearer to the average; and varying colours or people.")
    add = parser.add_argument
    add("--checkpoint_path", metavar="FILE", help="a pSp checkpoint (default: the bundled one)")
    add("--dataset_type", metavar="TASK", help="where the checkpoint does not say it")
    add("--data_path", metavar="PATH", help="folder or zip of photos and what is drawn of them (default: the examples)")
    add("--n_images", type=int, metavar="N", help="pairs for frechet, lpips and identity (default: all)")
    add("--n_drawings", type=int, default=30, metavar="N", help="of these pairs, for the two other columns")
    add("--n_faces", type=int, default=9, metavar="N", help="faces of each of these drawings")
    add("--looks", nargs="+", choices=LOOKS, default=list(LOOKS), metavar="LOOK", help=f"some of: {'; '.join(LOOKS)}")
    add("--features", default="auto", metavar="NAME", help="network for frechet: inception_fid, vgg16, ...")
    add("--seed", type=int, default=0, metavar="SEED", help="for the random styles")
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    add("--out", metavar="FILE", help="also write the numbers here, as JSON")
    return parser


def main(argv: list[str] | None = None) -> int:
    flags = build_parser().parse_args(argv)
    if flags.n_drawings < 1 or flags.n_faces < 2:
        raise UserError("two faces of one drawing are the least that can differ", "see --n_drawings and --n_faces")
    import torch

    from criteria.evaluation.looks import LookJudge
    from criteria.extractors import open_extractor
    from datasets.pairs import PairedImages
    from datasets.prepared import spread
    from datasets.roots import open_pair_folders
    from psp.device import pick_device
    from psp.inference.translator import Translator
    from psp.models.psp import PSP
    from psp.weights.code_space import parts_of
    from psp.weights.load import bundled, load_any_model
    from psp.weights.places import locate

    task = flags.dataset_type or (None if flags.checkpoint_path else DEFAULT_TASK)
    path = locate(flags.checkpoint_path) if flags.checkpoint_path else bundled(task or DEFAULT_TASK)
    model = load_any_model(path, task=task, device=pick_device(flags.device))
    if not isinstance(model, PSP):
        raise UserError(f"{path} has no styles to vary", "give a pSp checkpoint as --checkpoint_path")
    translator = Translator(model)
    source, target = open_pair_folders(flags.data_path or EXAMPLES, translator.task)
    pairs = PairedImages(translator.task, source, target, target_size=model.output_size)
    chosen = spread(range(len(pairs.pairs)), flags.n_images)
    drawings = [
        Drawing(translator.encode(pairs[i][0][None]), pairs[i][1][None].to(model.device), f"{flags.seed}/{pairs[i][2]}")
        for i in chosen
    ]
    try:
        extractor = open_extractor(flags.features, model.device)
    except UserError as error:
        print(f"no frechet: {error}", file=sys.stderr)
        extractor = None
    judge, parts = LookJudge([drawing.photo for drawing in drawings], extractor), parts_of(model)
    table: dict[str, dict[str, float]] = {}
    with torch.inference_mode():
        for name in flags.looks:
            look = LOOKS[name]
            table[name] = judge.against_photos([faces_of(translator, parts, look, one, 1) for one in drawings])
            if look.several:
                few = spread(drawings, flags.n_drawings)
                table[name] |= judge.among([faces_of(translator, parts, look, one, flags.n_faces) for one in few])
            print_row(name, table[name], header=len(table) == 1)
    n_drawings = min(flags.n_drawings, len(chosen))
    print(f"\n{path}: {len(chosen)} first faces; {flags.n_faces} faces of each of {n_drawings} drawings")
    print(WORDS.format(features=extractor.name if extractor else "-", n_faces=flags.n_faces))
    if flags.out:
        record = {
            "model": path.name, "features": extractor and extractor.name, "n_images": len(chosen),
            "n_drawings": n_drawings, "n_faces": flags.n_faces, "seed": flags.seed, "looks": table,
        }  # fmt: skip
        Path(flags.out).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


def faces_of(translator: Translator, parts: PartsAxes | None, look: Look, drawing: Drawing, n: int) -> Tensor:
    """RGB [n,3,S,S] in [-1,1] of one drawing; more faces of the same drawing begin with the same ones."""
    import torch

    from psp.models.mixing import VARY, mix, seeded_noise
    from psp.models.psp import PSP

    model, codes = translator.model, drawing.codes
    assert isinstance(model, PSP)
    if look.vary is not None:
        truncation = model.default_truncation if look.truncation is None else look.truncation
        noise = seeded_noise(n, model.style_dim, 0, drawing.key).to(model.device)
        styles = torch.cat([model.map(z[None], truncation=truncation) for z in noise]).float()
        codes = codes.expand(n, -1, -1)
        if look.vary == "people" and parts is not None:
            styles = parts.people(codes, styles, model.latent_avg)
        for layers, share in zip(model.bands().values(), VARY[look.vary], strict=True):
            codes = mix(codes, styles, layers, share)
    return translator.engine.decode(codes).clamp(-1, 1)


def print_row(name: str, row: dict[str, float], *, header: bool) -> None:
    if header:
        print(f"{'':24s}" + "".join(f"{column:>16s}" for column in COLUMNS))
    print(f"{name:24s}" + "".join(f"{row[c]:16.3f}" if c in row else f"{'-':>16s}" for c in COLUMNS), flush=True)


if __name__ == "__main__":
    run_main(main)
