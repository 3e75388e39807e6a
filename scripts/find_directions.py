"""Directions for --edit and statistics for --follow, learned for any model: what moves a face's turn, smile, hair, ...

python scripts/find_directions.py --photos my_photos/ [more.zip ...] [--checkpoint_path FILE] [--labels labels.csv]

Writes the file that --edit and --follow look for beside the model, and a report with strips of faces from -3 to 3.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import csv
import io
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from psp.cli import Parser, at_least, seed
from psp.errors import UserError, run_main
from psp.files import make_folder, read_text, save_bytes, save_json
from psp.images.output import save_image
from psp.images.sheets import sheet
from psp.images.sources import open_source
from psp.tasks import TASKS

if TYPE_CHECKING:
    from argparse import Namespace

    from torch import Tensor

    from criteria.evaluation.face_probe import FaceProbe, Numbers, Seen
    from psp.inference.translator import Translator
    from psp.models.psp import PSP
    from psp.weights.code_space import CodeSpace

AGE = re.compile(r"^\d{5}A(\d{2})$")  # All-Age-Faces: 01234A27.jpg is 27 years old
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
STRIP = (-3, -2, -1, 0, 1, 2, 3)
BATCH = 8
SHOWN = 20


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("from what").add_argument
    data("--photos", nargs="+", metavar="PATH", help="folders or zips of photos of faces, cut out as the examples are")
    data("--labels", metavar="FILE", help="CSV: file name, then a column of numbers for each direction; empty: unknown")
    data("--checkpoint_path", metavar="FILE", help="a pSp model of any kind (default: the bundled one)")
    data("--dataset_type", metavar="TASK", help=f"{', '.join(TASKS)}: where the checkpoint does not say it")
    data("--n_images", type=at_least(20), default=2000, metavar="N", help="faces to learn from, of photos or random")
    data("--tries", type=at_least(2), default=24, metavar="N", help="faces that parts of directions are tried on")
    data("--n_judged", type=at_least(4), default=200, metavar="N", help="further faces that the report is about")
    data("--seed", type=seed, default=0, metavar="SEED", help="which photos, or which random faces")
    where = parser.add_argument_group("where to").add_argument
    where("--out", metavar="FILE", help="file to write (default: <checkpoint>_codes.safetensors beside the checkpoint)")
    where("--exp_dir", metavar="DIR", help="folder for the report (default: output/directions/<checkpoint>)")
    where("--overwrite", action="store_true", help="replace directions and statistics that the file has")
    where("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    return parser


@dataclass
class Faces:
    """What is learned from. codes [M,N,D] as edits meet them; encoded: as the encoder gave them, None of random faces;
    labels [M] by name, NaN where unknown; photos: what is seen in the photos themselves."""

    codes: Tensor
    encoded: Tensor | None = None
    labels: dict[str, Numbers] = field(default_factory=dict)
    photos: Seen | None = None


def main(argv: list[str] | None = None) -> int:
    flags = build_parser().parse_args(argv)
    if flags.labels and not flags.photos:
        raise UserError("--labels are of photos", "give --photos as well")
    import torch

    from criteria.evaluation.face_probe import FaceProbe
    from psp.device import pick_device
    from psp.inference.translator import Translator
    from psp.models.mixing import TRUNCATION
    from psp.models.plausible import FaceCodes
    from psp.models.psp import PSP
    from psp.weights.code_space import CodeSpace, mark_of, save_code_space, to_extend
    from psp.weights.load import load_any_model

    model = load_any_model(flags.checkpoint_path, task=flags.dataset_type, device=pick_device(flags.device))
    if not isinstance(model, PSP) or model.path is None:
        raise UserError(f"{flags.checkpoint_path} has no W+ codes to find directions in")
    out, known = to_extend(model, flags.out)
    if (known.directions or known.faces is not None) and not flags.overwrite:
        raise UserError(f"{out} has directions or statistics already", "--overwrite replaces them")
    folder = make_folder(flags.exp_dir or f"output/directions/{model.path.stem}")
    translator, probe, unread = Translator(model), FaceProbe(model.device), list[str]()
    space = CodeSpace(parts=known.parts, mark=mark_of(model.decoder))
    if flags.photos:
        faces = faces_of_photos(translator, probe, flags, unread)
        assert faces.encoded is not None
        fine = model.bands()["fine"]
        space.faces = FaceCodes.of(faces.encoded, [layer for layer in range(model.n_styles) if layer not in fine])
    else:
        z = torch.randn(flags.n_images, model.style_dim, generator=torch.Generator().manual_seed(flags.seed))
        with torch.inference_mode():
            faces = Faces(model.map(z.to(model.device), truncation=TRUNCATION).float().cpu())
    rows, pictures = learn(translator, probe, faces, space, flags)
    if not space.directions and space.faces is None:
        raise UserError("no direction moves its own measure enough", "give --photos, or a larger --n_images")
    save_code_space(space, out)
    save_json({"model": model.path.name, "faces": len(faces.codes), "directions": rows}, folder / "directions.json")
    save_bytes(table_of(rows).encode(), folder / "directions.md")
    save_image(pictures, folder / "strips.png")
    for line in unread[:SHOWN]:
        print(f"left out: {line}", file=sys.stderr)
    also = f", statistics of {len(faces.codes)} faces" if space.faces else "; statistics for --follow need --photos"
    print(f"wrote   {out} ({out.stat().st_size >> 10} kB): {len(space.directions)} directions{also}")
    print(f"report  {folder}")
    return 1 if unread else 0


def faces_of_photos(translator: Translator, probe: FaceProbe, flags: Namespace, unread: list[str]) -> Faces:
    """Faces that the model makes of photos: each is drawn or parsed as its task needs, and keeps its own colours where
    the model has a photo encoder. What cannot be read joins `unread`."""
    import torch

    from criteria.evaluation.face_probe import FEWEST
    from psp.images.preprocess import prepare_target
    from psp.models.mixing import mix

    model: PSP = translator.model  # type: ignore[assignment]
    sources = [open_source(path) for path in flags.photos]
    images = [(source, name) for source in sources for name in source.names]
    order = np.random.default_rng(flags.seed).permutation(len(images))[: flags.n_images]
    encoded: list[Tensor] = []
    codes: list[Tensor] = []
    seen: list[Seen] = []
    stems: list[str] = []
    for start in tqdm(range(0, len(order), BATCH), "photos", unit="batch", mininterval=5):
        inputs: list[Tensor] = []
        photos: list[Tensor] = []
        for number in order[start : start + BATCH]:
            source, name = images[number]
            try:
                photo = source.open(name)
                inputs.append(network_input(photo, translator, int(number)))
            except UserError as error:
                unread.append(str(error))
                continue
            photos.append(prepare_target(photo))
            stems.append(Path(name).stem)
        if not photos:
            continue
        with torch.inference_mode():
            batch = torch.stack(photos).to(model.device)
            encoded.append(code := translator.encode(torch.stack(inputs)).cpu())
            if model.photo_encoder is not None:
                code = mix(code, model.style_of(batch).float().cpu(), model.bands()["fine"])
            codes.append(code)
            seen.append(probe.look(batch))
    if len(stems) < 20:
        raise UserError(f"{len(stems)} photos could be read", "give 20 at least, better thousands")
    labels = read_labels(flags.labels, stems) if flags.labels else {}
    ages = [float(match[1]) if (match := AGE.match(stem)) else math.nan for stem in stems]
    if "age" not in labels and sum(map(math.isfinite, ages)) >= FEWEST:
        labels["age"] = np.array(ages)
    return Faces(torch.cat(codes), torch.cat(encoded), labels, joined(seen))


def network_input(photo: Image.Image, translator: Translator, number: int) -> Tensor:
    """A photo as the model's task takes it: itself, a sketch in one of the filters, or the parser's label map."""
    from datasets.sketches import STYLES, sketch_from_photo
    from psp.images.preprocess import prepare_source, prepare_target
    from psp.weights.face_parser import parse_faces

    task = translator.task
    if task.source == "sketch":
        photo = sketch_from_photo(photo, list(STYLES)[number % len(STYLES)], size=256)
        return prepare_source(photo, task, cleanup=False)
    if task.source == "labels":
        photo = Image.fromarray(parse_faces(prepare_target(photo)[None])[0].numpy())
    return prepare_source(photo, task)


def read_labels(path: str, stems: list[str]) -> dict[str, Numbers]:
    """The columns of a CSV by their names, for photos by their stems, NaN where it says nothing."""
    rows = list(csv.reader(io.StringIO(read_text(path))))
    header, *lines = rows if rows else [[]]
    titles = [title.strip() for title in header[1:]]
    if not titles or len(set(titles)) < len(titles) or any(not NAME.fullmatch(title) for title in titles):
        raise UserError(f"{path}: its first line is {','.join(header)[:80]!r}", "expected: file,beard,age or the like")
    labels: dict[str, list[float]] = {}
    for line in filter(None, lines):
        try:
            values = [float(cell) if cell.strip() else math.nan for cell in line[1:]]
        except ValueError:
            values = []
        if len(values) != len(titles) or any(map(math.isinf, values)):
            raise UserError(f"{path}: {','.join(line)[:80]!r} is no name and {len(titles)} numbers")
        labels[Path(line[0].strip()).stem] = values
    if not labels.keys() & set(stems):
        raise UserError(f"{path} names none of the photos", f"their names are like {stems[0]}")
    table = np.array([labels.get(stem, [math.nan] * len(titles)) for stem in stems])
    return dict(zip(titles, table.T, strict=True))


def learn(
    translator: Translator, probe: FaceProbe, faces: Faces, space: CodeSpace, flags: Namespace
) -> tuple[list[dict[str, Any]], Image.Image]:
    """Fill `space` with the directions that deserve their names; returns the report's rows, and strips of all."""
    import torch

    from criteria.evaluation.directions import deviations, effect, find_steps, shortcoming

    correlations: dict[str, float] = {}
    if faces.photos is not None:
        correlations = probe.learn(faces.photos.descriptors, faces.labels)
        faces.photos = probe.complete(faces.photos)

    @torch.inference_mode()
    def look(codes: Tensor) -> Seen:
        device = translator.device
        return joined([probe.look(translator.engine.decode(part.to(device))) for part in codes.split(BATCH)])

    count = min(flags.n_judged, len(faces.codes) // 3)
    judged, learned = faces.codes[:count], faces.codes[count:]
    measures = look(learned).measures
    spread = deviations(measures)[1]
    if faces.photos is not None:  # a label is known of a photo, or better guessed from it than from its copy
        spread = deviations(faces.photos.measures)[1]
        for name, values in faces.labels.items():
            column = probe.names.index(name)
            labels = values[count:]
            measures[:, column] = np.where(np.isfinite(labels), labels, faces.photos.measures[count:, column])
    print(f"faces   {len(learned)} to learn from, {count} to judge by", flush=True)
    bands = list(translator.model.bands().values())  # type: ignore[union-attr]
    steps = find_steps(learned, measures, bands, look, spread, flags.tries)

    rows: list[dict[str, Any]] = []
    before = look(judged)
    for number, (name, step) in enumerate(zip(probe.names, steps, strict=True)):
        result = effect(look, judged, before, step, spread)
        problem = shortcoming(result.moved, number, probe.names)
        moved = {name: round(float(by), 3) for name, by in zip(probe.names, result.moved, strict=True)}
        lengths = step.norm(dim=1) / step.norm().clamp(min=1e-12)
        rows.append({
            "name": name, "kept": not problem, "problem": problem, "moved": moved,
            "identity": round(result.identity, 3), "layers": [round(float(part), 2) for part in lengths],
            **({"label_correlation": round(correlations[name], 2)} if name in correlations else {}),
        })  # fmt: skip
        about = problem or f"moves it by {moved[name]:+.1f} deviations at 2, identity by {result.identity:.2f}"
        print(f"{'left ' if problem else 'found'}   {name}: {about}", flush=True)
        if not problem:
            space.directions[name], space.about[name] = step, about
    return rows, strips(translator, steps, probe.names, judged[[0, count // 2]])


def table_of(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    from psp.benchmark.report import table

    lines = []
    for row in rows:
        moved = dict(row["moved"])
        own = moved.pop(row["name"])
        most = sorted(moved, key=lambda name: -abs(moved[name]))[:3]
        along = ", ".join(f"{name} {moved[name]:+.2f}" for name in most)
        remark = "" if row["kept"] else f"left out: {row['problem']}"
        lines.append((row["name"], f"{own:+.2f}", along, f"{row['identity']:.2f}", remark))
    return table(("direction", "moves it by", "moves along", "identity", ""), lines)


def strips(translator: Translator, steps: Tensor, names: list[str], codes: Tensor) -> Image.Image:
    """A row of faces from -3 to 3 for each step [K,N,D] and each of the codes [F,N,D]."""
    import torch

    rows, labels = [], []
    with torch.inference_mode():
        for name, step in zip(names, steps, strict=True):
            for code in codes:
                moved = torch.stack([code + at * step for at in STRIP])
                pixels, _ = translator.pictures(moved.to(translator.device))
                rows.append([Image.fromarray(picture) for picture in pixels])
                labels.append(name)
    return sheet(rows, [f"{at:+d}" for at in STRIP], row_labels=labels, breaks=(3, 4))


def joined(parts: list[Seen]) -> Seen:
    from criteria.evaluation.face_probe import Seen

    return Seen(np.concatenate([part.measures for part in parts]), np.concatenate([part.descriptors for part in parts]))


if __name__ == "__main__":
    run_main(main)
