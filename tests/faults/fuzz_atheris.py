"""Coverage-guided fuzzing of the doors that are written in Python: pickles, torch files, JSON and YAML. Not a test.

python tests/faults/fuzz_atheris.py nvidia|torch|config|labels [-max_total_time=600] [other options of libFuzzer]

Whatever the bytes, a door returns a value or raises UserError with one line; anything else stops the fuzzer, which
leaves the bytes as crash-*. So does an attempt to start a process, to open a connection, to rename or remove a file.
Needs `pip install atheris` (Linux, macOS).
"""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import nvidia_networks as nvidia
import torch

with atheris.instrument_imports(include=["psp", "datasets", "pickletools"]):
    import psp.weights.formats
    import psp.weights.safe_torch
    from psp.errors import UserError
    from psp.images.labels import get_label_map
    from psp.training.flags import parse
    from psp.training.resolve import resolve

FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "os.remove", "os.rename")


def put(data: bytes, ending: str) -> Path:
    path = FOLDER / f"input{ending}"
    path.write_bytes(data)
    return path


def nvidia_door(data: bytes) -> None:
    psp.weights.formats.read_weights(put(data, ".pkl"))


def torch_door(data: bytes) -> None:
    """The bytes as the pickle of a zip without checksums, which nothing but its content protects."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (("data.pkl", data), ("byteorder", b"little"), ("version", b"3\n"), ("data/0", bytes(64))):
            archive.writestr(f"a/{name}", content)
    written = bytearray(file.getvalue())
    for mark, place in ((b"PK\x03\x04", 14), (b"PK\x01\x02", 16)):
        at = written.find(mark)
        while at >= 0:
            written[at + place : at + place + 4] = bytes(4)
            at = written.find(mark, at + 4)
    psp.weights.formats.read_weights(put(bytes(written), ".pt"))


def config_door(data: bytes) -> None:
    resolve(parse(["--config", str(put(data, ".yaml"))]), examples=False)


def labels_door(data: bytes) -> None:
    get_label_map(str(put(data, ".json")))


def torch_seeds() -> list[bytes]:
    seeds = []
    for content in (
        {"g_ema": {"w": torch.ones(16)}, "latent_avg": None},
        {"state_dict": {"encoder.w": torch.ones(4, 4)}, "opts": {"output_size": 64}, "latent_avg": None},
    ):
        file = io.BytesIO()
        torch.save(content, file)
        with zipfile.ZipFile(file) as archive:
            seeds.append(archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl"))))
    return seeds + [pickle.dumps({"a": os.system}), pickle.dumps([1, "x", {2: (3.0, None)}], protocol=2)]


def nvidia_seeds() -> list[bytes]:
    tiny = nvidia.snapshot(nvidia.Generator(size=8, layers=1, most=2, z_dim=2))
    return [nvidia.dumps(tiny), nvidia.dumps({"G_ema": 1}), pickle.dumps({"G": os.system})]


DOORS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "nvidia": (nvidia_door, nvidia_seeds),
    "torch": (torch_door, torch_seeds),
    "config": (config_door, lambda: [b"learning_rate: 1e-4\nsize: 64\n", b"{a: &a [1, 2], b: *a}", b"seed: !!int '1'"]),
    "labels": (labels_door, lambda: [json.dumps({"0": "skin", "#ff0000": 3}).encode(), b"[0, 1, 2, [255, 0, 0]]"]),
}


def main() -> None:
    names = [word for word in sys.argv[1:] if word in DOORS]
    if len(names) != 1:
        sys.exit(__doc__)
    door, seeds = DOORS[names[0]]
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for k, data in enumerate(seeds()):
        (corpus / f"{k}").write_bytes(data)
    inside = False

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if inside and event.startswith(FORBIDDEN):
            raise RuntimeError(f"{event} {arguments!r}")

    sys.addaudithook(audit)

    def once(data: bytes) -> None:
        nonlocal inside
        inside = True
        try:
            door(data)
        except UserError as error:
            if len(str(error).splitlines()) != 1 or len(str(error)) > 1500:
                raise RuntimeError(f"not one line: {error!r}") from error
        finally:
            inside = False

    options = [word for word in sys.argv[1:] if word != names[0]]
    atheris.Setup([sys.argv[0], "-rss_limit_mb=2048", "-timeout=20", "-max_len=65536", *options, str(corpus)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
