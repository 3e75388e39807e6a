"""Named images in a folder, a zip file or a single file, behind one small interface."""

from __future__ import annotations

import copy
import io
import os
import re
import stat
import threading
import zipfile
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from psp.errors import UserError, brief
from psp.images.decode import EXTENSIONS, OTHER_EXTENSIONS, open_image

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_MEMBER_BYTES = 256 << 20  # of one image file, or of what a zip member unpacks to: 64 million pixels, unpacked
PIECE = 1 << 20


def natural_key(name: str) -> tuple[Any, ...]:
    """Sort key under which img2 comes before img10; the plain name breaks ties, so the order is the same everywhere."""
    parts = re.split(r"(\d+)", name.lower())
    return ([(1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts], name)


def is_image_name(name: str) -> bool:
    """A visible file with an image extension, read or not; hidden files and what macOS leaves (`__MACOSX`) are none."""
    parts = PurePosixPath(name).parts
    kept = not any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return kept and name.lower().endswith(EXTENSIONS + OTHER_EXTENSIONS)


def last_change(place: Path, name: str) -> float:
    """When the image `name` of a folder, or else the zip or file at `place`, became what it is: seconds, as file times.

    What is unpacked or moved there keeps an old time of modification, so the file system's own time counts, too.
    """
    path = place / name
    while not path.exists():  # below a zip file
        path = path.parent
    status = path.stat()
    return max(status.st_mtime, status.st_ctime)


class ImageSource:
    """A list of image names (relative, with "/" between folders) and a way to open each.

    names: sorted naturally, stable. path: what the user gave. Picklable; safe to use after a fork and from threads.
    """

    prefix = ""  # of the names, within what they were taken from by `under`

    def __init__(self, path: str | Path, names: Iterable[str]):
        self.path = Path(path)
        self.names: list[str] = sorted(names, key=natural_key)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, name: str) -> bytes:
        """The bytes of one file; UserError when it cannot be read."""
        raise NotImplementedError

    def label(self, name: str) -> str:
        """What messages call this image: path and name."""
        return f"{self.path}/{name}"

    def last_change(self, name: str) -> float:
        """When this image, or the zip file around it, became what it is: seconds, as file times."""
        return last_change(self.path, name)

    def open(self, name: str, **options: Any) -> Image.Image:
        """Decode one image; UserError names the file when that fails (options: see `psp.images.decode.open_image`)."""
        return open_image(io.BytesIO(self.read(name)), name=self.label(name), **options)

    def subset(self, names: Sequence[str]) -> Self:
        """The same place with fewer names, in the order given."""
        other = copy.copy(self)
        other.names = list(names)
        return other

    def under(self, folder: str) -> Self:
        """The images below a sub-folder, their names relative to it. "" is everything."""
        folder = folder.strip("/")
        if not folder:
            return self
        below = self.subset([name for name in self.names if name.startswith(f"{folder}/")])
        below.names = [name.removeprefix(f"{folder}/") for name in below.names]
        below.path, below.prefix = self.path / folder, f"{self.prefix}{folder}/"
        return below

    def folders(self) -> list[str]:
        """Every folder that holds images, directly or below, as relative names without "" itself."""
        folders: set[str] = set()
        for name in self.names:
            folders.update(str(parent) for parent in PurePosixPath(name).parents if str(parent) != ".")
        return sorted(folders, key=natural_key)


