"""What the model menu offers: the bundled tasks and the checkpoints of the command line, none of them read yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from psp.errors import UserError
from psp.studio.models import Entry, StudioModel
from psp.tasks import TASKS

TITLES = {
    "celebs_sketch_to_face": "Sketch to face",
    "celebs_seg_to_face": "Labels to face",
    "cufs_sketch_to_face": "Pencil sketch to face",
    "ffhq_encode": "Photo to face",
    "ffhq_frontalize": "Photo, turned to the front",
    "celebs_super_resolution": "Small photo to face",
}
BY_CHANNELS = {1: "celebs_sketch_to_face", 3: "ffhq_encode", 19: "celebs_seg_to_face"}


def bundled_entries(device: str) -> list[Entry]:
    """One entry for each bundled file that is there; tasks that share a file count once."""
    from psp.checkpoint import BUNDLED

    entries: dict[Path, Entry] = {}
    for task, path in BUNDLED.items():
        if path.exists() and path not in entries:
            entries[path] = Entry(
                key=task,
                title=TITLES.get(task, task),
                load=lambda task=task: _open_psp(None, task=task, device=device),  # type: ignore[misc]
                input=TASKS[task].source,
            )
    return list(entries.values())


def checkpoint_entries(paths: Sequence[str], device: str) -> list[Entry]:
    """One entry per file; UserError for files that are not there. What they are is known once they are read."""
    entries: list[Entry] = []
    for given in paths:
        path = Path(given).expanduser()
        if not path.is_file():
            raise UserError(f"checkpoint {given} does not exist; check --checkpoint_path")
        key = f"file-{len(entries) + 1}"
        entries.append(Entry(key, path.stem, lambda path=path: open_model(path, device), group="Yours"))  # type: ignore[misc]
    return entries


def open_model(path: Path, device: str) -> StudioModel:
    """The model in a file. UserError, with the file's name but not its folder, when it is none that can be shown."""
    try:
        return _open_psp(path, task=None, device=device)
    except UserError as error:
        raise UserError(str(error).replace(str(path), path.name)) from error


def _open_psp(path: Path | None, *, task: str | None, device: str) -> StudioModel:
    from psp.checkpoint import load_model
    from psp.device import pick_device
    from psp.studio.psp_model import PspModel
    from psp.tasks import get_task

    model = load_model(path, task=task, device=pick_device(device))
    if model.task is None and model.input_nc in BY_CHANNELS:
        model.task = get_task(BY_CHANNELS[model.input_nc])
    return PspModel(model)
