"""--data_root: a folder or zip file with train/ and test/, or just photos and sketches, becomes four image sources."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from datasets.matching import SAME_NAME, PairReport, few, match_names, pair_key
from psp.errors import UserError
from psp.files import name_number
from psp.images.sources import ImageSource, open_source
from psp.tasks import Task

PHOTOS = (
    "photos", "photo", "images", "image", "imgs", "faces", "face", "targets", "target", "real", "celeba-hq-img", "b",
)  # fmt: skip
SKETCHES = ("sketches", "sketch", "edges", "edge", "drawings", "drawing", "lines", "contours", "sources", "source", "a")
LABELS = (
    "labels", "label", "masks", "mask", "segmentation", "segmentations", "seg", "celebamask-hq-mask", "parsing",
    "sources", "source", "a",
)  # fmt: skip
OTHERS = {"sketches": SKETCHES, "labels": LABELS[:-3]}  # beside photos, where "source" and "a" hold sketches
TRAIN, VALIDATION = ("train", "training"), ("val", "valid", "validation")
TEST = ("test", "testing", *VALIDATION)
EITHER = {"a", "b"}  # folders of CycleGAN's layout, where nothing else lies beside them
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


def open_data_root(path: str | Path, task: Task, *, paired: bool = True, to_choose: bool = False) -> DataRoot:
    """Find the two kinds of images below `path` and the split into train and test.

    Sub-folders are named by `task.source_dir` and `task.target_dir` or a common alias, in either case. Without train/
    and test/ about TEST_SHARE of the pairs, at least four of 40 and one of two, become the test set, chosen by a hash
    of their names: the same pair is on the same side wherever and however often this is run. Not `paired`: the names
    need not match, and each side is split on its own. to_choose: checkpoints are chosen by the test part, so that is
    val/ where there is one besides test/. Raises UserError naming what is there.
    """
    root = open_source(path)
    notes: list[str] = []
    folders = _below_wrapper(root)
    train, test = _find(folders, TRAIN), _find(folders, (*VALIDATION, *TEST) if to_choose else TEST)
    if train is None:
        return _split(*_sides(root, task, path, notes), notes, paired)
    source, target, labels = _sides(root.under(train), task, f"{path}/{train}", notes)
    if test is None:
        notes.append("no test folder")
        return _split(source, target, labels, notes, paired)
    if others := [folder for folder in folders if _last(folder) in TEST and folder != test]:
        notes.append(f"test set: {test} (also there: {', '.join(others)})")
    test_source, test_target, test_labels = _sides(root.under(test), task, f"{path}/{test}", [])
    return DataRoot(source, target, test_source, test_target, notes, labels, test_labels)


def open_pair_folders(path: str | Path, task: Task) -> tuple[ImageSource | None, ImageSource]:
    """(source, target) of a folder or zip that holds both kinds of images, without a split; otherwise as
    `open_data_root`. A source of None means: make it from the target."""
    return _sides(open_source(path), task, path, [])[:2]


def two_kinds(path: str | Path) -> tuple[ImageSource, ImageSource, str]:
    """Photos, what belongs to them, and whether that is "sketches" or "labels", of a folder or zip without split."""
    root = open_source(path)
    if (found := _two_kinds(root)) is not None:
        return found
    found_there = _listed(_below_wrapper(root))
    raise UserError(f"{path}: needs photos/ and sketches/ or labels/ in it, found {found_there}", "see --root")


def photos_alone(path: str | Path) -> ImageSource:
    """The photos of a folder or zip, without the sketches or label maps that may lie beside them.

    UserError: these lie in train/ and test/.
    """
    root = open_source(path)
    train = _find(_below_wrapper(root), TRAIN)
    if train is not None and _two_kinds(root.under(train)) is not None:
        raise UserError(f"{path}: is divided into train/ and test/", f"give a part, as in {path}/{train}/photos")
    found = _two_kinds(root)
    return root if found is None else found[0]


def _two_kinds(root: ImageSource) -> tuple[ImageSource, ImageSource, str] | None:
    return next(((*both, kind) for kind in OTHERS if (both := beside(root, kind))), None)


def beside(root: ImageSource, kind: str) -> tuple[ImageSource, ImageSource] | None:
    """Photos and the "sketches" or "labels" (kind) in the folder beside them, of a folder or zip that holds both."""
    folders = _below_wrapper(root)
    photos = _find(folders, PHOTOS)
    other = _find([folder for folder in folders if folder != photos], OTHERS[kind])
    return (root.under(photos), root.under(other)) if photos and other else None


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
    both = beside(part, "labels")
    return part.under(photos or ""), both and both[1]


def _last(folder: str) -> str:
    return PurePosixPath(folder).name.lower()


def _listed(folders: list[str]) -> str:
    return ", ".join(sorted(map(_last, folders))) or "images only"


def _below_wrapper(root: ImageSource) -> list[str]:
    """The folders to look at: those at the top, or below a single folder that wraps everything."""
    folders = root.folders()
    depth = 0
    while True:
        level = [f for f in folders if f.count("/") == depth]
        known = TRAIN + TEST + PHOTOS[:-1] + SKETCHES[:-1] + LABELS[:-1]
        if len(level) != 1 or _last(level[0]) in known or any("/" not in name for name in root.names):
            return level
        depth += 1


def _find(folders: list[str], names: tuple[str, ...]) -> str | None:
    """The folder of the first name that there is; people called a, b and c are no sketches and photos."""
    alone = {_last(folder) for folder in folders} <= EITHER
    known = [name for name in names if alone or name not in EITHER]
    return next((folder for name in known for folder in folders if _last(folder) == name), None)


def _sides(
    root: ImageSource, task: Task, where: str | Path, notes: list[str]
) -> tuple[ImageSource | None, ImageSource, ImageSource | None]:
    """Sources and photos of one part of a data root, and the label maps beside these. where: what messages call it."""
    folders = _below_wrapper(root)
    aliases: tuple[str, ...] = {"photo": (), "sketch": SKETCHES, "labels": LABELS}[task.source]
    if task.source_dir != task.target_dir:
        aliases = (task.source_dir.lower(), *aliases)
    target = _find(folders, (task.target_dir.lower(), *PHOTOS))
    source = _find([f for f in folders if f != target], aliases)
    drawn_from_photos = source is None and (target is not None or _holds_only_images(folders))
    if target is not None:
        known = {*PHOTOS, *SKETCHES, *LABELS, *TRAIN, *TEST} - EITHER
        unused = [folder for folder in folders if folder not in (source, target) and _last(folder) not in known]
        notes += [f"not used, as their names say nothing: {', '.join(unused)}"] if unused else []
    if task.source == "sketch" and drawn_from_photos:
        notes.append("no sketches there: they are drawn from the photos on the fly")
        _look_like_photos(root.under(target or ""), where, notes)
    elif task.source == "photo" and target is None and not _holds_only_images(folders):
        raise UserError(f"{where}: no folder {task.target_dir!r} in it, found {_listed(folders)}", "see --data_root")
    elif task.source != "photo" and (target is None or source is None):
        raise UserError(
            f"{where}: task {task.name} needs the folders {task.source_dir!r} and {task.target_dir!r}, "
            f"found {_listed(folders)}",
            "make label maps of the part masks with scripts/prepare_data.py masks"
            if any(_last(folder).endswith("mask-anno") for folder in folders)
            else "see --data_root",
        )
    both = beside(root, "labels")
    return root.under(source) if source else None, root.under(target or ""), both and both[1]


def _look_like_photos(photos: ImageSource, where: str | Path, notes: list[str]) -> None:
    """UserError where many files of one folder are two of a kind, as 7_photo and 7_sketch; a note on pix2pix's A|B."""
    stems = Counter(pair_key(name) for name in photos.names)
    twice = [name for name in photos.names if stems[pair_key(name)] > 1]
    if len(twice) > len(photos) / 2 and len({PurePosixPath(name).stem for name in twice}) > len(twice) / 2:
        raise UserError(
            f"{where}: most images come in pairs of one name ({few(twice[:2])})",
            "put the sketches into a folder sketches/ and the photos into photos/ beside it",
        )
    with contextlib.suppress(UserError):  # named when it is its turn
        size = photos.open(photos.names[0]).size
        if size[0] == 2 * size[1]:
            notes.append("the photos are twice as wide as high: if they are sketch and photo in one, cut them apart")


