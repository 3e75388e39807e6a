"""Which sketch belongs to which photo: files are paired by folder and stem, whatever suffix each side carries."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from psp.errors import UserError
from psp.images.sources import ImageSource
from psp.tasks import Task

SUFFIXES = (
    "edges", "edge", "sketches", "sketch", "lines", "line", "drawing", "contour", "masks", "mask", "labels", "label",
    "segmentation", "seg", "parsing", "photos", "photo", "images", "image", "img", "face", "real", "source", "target",
    "gt", "aligned", "color",
)  # fmt: skip
_SUFFIX = re.compile(rf"(?<=[^_\-. ])[_\-. ]+(?:{'|'.join(SUFFIXES)})$", re.IGNORECASE)
_SHOWN = 5
DRAWN = ""  # in a pair, instead of the name of a sketch: it is drawn from the photo
SAME_NAME = "with the same file name up to _sketch, _edges, _mask, _label and the like"  # what makes a pair


def pair_key(name: str) -> tuple[str, str]:
    """(folder, stem without common suffixes): "a/7_edges.jpg" and "a/7.png" share ("a", "7")."""
    path = PurePosixPath(unicodedata.normalize("NFC", name))  # Macs write é as two characters
    stem = path.stem
    while (shorter := _SUFFIX.sub("", stem)) != stem:
        stem = shorter
    return (str(path.parent), stem)


@dataclass
class PairReport:
    """How two lists of names were paired. Nothing is left out: every name is in a pair or in one of the lists."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    unmatched_source: list[str] = field(default_factory=list)
    unmatched_target: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    without_labels: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report for the user: one line per finding, each with its count and the first few names."""
        left_out = {
            "source images without a target": self.unmatched_source,
            "target images without a source": self.unmatched_target,
            "images left out because another one has the same stem": self.duplicates,
            "unreadable images left out": self.unreadable,
            "photos without a label map left out": self.without_labels,
        }
        lines = [f"{len(names)} {reason}: {few(names)}" for reason, names in left_out.items() if names]
        return [f"{len(self.pairs)} pairs", *self.notes, *lines]

    def alone(self, source: str, target: str) -> str:
        """Which files are in no pair, for a message. source, target: what the images of each side are called."""
        sides = ((self.unmatched_source, target), (self.unmatched_target, source))
        return ", ".join(f"no {other} for {few(names)}" for names, other in sides if names)

    def without_partner(self, sources: ImageSource, targets: ImageSource, *, source: str, target: str) -> list[str]:
        """A line for every file that is in no pair. source, target: what the images of each side are called."""
        return [
            *(f"{sources.label(name)}: no {target} of that name" for name in self.unmatched_source),
            *(f"{targets.label(name)}: no {source} of that name" for name in self.unmatched_target),
            *(f"{name}: left out, another file has the same stem" for name in self.duplicates),
        ]


def few(names: Sequence[str]) -> str:
    """The first names, and whether there are more."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def match_names(source: Sequence[str], target: Sequence[str]) -> PairReport:
    """Pair by folder and stem; what is left is paired by stem alone where that is unambiguous. Order: the source's."""
    report = PairReport()
    sources, targets = _by_key(source, report.duplicates), _by_key(target, report.duplicates)
    partner = {key: key for key in sources if key in targets}
    free_targets = _by_stem(targets.keys() - partner.keys())
    for stem, keys in _by_stem(sources.keys() - partner.keys()).items():
        others = free_targets.get(stem, [])
        if len(keys) == len(others) == 1:
            partner[keys[0]] = others[0]
    report.pairs = [(name, targets[partner[key]]) for key, name in sources.items() if key in partner]
    used = set(partner.values())
    report.unmatched_source = [name for key, name in sources.items() if key not in partner]
    report.unmatched_target = [name for key, name in targets.items() if key not in used]
    return report


def _by_key(names: Sequence[str], duplicates: list[str]) -> dict[tuple[str, str], str]:
    """Key -> name. Of several names with one key the shortest stem stays (a.png before a_sketch.png)."""
    chosen: dict[tuple[str, str], str] = {}
    for name in names:
        key = pair_key(name)
        if key not in chosen:
            chosen[key] = name
        elif len(PurePosixPath(name).stem) < len(PurePosixPath(chosen[key]).stem):
            duplicates.append(chosen[key])
            chosen[key] = name
        else:
            duplicates.append(name)
    return chosen


def _by_stem(keys: Iterable[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    stems: dict[str, list[tuple[str, str]]] = {}
    for key in keys:
        stems.setdefault(key[1], []).append(key)
    return stems


def match_images(task: Task, source: ImageSource | None, target: ImageSource) -> PairReport:
    """The pairs of a task's sources and photos; without sources each photo is its own. UserError: there are none."""
    if source is None:
        if task.source == "labels":
            raise UserError(f"{target.path}: task {task.name} needs label maps beside the photos", "see --data_root")
        return PairReport(pairs=[(name, name) for name in target.names])
    report = match_names(source.names, target.names)
    if not report.pairs:
        raise UserError(
            f"no pairs in {len(source)} images of {source.path} and {len(target)} of {target.path}: "
            f"{report.alone('source', 'photo')}",
            f"a pair is two images {SAME_NAME}",
        )
    return report


def match_label_maps(report: PairReport, labels: ImageSource | None, photos: ImageSource) -> dict[str, str]:
    """Photo -> its label map. Photos without one are left out of the report's pairs, and named in it."""
    if labels is None:
        raise UserError(
            f"{photos.path}: no label maps beside the photos, which drawings need",
            "make them with scripts/prepare_data.py labels, or leave drawing out of --sketch_styles",
        )
    matched = match_names(labels.names, photos.names)
    label_of = {photo: label for label, photo in matched.pairs}
    report.without_labels = [name for _, name in report.pairs if name not in label_of]
    report.pairs = [pair for pair in report.pairs if pair[1] in label_of]
    if not report.pairs:
        raise UserError(
            f"{labels.path}: no label map has the name of a photo in {photos.path} "
            f"({matched.alone('label map', 'photo')})"
        )
    return label_of
