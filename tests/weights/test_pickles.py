"""A pickle from anywhere: one line, nothing executed, imported or written, little time and memory."""

from __future__ import annotations

import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import hostile_pickles as hostile
import nvidia_networks as nvidia
import pytest
import torch
from child_processes import run_code

from psp.weights.pickled_tensors import Storage, StoredTensor, read_plain_pickle, read_tensor
from psp.weights.pickles import Refused, printable

# Reads every file of a folder, with all that Python reports about itself being listened to.
WATCH = """
import json, os, pickletools, sys, time
from pathlib import Path
import torch
from psp.errors import UserError
from psp.weights.nvidia import read_nvidia_pickle

folder = Path(sys.argv[1])
read_nvidia_pickle(folder / "good.pkl")
paths = sorted(folder.glob("*.pkl"))
events = []
quiet = ("object", "sys", "id", "cpython", "array", "gc", "time")
def listen(event, args):
    if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
        return
    if event.split(".")[0] not in quiet:
        events.append(f"{event} {args!r}"[:200])
sys.addaudithook(listen)
def peak(*, reset=False):  # of resident memory
    if sys.platform != "linux":
        return 0
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
results = {}
for path in paths:
    before, start = peak(reset=True), time.perf_counter()
    events.clear()
    try:
        tensors, _ = read_nvidia_pickle(path)
        line = "" if all(torch.is_tensor(value) for value in tensors.values()) else "not tensors"
    except UserError as error:
        line = str(error)
    results[path.name] = [line, time.perf_counter() - start, peak() - before, events[:]]
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name of a hostile file -> the line it was refused with, or "" where tensors came out.

    One process reads them all; what holds for every file is asserted here.
    """
    home = tmp_path_factory.mktemp("hostile")
    folder = home / "files"
    folder.mkdir()
    nvidia.written(folder / "good.pkl", nvidia.snapshot(nvidia.Generator(8)))
    kinds = (
        hostile.calls(home / "it ran"),
        hostile.instructions(),
        hostile.bombs(),
        hostile.tensors(),
        hostile.damaged(),
    )
    files = {name: data for kind in kinds for name, data in kind.items()}
    assert len(files) == sum(map(len, kinds))
    names = {f"{k}.pkl": name for k, name in enumerate(files)} | {"good.pkl": "good"}
    for file, name in names.items():
        if name in files:
            (folder / file).write_bytes(files[name])
    for name, head in hostile.sparse().items():
        names[f"{name}.pkl"] = name
        with (folder / f"{name}.pkl").open("wb") as file:
            file.write(head)
            file.truncate(8 << 30)
    before = sorted(home.rglob("*"))
    done = run_code(WATCH, folder)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(home.rglob("*")) == before, "a file was made"
    measured = json.loads(done.stdout)
    assert set(measured) == set(names)
    found = {}
    for file, (line, seconds, memory, events) in measured.items():
        name = names[file]
        assert not events, f"{name}: {events}"
        assert seconds < 10 and memory < 128 << 20, f"{name}: {seconds:.1f} s, {memory >> 20} MiB"
        assert line.isprintable() and len(line) < 400, f"{name}: {line!r}"
        assert not line or str(folder / file) in line, f"{name}: {line}"
        found[name] = line
    assert found.pop("good") == ""
    return found


@pytest.mark.thorough
def test_hostile_files_are_refused(lines: dict[str, str]) -> None:
    assert [name for name, line in lines.items() if not line and not name.startswith("flip")] == []


@pytest.mark.thorough
def test_calls_are_named_and_not_made(lines: dict[str, str], tmp_path: Path) -> None:
    files = hostile.calls(tmp_path / "it ran")
    unnamed = [name for name in files if "never loaded" not in lines[name]]
    assert unnamed and all(name.endswith(("in a torch zip", "after the end")) for name in unnamed)
    assert f"({os.system.__module__}.system)" in lines["os.system inside"]
    pickle.loads(files["mkdir inside"])  # the control: an ordinary unpickler makes them
    assert (tmp_path / "it ran").is_dir()


@pytest.mark.thorough
def test_instructions_are_named(lines: dict[str, str]) -> None:
    for name, wanted in {
        "ext1": "EXT1", "newobj_ex": "NEWOBJ_EX", "instance": "INST", "persid": "PERSID", "binpersid": "persistent id",
        "nested name": "(torch.storage.sys.modules)", "colours": "(os.?[31msyste)", "dict class": "(builtins.dict)",
        "function as class": "NEWOBJ", "build on a function": "(builtins.set)",
        "unknown": "0xff at byte 2",
    }.items():  # fmt: skip
        assert wanted in lines[name], lines[name]


@pytest.mark.thorough
def test_bombs_are_told_by_their_cost(lines: dict[str, str]) -> None:
    for name in ("sets", "marks", "copies", "memo", "texts", "deep lists"):
        assert "far more objects" in lines[name], lines[name]


