"""Pickles that must not be followed: calls, instructions, depths, sizes. Made by hand, or by pickle."""

from __future__ import annotations

import codecs
import copyreg
import functools
import importlib
import io
import operator
import os
import pickle
import runpy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nvidia_networks as nvidia
import torch

PROTO = b"\x80\x04"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


class Runs:
    """Pickled as a call."""

    def __init__(self, call: Callable[..., object], *args: object):
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call, self.args


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def raw(data: bytes) -> bytes:
    return b"B" + len(data).to_bytes(4, "little") + data


def stored(values: torch.Tensor) -> bytes:
    """A storage alone in torch's old format."""
    file = io.BytesIO()
    torch.save(values.untyped_storage(), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def load_bytes(data: bytes) -> bytes:
    """Pickle instructions that call torch.storage._load_from_bytes."""
    return b"ctorch.storage\n_load_from_bytes\n" + raw(data) + b"\x85R"


def inner(count: bytes = b"K\x04", *, keys: bytes = b"](X\x01\x00\x00\x000e", kind: str = "FloatStorage") -> bytes:
    """A storage of four floats in torch's old format, by hand, with one part of it replaced."""
    head = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03."
    info = b"\x80\x02}" + text("little_endian") + b"\x88s."
    pid = b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text("0") + text("cpu") + count + b"NtQ."
    return head + info + b"\x80\x02" + pid + b"\x80\x02" + keys + b"." + (4).to_bytes(8, "little") + bytes(16)


def tensor(
    shape: bytes = b"K\x04\x85", stride: bytes = b"K\x01\x85", offset: bytes = b"K\x00", data: bytes = b""
) -> bytes:
    """Pickle instructions for a tensor on a storage of four floats."""
    return REBUILD + b"(" + load_bytes(data or inner()) + offset + shape + stride + b"\x89}tR"


def record(state: bytes, name: str = "Generator") -> bytes:
    """Pickle instructions for a class record; `state` leaves a value on the stack."""
    meta = text("type") + text("class") + text("class_name") + text(name) + text("state") + state
    return b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n}(" + meta + b"u\x85R"


def module(parameters: bytes = b"}", modules: bytes = b"}") -> bytes:
    return b"}(" + text("_parameters") + parameters + text("_modules") + modules + b"u"


def entry(key: str, value: bytes) -> bytes:
    """A dictionary of one entry."""
    return b"}" + text(key) + value + b"s"


def file_of(value: bytes) -> bytes:
    return PROTO + entry("G_ema", value) + b"."


def calls(mark: Path) -> dict[str, bytes]:
    """Calls that an ordinary unpickler makes; those that can, create `mark`."""
    touch, source = f"touch '{mark}'", f"open({str(mark)!r}, 'w').close()"
    evil_module = Runs(importlib.import_module, "os")
    evil = {
        "os.system": Runs(os.system, touch), "eval": Runs(eval, source), "exec": Runs(exec, source),
        "open": Runs(open, str(mark), "w"), "mkdir": Runs(os.mkdir, str(mark)), "popen": Runs(os.popen, touch),
        "subprocess": Runs(subprocess.Popen, ["touch", str(mark)]), "check_output": Runs(subprocess.check_output, "ls"),
        "getattr": Runs(getattr, evil_module, "system"), "runpy": Runs(runpy.run_path, "x"),
        "importlib": Runs(importlib.import_module, "this"), "import": Runs(__import__, "antigravity"),
        "partial": Runs(functools.partial, os.system, touch), "attrgetter": Runs(operator.attrgetter, "system"),
        "methodcaller": Runs(operator.methodcaller, "system", touch), "apply": Runs(map, os.system, [touch]),
        "compile": Runs(compile, source, "x", "exec"), "slice": Runs(slice, 1),
        "pickle.loads": Runs(pickle.loads, b"N."), "torch.load": Runs(torch.load, str(mark)),
        "hub": Runs(torch.hub.load, "a/b", "c"), "jit": Runs(torch.jit.load, "x"), "type": Runs(type, "X", (), {}),
        "reconstructor": Runs(copyreg._reconstructor, dict, dict, {}),
        "copyreg": Runs(copyreg.add_extension, "os", "system", 7), "encode": Runs(codecs.encode, "x", "rot13"),
        "globals": Runs(globals), "input": Runs(input), "setattr": Runs(setattr, evil_module, "x", 1),
        "bytearray": Runs(bytearray, 1 << 40), "range": Runs(list, range(1 << 40)),
    }  # fmt: skip
    found = {}
    for name, attack in evil.items():
        for where, content in {
            "alone": attack, "first": {"first": attack, "G_ema": None}, "inside": {"G_ema": [({"a": [attack]},)]},
        }.items():  # fmt: skip
            found[f"{name} {where}"] = pickle.dumps(content, protocol=4)
    for name in ("os.system", "eval", "mkdir"):  # where the reader itself looks closely
        call = pickle.dumps(evil[name], protocol=3)[2:-1]
        found |= {
            f"{name} in a storage": file_of(load_bytes(pickle.dumps(evil[name], protocol=2))),
            f"{name} in a storage's key": file_of(load_bytes(inner(call))),
            f"{name} in a storage's keys": file_of(load_bytes(inner(keys=call))),
            f"{name} as a shape": file_of(tensor(shape=call)),
            f"{name} as a state": file_of(record(call)),
            f"{name} as a parameter": file_of(record(module(entry("a", call)))),
            f"{name} in a torch file": file_of(load_bytes(_saved(evil[name], False))),
            f"{name} in a torch zip": file_of(load_bytes(_saved(evil[name], True))),
            f"{name} in a dtype": file_of(b"cnumpy\ndtype\n" + call + b"\x85R"),
            f"{name} after the end": PROTO + b"N." + call + b".",
        }
    return found


def _saved(value: Any, zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def instructions() -> dict[str, bytes]:
    """Instructions and names that no network needs."""
    size = b"cbuiltins\nset\n"
    dtype, scalar = b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\nscalar\n"
    names = {
        "nested name": b"\x8c\x05torch\x8c\x13storage.sys.modules\x93", "no text": b"K\x01K\x02\x93",
        "joined name": b"ctorch._utils\nsys.modules\n", "own name": b"cpsp.checkpoint\nload_model\n",
        "colours": b"\x8c\x02os\x8c\x0a\x1b[31msyste\x93", "long name": b"c" + b"a" * 5000 + b"\nb\n",
        "lone surrogate": b"\x8c\x03\xed\xa0\x80\x8c\x01a\x93", "not a function": b"}\x85\x85R",
        "a text as function": text("os.system") + b")R", "no arguments": size + b"R",
        "arguments in a list": size + b"]R", "wrong arguments": size + b"K\x01K\x02\x86R",
        "class as function": b"cnumpy\nndarray\n)R", "function as class": REBUILD + b")\x81",
        "dict class": b"cbuiltins\ndict\n)\x81", "instance": b"(ios\nsystem\n", "object": b"(" + size + b"o",
        "newobj_ex": size + b")}\x92", "persid": b"Pa\n", "binpersid": b"K\x01Q", "ext1": b"\x82\x01",
        "ext2": b"\x83\x01\x00", "ext4": b"\x84\x01\x00\x00\x00", "buffer": b"\x97", "readonly": b"N\x98",
        "unknown": b"\xff", "old string": b"S'a'\n", "old int": b"I1\n", "build on a list": b"]}b",
        "build on a function": size + b"}" + text("__setstate__") + size + b"sb", "build on a number": b"K\x01}b",
        "build with a tuple": b"}}N\x86b", "build twice": dtype + b")RK\x01bK\x02b",
        "build on a tensor": tensor() + b"}b", "build on a record": record(module()) + b"}b",
        "scalar of objects": scalar + dtype + text("O8") + b"\x85R(K\x03" + text("|") + b"tbB\0\0\0\0\x86R",
        "scalar of nothing": scalar + b"N" + raw(bytes(8)) + b"\x86R", "append to a dict": b"}K\x01a",
        "set in a list": b"]K\x01K\x02s", "add to a list": b"](K\x01\x90", "no value": b"", "empty stack": b"0",
        "no mark": b"t", "no memo": b"h\x01", "protocol 9": b"\x80\x09", "text as bytes": b"\x8c\x02\xff\xfe",
    }  # fmt: skip
    return {name: PROTO + code + b"." for name, code in names.items()}


def bombs() -> dict[str, bytes]:
    """Small files that would become deep, large or slow."""
    many = 300_000

    def get(k: int) -> bytes:
        return b"h" + bytes([k])

    def put(k: int) -> bytes:
        return b"q" + bytes([k])

    collide = b"".join(b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(1, 20_000))
    laughs = b"](" + text("lol") * 10 + b"e" + b"".join(put(k) + b"](" + get(k) * 10 + b"e" for k in range(30))
    tree = record(module())
    for k in range(12):  # 50 times the one before
        children = b"".join(text(f"m{j}") + get(k) for j in range(50))
        tree += put(k) + b"0" + record(module(modules=b"}(" + children + b"u"))
    own = record(b"}" + put(1) + text("_modules") + entry("a", record(get(1))) + b"s")
    found = {
        "deep lists": b"]" * many + b"a" * (many - 1) + b".", "deep tuples": b")" + b"\x85" * many + b".",
        "deep lists in the limit": b"]" * 100_000 + b"a" * 99_999 + b".", "marks": b"(" * 5_000_000,
        "deep key": b"}" + b")" + b"\x85" * 100_000 + b"Ns.", "tuple key": b"})Ns.",
        "deep dicts": (b"}" + text("a")) * many + b"N" + b"s" * many + b".", "sets": b"\x8f" * 10_000_000,
        "deep records": b"}" * 1 + b"".join(text("a") + b"}" for _ in range(50_000)) + b"s" * 50_000 + b".",
        "copies": b"]" + b"2" * 5_000_000, "memo": b"N" + b"\x94" * 5_000_000,
        "memo index": b"N" + b"".join(b"r" + (k << 20).to_bytes(4, "little") for k in range(4096)) + b".",
        "sets of a list": b"](" + b"K\x01" * 50_000 + b"e\x94" + b"cbuiltins\nset\nh\x00\x85R" * 50_000 + b".",
        "colliding keys": b"}(" + collide + b"u.", "laughs": entry("G_ema", laughs) + b".",
        "tree of modules": entry("G", tree) + b".", "module in itself": entry("G", own) + b".",
        "texts": text("a" * 1_000_000) * 50, "long1": b"\x8a\xff" + b"\x7f" * 255 + b".",
        "long4": b"\x8b" + (2**31 - 1).to_bytes(4, "little") + b"1" * 100 + b".",
        "negative long4": b"\x8b\xff\xff\xff\xff.",
    }  # fmt: skip
    for name, code, width in (
        ("text", b"X", 4), ("long text", b"\x8d", 8), ("bytes", b"B", 4), ("long bytes", b"\x8e", 8),
        ("bytearray", b"\x96", 8), ("frame", b"\x95", 8),
    ):  # fmt: skip
        for length in (2 ** (8 * width) - 1, 2 ** (8 * width - 1), 2**31 - 1):
            found[f"{name} of {length}"] = code + length.to_bytes(width, "little") + b"abc."
    return {name: PROTO + data for name, data in found.items()}


def tensors() -> dict[str, bytes]:
    """Tensors that are not what they say, each alone in its file."""
    huge = b"\x8a\x08" + (2**60).to_bytes(8, "little")
    ones = b"(" + b"K\x01" * 99 + b"t"
    found = {
        "huge shape": tensor(huge + b"\x85"), "huge strides": tensor(huge + huge + b"\x86", b"K\x00K\x00\x86"),
        "expanded": tensor(b"M\xe8\x03\x85", b"K\x00\x85"), "past the end": tensor(b"K\x05\x85"),
        "negative shape": tensor(b"J\xff\xff\xff\xff\x85"), "negative offset": tensor(offset=b"J\xff\xff\xff\xff"),
        "huge offset": tensor(offset=huge), "other lengths": tensor(stride=b"K\x01K\x01\x86"),
        "float shape": tensor(b"G" + bytes(8) + b"\x85"), "true shape": tensor(b"\x88\x85"),
        "list shape": tensor(b"](K\x04e"), "many axes": tensor(ones, ones), "huge storage": tensor(data=inner(huge)),
        "overlap": tensor(b"K\x02K\x02\x86", b"K\x01K\x01\x86"), "larger storage": tensor(data=inner(b"K\x05")),
        "smaller storage": tensor(data=inner(b"K\x03")), "cut storage": tensor(data=inner()[:-1]),
        "other key": tensor(data=inner(keys=b"](" + text("1") + b"e")), "no storage": tensor(data=b"\x80\x02N."),
        "two keys": tensor(data=inner(keys=b"](" + text("0") * 2 + b"e")), "empty storage": load_bytes(b""),
        "strange storage": tensor(data=inner(kind="QInt8Storage")), "storage of text": load_bytes(b"hello"),
        "module storage": tensor(data=inner(kind="nn.Module")),
        "storage in a storage": load_bytes(b"\x80\x02" + load_bytes(inner()) + b"."),
        "big endian": tensor(data=inner().replace(b"\x88s.", b"\x89s.")),
        "text as storage": b"ctorch.storage\n_load_from_bytes\n" + text("x") + b"\x85R",
        "parameter of nothing": b"ctorch._utils\n_rebuild_parameter\nN\x89}\x87R",
    }  # fmt: skip
    return {name: PROTO + code + b"." for name, code in found.items()}


def damaged() -> dict[str, bytes]:
    """A good file cut at many places, and with bits flipped: refused, or read as other numbers."""
    torch.manual_seed(0)
    content = nvidia.snapshot(nvidia.Generator(8, 4, most=4), nvidia.Discriminator(8, most=4))
    good = nvidia.dumps(content, 4)
    found = {f"cut at {n}": good[:n] for n in [*range(0, 60, 3), *range(60, len(good), len(good) // 50), len(good) - 1]}
    places = [*range(0, 1500, 20), *torch.randint(len(good), (150,)).tolist()]
    for k, place in enumerate(places):
        flipped = bytearray(good)
        flipped[place] ^= 1 << k % 8
        found[f"flip of bit {k % 8} at {place}"] = bytes(flipped)
    return found


def sparse() -> dict[str, bytes]:
    """Starts of files of 8 GB that take no room on a disk; a text, bytes and a tensor as large as that."""
    size = 8 << 30
    data = size - 4096
    head = inner(b"\x8a\x05" + (data // 4).to_bytes(5, "little"))[:-24] + (data // 4).to_bytes(8, "little")
    loaded = b"ctorch.storage\n_load_from_bytes\n\x8e" + (data + len(head)).to_bytes(8, "little") + head
    return {
        "sparse text": PROTO + b"\x8d" + (size - 100).to_bytes(8, "little"), "sparse zeros": PROTO,
        "sparse bytes": PROTO + b"\x8e" + (size - 100).to_bytes(8, "little"), "sparse tensor": PROTO + loaded,
    }  # fmt: skip
