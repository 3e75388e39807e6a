"""From options to a finished run over a folder: which model, which images, which styles, and what is said about it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psp.device import device_name, pick_device
from psp.errors import UserError
from psp.files import (
    check_settings,
    checkout,
    file_hash,
    free_folder,
    make_folder,
    only_process_in,
    other_results,
    prepare_folder,
)
from psp.images.labels import get_label_map, label_map_record
from psp.images.preprocess import parse_factors
from psp.images.sources import ImageSource, open_source
from psp.inference.enhance import load_enhancer
from psp.inference.folder import OUTPUT_FOLDERS, FolderRun, Item, Report, output_size, result_folders
from psp.inference.grid import save_grid
from psp.inference.options import InferenceOptions
from psp.inference.share import wait_for_shards
from psp.inference.stats import merge_stats, save_stats, shard_path
from psp.inference.styles import choose_styles
from psp.inference.translator import Translator
from psp.models.image_to_image import PictureModel
from psp.models.psp import PSP
from psp.models.restyle import check_iters
from psp.tasks import DEFAULT_TASK, Task
from psp.weights.load import bundled, load_any_model
from psp.weights.places import config_beside, locate

MAX_JPEG_SIDE = 65_500
RECORDS = ("inference.json", "style_mixing.json")
EXAMPLES = {"sketch": "examples/sketches", "labels": "examples/labels", "photo": "examples/photos"}
READING = {"photo": ("fit",), "sketch": ("fit", "cleanup"), "labels": ("fit", "label_resize", "label_map")}


@dataclass(frozen=True)
class PreparedRun:
    """Everything that a run over a folder needs.

    items: what this share of it makes. lines: what the user is told. lock: keeps other runs out of the folder until it
    is closed.
    """

    folder_run: FolderRun
    items: list[Item]
    settings: dict[str, Any]
    lines: list[str]
    lock: ExitStack

    def file(self, name: str) -> Path:
        """A file of this run beside the results, `style_mixing_<name>` where styles are mixed."""
        return self.folder_run.folder / (f"style_mixing_{name}" if self.folder_run.options.mixing else name)


def translate_folder(options: InferenceOptions, source: ImageSource | None = None) -> Report:
    """Every image of a folder, a zip or a file through a model, into the files of `options.exp_dir`.

    source: the images, instead of those at `options.data_path`. What is made already stays. An image that fails is
    reported, and the others are made. UserError: options, weights or folders that do not fit.
    """
    prepared, share = prepare_run(options, source), options.share
    folder_run, settings = prepared.folder_run, prepared.settings
    with prepared.lock:
        print("\n".join(prepared.lines), flush=True)
        report = folder_run.run(prepared.items)

        stats = prepared.file("stats.json")
        if report.per_image or (
            share.count > 1 and (report.failed or share.index not in merge_stats(stats, share.count, settings))
        ):
            save_stats(folder_run, settings, shard_path(stats, share.index, share.count))
        if share.count > 1:
            finished = merge_stats(stats, share.count, settings)
            print(f"stats   {stats}: {len(finished)} of {share.count} shards have finished")
        print_summary(prepared)
        wait_for_shards()
    return report


def prepare_run(
    options: InferenceOptions, source: ImageSource | None = None, *, shared: bool | None = None
) -> PreparedRun:
    """Load the model, list the images, choose styles and look at what is there already; see `translate_folder`.

    shared: whether other processes write into the same folder, by default whether this one does a shard.
    """
    share = options.share
    shared = share.count > 1 if shared is None else shared
    get_label_map(options.label_map)  # what cannot be read is said before a large model is
    for name in ("data_path", "checkpoint_path"):
        if getattr(options, name) == "":
            raise UserError(f"--{name} is empty", "give a path, or leave the flag out")
    if source is None and options.data_path:
        source = open_source(options.data_path)
    path, model, task = _model(options)
    factors = _factors(options.resize_factors, task)
    source = source or _examples(task)
    enhancer = load_enhancer(options.enhance, options.enhance_weights, model.device) if options.enhance else None
    styles, style_record, summary = choose_styles(options, model)
    translator = Translator(
        model,
        styles=styles,
        pool=options.resize_outputs and enhancer is None,
        precision=options.precision,
        compile=options.compile,
        enhancer=enhancer,
    )
    settings = {
        "model": _hashes(path, model), "task": task.name, "data_path": str(source.path.resolve()),
        "precision": translator.precision, "size": output_size(translator, options), **style_record,
        **({"enhance": f"{options.enhance} {file_hash(str(options.enhance_weights))}"} if enhancer else {}),
        **{name: getattr(options, name) for name in READING[task.source]},
    }  # fmt: skip
    if "label_map" in settings:
        settings["label_map"] = label_map_record(options.label_map)
    if isinstance(model, PSP) and model.refines:
        settings["n_iters_per_batch"] = model.n_iters
    record, kinds = RECORDS[options.mixing], result_folders(options).values()
    if options.exp_dir is None:
        exp_dir, about = free_folder(Path("output") / _run_name(model, task), record, settings, kinds)
    else:
        exp_dir = Path(options.exp_dir).expanduser()
        other = other_results(exp_dir / record, settings, [exp_dir / kind for kind in kinds])
        about = f"{exp_dir}: results of {other} are replaced where they have the same name" if other else ""
    folder_run = FolderRun(translator, source, exp_dir, options)
    _check_strips(folder_run)
    with ExitStack() as stack:
        if not shared:
            make_folder(exp_dir)
            stack.enter_context(only_process_in(exp_dir))
        prepare_folder(exp_dir, (*OUTPUT_FOLDERS, *RECORDS), min_age=60.0 if shared else 0.0)
        folder_run.since = check_settings(
            exp_dir / record, settings, folder_run.roots.values(), overwrite=options.overwrite, shared=shared
        )
        lock = stack.pop_all()

    names = folder_run.names[: options.n_images][share.index :: share.count]
    enhanced = f", then {options.enhance} at {translator.output_size} px" if enhancer else ""
    part = f", shard {share.index} of {share.count}" if share.count > 1 else ""
    part += f" ({share.launcher})" if share.launcher else ""
    form = f"{model.output_size} px, {_form(model)}{enhanced}"
    lines = [
        f"model   {path}: {task.name}, {form}, on {device_name(model.device)}",
        f"input   {source.path}: {_images(len(names))}{part}",
        f"styles  {summary}",
        *([f"folder  {about}"] if about else []),
    ]
    items = [Item(name, factor) for factor in factors for name in names]
    return PreparedRun(folder_run, items, settings, lines, lock)


def _check_strips(run: FolderRun) -> None:
    """UserError where a strip of all faces would be wider than a JPEG can be."""
    width = run.size * (run.translator.styles.n_outputs + 2)
    if "strip" not in run.roots or width <= MAX_JPEG_SIDE:
        return
    if any(name.lower().endswith((".jpg", ".jpeg")) for name in run.names):
        raise UserError(
            f"{run.translator.styles.n_outputs} faces of {run.size} px in a row are wider than a JPEG can be",
            "--n_outputs_to_generate takes fewer, --resize_outputs makes them smaller; strips of PNG inputs are PNGs",
        )


def print_summary(prepared: PreparedRun) -> None:
    """What a run made, as the last lines for the user, after its contact sheet where one is wanted."""
    run, report, share = prepared.folder_run, prepared.folder_run.report, prepared.folder_run.options.share
    grid = shard_path(prepared.file("grid.png"), share.index, share.count)
    if run.options.save_grid and save_grid(run, prepared.items, grid):
        print(f"sheet   {grid}")
    for note, count in report.notes.most_common(4):
        print(f"note    {_images(count)}: {note}")
    counts = f"{report.made} made, {report.kept} already there, {len(report.failed)} failed"
    print(f"output  {next(iter(run.roots.values()))}: {counts}")
    if report.per_image:
        seconds = sum(report.per_image.values()) / len(report.per_image)
        print(f"time    {report.seconds:.1f} s in all, {seconds:.3f} s per image in the network")


def _model(options: InferenceOptions) -> tuple[Path, PSP | PictureModel, Task]:
    """File of the weights, the model in it and its task; UserError where the options do not fit it."""
    device = pick_device(options.device, options.share.local)
    task = options.dataset_type or (None if options.checkpoint_path else DEFAULT_TASK)
    path = locate(options.checkpoint_path) if options.checkpoint_path else bundled(task or DEFAULT_TASK)
    model = load_any_model(path, task=task, direction=options.direction, noisy=options.test_dropout, device=device)
    if options.n_iters_per_batch is not None:
        if not isinstance(model, PSP) or not model.refines:
            raise UserError("--n_iters_per_batch is for ReStyle models", f"{path} encodes in one pass: leave it out")
        model.n_iters = check_iters(options.n_iters_per_batch, "--n_iters_per_batch")
    if model.task is None:
        raise UserError(f"{path} does not say what it was trained for", "add --dataset_type")
    return path, model, model.task


def _examples(task: Task) -> ImageSource:
    """The examples of the checkout, which are used without --data_path."""
    folder = checkout() / EXAMPLES[task.source]
    if not folder.is_dir():
        raise UserError("--data_path is missing: which folder, zip file or image? Only a checkout has examples")
    return open_source(folder)


def _factors(text: str | None, task: Task) -> list[int | None]:
    """--resize_factors as a list; [None] when nothing is shrunk. UserError where the task is not super-resolution."""
    if not text:
        return [None]
    if task.resize_factors is None:
        raise UserError(f"--resize_factors is for super-resolution, not for {task.name}", "leave it out")
    return list(dict.fromkeys(parse_factors(text)))


def _hashes(path: Path, model: PSP | PictureModel) -> dict[str, str]:
    """File name -> SHA-256 of the weights, with the generator or options that belong to them but lie beside them."""
    files = [path, config_beside(path) or path]
    if beside := model.config.get("generator"):
        files.append(path.parent / str(beside))
    return {file.name: file_hash(file) for file in files if file.is_file()}


def _form(model: PSP | PictureModel) -> str:
    if not isinstance(model, PSP):
        return model.method
    passes = f", {model.n_iters} pass{'' if model.n_iters == 1 else 'es'} of refinement" if model.refines else ""
    return f"{model.n_styles} styles{passes}"


def _run_name(model: PSP | PictureModel, task: Task) -> str:
    if isinstance(model, PSP):
        return task.name
    return model.method.replace(" ", "_") if " " in model.method else f"{model.method}_{task.name}"


def _images(n: int) -> str:
    return f"{n} image{'' if n == 1 else 's'}"
