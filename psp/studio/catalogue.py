"""What the model menu offers: the bundled tasks and the checkpoints of the command line, none of them read yet."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from psp.errors import UserError
from psp.studio.models import Entry, StudioModel
from psp.tasks import TASKS
from psp.weights.places import BUNDLED, locate

TITLES = {
    "celebs_sketch_to_face": "Sketch to face",
    "celebs_seg_to_face": "Labels to face",
    "cufs_sketch_to_face": "Pencil sketch to face",
    "ffhq_encode": "Photo to face",
    "ffhq_frontalize": "Photo, turned to the front",
    "celebs_super_resolution": "Small photo to face",
}
BY_CHANNELS = {1: "celebs_sketch_to_face", 3: "ffhq_encode", 19: "celebs_seg_to_face"}
SMALL = 320 << 20  # bytes; files below it are read soon after the start, so that the menu knows what they are


def bundled_entries(device: str) -> list[Entry]:
    """One entry for each bundled file that is there; tasks that share a file count once."""
    entries: dict[Path, Entry] = {}
    for task, path in BUNDLED.items():
        if path.exists() and path not in entries:
            load = functools.partial(open_models, path, device)
            entries[path] = Entry(task, TITLES.get(task, task), load, input=TASKS[task].source)
    return list(entries.values())


def checkpoint_entries(paths: Sequence[str], device: str, task: str | None = None) -> list[Entry]:
    """One entry per file or model folder; UserError for those that are not there.

    task: of files that do not say theirs. What a file is is known once it is read; a CycleGAN then gets a second entry.
    Keys are made of the files' names, so that kept work finds its model whatever else is on the command line.
    """
    entries: dict[str, Entry] = {}
    for given in paths:
        path = locate(Path(given).expanduser())
        if not path.is_file():
            raise UserError(f"checkpoint {given} does not exist", "check --checkpoint_path")
        name = path.stem if path.stem != "model" else path.parent.name
        load = functools.partial(open_models, path, device, task)
        eager = path.stat().st_size < SMALL
        first = f"file-{name.replace(':', '-')}"  # what follows a colon is the number of a model in its file
        key = next(key for key in (first, *(f"{first}-{k}" for k in range(2, len(paths) + 1))) if key not in entries)
        entries[key] = Entry(key, name, load, group="Yours", eager=eager)
    return list(entries.values())


def open_models(path: Path, device: str, task: str | None = None) -> list[StudioModel]:
    """The models in a file: one, or a CycleGAN's two directions. UserError with the file's name, not its folder."""
    from psp.device import pick_device
    from psp.studio.picture_model import PictureStudioModel
    from psp.studio.psp_model import PspModel
    from psp.weights.formats import read_weights
    from psp.weights.image_to_image import generators_of, picture_model
    from psp.weights.load import load_model

    place = pick_device(device)
    try:
        weights = read_weights(path)
        task = None if weights.config.get("dataset_type") in TASKS else task
        if names := list(generators_of(weights)[0]):
            return [
                PictureStudioModel(picture_model(weights, task=task, direction=direction, device=place))
                for direction in ([None] if len(names) == 1 else names)
            ]
        model = load_model(weights, task=task, device=place)
    except UserError as error:
        raise UserError(str(error).replace(str(path), path.name)) from error
    if model.task is None and model.input_nc in BY_CHANNELS:
        model.task = TASKS[BY_CHANNELS[model.input_nc]]
    return [PspModel(model)]
