"""The one door for pickles: read by Python's own unpickler without executing anything.

The unpickler imports what a file names, calls it and believes the sizes that the file states. So each pickle is walked
before: the lengths are compared with the file, instructions, text and nesting are limited, and only plain values may be
hashed, so that a small file cannot become a large memory, a long time or a full stack. Then a name can only become what
a table of ours has for it. Source of the format: the documentation in CPython's `pickletools`.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

from psp.errors import brief

MAX_INSTRUCTIONS = 800_000  # of one file, 2 microseconds each; a joint training state of 1024 px has 350,000
MAX_TEXT = 8 << 20  # bytes of all its names and options together
MAX_NESTING = 100
INLINE = 16  # bytes: what a single number takes
_COUNTED = {  # arguments that state their length first: in how many bytes
    pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4, pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}  # fmt: skip
_REFUSED = {"INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "LONG4", "NEXT_BUFFER", "READONLY_BUFFER"}
_IN_PLACE = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
_HASHED = {  # which of an instruction's values become keys or members of a set
    "SETITEM": slice(1, None, 2), "SETITEMS": slice(1, None, 2), "DICT": slice(0, None, 2),
    "ADDITEMS": slice(1, None), "FROZENSET": slice(None),
}  # fmt: skip
_SHORT = "is a damaged pickle: it ends too early"
_LARGE = "is a pickle with far more objects, text or nesting than a network has"


class _Op(NamedTuple):
    """What the walk has to know of an instruction. takes: values from the stack, besides those above its mark.

    constant: it only puts a value on the stack. skipped: a text or byte string, whose length stands before it.
    """

    name: str
    width: int
    skipped: bool
    marked: bool
    takes: int
    gives: int
    constant: bool
    refused: bool


def _op(opcode: pickletools.OpcodeInfo) -> _Op:
    name, before = opcode.name, opcode.stack_before
    width = opcode.arg.n if opcode.arg else 0
    marked = pickletools.markobject in before
    takes = before.index(pickletools.markobject) if marked else len(before)
    gives = len(opcode.stack_after)
    refused = name in _REFUSED or (width == pickletools.UP_TO_NEWLINE and name != "GLOBAL")
    constant = not before and gives == 1 and "GET" not in name and name not in ("MARK", "LONG1")
    counted = width in _COUNTED and name != "LONG1"
    return _Op(name, _COUNTED.get(width, width), counted, marked, takes, gives, constant, refused)


_OPS = {opcode.code.encode("latin-1"): _op(opcode) for opcode in pickletools.opcodes}


class Refused(Exception):
    """Why a file is not read; the message continues the sentence `<file> ...`."""


class Budget:
    """What all pickles of one file may hold together."""

    def __init__(self) -> None:
        self.instructions, self.text = MAX_INSTRUCTIONS, MAX_TEXT

    def spend(self, instructions: int, text: int = 0) -> None:
        self.instructions -= instructions
        self.text -= text
        if self.instructions < 0 or self.text < 0:
            raise Refused(_LARGE)


class Bytes(NamedTuple):
    """A byte string that stays in the file, at [start, start + size)."""

    start: int
    size: int


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


def unpickle(
    file: IO[bytes],
    end: int,
    names: Mapping[str, Any],
    budget: Budget,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The value of the pickle at the file's position, before `end`; the file is behind it afterwards.

    names: what stands for each `module.name`; of classes those alone whose instances and selves keep no state.
    budget: shared by the pickles of one file.
    persistent: what the pickle's persistent ids become; without it they are refused.
    Byte strings that are not short stay in the file: they become `Bytes`.
    Refused: hostile or damaged.
    """
    start, pickled, long = file.tell(), bytearray(), list[Bytes]()
    try:
        cuts = _walk(file, end, budget)
        stop = file.tell()
        for first, last, data in [*cuts, (stop, stop, None)]:
            file.seek(start)
            pickled += file.read(first - start)
            if data is not None:  # instead of a byte string its number, as a persistent id
                pickled += b"J" + len(long).to_bytes(4, "little") + b"Q"
                long.append(data)
            start = last
        value = _Unpickler(io.BytesIO(pickled), names, long, persistent).load()
        file.seek(stop)
        return value
    except Refused:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise Refused(f"is a damaged pickle ({brief(error)})") from error


class _Unpickler(pickle.Unpickler):
    """An unpickler of walked pickles that knows the names of a table, and nothing else."""

    def __init__(
        self, file: IO[bytes], names: Mapping[str, Any], long: list[Bytes], persistent: Callable[[Any], Any] | None
    ):
        super().__init__(file)
        self.names, self.long, self.persistent = names, long, persistent

    def persistent_load(self, pid: Any) -> Any:
        if type(pid) is int and 0 <= pid < len(self.long):
            return self.long[pid]
        if self.persistent is None:
            raise Refused("refers to objects outside of it (a persistent id), which are never loaded")
        return self.persistent(pid)

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full.startswith("dnnlib.tflib."):
            advice = "convert it with legacy.py of stylegan2-ada-pytorch first"
            raise Refused(f"is a StyleGAN2 pickle of TensorFlow ({printable(full)}); {advice}")
        if full not in self.names:
            raise Refused(forbidden(full))
        return self.names[full]


