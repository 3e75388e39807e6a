"""--data_root: a folder or zip file with train/ and test/, or just photos and sketches, becomes four image sources."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from datasets.matching import SAME_NAME, match_names, pair_key
from psp.errors import UserError
from psp.files import name_number
from psp.images.sources import ImageSource, open_source

if TYPE_CHECKING:
    from psp.tasks import Task

PHOTOS = (
    "photos", "photo", "images", "image", "imgs", "faces", "face", "targets", "target", "real", "celeba-hq-img", "b",
)  # fmt: skip
SKETCHES = ("sketches", "sketch", "edges", "edge", "drawings", "drawing", "lines", "contours", "sources", "source", "a")
LABELS = (
    "labels", "label", "masks", "mask", "segmentation", "segmentations", "seg", "celebamask-hq-mask", "parsing",
    "sources", "source", "a",
)  # fmt: skip
TRAIN, TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")
TEST_SHARE = 0.05
ENOUGH = 4  # test pairs of a small set, by which the best checkpoint can be chosen; fewer only below 40


@dataclass(frozen=True)
class DataRoot:
    """What a data root holds. A source of None means: make it from the target (sketches, or the photo itself).

    The labels are label maps beside the photos, whatever the task; they may be those of other photos, too.
    """

    train_source: ImageSource | None
    train_target: ImageSource
    test_source: ImageSource | None
    test_target: ImageSource
    notes: list[str] = field(default_factory=list)
    train_labels: ImageSource | None = None
    test_labels: ImageSource | None = None


def open_data_root(path: str | Path, task: Task, *, test_share: float = TEST_SHARE, paired: bool = True) -> DataRoot:
    """Find the two kinds of images below `path` and the split into train and test.

    Sub-folders are named by `task.source_dir` and `task.target_dir` or a common alias, in either case. Without train/
    and test/ about `test_share` of the pairs, at least four of 40 and one of two, become the test set, chosen by a hash
    of their stems: the same pair is on the same side wherever and however often this is run. Not `paired`: the names
    need not match, and each side is split on its own. Raises UserError naming what is there.
    """
    root = open_source(path)
    notes: list[str] = []
    folders = _below_wrapper(root)
    train = _find(folders, TRAIN)
    if train is None:
        source, target = _two_sides(root, folders, task, path, notes)
        labels = labels_beside(root, folders)
        return replace(_split(source, target, test_share, notes, paired), train_labels=labels, test_labels=labels)
    train_labels = labels_beside(root.under(train))
    train_source, train_target = _two_sides(root.under(train), None, task, f"{path}/{train}", notes)
    test = _find(folders, TEST)
    if test is None:
        notes.append("no test folder")
        parts = _split(train_source, train_target, test_share, notes, paired)
        return replace(parts, train_labels=train_labels, test_labels=train_labels)
    if (len(test_names := [f for f in folders if _last(f) in TEST])) > 1:
        notes.append(f"test set: {test} (also there: {', '.join(n for n in test_names if n != test)})")
    test_source, test_target = _two_sides(root.under(test), None, task, f"{path}/{test}", [])
    test_labels = labels_beside(root.under(test))
    return DataRoot(train_source, train_target, test_source, test_target, notes, train_labels, test_labels)


def open_pair_folders(path: str | Path, task: Task) -> tuple[ImageSource | None, ImageSource]:
    """(source, target) of a folder or zip that holds both kinds of images, without a split; otherwise as
    `open_data_root`. A source of None means: make it from the target."""
    return _two_sides(open_source(path), None, task, path, [])


def two_kinds(path: str | Path) -> tuple[ImageSource, ImageSource, str]:
    """Photos, what belongs to them, and whether that is "sketches" or "labels", of a folder or zip without split."""
    root = open_source(path)
    folders = _below_wrapper(root)
    photos = _find(folders, PHOTOS)
    for kind, names in (("sketches", SKETCHES), ("labels", LABELS)):
        other = _find([f for f in folders if f != photos], names)
        if photos and other:
            return root.under(photos), root.under(other), kind
    there = ", ".join(sorted(_last(f) for f in folders)) or "images only"
    raise UserError(f"{path}: needs photos/ and sketches/ or labels/ in it, found {there}", "see --root")


def train_part(path: str | Path) -> tuple[ImageSource, ImageSource | None] | None:
    """The training photos of a data root and the label maps beside them, if any; None when it has no train folder."""
    root = open_source(path)
    train = _find(_below_wrapper(root), TRAIN)
    if train is None:
        return None
    part = root.under(train)
    folders = _below_wrapper(part)
    photos = _find(folders, PHOTOS)
    if photos is None and not _holds_only_images(folders):
        raise UserError(f"{path}/{train}: no folder 'photos' in it", "see --photos")
    return part.under(photos or ""), labels_beside(part, folders)


def labels_beside(root: ImageSource, folders: list[str] | None = None) -> ImageSource | None:
    """The label maps of a folder that holds photos as well."""
    folders = _below_wrapper(root) if folders is None else folders
    photos = _find(folders, PHOTOS)
    labels = _find([folder for folder in folders if folder != photos], LABELS[:-3])  # what "source" holds is unknown
    return root.under(labels) if photos and labels else None


def _last(folder: str) -> str:
    return PurePosixPath(folder).name.lower()


def _below_wrapper(root: ImageSource) -> list[str]:
    """The folders to look at: those at the top, or below a single folder that wraps everything."""
    folders = root.folders()
    depth = 1
    while True:
        level = [f for f in folders if f.count("/") == depth - 1]
        known = TRAIN + TEST + PHOTOS[:-1] + SKETCHES[:-1] + LABELS[:-1]
        if len(level) != 1 or _last(level[0]) in known or any("/" not in name for name in root.names):
            return level
        depth += 1


def _find(folders: list[str], names: tuple[str, ...]) -> str | None:
    for name in names:
        for folder in folders:
            if _last(folder) == name:
                return folder
    return None


def _two_sides(
    root: ImageSource, folders: list[str] | None, task: Task, where: str | Path, notes: list[str]
) -> tuple[ImageSource | None, ImageSource]:
    folders = _below_wrapper(root) if folders is None else folders
    aliases = {"photo": PHOTOS, "sketch": SKETCHES, "labels": LABELS}[task.source]
    target = _find(folders, (task.target_dir.lower(), *PHOTOS))
    there = ", ".join(sorted(_last(f) for f in folders)) or "images only"
    if task.source == "photo":
        source = _find(folders, (task.source_dir.lower(),)) if task.source_dir != task.target_dir else None
        if target is None and not _holds_only_images(folders):
            raise UserError(f"{where}: no folder {task.target_dir!r} in it, found {there}", "see --data_root")
        return (root.under(source) if source and source != target else None), root.under(target or "")
    source = _find([f for f in folders if f != target], (task.source_dir.lower(), *aliases))
    if target is not None and source is not None:
        return root.under(source), root.under(target)
    if task.source == "sketch" and (target is not None or _holds_only_images(folders)) and source is None:
        notes.append("no sketches there: they are drawn from the photos on the fly")
        return None, root.under(target or "")
    raise UserError(
        f"{where}: task {task.name} needs the folders {task.source_dir!r} and {task.target_dir!r}, found {there}",
        "see --data_root",
    )


def _holds_only_images(folders: list[str]) -> bool:
    """No folder has a name that means something else: a plain folder of photos, possibly in sub-folders."""
    return not any(_last(f) in SKETCHES[:-1] + LABELS[:-1] + TRAIN + TEST for f in folders)


def _split(source: ImageSource | None, target: ImageSource, share: float, notes: list[str], paired: bool) -> DataRoot:
    """By a hash of the stem, over the pairs; unmatched files stay in the train part, whose report names them."""
    if source is not None and not paired:
        one, other = (_split(None, side, share, [], True) for side in (source, target))
        notes.append(f"{len(one.test_target)} sources and {len(other.test_target)} photos set apart for testing")
        return DataRoot(one.train_target, other.train_target, one.test_target, other.test_target, notes)
    report = match_names(source.names if source else target.names, target.names)
    pairs = report.pairs if source else [(name, name) for name in target.names]
    if len(pairs) < 2:
        alone = report.alone("source", "photo")
        raise UserError(
            f"{target.path}: {len(pairs)} pairs are too few to train and test{f' ({alone})' if alone else ''}",
            f"at least 2 are needed, {SAME_NAME} (--data_root)",
        )
    ranked = sorted(pairs, key=lambda pair: (_share_of(pair_key(pair[1])[1]), pair[1]))
    n_below = sum(_share_of(pair_key(pair[1])[1]) < share for pair in ranked)
    test = ranked[: min(max(1, n_below, min(len(pairs) // 10, ENOUGH)), len(pairs) - 1)]
    test_targets = {pair[1] for pair in test}
    test_sources = {pair[0] for pair in test}
    notes.append(f"{len(test)} of {len(pairs)} pairs set apart for testing, by a hash of their names")
    return DataRoot(
        source.subset([n for n in source.names if n not in test_sources]) if source else None,
        target.subset([n for n in target.names if n not in test_targets]),
        source.subset([n for n in source.names if n in test_sources]) if source else None,
        target.subset([n for n in target.names if n in test_targets]),
        notes,
    )


def _share_of(stem: str) -> float:
    return name_number(stem) / 2**64