def _holds_only_images(folders: list[str]) -> bool:
    """No folder has a name that means something else: a plain folder of photos, possibly in sub-folders."""
    return not any(_last(f) in SKETCHES[:-1] + LABELS[:-1] + TRAIN + TEST for f in folders)


def _split(
    source: ImageSource | None, target: ImageSource, labels: ImageSource | None, notes: list[str], paired: bool
) -> DataRoot:
    """By a hash of the stem, over the pairs; unmatched files stay in the train part, whose report names them."""
    if source is not None and not paired:
        one, other = (_split(None, side, None, [], True) for side in (source, target))
        notes.append(f"{len(one.test_target)} sources and {len(other.test_target)} photos set apart for testing")
        return DataRoot(one.train_target, other.train_target, one.test_target, other.test_target, notes, labels, labels)
    report = match_names(source.names, target.names) if source else PairReport([(name, name) for name in target.names])
    pairs = report.pairs
    if len(pairs) < 2:
        alone = report.alone("source", "photo")
        raise UserError(
            f"{target.path}: {len(pairs)} pairs are too few to train and test{f' ({alone})' if alone else ''}",
            f"at least 2 are needed, {SAME_NAME} (--data_root)",
        )

    stems = Counter(pair_key(photo)[1] for _, photo in pairs)
    repeated = max(stems.values()) > 1  # person_1/face.jpg, person_2/face.jpg: then the folder counts as well

    def place(pair: tuple[str, str]) -> float:
        folder, stem = pair_key(pair[1])
        return name_number(f"{folder}/{stem}" if repeated else stem) / 2**64

    n_below = sum(place(pair) < TEST_SHARE for pair in pairs)
    n_test = min(max(1, n_below, min(len(pairs) // 10, ENOUGH)), len(pairs) - 1)
    test = sorted(pairs, key=lambda pair: (place(pair), pair[1]))[:n_test]
    notes.append(f"{n_test} of {len(pairs)} pairs set apart for testing, by a hash of their names")
    train_target, test_target = _apart(target, {photo for _, photo in test})
    train_source, test_source = _apart(source, {name for name, _ in test}) if source else (None, None)
    return DataRoot(train_source, train_target, test_source, test_target, notes, labels, labels)


def _apart(images: ImageSource, names: set[str]) -> tuple[ImageSource, ImageSource]:
    """The images without those of these names, and these."""
    others = [name for name in images.names if name not in names]
    return images.subset(others), images.subset([name for name in images.names if name in names])
