"""How good are the results? Any folder of results against the ground truth, or a checkpoint on pairs.

python scripts/evaluate.py --results FOLDER --ground_truth FOLDER [--sources FOLDER] [--metrics lpips_alex,ssim]
python scripts/evaluate.py --checkpoint_path FILE --data_root FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from datasets.matching import match_names
from datasets.prepared import PreparedSide, spread
from datasets.roots import open_data_root, open_pair_folders
from psp.cli import Parser, add_bool, at_least
from psp.errors import UserError, run_main
from psp.files import check_settings, free_folder, save_json
from psp.images.labels import is_label_map
from psp.images.sources import ImageSource, open_source
from psp.inference.options import InferenceOptions
from psp.tasks import DEFAULT_TASK, TASKS, Task, get_task

if TYPE_CHECKING:
    from argparse import Namespace

    from criteria.evaluation.examples import Example
    from criteria.evaluation.judge import Order
    from datasets.pairs import PairedImages

EXAMPLES = ROOT / "examples" / "train_data"
SHOWN = 20
PSP_SIZE, PSP_FOLDER = 256, "inference_metrics"  # that pSp's metric scripts compare at, and write into
RESULT_FOLDERS = ("inference_results", "results", "style_mixing")


def build_parser() -> Parser:
    parser = Parser(
        "Measure results against ground truth, inputs and each other. Without flags: the bundled model on the example "
        "pairs. The same command again continues where it stopped."
    )
    judged = parser.add_argument_group("results that are there already").add_argument
    judged("--results", metavar="PATH", help="folder or zip of results, whoever made them")
    judged("--ground_truth", metavar="PATH", help="folder or zip of the wanted photos, matched by name")
    judged("--sources", metavar="PATH", help="folder or zip of the sketches or label maps, matched by name")
    judged("--real", metavar="PATH", help="photos of any names, for metrics of whole sets (default: the ground truth)")
    judged("--mixed", metavar="PATH", help="folder or zip of strips that style_mixing.py wrote, for the diversity")
    make = parser.add_argument_group("results that are made first, by the code of inference.py").add_argument
    make("--checkpoint_path", metavar="FILE", help="a checkpoint of any method (default: the bundled model)")
    make("--data_root", metavar="PATH", help="folder or zip as for training: its test pairs are used")
    make("--data_path", metavar="PATH", help="folder or zip of pairs, all used; or of inputs, with --ground_truth")
    make("--dataset_type", metavar="TASK", help=f"{', '.join(TASKS)}: where the checkpoint does not say it")
    make("--n_images", type=at_least(1), metavar="N", help="only N pairs, taken evenly from their list (default: all)")
    make("--n_outputs_to_generate", type=at_least(2), default=5, metavar="N", help="faces per input, for the diversity")
    make("--truncation", type=float, default=1.0, metavar="T", help="of the random styles, for the diversity")
    make("--resize_factors", metavar="F", help="super-resolution: shrink the inputs first")
    make("--enhance", metavar="NAME", help="as inference.py's: gfpgan, codeformer or restoreformer on the results")
    make("--enhance_weights", metavar="FILE", help="the weights for --enhance")
    make("--fit", choices=("auto", "stretch", "crop", "letterbox"), default="auto", help="images that are not square")
    make("--label_map", default="celebamask", metavar="MAP", help="celebamask, zllrunning, color or a .json file")
    make("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the model; fp16 on GPUs only")
    make("--seed", type=int, default=0, metavar="SEED", help="for the random styles")
    judge = parser.add_argument_group("measuring")
    add = judge.add_argument
    add("--metrics", metavar="LIST", help="names with commas; --metrics help lists them (default: all that can be had)")
    kinds = ("auto", "inception_fid", "inception_torchvision", "vgg16")
    add("--features", choices=kinds, default="auto", help="network for metrics of whole sets; auto: the first there")
    add("--size", type=int, metavar="N", help="compare at N x N (default: the results' own size, at most 256)")
    add("--exp_dir", metavar="DIR", help="folder for the report (default: output/evaluation/<name>, or <name>_2, ...)")
    add("--name", metavar="TEXT", help="what the row is called (default: from the results or the checkpoint)")
    add_bool(judge, "psp_scores", False, "also write what pSp's metric scripts write (compares at 256 px, as they do)")
    add_bool(judge, "looks", False, "instead: what the studio could show first, and how far colours and people differ")
    add_bool(judge, "overwrite", False, "results and reports of other settings are made again")
    run = parser.add_argument_group("running").add_argument
    run("--test_batch_size", type=at_least(1), default=4, metavar="N", help="images at a time (same numbers on a CPU)")
    run("--test_workers", type=at_least(0), default=2, metavar="N", help="threads that read images")
    run("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    return parser


def main(argv: list[str] | None = None) -> int:
    flags = build_parser().parse_args(argv)
    if flags.metrics == "help":
        from criteria.evaluation.registry import METRICS

        for name, metric in METRICS.items():
            print(f"{name:14s} {metric.better} is better: {metric.definition}")
        return 0
    check(flags)
    if flags.looks:
        return looks(flags)

    from criteria.evaluation.examples import Reader
    from criteria.evaluation.judge import Order
    from criteria.evaluation.registry import parse_metrics
    from criteria.evaluation.settings import RECORD, REPORT, settings_of
    from psp.device import pick_device

    names, device, label = parse_metrics(flags.metrics), pick_device(flags.device), flags.name or label_of(flags)
    settings = settings_of(vars(flags))
    exp_dir = folder_for(flags, RECORD, settings, REPORT)
    images: dict[str, ImageSource]
    problems: list[str] = []
    if flags.results:
        paths = {"result": flags.results, "target": flags.ground_truth, "source": flags.sources, "mixed": flags.mixed}
        images = {role: open_source(path) for role, path in paths.items() if path}
        kind = (
            get_task(flags.dataset_type).source
            if flags.dataset_type
            else kind_of(images.get("source"), flags.label_map)
        )
        label_map = flags.label_map
    else:
        images, kind, problems = translate_pairs(flags, exp_dir, with_mixed="diversity" in names)
        label_map = "celebamask"
    if flags.real:
        images["real"] = open_source(flags.real)
    size = flags.size or (PSP_SIZE if flags.psp_scores else None)
    order = Order(
        names, Reader(images, size, kind, label_map), exp_dir, label, device, features=flags.features,
        psp_scores=exp_dir / PSP_FOLDER if flags.psp_scores else None, batch_size=flags.test_batch_size,
        workers=flags.test_workers, record={"checkpoint": flags.checkpoint_path},
    )  # fmt: skip
    check_settings(exp_dir / RECORD, settings, [exp_dir / name for name in REPORT], overwrite=flags.overwrite)
    return report(order, problems, n_images=flags.n_images, all_needed=flags.metrics not in (None, "all"))


def folder_for(flags: Namespace, record: str, settings: Mapping[str, Any], results: Sequence[str]) -> Path:
    """--exp_dir, or the first folder of the report's name that holds no others. The last three: see `free_folder`."""
    if flags.exp_dir:
        return Path(flags.exp_dir).expanduser()
    name = re.sub(r"[^\w.-]+", "_", flags.name or label_of(flags)).strip("._") or "results"
    folder, about = free_folder(Path("output/evaluation") / name, record, settings, results)
    if about:
        print(f"folder  {about}")
    return folder


