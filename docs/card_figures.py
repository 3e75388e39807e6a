"""What faces made of held-out sketches and drawings are worth, in one table.

python docs/card_figures.py --faces data/faces.zip [--checkpoint_path FILE] [--n_images 256] [--shown "ffhq|lfw"]

faces: a data root with label maps beside its photos; its test part is used, evenly. Also for a checkpoint of a training
that still runs. Drawings (style `drawing`) are made from the label maps, so that the face parser can tell whether they
were followed.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from card_groups import cheeks
from PIL import Image
from torch import Tensor

from criteria.evaluation.looks import LookJudge
from criteria.extractors import open_extractor
from datasets.prepared import spread
from datasets.roots import open_data_root
from datasets.sketches import sketch_from_photo
from psp.benchmark.report import table
from psp.images.decode import to_rgb
from psp.images.preprocess import photo_tensor, prepare_source
from psp.images.sheets import to_image
from psp.models.mixing import TRUNCATION, fine_layers, mix
from psp.models.psp import PSP
from psp.tasks import get_task
from psp.training.methods.stylegan2.joint_losses import common_detail
from psp.weights.load import load_model

TASK = get_task("celebs_sketch_to_face")
KINDS = {"sketch": ("sobel", False), "drawing": ("drawing", False), "half a drawing": ("drawing", True)}
DARKEST, MIXES = 15, 5


@dataclass(frozen=True)
class Face:
    """photo: RGB [1,3,S,S] in [-1,1]. labels: class ids uint8 [h,w]. sources: kind of `KINDS` -> [1,C,256,256]."""

    name: str
    photo: Tensor
    labels: np.ndarray
    sources: dict[str, Tensor]


def read_faces(root: Path, count: int, size: int) -> list[Face]:
    """`count` test faces of a data root that has label maps."""
    opened = open_data_root(root, TASK)
    photos, maps = opened.test_target, opened.test_labels
    if maps is None:
        sys.exit(f"{root} has no label maps beside its photos")
    by_stem = {Path(name).stem: name for name in maps.names}
    faces = []
    for index, name in enumerate(spread(photos.names, count)):
        image = to_rgb(photos.open(name))
        labels = np.asarray(maps.open(by_stem[Path(name).stem]))
        sources = {}
        for kind, (style, unfinished) in KINDS.items():
            drawn = sketch_from_photo(image, style, size=256, labels=labels, seed=index, unfinished=unfinished)
            sources[kind] = prepare_source(drawn, TASK)[None]
        small = image.resize((size, size), Image.Resampling.BILINEAR)
        faces.append(Face(Path(name).stem, photo_tensor(np.asarray(small))[None], labels, sources))
    return faces


def agreement(judge: LookJudge, images: Sequence[Tensor], faces: Sequence[Face]) -> float:
    """Mean intersection over union of the classes that the maps have, over all of the images at once."""
    common, either, wanted = (np.zeros(256) for _ in range(3))
    for image, face in zip(images, faces, strict=True):
        ids = face.labels
        found = judge.parser.parse(image, size=ids.shape)[0].cpu().numpy()
        counts = [np.bincount(part.ravel(), minlength=256) for part in (found, ids, ids[found == ids])]
        common, wanted = common + counts[2], wanted + counts[1]
        either = either + counts[0] + counts[1] - counts[2]
    return float((common[wanted > 0] / either[wanted > 0]).mean())


@torch.inference_mode()
def measure(model: PSP, faces: Sequence[Face], shown: str) -> dict[str, float]:
    """Figure -> value. shown: pattern of the names whose identity counts."""
    judge = LookJudge([face.photo for face in faces], open_extractor("vgg16"))
    noise = torch.randn(len(faces), MIXES, model.style_dim, generator=torch.Generator().manual_seed(0))
    codes = {kind: [model.encode(face.sources[kind]).float() for face in faces] for kind in KINDS}
    images = {kind: [model.decode(code).clamp(-1, 1) for code in codes[kind]] for kind in KINDS}
    torch.manual_seed(0)
    fresh = [model.decode(code, randomize_noise=True).clamp(-1, 1) for code in codes["sketch"]]
    random = [model.decode(model.map(z[:1], TRUNCATION)).clamp(-1, 1) for z in noise]
    own, chance = judge.against_photos(images["sketch"]), judge.against_photos(random)
    known = [i for i, face in enumerate(faces) if re.search(shown, face.name)]
    alike = [float((judge.people(images["sketch"][i]) - judge.known[i]).norm()) for i in known]

    def mixed(k: int) -> Tensor:
        styles = model.map(noise[k], TRUNCATION).float()
        several = codes["sketch"][k].expand(MIXES, -1, -1)
        return model.decode(mix(several, styles, fine_layers(model.n_styles))).clamp(-1, 1)

    luma = [cheeks(to_image(face.photo[0]), judge.parser) for face in faces]
    darkest = np.argsort(np.nan_to_num(luma, nan=np.inf))[:DARKEST]
    mixes = [mixed(k) for k in range(len(faces))]
    of_darkest = [cheeks(to_image(image), judge.parser) for k in darkest for image in mixes[k]]
    pairs = torch.combinations(torch.arange(MIXES))
    apart = [float(judge.lpips(several[pairs[:, 0]], several[pairs[:, 1]]).mean()) for several in mixes]
    detail = {
        name: float(common_detail(torch.cat(list(some))))
        for name, some in (("own", images["sketch"]), ("random", random), ("fresh", fresh))
    }
    return {
        "LPIPS to the photo, relative to random faces": own["lpips"] / chance["lpips"],
        "identity distance to the photo": float(np.mean(alike)),
        "Frechet distance (VGG16), own colours": own["frechet"],
        "Frechet distance, random faces": chance["frechet"],
        "drawings: parser agreement": agreement(judge, images["drawing"], faces),
        "drawings: Frechet distance": judge.against_photos(images["drawing"])["frechet"],
        "half drawings: parser agreement": agreement(judge, images["half a drawing"], faces),
        "fine detail in common, own colours": detail["own"],
        "fine detail in common, own colours, fresh noise": detail["fresh"],
        "fine detail in common, random faces": detail["random"],
        f"cheeks of the {DARKEST} darkest photos, luma": float(np.mean([luma[k] for k in darkest])),
        "cheeks of mixes of their sketches": float(np.nanmean(of_darkest)),
        "diversity of five mixes, LPIPS": float(np.mean(apart)),
        "same parts among five mixes": judge.among(mixes)["parts_kept"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--checkpoint_path", type=Path)
    parser.add_argument("--n_images", type=int, default=256)
    parser.add_argument("--shown", default="ffhq|lfw", help="pattern of the names whose identity counts")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    flags = parser.parse_args()
    model = load_model(flags.checkpoint_path, task=TASK.name)
    figures = measure(model, read_faces(flags.faces, flags.n_images, model.decoder.size), flags.shown)
    print(table(["figure", f"{flags.n_images} held-out faces"], [[k, f"{v:.3f}"] for k, v in figures.items()]))
    if flags.out:
        flags.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