@pytest.mark.thorough
def test_damage_is_seen_unless_it_is_in_the_numbers(lines: dict[str, str]) -> None:
    flips = [line for name, line in lines.items() if name.startswith("flip")]
    assert 30 < sum(not line for line in flips) < len(flips) - 30


# ---- values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, 255, 256, 65535, 65536, -1, -(2**31), 2**31, 2**63, -(2**120), 1.5, float("inf"), "",
        "ä€😀", "x" * 70_000, [], [1], list(range(3000)), (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {},
        {"a": 1, 2: None}, {str(k): [k] for k in range(2500)}, [[[({"a": ()},)]]], "\ud800",
    ],
    ids=lambda value: str(type(value).__name__),
)  # fmt: skip
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    data = pickle.dumps([value, value], protocol=protocol)
    first, second = read_plain_pickle(io.BufferedReader(io.BytesIO(data)), len(data))  # type: ignore[arg-type]
    assert first == value and type(first) is type(value) and (second is first or not isinstance(value, (list, dict)))


def test_other_known_values(tmp_path: Path) -> None:
    import numpy as np

    content = {
        "float": np.float64(1.25), "half": np.float16(0.5), "int": np.int32(-7), "bool": np.bool_(True),
        "array": np.arange(5), "size": torch.Size([1, 2]), "place": torch.device("cpu"), "dtype": torch.float32,
        "set": {"a", "b"}, "frozen": frozenset({1}), "dict": nvidia.EasyDict(a=1), "bytes": b"abc",
    }  # fmt: skip
    for protocol in (3, 4, 5):
        data = nvidia.dumps(content, protocol)
        if protocol == 3:  # as numpy below 2 names it
            data = data.replace(b"cnumpy._core.", b"cnumpy.core.")
        found = read_plain_pickle(io.BufferedReader(io.BytesIO(data)), len(data))  # type: ignore[arg-type]
        assert set(found) == set(content)
        assert (found["float"], found["half"], found["int"], found["bool"]) == (1.25, 0.5, -7, True)
        assert found["size"] == (1, 2) and found["dict"] == {"a": 1} and set(found["set"]) == {"a", "b"}
        ours = {"psp.weights.pickled_tensors", "psp.weights.pickles"}
        assert found["dtype"] is torch.float32 and found["place"] == "cpu"
        assert {type(value).__module__ for key, value in found.items() if key != "dtype"} <= {"builtins", *ours}


@pytest.mark.parametrize(
    "value",
    [
        torch.randn(3, 4), torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), torch.randn(4, 3).t(),
        torch.tensor(2.5), torch.randn(10)[3:7], torch.randn(5).half(), torch.randn(5).bfloat16(), torch.randn(1, 5, 1),
    ],
    ids=lambda value: f"{tuple(value.shape)}",
)  # fmt: skip
def test_tensors_come_back(value: torch.Tensor) -> None:
    data = pickle.dumps(value, protocol=4)
    file = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
    found = read_tensor(file, read_plain_pickle(file, len(data)))
    assert torch.equal(found, value) and found.dtype == value.dtype
    assert found.is_contiguous() == value.is_contiguous() and found.untyped_storage().nbytes() == value.nbytes


@pytest.mark.parametrize("name", hostile.tensors())
def test_tensors_that_are_not_what_they_say(name: str) -> None:
    data = hostile.tensors()[name]
    file = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
    with pytest.raises(Refused):
        read_tensor(file, read_plain_pickle(file, len(data)))


def test_the_tensors_made_by_hand_are_right_otherwise() -> None:
    data = hostile.PROTO + hostile.tensor() + b"."
    file = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
    assert torch.equal(read_tensor(file, read_plain_pickle(file, len(data))), torch.zeros(4))


def test_tensors_outside_of_their_storage_are_refused() -> None:
    file = io.BufferedReader(io.BytesIO(bytes(64)))  # type: ignore[arg-type]
    floats = Storage(torch.float32, 8, 0)
    assert read_tensor(file, StoredTensor(floats, 0, (8,), (1,))).sum() == 0
    assert read_tensor(file, StoredTensor(floats, 1, (2,), (5,))).stride() == (5,)
    for stored in (
        StoredTensor(floats, 1, (8,), (1,)), StoredTensor(floats, 0, (2, 2), (1, 1)),
        StoredTensor(floats, 7, (2,), (2,)), StoredTensor(floats, 0, (9,), (0,)),
        StoredTensor(Storage(torch.int64, 9, 0), 0, (9,), (1,)), StoredTensor(Storage(torch.float32, 8), 0, (8,), (1,)),
        StoredTensor(Storage(torch.float32, 99, 0), 0, (99,), (1,)),
    ):  # fmt: skip
        with pytest.raises(Refused):
            read_tensor(file, stored)


def test_printable() -> None:
    assert printable("a\x1b[1m\nb\udc80é") == r"a?[1m?b\udc80\xe9"
    assert len(printable("x" * 1000)) == 80
