"""Images in tar files, as WebDataset writes them: `key.sketch.png` and `key.photo.jpg` are a sample, in many shards.

A member `dir/key.sketch.png` gets the name `sketch/dir/key.png`, so that a set of shards looks like folders of sketches
and photos to everything else. Nothing is extracted: the shards are indexed once and members read where they lie, so any
order and any worker will do.
"""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from datasets.sources import MAX_MEMBER_BYTES, ImageSource, is_image_name
from psp.errors import UserError, brief

SPLITS = ("train", "training", "test", "testing", "val", "valid", "validation")
MAX_HEADER_BYTES = 1 << 20  # of a long name or of other extra fields
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_EXTRA = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def is_shards(path: str | Path) -> bool:
    """`x.tar`, or several of them as in `x-{0000..0012}.tar`."""
    return str(path).lower().endswith(".tar")


def shard_paths(path: str | Path) -> list[Path]:
    """`a-{00..02}.tar` -> a-00.tar, a-01.tar, a-02.tar. UserError for a range that runs backwards or is absurd."""
    text = str(path)
    found = _RANGE.search(text)
    if not found:
        return [Path(text).expanduser()]
    first, last, width = int(found[1]), int(found[2]), len(found[1])
    if not 0 <= last - first < 100_000:
        raise UserError(f"{text}: the range {found[0]} must run upwards over at most 100,000 shards")
    return [
        shard
        for n in range(first, last + 1)
        for shard in shard_paths(f"{text[: found.start()]}{n:0{width}}{text[found.end() :]}")
    ]


class _SmallHeaders(tarfile.TarInfo):
    """Refuses extra fields that claim megabytes, which tarfile would read into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTRA and self.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"an extra header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


class Shards(ImageSource):
    """The images of one tar file or several. UserError: missing, damaged, cut off, or names that leave the archive."""

    def __init__(self, path: str | Path):
        self.shards = shard_paths(path)
        self._members: dict[str, tuple[int, int, int]] = {}  # name -> shard, offset, bytes
        self._handles: dict[int, int] = {}
        self._pid = os.getpid()
        for number, shard in enumerate(self.shards):
            self._index(number, shard)
        super().__init__(path, self._members)

    def _index(self, number: int, shard: Path) -> None:
        try:
            size = shard.stat().st_size
            with tarfile.open(shard, "r:", tarinfo=_SmallHeaders) as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
                    name = self._safe(shard, member)
                    if name is None:
                        continue
                    if member.offset_data + member.size > size:
                        raise UserError(f"{shard}: cut off inside {member.name}; copy it again")
                    if name in self._members:
                        other = self.shards[self._members[name][0]]
                        raise UserError(f"{shard}: holds {member.name}, which {other} holds already")
                    self._members[name] = number, member.offset_data, member.size
        except FileNotFoundError:
            raise UserError(f"{shard}: does not exist; expected a tar file (--data_root)") from None
        except UserError:
            raise
        except Exception as error:  # tarfile has many kinds for damaged files
            raise UserError(f"{shard}: not an uncompressed tar file that can be read ({brief(error)})") from None

    @staticmethod
    def _safe(shard: Path, member: tarfile.TarInfo) -> str | None:
        """The name under which the image is known; None for what is no image."""
        path = PurePosixPath(member.name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", member.name):
            raise UserError(f"{shard}: refused, it holds a name that leaves the archive ({member.name!r})")
        if not member.isreg() or member.issparse() or not is_image_name(str(path)):
            return None
        if member.size > MAX_MEMBER_BYTES:
            raise UserError(f"{shard}: {member.name} claims {member.size} bytes; allowed are {MAX_MEMBER_BYTES}")
        key, *kinds, extension = path.name.split(".")
        split, folders = list(path.parts[:1]), list(path.parts[1:-1])
        if len(path.parts) == 1 or path.parts[0].lower() not in SPLITS:
            split, folders = [], list(path.parts[:-1])
        return "/".join(
            [*split, *(kind.lower() for kind in kinds[:1]), *folders, ".".join([key, *kinds[1:], extension])]
        )

    def read(self, name: str) -> bytes:
        shard, offset, size = self._members[name]
        if self._pid != os.getpid():  # after a fork each process opens its own
            self._handles, self._pid = {}, os.getpid()
        try:
            if shard not in self._handles:
                self._handles[shard] = os.open(self.shards[shard], os.O_RDONLY)
            data = os.pread(self._handles[shard], size, offset)
        except OSError as error:
            raise UserError(f"{self.label(name)}: cannot be read ({error.strerror or error})") from None
        if len(data) != size:
            raise UserError(f"{self.label(name)}: the shard has become shorter since the start")
        return data

    def label(self, name: str) -> str:
        return f"{self.shards[self._members[name][0]]}: {name}"

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_handles", "_pid")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._handles, self._pid = {}, os.getpid()