def psp_scores(results: str, ground_truth: str, metric: str, *, workers: int, batch_size: int = 4) -> int:
    """What pSp's metric scripts do: one metric of two folders, in inference_metrics/ beside the results.

    results, ground_truth: folders or zips of images with the same names.
    metric: "lpips", "l2" or "id".
    workers: threads that read images.
    batch_size: images at a time.
    """
    from criteria.evaluation.examples import Reader
    from criteria.evaluation.judge import Order
    from criteria.evaluation.registry import parse_metrics
    from psp.device import pick_device

    images: dict[str, ImageSource] = {"result": open_source(results), "target": open_source(ground_truth)}
    exp_dir, device = Path(results).expanduser().parent / PSP_FOLDER, pick_device("auto")
    order = Order(
        parse_metrics(metric), Reader(images, PSP_SIZE), exp_dir, folder_label(results), device, psp_scores=exp_dir,
        batch_size=batch_size, workers=workers, record={"checkpoint": None},
    )  # fmt: skip
    return report(order, all_needed=True)


def report(order: Order, problems: Sequence[str] = (), *, n_images: int | None = None, all_needed: bool = False) -> int:
    """Judge, print the row and all that was left out; the exit status.

    problems: a line for each file that was left out before.
    n_images: only so many of the results, taken evenly from their list.
    all_needed: a metric that cannot be had is a failure.
    """
    from criteria.evaluation.judge import judge

    examples, unmatched = match(order.reader.images, n_images)
    verdict = judge(order, examples, [*problems, *unmatched])
    print(verdict.row, end="")
    missing, measured = verdict.chosen.unavailable, verdict.measured
    for reason in dict.fromkeys(missing.values()):
        names = ", ".join(name for name in missing if missing[name] == reason)
        print(f"not available: {names}: {reason}", file=sys.stderr)
    for line in verdict.left_out[:SHOWN]:
        print(f"left out: {line}", file=sys.stderr)
    if len(verdict.left_out) > SHOWN:
        print(f"... all {len(verdict.left_out)} are listed in {order.exp_dir / 'metrics.json'}", file=sys.stderr)
    kept = f", {measured.kept} of them measured before" if measured.kept else ""
    n = len(measured.names)
    print(f"report  {order.exp_dir}: {n} image{'' if n == 1 else 's'}{kept}")
    return 1 if verdict.left_out or (all_needed and missing) or not n else 0