class Folder(ImageSource):
    """Images below a folder. Links are followed, each real folder once (loops end); opening a pipe names it."""

    def __init__(self, path: str | Path):
        super().__init__(path, _walk(Path(path)))

    def read(self, name: str) -> bytes:
        label = self.label(name)
        try:
            handle = os.open(self.path / name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
            with open(handle, "rb") as file:  # which may have become a pipe since the folder was listed
                status = os.fstat(handle)
                if not stat.S_ISREG(status.st_mode):
                    raise UserError(f"{label}: is no file", "expected an image file")
                if status.st_size > MAX_MEMBER_BYTES:
                    raise UserError(f"{label}: has {status.st_size} bytes", f"allowed are {MAX_MEMBER_BYTES}")
                return file.read(MAX_MEMBER_BYTES + 1)
        except OSError as error:
            raise UserError(f"{label}: cannot be read ({error.strerror or error})") from None


class SingleFile(Folder):
    """One image file; its name is the file's name."""

    def __init__(self, path: str | Path):
        ImageSource.__init__(self, Path(path).parent, [Path(path).name])

    def label(self, name: str) -> str:
        return str(self.path / name)


class _Opened(NamedTuple):
    """An open archive, and the lock for reading from it."""

    file: zipfile.ZipFile
    lock: threading.Lock


@lru_cache(maxsize=64)
def _opened(pid: int, path: str, modified: int, size: int) -> _Opened:
    """Shared by all that read from the archive in this process: reading the directory of a large one takes a second."""
    return _Opened(zipfile.ZipFile(path), threading.Lock())


class Zip(ImageSource):
    """Images inside a zip file. The archive is opened once per process, on first use; nothing is extracted."""

    def __init__(self, path: str | Path):
        status = os.stat(path)
        self._key = (str(path), status.st_mtime_ns, status.st_size)
        self._members: dict[str, str] = {}
        for info in self._archive().file.infolist():
            name = info.filename.replace("\\", "/")
            if name.startswith("/") or ".." in PurePosixPath(name).parts or re.match(r"[A-Za-z]:", name):
                raise UserError(f"{path}: refused, it holds a name that leaves the archive ({info.filename!r})")
            if info.is_dir() or not is_image_name(name):
                continue
            if info.flag_bits & 1:
                raise UserError(f"{path}: the zip file is encrypted ({info.filename})", "unpack it first")
            self._members[str(PurePosixPath(name))] = info.filename
        super().__init__(path, self._members)

    def subset(self, names: Sequence[str]) -> Self:
        other = super().subset(names)
        chosen = [self.prefix + name for name in names]
        other._members = {name: self._members[name] for name in chosen if name in self._members}
        return other

    def _archive(self) -> _Opened:
        try:
            return _opened(os.getpid(), *self._key)  # a handle shared over a fork would share its position
        except Exception as error:  # damaged directories raise almost anything
            raise UserError(f"{self._key[0]}: not a zip file that can be read ({brief(error)})") from None

    def read(self, name: str) -> bytes:
        opened, label = self._archive(), self.label(name)
        with opened.lock:
            archive = opened.file
            try:
                info = archive.getinfo(self._members[self.prefix + name])
                if info.file_size > MAX_MEMBER_BYTES:
                    raise UserError(f"{label}: claims {info.file_size} bytes", f"allowed are {MAX_MEMBER_BYTES}")
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UserError(f"{label}: is packed in an unusual way", "pack the zip file with deflate")
                with archive.open(info) as stream:  # in pieces, which end where the directory says that the file does
                    return b"".join(iter(lambda: stream.read(PIECE), b""))
            except UserError:
                raise
            except Exception as error:  # zipfile and zlib have many
                raise UserError(f"{label}: damaged in the zip file ({brief(error)})") from None


def open_source(path: str | Path) -> ImageSource:
    """A folder, a zip file or one image file as an `ImageSource`; UserError if missing, empty or something else."""
    try:
        path = Path(path).expanduser()
        source = _source_at(path)
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:  # too long, no such user, a null byte
        raise UserError(f"{str(path)[:200]}: cannot be opened ({brief(error)})") from None
    if not source.names:
        raise UserError(f"{path}: no images in it", f"expected files ending in {' '.join(EXTENSIONS)}")
    return source


def _source_at(path: Path) -> ImageSource:
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise UserError(f"{path}: does not exist", "expected a folder, a zip file or an image")
    if not path.is_file():
        raise UserError(f"{path}: is neither a folder nor a file", "expected a folder, a zip file or an image")
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return Zip(path)
    if path.name.lower().endswith(EXTENSIONS + OTHER_EXTENSIONS):
        return SingleFile(path)
    raise UserError(f"{path}: expected a folder, a zip file or an image ({' '.join(EXTENSIONS)})")


def _walk(root: Path) -> list[str]:
    """The names of images below a folder. Links that lead nowhere, pipes and devices are reported when opened."""

    def refuse(error: OSError) -> None:
        if isinstance(error, PermissionError):
            raise UserError(f"{error.filename}: no permission to read this folder") from None
        raise error

    names: list[str] = []
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:  # a link back
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        below = Path(place).relative_to(root).as_posix()
        names += [name if below == "." else f"{below}/{name}" for name in files if is_image_name(name)]
    return names
