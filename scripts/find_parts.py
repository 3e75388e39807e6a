"""Learns which styles of a model move the parts of a face, so that `--vary people` and the studio leave those alone.

python scripts/find_parts.py [--checkpoint_path FILE] [--n_faces 192]

Needs no photos: random faces of the model, and the bundled face parser. Writes, or adds to, the file that lies beside
the checkpoint for `--edit` and `--follow`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from psp.cli import Parser, at_least, seed
from psp.errors import run_main


def main(argv: list[str] | None = None) -> int:
    parser = Parser("Learn which styles move the parts of a face; writes <checkpoint>_codes.safetensors.")
    add = parser.add_argument
    add("--checkpoint_path", metavar="FILE", help="a pSp checkpoint (default: the bundled one)")
    add("--dataset_type", metavar="TASK", help="where the checkpoint does not say it, or to pick a bundled model")
    add("--n_faces", type=at_least(16), default=192, metavar="N", help="random faces to learn from")
    add("--out", metavar="FILE", help="file to write (default: beside the checkpoint)")
    add("--seed", type=seed, default=0, metavar="SEED", help="which random faces")
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    flags = parser.parse_args(argv)
    import torch
    from torch import Tensor

    from psp.device import pick_device
    from psp.models.people import find_axes
    from psp.networks.face_parser import faces_at_input_size
    from psp.weights.code_space import mark_of, save_code_space, to_extend
    from psp.weights.face_parser import load_face_parser
    from psp.weights.load import load_model

    model = load_model(flags.checkpoint_path, task=flags.dataset_type, device=pick_device(flags.device))
    out, space = to_extend(model, flags.out)
    face_parser = load_face_parser().to(model.device)
    z = torch.randn(2 * flags.n_faces, model.style_dim, generator=torch.Generator().manual_seed(flags.seed))
    with torch.no_grad():
        styles = model.map(z.to(model.device)).float()

    def parse(faces: Tensor) -> Tensor:
        shares: Tensor = face_parser(faces_at_input_size(faces.clamp(-1, 1))).softmax(1)
        return shares

    bands = model.bands()
    layers = bands["middle"] + bands["fine"][: len(bands["fine"]) // 2]  # the last ones hardly move anything
    axes = find_axes(model.decode, parse, styles, layers, seed=flags.seed)
    space.parts, space.mark = axes, mark_of(model.decoder)
    save_code_space(space, out)
    print(f"output  {out}: {len(axes)} axes along which the parts move, from {flags.n_faces} random faces")
    return 0


if __name__ == "__main__":
    run_main(main)