def check(flags: Namespace) -> None:
    """UserError for flags that cannot work together."""
    model_flags = [name for name in ("checkpoint_path", "data_root", "data_path") if getattr(flags, name)]
    if flags.results and model_flags:
        raise UserError("--results judges what is there already", f"leave --{model_flags[0]} out, or --results")
    if flags.looks and (flags.results or flags.metrics):
        raise UserError("--looks measures a checkpoint in its own way", "leave --results and --metrics out")
    if flags.results and not (flags.ground_truth or flags.sources or flags.real or flags.mixed):
        raise UserError("--results needs something to compare with: --ground_truth, --sources, --real or --mixed")
    if not flags.results and (flags.sources or flags.mixed):
        raise UserError("--sources and --mixed go with --results", "a checkpoint takes --data_root or --data_path")
    if flags.data_root and (flags.data_path or flags.ground_truth):
        raise UserError("--data_root holds inputs and photos", "leave --data_path and --ground_truth out, or it")
    if flags.ground_truth and not (flags.results or flags.data_path):
        raise UserError("--ground_truth needs --results, or --data_path with the inputs")
    if flags.dataset_type:
        get_task(flags.dataset_type)
    if not 0 <= flags.truncation <= 2:
        raise UserError(f"--truncation {flags.truncation:g} is not possible", "it goes from 0 to 2")
    if flags.looks and flags.n_images == 1:
        raise UserError("--looks compares sets of faces", "--n_images takes at least 2")
    if flags.size is not None and not 16 <= flags.size <= 4096:
        raise UserError(f"--size {flags.size} is not possible", "it goes from 16 to 4096")


def label_of(flags: Namespace) -> str:
    """A name for the row: of the results' folder (or the one around `inference_results`), or of the checkpoint."""
    if flags.results:
        return folder_label(flags.results)
    if flags.checkpoint_path:
        path = Path(flags.checkpoint_path).expanduser().resolve()
        return path.parents[1].name if path.parent.name == "checkpoints" else path.stem
    return f"bundled_{flags.dataset_type or DEFAULT_TASK}"


def folder_label(results: str) -> str:
    path = Path(results).expanduser().resolve()
    return path.parent.name if path.name in RESULT_FOLDERS else path.stem


def kind_of(source: ImageSource | None, label_map: str) -> str:
    """What the inputs are: "labels" where the first is a label map, or a `label_map` of their own is named."""
    if source is not None and (label_map != "celebamask" or is_label_map(source.open(source.names[0]))):
        return "labels"
    return "sketch"


def translate_pairs(
    flags: Namespace, exp_dir: Path, *, with_mixed: bool
) -> tuple[dict[str, ImageSource], str, list[str]]:
    """The checkpoint's results on the pairs, as inference.py makes them: images by role, kind of input, problems."""
    from psp.device import pick_device
    from psp.inference.run import translate_folder

    task = get_task(flags.dataset_type or task_of(flags.checkpoint_path))
    pairs = pairs_of(flags, task)
    problems = [line for line in pairs.report.lines()[1:] if line not in pairs.report.notes]
    inputs, photos = PreparedSide(pairs, "source", flags.n_images), PreparedSide(pairs, "target", flags.n_images)
    one_by_one = pick_device(flags.device).type == "cpu"  # there the pictures are then the same to the bit
    options = InferenceOptions(
        exp_dir=exp_dir, checkpoint_path=flags.checkpoint_path, dataset_type=task.name, fit="stretch", cleanup=False,
        precision=flags.precision, device=flags.device, seed=flags.seed, enhance=flags.enhance,
        enhance_weights=flags.enhance_weights, test_batch_size=1 if one_by_one else flags.test_batch_size,
        test_workers=flags.test_workers, overwrite=flags.overwrite,
    )  # fmt: skip

    def results(folder: str, **more: Any) -> ImageSource:
        """Of these pairs alone; results of earlier runs with more images stay where they are."""
        translate_folder(replace(options, **more), inputs)
        if not (exp_dir / folder).is_dir():
            raise UserError(f"{inputs.path}: no result could be made from any of its pairs")
        source, wanted = open_source(exp_dir / folder), set(inputs.names)
        return source.subset([name for name in source.names if name in wanted])

    images: dict[str, ImageSource] = {"result": results("inference_results"), "target": photos, "source": inputs}
    if with_mixed and task.source != "photo":
        try:
            outputs = {"n_outputs_to_generate": flags.n_outputs_to_generate, "truncation": flags.truncation}
            images["mixed"] = results("style_mixing", mixing=True, **outputs)
        except UserError as error:
            print(f"no diversity: {error}", file=sys.stderr)
    return images, task.source, problems


