"""Pickles read by Python's own unpickler without executing anything: walked first, with stand-ins for what they name.

The unpickler imports what a file names, calls it and believes the sizes that the file states. So each pickle is walked
before: the lengths are compared with the file, and what all values together cost, how deep they are nested and what
they hash is limited, so that a small file cannot become a large memory, a long time or a full stack. Then a name can
only become what a table of ours has for it. Source of the format: the documentation in CPython's `pickletools`.
"""

from __future__ import annotations

import os
import pickle
import pickletools
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

COST = 64  # bytes that an instruction is reckoned to cost; a set costs 216, most cost less
MAX_NESTING = 100
MAX_KEYS = 1000  # that are tuples or huge numbers: those can be chosen so that they collide
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_COUNTED = {  # arguments that state their length first: in how many bytes
    pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4, pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}  # fmt: skip
_REFUSED = {"INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "LONG4", "NEXT_BUFFER", "READONLY_BUFFER"}
_IN_PLACE = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
_SHORT = "is a damaged pickle: it ends too early"
_LARGE = "is a pickle with far more objects, text or nesting than a network has"


class Refused(Exception):
    """Why a file is not read; the message continues the sentence `<file> ...`."""


class Budget:
    """What all values of a file may cost together, in bytes."""

    def __init__(self, limit: int):
        self.left = limit

    def spend(self, cost: int) -> None:
        self.left -= cost
        if self.left < 0:
            raise Refused(_LARGE)


def walk(file: IO[bytes], end: int, budget: Budget) -> Iterator[tuple[str, int | str | None]]:
    """The instructions of the pickle at the file's position up to its STOP; nothing is run, and nothing large read.

    file: at the start of a pickle; each instruction is yielded with the file behind it.
    end: where the bytes end that belong to the pickle.
    budget: shared by the pickles of one file.
    Yields (instruction, argument): the number, the `module.name` of a GLOBAL, the length of a text or byte string.
    Refused: cut off, nested deep, expensive, or with instructions that networks do not need.
    """
    nesting = _Nesting()
    name = ""
    while name != "STOP":
        code = file.read(1)
        opcode = _OPCODES.get(code[0]) if code else None
        if opcode is None:
            unknown = f"is a damaged pickle (0x{code.hex()} at byte {file.tell() - 1} is no instruction)"
            raise Refused(unknown if code else _SHORT)
        name, width = opcode.name, opcode.arg.n if opcode.arg else 0
        if name in _REFUSED or (width == pickletools.UP_TO_NEWLINE and name != "GLOBAL"):
            raise Refused(f"uses the pickle instruction {name}, which is never followed")
        argument: int | str | None = None
        if name == "GLOBAL":
            argument = f"{_line(file, end)}.{_line(file, end)}"
        elif width:
            argument = _number(file, end, _COUNTED.get(width, width))
            if name == "LONG1":
                if argument > 16:
                    raise Refused(f"holds a whole number of {argument} bytes")
                argument = _number(file, end, argument)
            elif name == "FRAME" or width in _COUNTED:
                if argument > end - file.tell():
                    raise Refused(_SHORT)
                if name != "FRAME":
                    file.seek(argument, os.SEEK_CUR)
        budget.spend(COST + (4 * argument if isinstance(argument, int) and "UNICODE" in name else 0))
        nesting.follow(opcode, argument)
        yield name, argument


class _Nesting:
    """The stack of a pickle, each value as its depth: hashing a value recurses that deep, and nothing limits it."""

    def __init__(self) -> None:
        self.stack: list[int] = []
        self.marks: list[int] = []
        self.memo: dict[int, int] = {}
        self.keys = 0

    def follow(self, opcode: pickletools.OpcodeInfo, argument: int | str | None) -> None:
        name, before = opcode.name, opcode.stack_before
        at_mark = bool(self.marks) and self.marks[-1] == len(self.stack)
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif "PUT" in name or name == "MEMOIZE":
            index = argument if isinstance(argument, int) else len(self.memo)
            if index > 1 << 20:  # the memo becomes as long as that
                raise Refused(_LARGE)
            self.memo[index] = self.stack[-1]
        elif "GET" in name or name == "DUP":
            self.stack.append(self.stack[-1] if name == "DUP" else self.memo[argument])  # type: ignore[index]
        elif name == "POP" and at_mark:
            self.marks.pop()
        else:
            marked = pickletools.markobject in before
            start = self.marks.pop() - before.index(pickletools.markobject) if marked else len(self.stack) - len(before)
            if start < (self.marks[-1] if self.marks else 0):
                raise Refused("is a damaged pickle: an instruction lacks its values")
            items = self.stack[start:]
            del self.stack[start:]
            if name in _IN_PLACE:
                depth = max(items[0], 1 + max(items[1:], default=-1))
            elif name == "LONG1":
                depth = int(isinstance(argument, int) and argument.bit_length() > 61)  # hashed modulo 2**61 - 1
            else:
                depth = 1 + max(items, default=-1)
            self.stack += [depth] * len(opcode.stack_after)
            keys = {"SETITEM": items[1::2], "SETITEMS": items[1::2], "DICT": items[::2], "ADDITEMS": items[1:]}
            self.keys += sum(map(bool, items if name == "FROZENSET" else keys.get(name, ())))
            if depth > MAX_NESTING or self.keys > MAX_KEYS:
                raise Refused(_LARGE)


def _number(file: IO[bytes], end: int, size: int) -> int:
    data = file.read(size)
    if len(data) < size or file.tell() > end:
        raise Refused(_SHORT)
    return int.from_bytes(data, "little")


def _line(file: IO[bytes], end: int) -> str:
    data = file.readline(256)
    if not data.endswith(b"\n") or file.tell() > end:
        raise Refused("is a damaged pickle: a name does not end")
    return data[:-1].decode()


def printable(text: str) -> str:
    """One short line of a text from a file."""
    line = text.encode("ascii", "backslashreplace").decode()
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= 80 else line[:77] + "..."


class Name:
    """Stands for a function or class of a pickle. Whatever the pickle does to it, it keeps no state.

    name: `module.name` in the file.
    call: what calling it does instead; None where it is data only.
    """

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[..., Any] | None = None):
        self.name, self.call = name, call

    def __call__(self, *args: Any) -> Any:
        if self.call is None:
            raise Refused(forbidden(self.name))
        return self.call(*args)

    def __setstate__(self, state: object) -> None:
        raise Refused(f"sets the state of Python objects ({printable(self.name)}), which is never done")


class RestrictedUnpickler(pickle.Unpickler):
    """An unpickler of walked pickles that knows the names of a table, and nothing else.

    names: what stands for each `module.name`; of classes those alone whose instances and selves keep no state.
    persistent: turns a persistent id into a value.
    """

    def __init__(self, file: IO[bytes], names: Mapping[str, Any], persistent: Callable[[Any], Any]):
        super().__init__(file)
        self.names, self.persistent = names, persistent

    def persistent_load(self, pid: Any) -> Any:
        return self.persistent(pid)

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full.startswith("dnnlib.tflib."):
            advice = "convert it with legacy.py of stylegan2-ada-pytorch first"
            raise Refused(f"is a StyleGAN2 pickle of TensorFlow ({printable(full)}); {advice}")
        if full not in self.names:
            raise Refused(forbidden(full))
        return self.names[full]


def forbidden(name: str) -> str:
    """Why a pickle with that name is refused."""
    return f"holds Python objects ({printable(name)}), which are never loaded"
