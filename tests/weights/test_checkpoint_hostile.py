"""A corpus of broken and malicious weights files: each is refused in one line, and nothing in it runs.

The files are read by the real script in a process that reports every file it opens for writing, every program it
starts and every import that the pickle could ask for.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_training as tiny
import torch
from child_processes import run_code, run_script
from tiny_checkpoints import Content, published, written

from psp.errors import UserError
from psp.weights.load import load_model
from psp.weights.save import save_safetensors

ROOT = Path(__file__).resolve().parents[2]
WATCHED = """
import encodings.cp437, json, re, sys, time
from pathlib import Path
import torch, safetensors.torch
from psp.weights.load import load_generator, load_model
from psp.errors import UserError
try:
    load_model(sys.argv[2])  # everything that is imported late is imported now
except UserError:
    pass
events, on = [], False
def hook(name, args):
    if not on:
        return
    wrote = name == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if wrote or name.split(".")[0] in ("subprocess", "socket", "shutil", "exec", "compile") or name in (
        "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "os.mkdir", "os.rmdir",
        "os.chmod", "os.putenv", "import", "ctypes.dlopen",
    ):
        events.append([name, repr(args)[:200]])
sys.addaudithook(hook)
out = []
for path in json.loads(Path(sys.argv[1]).read_text()):
    start = time.monotonic()
    on = True
    try:
        (load_model if "stylegan" not in path else load_generator)(path)
        said = None
    except UserError as error:
        said = str(error)
    except BaseException as error:
        said = f"TRACEBACK {type(error).__name__}: {error}"
    on = False
    peak = int(re.search("VmHWM:[ \\t]*([0-9]+)", Path("/proc/self/status").read_text())[1]) >> 10
    out.append([path, said, time.monotonic() - start, peak, events[:]])
    events.clear()
print(json.dumps(out))
"""


def watched(files: list[Path], good: Path) -> Iterator[tuple[Path, str | None, float, int, list[list[str]]]]:
    """Per file: what the reader said (None: it was loaded), seconds, peak MiB so far, what it did besides reading."""
    listing = good.parent / "listing.json"
    listing.write_text(json.dumps([str(file) for file in files]))
    done = run_code(WATCHED, listing, good)
    assert done.returncode == 0, done.stderr[-2000:]
    for path, said, seconds, peak, events in json.loads(done.stdout):
        yield Path(path), said, seconds, peak, events


@pytest.fixture(scope="module")
def content() -> Content:
    return published(tiny.model().eval())


@pytest.fixture(scope="module")
def good(content: Content, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("corpus") / "good.pt", content)


def as_legacy(content: Content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def rezipped(data: bytes, **changed: bytes) -> bytes:
    """The zip with `data.pkl` and others replaced, checksums made right again."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, changed.get(Path(name).name.replace(".", "_"), old.read(name)))
    return out.getvalue()


def op(module: str, name: str, *arguments: bytes) -> bytes:
    """A pickle that calls module.name(*arguments); arguments are opcodes."""
    return b"\x80\x02c" + module.encode() + b"\n" + name.encode() + b"\n(" + b"".join(arguments) + b"tR."


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def laugh(i: int) -> bytes:
    """A list of ten times the list before it."""
    return b"]q" + bytes([i + 1]) + (b"h" + bytes([i]) + b"a") * 10