def pairs_of(flags: Namespace, task: Task, target_size: int | None = None) -> PairedImages:
    """The pairs that the flags name."""
    from datasets.pairs import PairedImages

    if flags.data_path and flags.ground_truth:
        source, target = open_source(flags.data_path), open_source(flags.ground_truth)
    elif flags.data_path:
        source, target = open_pair_folders(flags.data_path, task)  # type: ignore[assignment]
    else:
        root = open_data_root(flags.data_root or EXAMPLES, task)
        source, target = root.test_source, root.test_target  # type: ignore[assignment]
    return PairedImages(
        task, source, target, target_size=target_size, fit=flags.fit, label_map=flags.label_map,
        resize_factors=flags.resize_factors,
    )  # fmt: skip


def looks(flags: Namespace) -> int:
    """`--looks`: a row for each look, and looks.json in the folder of the report."""
    from criteria.evaluation.looks import COLUMNS, Drawing, compare_looks
    from criteria.evaluation.settings import LOOKS_RECORD, LOOKS_REPORT, settings_of
    from criteria.extractors import open_extractor
    from psp.device import pick_device
    from psp.images.preprocess import to_network
    from psp.weights.load import load_model

    settings = settings_of(vars(flags))
    exp_dir = folder_for(flags, LOOKS_RECORD, settings, LOOKS_REPORT)
    path = exp_dir / LOOKS_REPORT[0]
    check_settings(exp_dir / LOOKS_RECORD, settings, [path], overwrite=flags.overwrite)
    task = get_task(flags.dataset_type or task_of(flags.checkpoint_path))
    model = load_model(flags.checkpoint_path, task=task.name, device=pick_device(flags.device))
    assert model.path is not None
    pairs = pairs_of(flags, task, model.output_size)
    drawings = []
    for k in spread(range(len(pairs.pairs)), flags.n_images):
        source, photo, name = pairs[k]
        inputs = to_network(source[None], task, model.device)
        drawings.append(Drawing(inputs, photo[None].to(model.device), f"{flags.seed}/{name}"))
    try:
        extractor = open_extractor(flags.features, model.device)
    except UserError as error:
        print(f"not available: frechet: {error}", file=sys.stderr)
        extractor = None
    n_faces, rows = flags.n_outputs_to_generate, {}
    print(f"{'':24s}" + "".join(f"{column:>16s}" for column in COLUMNS))
    for name, row in compare_looks(model, drawings, n_faces=n_faces, extractor=extractor):
        rows[name] = row
        print(f"{name:24s}" + "".join(f"{row[c]:16.3f}" if c in row else f"{'-':>16s}" for c in COLUMNS), flush=True)
    features = extractor.name if extractor else "no network for it here"
    for column, definition in COLUMNS.items():
        print(f"{column}: {definition.format(features=features, n_faces=n_faces)}")
    record = {"model": model.path.name, "features": features, "n_drawings": len(drawings), "n_faces": n_faces}
    save_json(record | {"looks": rows, "seed": flags.seed}, path)
    print(f"report  {path}: {len(drawings)} drawings")
    return 0


def task_of(checkpoint: str | None) -> str:
    """The task that a checkpoint names; UserError where it names none."""
    if checkpoint is None:
        return DEFAULT_TASK
    from psp.weights.formats import read_weights

    name = str(read_weights(checkpoint).config.get("dataset_type", ""))
    if name not in TASKS:
        raise UserError(f"{checkpoint} does not say what it was trained for", "add --dataset_type")
    return name


def match(images: Mapping[str, ImageSource], n_images: int | None) -> tuple[list[Example], list[str]]:
    """Results with what belongs to them by name, and a line for everything that has no partner."""
    results = images["result"]
    titles = {"target": "ground truth", "source": "input", "mixed": "strip of variants"}
    partners: dict[str, dict[str, str]] = {}
    problems: list[str] = []
    for role in [role for role in images if role in titles]:
        pairing = match_names(results.names, images[role].names)
        partners[role] = dict(pairing.pairs)
        problems += pairing.without_partner(results, images[role], source="result", target=titles[role])
    complete = [name for name in results.names if all(name in partner_of for partner_of in partners.values())]
    if not complete:
        other = next(images[role] for role in partners)
        raise UserError(
            f"no names match: {results.path} has {results.names[0]}, ..., {other.path} {other.names[0]}, ..."
        )
    examples: list[Example] = []
    for name in spread(complete, n_images):
        examples.append({"result": name, **{role: partner_of[name] for role, partner_of in partners.items()}})
    return examples, problems


if __name__ == "__main__":
    run_main(main)