def _walk(file: IO[bytes], end: int, budget: Budget) -> list[tuple[int, int, Bytes | None]]:
    """Follow the instructions of a pickle up to its STOP; nothing is run, and nothing large read.

    Returns what the unpickler shall not see: where it begins and ends, and the byte string that it is, if it is one.
    Refused: cut off, nested deep, expensive, or with instructions that networks do not need.
    """
    cuts: list[tuple[int, int, Bytes | None]] = []
    nesting, left = _Nesting(), budget.instructions
    while True:
        code = file.read(1)
        op = _OPS.get(code)
        if op is None:
            unknown = f"is a damaged pickle (0x{code.hex()} at byte {file.tell() - 1} is no instruction)"
            raise Refused(unknown if code else _SHORT)
        if op.refused:
            raise Refused(f"uses the pickle instruction {op.name}, which is never followed")
        number = 0
        if op.width > 0:
            number = _number(file, end, op.width)
            if op.skipped:
                start = file.tell()
                if number > end - start:
                    raise Refused(_SHORT)
                file.seek(number, os.SEEK_CUR)
                if "BYTE" not in op.name:
                    budget.spend(0, number)
                elif number > INLINE:
                    cuts.append((start - op.width - 1, start + number, Bytes(start, number)))
            elif op.name == "LONG1":
                if number > 16:
                    raise Refused(f"holds a whole number of {number} bytes")
                number = _number(file, end, number)
            elif op.name == "FRAME":  # says how long the part behind it is, which changes
                cuts.append((file.tell() - 9, file.tell(), None))
        elif op.width:
            _skip_line(file, end)
            _skip_line(file, end)
        left -= 1
        if left < 0:
            raise Refused(_LARGE)
        if op.constant:
            nesting.stack.append(0)
        else:
            nesting.follow(op, number)
        if op.name == "STOP":
            budget.instructions = left
            return cuts


class _Nesting:
    """The stack of a pickle, each value as its depth; only values of depth 0 may become keys or members of a set.

    Hashing a tuple visits what is in it as often as it is in it: 2**n visits for n tuples of twice the one before. Huge
    numbers, of depth 1, can be chosen so that their hashes collide.
    """

    def __init__(self) -> None:
        self.stack: list[int] = []
        self.marks: list[int] = []
        self.memo: dict[int, int] = {}

    def follow(self, op: _Op, number: int) -> None:
        name, stack, marks = op.name, self.stack, self.marks
        if name == "MARK":
            marks.append(len(stack))
        elif "PUT" in name or name == "MEMOIZE":
            index = len(self.memo) if name == "MEMOIZE" else number
            if index > MAX_INSTRUCTIONS:  # the memo becomes as long as that
                raise Refused(_LARGE)
            self.memo[index] = stack[-1]
        elif "GET" in name or name == "DUP":
            stack.append(stack[-1] if name == "DUP" else self.memo[number])
        elif name == "POP" and marks and marks[-1] == len(stack):
            marks.pop()
        else:
            start = (marks.pop() if op.marked else len(stack)) - op.takes
            if start < (marks[-1] if marks else 0):
                raise Refused("is a damaged pickle: an instruction lacks its values")
            items = stack[start:]
            del stack[start:]
            if name in _IN_PLACE:
                depth = max(items[0], 1 + max(items[1:], default=-1))
            elif name == "LONG1":
                depth = int(number.bit_length() > 61)  # hashed modulo 2**61 - 1
            else:
                depth = 1 + max(items, default=-1)
            stack += [depth] * op.gives
            if depth > MAX_NESTING or any(items[_HASHED.get(name, slice(0))]):
                raise Refused(_LARGE)


def _number(file: IO[bytes], end: int, size: int) -> int:
    data = file.read(size)
    if len(data) < size or file.tell() > end:
        raise Refused(_SHORT)
    return int.from_bytes(data, "little")


def _skip_line(file: IO[bytes], end: int) -> None:
    if not file.readline(256).endswith(b"\n") or file.tell() > end:
        raise Refused("is a damaged pickle: a name does not end")


def printable(text: str) -> str:
    """One short line of a text from a file."""
    line = text.encode("ascii", "backslashreplace").decode()
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= 80 else line[:77] + "..."


def forbidden(name: str) -> str:
    """Why a pickle with that name is refused."""
    return f"holds Python objects ({printable(name)}), which are never loaded"
