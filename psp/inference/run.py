"""From flags to a finished run: which model, which images, which styles, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from psp.device import device_name, pick_device
from psp.errors import UserError
from psp.files import file_hash, make_folder, only_process_in, prepare_folder, save_image
from psp.images.decode import open_image
from psp.images.labels import get_label_map
from psp.images.preprocess import parse_factors, prepare_target
from psp.images.sheets import sheet, source_to_image
from psp.inference.enhance import EnhancedTranslator, load_enhancer
from psp.inference.folder import OUTPUT_FOLDERS, FolderRun, Item, Layout, Reading, Report, Source
from psp.inference.options import InferenceOptions
from psp.inference.results import check_settings
from psp.inference.share import wait_for_shards
from psp.inference.stats import merge_stats, save_stats, shard_path
from psp.inference.translator import AnyTranslator, PictureTranslator, Styles, Translator, load_codes
from psp.models.image_to_image import PictureModel
from psp.models.mixing import check_alpha, describe_layers, parse_layers
from psp.models.psp import PSP
from psp.models.restyle import check_iters
from psp.tasks import DEFAULT_TASK, Task
from psp.weights.load import bundled, load_any_model
from psp.weights.places import config_beside, locate

EXAMPLES = {"sketch": "examples/sketches", "labels": "examples/labels", "photo": "examples/photos"}
GRID_IMAGES = 24
RECORDS = ("inference.json", "style_mixing.json")


@dataclass(frozen=True)
class Chosen:
    """Styles, how many outputs they give, the part of the settings record that they are, and words for the user."""

    styles: Styles
    n_outputs: int
    record: dict[str, Any]
    words: str


@dataclass(frozen=True)
class Prepared:
    """Everything that a run over a folder needs.

    items: what this share of it makes. lines: what the user is told.
    lock: keeps other runs out of the folder until it is closed.
    """

    options: InferenceOptions
    mixing: bool
    folder_run: FolderRun
    items: list[Item]
    settings: dict[str, Any]
    lines: list[str]
    lock: ExitStack

    def file(self, name: str) -> Path:
        """A file of this run beside the results, `style_mixing_<name>` where styles are mixed."""
        return self.folder_run.layout.folder / (f"style_mixing_{name}" if self.mixing else name)


def run(options: InferenceOptions, open_source: Callable[[str | Path], Source], *, root: Path, mixing: bool) -> int:
    """Do what the flags say; returns the exit status: 0, or 1 when an image failed. UserError for everything else.

    open_source: `datasets.open_source`. root: the checkout, whose example images are used without --data_path.
    """
    prepared = prepare(options, open_source, root=root, mixing=mixing)
    with prepared.lock:
        return _run(prepared)


def _run(prepared: Prepared) -> int:
    options, share, mixing = prepared.options, prepared.options.share, prepared.mixing
    folder_run, settings = prepared.folder_run, prepared.settings
    print("\n".join(prepared.lines), flush=True)
    report = folder_run.run(prepared.items)

    stats = prepared.file("stats.json")
    own_stats = shard_path(stats, share.index, share.count)
    if report.per_image or (
        share.count > 1 and (report.failed or share.index not in merge_stats(stats, share.count, settings))
    ):
        extra = {"script": "style_mixing" if mixing else "inference", "seed": options.seed, "settings": settings}
        save_stats(folder_run, own_stats, extra)
    if share.count > 1:
        finished = merge_stats(stats, share.count, settings)
        print(f"stats   {stats}: {len(finished)} of {share.count} shards have finished")
    grid = shard_path(prepared.file("grid.png"), share.index, share.count)
    if options.save_grid and save_grid(folder_run, prepared.items, grid):
        print(f"sheet   {grid}")
    _summary(report, folder_run.layout)
    wait_for_shards()
    return 1 if report.failed else 0


def prepare(
    options: InferenceOptions,
    open_source: Callable[[str | Path], Source],
    *,
    root: Path,
    mixing: bool,
    shared: bool | None = None,
) -> Prepared:
    """Load the model, list the images, choose styles and look at what is there already; see `run`.

    shared: whether other processes write into the same folder, by default whether this one does a shard.
    """
    share = options.share
    shared = share.count > 1 if shared is None else shared
    device = pick_device(options.device, share.local)
    get_label_map(options.label_map)  # what cannot be read is said before a large model is
    given = open_source(options.data_path) if options.data_path else None
    task_name = options.dataset_type or (None if options.checkpoint_path else DEFAULT_TASK)
    path = locate(options.checkpoint_path) if options.checkpoint_path else bundled(task_name or DEFAULT_TASK)
    model = load_any_model(path, task=task_name, direction=options.direction, noisy=options.test_dropout, device=device)
    if options.n_iters_per_batch is not None:
        if not isinstance(model, PSP) or not model.refines:
            raise UserError(f"--n_iters_per_batch is for ReStyle models; {path} encodes in one pass: leave it out")
        model.n_iters = check_iters(options.n_iters_per_batch, "--n_iters_per_batch")
    if model.task is None:
        raise UserError(f"{path} does not say what it was trained for; add --dataset_type")
    task = model.task
    factors = choose_factors(options.resize_factors, task)
    source = given or open_source(root / EXAMPLES[task.source])
    exp_dir = Path(options.exp_dir or Path("output") / _run_name(model)).expanduser()
    names = _without_results(source, exp_dir)
    if not names:
        raise UserError(f"{source.path}: holds nothing but earlier results; see --data_path")

    public = isinstance(model, PictureModel) and model.public
    reading = Reading(options.fit, options.label_resize, options.label_map, options.cleanup, bicubic=public)
    translator, chosen = make_translator(options, model, mixing=mixing)
    size = 256 if options.resize_outputs else None
    layout = Layout(exp_dir, mixing, options.couple_outputs, options.save_latents, size)
    folder_run = FolderRun(
        translator,
        source,
        names,
        layout,
        reading=reading,
        batch_size=options.test_batch_size,
        workers=options.test_workers,
    )
    settings = {
        "model": _hashes(path, model), "task": task.name, "data_path": str(source.path.resolve()),
        "precision": options.precision, "size": folder_run.size, **chosen.record, **_reading_record(reading, task),
    }  # fmt: skip
    if isinstance(model, PSP) and model.refines:
        settings["n_iters_per_batch"] = model.n_iters
    lock = ExitStack()
    if not shared:
        make_folder(exp_dir)
        lock.enter_context(only_process_in(exp_dir))
    prepare_folder(exp_dir, (*OUTPUT_FOLDERS, *RECORDS), min_age=60.0 if shared else 0.0)
    record = exp_dir / RECORDS[mixing]
    folder_run.since = check_settings(
        record, settings, overwrite=options.overwrite, may_change=options.exp_dir is None, shared=shared
    )

    wanted = names[: options.n_images][share.index :: share.count]
    items = [Item(name, factor) for factor in factors for name in wanted]
    enhanced = f", then {options.enhance} at {translator.output_size} px" if options.enhance else ""
    part = f", shard {share.index} of {share.count}" if share.count > 1 else ""
    lines = [
        f"model   {path}: {task.name}, {model.output_size} px, {_form(model)}{enhanced}, on {device_name(device)}",
        f"input   {source.path}: {_images(len(wanted))}{part}{f' ({share.said_by})' if share.said_by else ''}",
        f"styles  {chosen.words}",
    ]
    return Prepared(options, mixing, folder_run, items, settings, lines, lock)


def make_translator(
    options: InferenceOptions, model: PSP | PictureModel, *, mixing: bool
) -> tuple[AnyTranslator, Chosen]:
    """The model as `FolderRun` takes it, with styles where it has any, and the network of --enhance behind it."""
    translator: AnyTranslator
    enhancer = load_enhancer(options.enhance, options.enhance_weights, model.device) if options.enhance else None
    if isinstance(model, PSP):
        chosen = choose_styles(options, model, mixing=mixing)
        translator = Translator(
            model,
            styles=chosen.styles,
            n_outputs=chosen.n_outputs,
            pool=options.resize_outputs and enhancer is None,
            precision=options.precision,
            compile=options.compile,
        )
    else:
        chosen = choose_noise(options, model, mixing=mixing)
        translator = PictureTranslator(model, precision=options.precision, compile=options.compile, seed=options.seed)
    if enhancer is not None:
        translator = EnhancedTranslator(translator, enhancer)
        chosen.record["enhance"] = f"{options.enhance} {file_hash(str(options.enhance_weights))}"
    return translator, chosen


def choose_noise(options: InferenceOptions, model: PictureModel, *, mixing: bool) -> Chosen:
    """For models without W+ codes. UserError for the script and the flags that need them."""
    if mixing:
        raise UserError(f"{model.method} has no W+ styles to mix; scripts/inference.py runs it")
    for name in ("latent_mask", "mix_alpha", "style_seed", "style_image", "style_code", "save_latents"):
        value = getattr(options, name)
        if value is not None and value is not False:
            raise UserError(f"--{name} is about W+ styles, which {model.method} does not have; leave it out")
    record: dict[str, Any] = {"method": model.method}
    if not model.noisy:
        hint = "; its own program tests with --test_dropout" if model.public and model.has_dropout else ""
        return Chosen(Styles(), 1, record, f"none: {model.method} has one answer{hint}")
    words = f"none; values are dropped at random (--seed {options.seed})"
    return Chosen(Styles(), 1, record | {"test_dropout": options.seed}, words)


def choose_factors(text: str | None, task: Task) -> Sequence[int | None]:
    """--resize_factors as a list; [None] when nothing is shrunk. UserError where the task is not super-resolution."""
    if not text:
        return [None]
    if task.resize_factors is None:
        raise UserError(f"--resize_factors is for super-resolution, not for {task.name}; leave it out")
    return list(dict.fromkeys(parse_factors(text)))


def choose_styles(options: InferenceOptions, model: PSP, *, mixing: bool) -> Chosen:
    """What the style flags mean for this model. UserError for layers, strengths and files that do not fit it."""
    alpha = check_alpha(options.mix_alpha)
    task = model.task
    assert task is not None
    styled = any(value is not None for value in (options.style_seed, options.style_image, options.style_code))
    if options.latent_mask is not None:
        layers = parse_layers(options.latent_mask, model.n_styles)
    elif mixing or styled:
        layers = model.mixing_layers()
    else:
        return Chosen(Styles(), 1, {"layers": ""}, "each image's own (--latent_mask or --style_seed mixes in another)")
    n_outputs = options.n_outputs_to_generate if mixing else 1
    record: dict[str, Any] = {"layers": describe_layers(layers), "alpha": alpha}
    codes, shared_seed = None, None
    if options.style_code is not None:
        codes = load_codes(options.style_code, model.n_styles, model.style_dim)
        if not mixing and len(codes) > 1:
            raise UserError(
                f"{options.style_code} holds {len(codes)} codes, here one is needed; scripts/style_mixing.py takes all"
            )
        n_outputs = min(n_outputs, len(codes)) if mixing else 1
        what = f"from {options.style_code}"
        record["style_code"] = file_hash(options.style_code)
    elif options.style_image is not None:
        codes = model.style_of(prepare_target(open_image(options.style_image))[None].to(model.device))
        n_outputs = 1
        what = f"the photo {options.style_image}'s"
        record["style_image"] = file_hash(options.style_image)
    elif options.style_seed is not None:
        shared_seed = options.style_seed
        what = f"{_several(n_outputs, 'random style')} for all images (--style_seed {shared_seed})"
        record |= {"style_seed": shared_seed, "truncation": options.truncation}
    else:
        what = f"{_several(n_outputs, 'random style')} per image (--seed {options.seed})"
        record |= {"seed": options.seed, "truncation": options.truncation}
    if mixing:
        record["n_outputs"] = n_outputs
    words = f"{what}, in layers {describe_layers(layers)} of 0-{model.n_styles - 1}, strength {alpha:g}"
    styles = Styles(tuple(layers), alpha, codes, shared_seed, options.seed, options.truncation)
    return Chosen(styles, n_outputs, record, words)


def save_grid(run: FolderRun, items: Sequence[Item], path: Path) -> bool:
    """A contact sheet of the first results that are there, read back from their files; False when there are none."""
    layout = run.layout
    cells: list[list[Image.Image]] = []
    labels: list[str] = []
    for item in items:
        try:
            with Image.open(run.paths(item)["strip" if layout.mixing else "result"]) as image:
                picture = image.convert("RGB")
            tiles = [source_to_image(run.read(item).source, run.task)]
        except (OSError, UserError):
            continue
        side = picture.height
        first = side if layout.mixing else 0  # a strip begins with the input, in the size of the outputs
        tiles += [picture.crop((x, 0, x + side, side)) for x in range(first, picture.width, side)]
        cells.append(tiles)
        labels.append(Path(item.name).stem)
        if len(cells) == GRID_IMAGES:
            break
    if not cells:
        return False
    width = max(len(tiles) for tiles in cells)
    if layout.mixing:
        captions = ["input", *(f"output {k + 1}" for k in range(width - 1))]
        picture = sheet(cells, captions, row_labels=labels, cell=160 if width > 4 else None)
    else:  # input and output beside each other, several pairs in a row
        pairs = min(4, len(cells), max(1, round((len(cells) / 1.5) ** 0.5)))
        rows = [[tile for tiles in cells[k : k + pairs] for tile in tiles] for k in range(0, len(cells), pairs)]
        picture = sheet(rows, ["input", "output"] * pairs, breaks=range(2, 2 * pairs, 2), cell=192)
    save_image(picture, path)
    return True


def _summary(report: Report, layout: Layout) -> None:
    for note, count in report.notes.most_common(4):
        print(f"note    {_images(count)}: {note}")
    counts = f"{report.made} made, {report.kept} already there, {len(report.failed)} failed"
    print(f"output  {next(iter(layout.roots().values()))}: {counts}")
    if report.per_image:
        seconds = sum(report.per_image.values()) / len(report.per_image)
        print(f"time    {report.seconds:.1f} s in all, {seconds:.3f} s per image in the network")


def _hashes(path: Path, model: PSP | PictureModel) -> dict[str, str]:
    """File name -> SHA-256 of the weights, with the generator or options that belong to them but lie beside them."""
    files = [path, config_beside(path) or path]
    if beside := model.config.get("generator"):
        files.append(path.parent / str(beside))
    return {file.name: file_hash(file) for file in files if file.is_file()}


def _reading_record(reading: Reading, task: Task) -> dict[str, Any]:
    wanted = {"photo": ("fit",), "sketch": ("fit", "cleanup"), "labels": ("fit", "label_resize", "label_map")}
    return {key: value for key, value in asdict(reading).items() if key in wanted[task.source]}


def _form(model: PSP | PictureModel) -> str:
    if not isinstance(model, PSP):
        return model.method
    passes = f", {_several(model.n_iters, 'pass', 'passes')} of refinement" if model.refines else ""
    return f"{model.n_styles} styles{passes}"


def _run_name(model: PSP | PictureModel) -> str:
    assert model.task is not None
    if isinstance(model, PSP):
        return model.task.name
    return model.method.replace(" ", "_") if " " in model.method else f"{model.method}_{model.task.name}"


def _without_results(source: Source, exp_dir: Path) -> list[str]:
    """The names that do not lie where this program writes: results of an earlier run are no input."""
    for folder in OUTPUT_FOLDERS:
        if source.path.absolute().is_relative_to(exp_dir.absolute() / folder):
            return []
    try:
        below = exp_dir.absolute().relative_to(source.path.absolute()).as_posix()
    except ValueError:
        return list(source.names)
    prefix = "" if below == "." else below + "/"
    places = tuple(prefix + folder + ("" if "." in folder else "/") for folder in OUTPUT_FOLDERS)
    return [name for name in source.names if not name.startswith(places)]


def _images(n: int) -> str:
    return _several(n, "image")


def _several(n: int, what: str, plural: str | None = None) -> str:
    return f"{n} {what if n == 1 else plural or what + 's'}"
