"""Small pickles that would become much memory or a long time: each is refused by what it would cost.

All are small enough to be read in no time, limits lowered, if they were not refused.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import hostile_pickles as hostile
import pytest
import torch
from hostile_pickles import PROTO, entry, module, raw, record, text
from tiny_checkpoints import refused

from psp.weights import pickled_tensors, pickles
from psp.weights.nvidia import read_nvidia_pickle
from psp.weights.pickled_tensors import Storage, StoredTensor, read_plain_pickle, read_torch_pickle, with_tensors
from psp.weights.pickles import Refused
from psp.weights.safe_torch import load_torch

TWICE = b")" + b"q\x000h\x00h\x00\x86" * 20  # a tuple of twice the one before: 2**20 steps to its hash
DTYPE = b"cnumpy\ndtype\n"


def opened(data: bytes) -> Any:
    return io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]


def plain(code: bytes) -> Any:
    data = PROTO + code + b"."
    return read_plain_pickle(opened(data), len(data))


def refusal(code: bytes) -> str:
    with pytest.raises(Refused) as error:
        plain(code)
    return str(error.value)


@pytest.mark.parametrize("place", [("cpu",), ("cuda", 3), ("privateuseone", 0)])
def test_devices_are_texts(place: tuple[Any, ...]) -> None:
    data = pickle.dumps(torch.device(*place), protocol=4)
    assert read_plain_pickle(opened(data), len(data)) == ":".join(map(str, place))


def test_a_device_of_devices_is_refused() -> None:
    """Each would be twice as long as the one before."""
    doubled = text("cpu") + b"q\x000ctorch\ndevice\nh\x00h\x00\x86R" * 12
    assert "a device is expected" in refusal(doubled)
    for arguments in (text("x" * 16) + b"\x85", text("cpu") + b"\x88\x86", text("cpu") + b"K\x00K\x00\x87", b")"):
        refusal(b"ctorch\ndevice\n" + arguments + b"R")


def test_options_of_argparse_cost_what_they_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {f"option{k}": k for k in range(500)}
    data = pickle.dumps([Namespace(**options)], protocol=2)
    (found,) = read_plain_pickle(opened(data), len(data))
    assert found == options
    monkeypatch.setattr(pickles, "MAX_INSTRUCTIONS", 5_000)
    state = b"}(" + b"".join(text(f"option{k}") + b"N" for k in range(500)) + b"uq\x000"
    assert "far more objects" in refusal(state + b"](" + b"cargparse\nNamespace\n)\x81h\x00b" * 100 + b"e")
    assert "a dict is expected" in refusal(b"cargparse\nNamespace\n)\x81]b")


def test_tensors_cost_the_memory_that_they_span() -> None:
    """Of each two numbers are seen, and the million between them is read."""
    count = 1 << 18
    floats = Storage(torch.float32, count, 0)
    content = [StoredTensor(floats, 0, (2,), (count - 1,)) for _ in range(10)]
    assert content[0].nbytes == 4 * count
    with pytest.raises(Refused, match="many times over"):
        with_tensors(opened(bytes(4 * count)), content, 4 * count)


@pytest.mark.parametrize(
    "code",
    [
        b"}" + TWICE + b"Ns", b"}(" + TWICE + b"Nu", b"(" + TWICE + b"Nd", b"(" + TWICE + b"\x91",
        b"\x8f(" + TWICE + b"\x90", b"}K\x01\x85Ns", b"}" + DTYPE + b")RNs", b"}\x8a\x09" + b"\x01" * 9 + b"Ns",
    ],
    ids=["SETITEM", "SETITEMS", "DICT", "FROZENSET", "ADDITEMS", "short tuple", "record", "huge number"],
)  # fmt: skip
def test_only_plain_values_are_hashed(code: bytes) -> None:
    assert "far more objects" in refusal(code)


def test_many_plain_keys_and_members_come_back() -> None:
    content = {
        "keys": {key: None for key in (None, True, -1, 2**40, -(2**40), 1.5, "a", b"b", ())},
        "set": set(range(3000)), "frozen": frozenset(map(str, range(3000))),
    }  # fmt: skip
    for protocol in (3, 4, 5):
        data = pickle.dumps(content, protocol=protocol)
        found = read_plain_pickle(opened(data), len(data))
        assert found["keys"] == content["keys"] and set(found["set"]) == content["set"]


def test_types_of_numbers_and_keys_of_storages_are_texts() -> None:
    kind = DTYPE + b"%b\x85R(K\x03" + text("<") + b"tb"
    scalar = b"cnumpy.core.multiarray\nscalar\n" + kind + raw(bytes(8)) + b"\x86R"
    assert plain(scalar % text("f8")) == 0.0
    for wrong in (b"]", TWICE):
        assert "a str is expected" in refusal(scalar % wrong)
        with pytest.raises(Refused, match="storages are not those"):
            data = hostile.inner(keys=b"](" + wrong + b"e")
            read_torch_pickle(opened(data), len(data))


def test_parts_that_are_none_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A dictionary of nothing stands in each of many modules."""
    monkeypatch.setattr("psp.weights.nvidia.MAX_PARTS", 1_000)
    nothing = b"}(" + b"".join(text(f"n{k}") + b"N" for k in range(300)) + b"uq\x000"
    modules = b"}(" + b"".join(text(f"m{k}") + record(module(b"h\x00")) for k in range(10)) + b"u"
    path = tmp_path / "g.pkl"
    path.write_bytes(PROTO + nothing + entry("G", record(module(modules=modules))) + b".")
    assert "something else than modules" in refused(lambda: read_nvidia_pickle(path))


def test_zips_of_several_disks_are_refused(tmp_path: Path) -> None:
    """Python's zipfile raises where it only asks whether a file is a zip."""
    locator = b"PK\6\7" + bytes(12) + (2).to_bytes(4, "little")
    (tmp_path / "a.pt").write_bytes(locator + b"PK\5\6" + bytes(18))
    assert "span multiple disks" in refused(lambda: load_torch(tmp_path / "a.pt"))


def test_directories_of_zips_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's zipfile makes an object of every entry before anybody can count them."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for k in range(3):
            archive.writestr(f"{k}" * 40_000, b"")
    data = file.getvalue()
    with pytest.raises(Refused, match="no checkpoint"):
        read_torch_pickle(opened(data), len(data))
    monkeypatch.setattr(pickled_tensors, "MAX_DIRECTORY", 100_000)
    with pytest.raises(Refused, match="directory has absurd entries"):
        read_torch_pickle(opened(data), len(data))