def attacks(evidence: Path) -> dict[str, bytes]:
    touch = text(f"touch {evidence}")
    big = b"\x8a\x08" + (10**12).to_bytes(8, "little")
    return {
        "os.system": op("os", "system", touch),
        "posix.system": op("posix", "system", touch),
        "eval": op("builtins", "eval", text(f"open({str(evidence)!r}, 'w')")),
        "exec": op("builtins", "exec", text(f"open({str(evidence)!r}, 'w')")),
        "py2 eval": op("__builtin__", "eval", text("1")),
        "popen": op("subprocess", "Popen", touch),
        "getattr": op("builtins", "getattr", text("x"), text("y")),
        "import": op("importlib", "import_module", text("antigravity")),
        "torch.load": op("torch", "load", text("x")),
        "hub": op("torch.hub", "load", text("a"), text("b")),
        "from_bytes": op("torch.storage", "_load_from_bytes", b"C\x02ab"),
        "bytearray": op("builtins", "bytearray", big),
        "float tensor": op("torch", "FloatTensor", big),
        "tensor": op("torch", "Tensor", big),
        "untyped": op("torch.storage", "UntypedStorage", big),
        "ones": op("torch", "ones", big),
        "meta": op("torch._utils", "_rebuild_meta_tensor_no_storage", big),
        "copyreg": op("copyreg", "_reconstructor", touch),
        "sparse": op("torch._utils", "_rebuild_sparse_tensor", big),
        "Counter": op("collections", "Counter", touch),
        "encode": op("_codecs", "encode", touch, text("zip")),
        "obj": b"(cos\nsystem\n" + touch + b"o.",
        "inst": b"(" + touch + b"ios\nsystem\n.",
        "stack global": b"\x80\x04" + text("os") + text("system") + b"\x93" + touch + b"\x85R.",
        "extension": b"\x80\x02\x82\x01.",
        "newobj_ex": b"\x80\x04cos\nsystem\n)}\x92.",
        "memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
        "nesting": b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".",
        "deep key": b"\x80\x02}" + b")" + b"\x85" * 400_000 + b"Ns.",
        "tuple keys": b"\x80\x02}(" + b"K\x01\x85N" * 100_000 + b"u.",
        "long": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "text": b"\x80\x02X\xff\xff\xff\xff.",
        "text8": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "no stop": b"\x80\x02}" * 1000,
        "decimal": b"L" + b"9" * 200_000 + b"L\n.",
        "laughs": b"\x80\x02]q\x00"
        + b"".join(b"]q" + bytes([i + 1]) + (b"h" + bytes([i]) + b"a") * 10 for i in range(60))
        + b".",
    }


def test_malicious_pickles(content: Content, good: Path, tmp_path: Path) -> None:
    evidence = tmp_path / "it ran"
    files = []
    for name, data in attacks(evidence).items():
        forms = {"raw.pkl": data, "zip.pt": rezipped(good.read_bytes(), data_pkl=data)}
        forms["legacy.pt"] = as_legacy(content)[:15] + data
        for form, bytes_ in forms.items():
            files.append(tmp_path / f"{name.replace(' ', '_').replace('.', '_')}_{form}")
            files[-1].write_bytes(bytes_)
    before = set(tmp_path.iterdir())
    for path, said, seconds, peak, events in watched(files, good):
        assert said is not None and "TRACEBACK" not in said, f"{path.name}: {said}"
        assert str(path) in said and "\n" not in said and len(said) < 600, said
        assert not events, f"{path.name}: {events}"
        assert seconds < 20 and peak < 2048, f"{path.name}: {seconds:.1f} s, {peak} MiB"
    assert set(tmp_path.iterdir()) == before and not evidence.exists()


def test_truncated_and_flipped(content: Content, good: Path, tmp_path: Path) -> None:
    """Truncation is always noticed; so is a flipped bit wherever it matters: what loads, loads as it was."""
    save_safetensors(
        {k: v for k, v in content["state_dict"].items()} | {"latent_avg": content["latent_avg"]}, content["opts"],
        tmp_path / "good.safetensors",
    )  # fmt: skip
    rng = random.Random(0)
    files: list[Path] = []
    for source in (good, tmp_path / "good.safetensors"):
        data = source.read_bytes()
        for cut in [1, 7, 8, 9, 63, *(rng.randrange(len(data)) for _ in range(25)), len(data) - 1]:
            files.append(tmp_path / f"cut_{cut}{source.suffix}")
            files[-1].write_bytes(data[:cut])
        for _ in range(40):
            flipped, place = bytearray(data), rng.randrange(len(data))
            flipped[place] ^= 1 << rng.randrange(8)
            files.append(tmp_path / f"flip_{place}{source.suffix}")
            files[-1].write_bytes(flipped)
    legacy = as_legacy(content)
    for cut in range(1, len(legacy) - 1, len(legacy) // 20):
        files.append(tmp_path / f"cut_{cut}.legacy")
        files[-1].write_bytes(legacy[:cut])
    wanted = load_model(good).state_dict()
    loaded = 0
    for path, said, seconds, peak, events in watched(files, good):
        assert not events and seconds < 20 and peak < 2048
        if said is None:
            loaded += 1
            assert path.name.startswith("flip"), path.name
            found = load_model(path).state_dict()
            assert all(torch.equal(found[key], wanted[key]) for key in wanted), path.name
        else:
            assert "TRACEBACK" not in said and str(path) in said and "\n" not in said, said
    assert loaded < 15


@pytest.mark.thorough
def test_zips_that_are_no_checkpoints(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()

    def packed(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", compression) as archive:
            for name, value in entries.items():
                archive.writestr(name, value)
        return out.getvalue()

    with zipfile.ZipFile(good) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    bomb = {**entries, "good/data/0": bytes(300 << 20)}
    corpus = {
        "pictures.zip": packed({"a.png": b"1", "b.png": b"2"}),
        "empty.zip": packed({}),
        "compressed.pt": packed(entries, zipfile.ZIP_DEFLATED),
        "bomb.pt": packed(bomb, zipfile.ZIP_DEFLATED),
        "script.pt": packed({**entries, "good/constants.pkl": b"x"}),
        "two.pt": packed({**entries, "b/data.pkl": b"x"}),
        "short.pt": packed({**entries, "good/data/0": b"12"}),
        "gone.pt": packed({k: v for k, v in entries.items() if "data/1" not in k}),
        "up.pt": packed({**entries, "../../x": b"1"}),
        "huge.pt": packed({**entries, "good/data.pkl": b"\x80\x02" + b"N0" * (20 << 20) + b"."}),
        "wide.pt": rezipped(data, data_pkl=entries["good/data.pkl"].replace(b"K\x10", b"J\xff\xff\xff\x7f")),
    }
    files = []
    for name, value in corpus.items():
        files.append(tmp_path / name)
        files[-1].write_bytes(value)
    for path, said, seconds, peak, events in watched(files, good):
        assert not events and seconds < 20 and peak < 2048, f"{path.name} {seconds} {peak} {events}"
        if path.name != "up.pt":  # an entry more, which nobody unpacks
            assert said and "TRACEBACK" not in said and str(path) in said, f"{path.name}: {said}"
    assert not (tmp_path.parent.parent / "x").exists()


def test_scripts_say_one_line(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    path.write_bytes(rezipped(good.read_bytes(), data_pkl=attacks(tmp_path / "it ran")["os.system"]))
    for script, flag in (
        ("inference", "checkpoint_path"),
        ("style_mixing", "checkpoint_path"),
        ("train", "stylegan_weights"),
    ):
        done = run_script(script, f"--{flag}", path, "--exp_dir", tmp_path / "e", folder=tmp_path)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        assert done.returncode == 2 and len(lines) == 1 and "os.system" in lines[0] and str(path) in lines[0], (
            done.stderr
        )
    assert not (tmp_path / "it ran").exists()


def test_random_pickles_never_escape(tmp_path: Path) -> None:
    """Random opcode soup: a UserError or nothing."""
    rng = random.Random(1)
    opcodes = [bytes([code]) for code in range(256)]
    for i in range(150):
        soup = b"\x80\x02" + b"".join(rng.choice(opcodes) for _ in range(rng.randrange(60))) + b"."
        path = tmp_path / f"{i}.pt"
        path.write_bytes(rezipped_minimal(soup) if i % 2 else pickle.dumps(0x1950A86A20F9469CFC6C, 2) + soup)
        with pytest.raises(UserError):
            load_model(path)


def rezipped_minimal(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, value in {"a/data.pkl": data, "a/version": b"3\n", "a/byteorder": b"little"}.items():
            archive.writestr(name, value)
    return out.getvalue()
