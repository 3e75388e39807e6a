"""A reader of pickles that runs nothing: an interpreter of the pickle instructions that knows plain values only.

Python's own unpickler imports what a file names and calls it. This one has no import and no class: a name in the file
becomes a `Global`, which is a string in a box, and REDUCE looks that string up in a table of our own functions. Every
name and every instruction that is not in a table here is refused. Lengths are compared with the file before anything
is read, and what all values together may cost is limited, so that a small file cannot become a large memory.

Source of the format: the documentation in CPython's `pickletools`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedReader
from typing import Any

OP_COST = 64  # bytes that an instruction is reckoned to cost; a set costs 216, most cost less
BUDGET = 16 << 20  # a training snapshot of 1024 px with three networks costs 6 MiB
MAX_INT_BYTES = 16
MAX_KEY = 1 << 20  # whole numbers as dictionary keys: larger ones can be chosen so that they collide


class PickleRefused(Exception):
    """Why a pickle is not read; the message continues the sentence `<file> ...`."""


class ForbiddenGlobal(PickleRefused):
    """The pickle names a function or class (`name`) that is not in the table."""

    def __init__(self, name: str):
        self.name = name
        super().__init__(f"holds Python objects ({printable(name)}), which are never loaded")


@dataclass(frozen=True)
class Global:
    """The name of a function or class, `module.name`. Nothing more: the thing itself is never looked up."""

    name: str


@dataclass(frozen=True)
class Bytes:
    """A byte string that stays in the file, at [start, start + size)."""

    start: int
    size: int


@dataclass
class Record:
    """What would have been an object: the name of its class, the arguments it was made with, its state."""

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None


class Budget:
    """What all values of a file may cost together, in bytes."""

    def __init__(self, limit: int = BUDGET):
        self.left = limit

    def spend(self, cost: int) -> None:
        self.left -= cost
        if self.left < 0:
            raise PickleRefused("is a pickle with far more objects or text than a network has")


def printable(text: str) -> str:
    """One short line of a text from a file."""
    line = text.encode("ascii", "backslashreplace").decode()
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= 80 else line[:77] + "..."


MARK, STOP = ord("("), ord(".")
Builder = Callable[..., Any]


class RestrictedUnpickler:
    """Reads pickles, one per `load`, from the bytes [start, end) of a file.

    functions: what REDUCE may call, by the name that stands in the file. classes: what NEWOBJ may make, likewise.
    names: further names that may stand in the file as data. persistent: turns a persistent id into a value; without
    it such ids are refused. budget: shared by readers of the same file.
    """

    def __init__(
        self,
        file: BufferedReader,
        start: int,
        end: int,
        *,
        functions: Mapping[str, Builder],
        classes: Mapping[str, Builder],
        names: frozenset[str],
        budget: Budget,
        persistent: Builder | None = None,
    ):
        self.file, self.at, self.end = file, start, end
        self.functions, self.classes, self.names = functions, classes, names
        self.persistent, self.budget = persistent, budget
        self.file.seek(start)

    def load(self) -> Any:
        """The next value; PickleRefused, and nothing else, when it cannot or must not be read."""
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        try:
            while (code := self.take(1)[0]) != STOP:
                self.budget.spend(OP_COST)
                if code not in INSTRUCTIONS:
                    raise PickleRefused(_unknown_instruction(code, self.at - 1))
                INSTRUCTIONS[code](self)
            return self.stack.pop()
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
            raise PickleRefused(f"is a damaged pickle (at byte {self.at}: {type(error).__name__})") from error

    # ---- the bytes ----

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        data = self.file.read(n) if n <= self.end - self.at else b""
        if len(data) < n:
            raise PickleRefused("is a damaged pickle: it ends too early")
        self.at += n
        return data

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self, size: int) -> str:
        self.budget.spend(4 * size)
        return self.take(size).decode("utf-8", "surrogatepass")

    def line(self) -> str:
        data = self.file.readline(min(256, self.end - self.at))
        if not data.endswith(b"\n"):
            raise PickleRefused("is a damaged pickle: a name does not end")
        self.at += len(data)
        return data[:-1].decode()

    def skip(self, size: int) -> Bytes:
        if size > self.end - self.at:
            raise PickleRefused("is a damaged pickle: it ends too early")
        found = Bytes(self.at, size)
        self.at += size
        self.file.seek(self.at)
        return found

    # ---- the stack ----

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise TypeError
        for key, value in zip(items[::2], items[1::2]):
            target[_key(key)] = value

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError
        target.extend(items)

    def add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not set:
            raise TypeError
        target.update(map(_key, items))

    def push_tuple(self, n: int) -> None:
        if len(self.stack) < n:
            raise IndexError
        items = tuple(self.stack[-n:])
        del self.stack[-n:]
        self.stack.append(items)

    # ---- names and what is made of them ----

    def push_global(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str:
            raise TypeError
        full = f"{module}.{name}"
        if full not in self.functions and full not in self.classes and full not in self.names:
            raise ForbiddenGlobal(full)
        self.stack.append(Global(full))

    def make(self, table: Mapping[str, Builder]) -> None:
        args, target = self.stack.pop(), self.stack.pop()
        if type(target) is not Global or type(args) is not tuple:
            raise TypeError
        if target.name not in table:
            raise ForbiddenGlobal(target.name)
        self.stack.append(table[target.name](*args))
        self.file.seek(self.at)  # the function may have read elsewhere

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is Record and target.state is None:
            target.state = state
        elif type(target) is not dict or type(state) not in (dict, type(None)):  # attributes of a dict: left out
            name = target.name if type(target) is Global else type(target).__name__
            raise PickleRefused(f"sets the state of Python objects ({printable(name)}), which is never done")

    def push_persistent(self) -> None:
        if self.persistent is None:
            raise PickleRefused("refers to objects outside of it (a persistent id), which are never loaded")
        self.stack.append(self.persistent(self.stack.pop()))


def _key(value: Any) -> Any:
    """A value that may be a key or an element of a set: its hash is cheap, and not of the file's choosing."""
    if type(value) is str or value is None or (isinstance(value, int) and abs(value) < MAX_KEY):
        return value
    raise TypeError


def _unknown_instruction(code: int, place: int) -> str:
    import pickletools

    for known in pickletools.opcodes:
        if known.code == chr(code):
            return f"uses the pickle instruction {known.name}, which is never followed"
    return f"is a damaged pickle (0x{code:02x} at byte {place} is no instruction)"


def _long(reader: RestrictedUnpickler) -> None:
    size = reader.number(1)
    if size > MAX_INT_BYTES:
        raise PickleRefused(f"holds a whole number of {size} bytes")
    reader.stack.append(int.from_bytes(reader.take(size), "little", signed=True))


def _protocol(reader: RestrictedUnpickler) -> None:
    if reader.number(1) > 5:
        raise PickleRefused("is a damaged pickle, or one of a protocol above 5")


def _frame(reader: RestrictedUnpickler) -> None:
    if reader.number(8) > reader.end - reader.at:
        raise PickleRefused("is a damaged pickle: it ends too early")


def _mark(reader: RestrictedUnpickler) -> None:
    reader.marked.append(reader.stack)
    reader.stack = []


def _stack_global(reader: RestrictedUnpickler) -> None:
    name, module = reader.stack.pop(), reader.stack.pop()
    reader.push_global(module, name)


def _dict(reader: RestrictedUnpickler) -> None:
    items = reader.pop_mark()
    reader.stack.append({})
    reader.set_items(items)


def _frozenset(reader: RestrictedUnpickler) -> None:
    items = reader.pop_mark()
    reader.stack.append(frozenset(map(_key, items)))


def _set_item(reader: RestrictedUnpickler) -> None:
    value, key = reader.stack.pop(), reader.stack.pop()
    reader.set_items([key, value])


def _append(reader: RestrictedUnpickler) -> None:
    value = reader.stack.pop()
    reader.append([value])


def _pop(reader: RestrictedUnpickler) -> None:
    if reader.stack:
        reader.stack.pop()
    else:
        reader.pop_mark()


def _push(value: Callable[[RestrictedUnpickler], Any]) -> Callable[[RestrictedUnpickler], None]:
    return lambda reader: reader.stack.append(value(reader))


def _put(index: Callable[[RestrictedUnpickler], int]) -> Callable[[RestrictedUnpickler], None]:
    return lambda reader: reader.memo.__setitem__(index(reader), reader.stack[-1])


INSTRUCTIONS: dict[int, Callable[[RestrictedUnpickler], None]] = {
    ord(code): action
    for code, action in {
        "\x80": _protocol,
        "\x95": _frame,
        # plain values
        "N": _push(lambda r: None),
        "\x88": _push(lambda r: True),
        "\x89": _push(lambda r: False),
        "K": _push(lambda r: r.number(1)),
        "M": _push(lambda r: r.number(2)),
        "J": _push(lambda r: struct.unpack("<i", r.take(4))[0]),
        "\x8a": _long,
        "G": _push(lambda r: struct.unpack(">d", r.take(8))[0]),
        "\x8c": _push(lambda r: r.text(r.number(1))),
        "X": _push(lambda r: r.text(r.number(4))),
        "\x8d": _push(lambda r: r.text(r.number(8))),
        "C": _push(lambda r: r.skip(r.number(1))),
        "B": _push(lambda r: r.skip(r.number(4))),
        "\x8e": _push(lambda r: r.skip(r.number(8))),
        "\x96": _push(lambda r: r.skip(r.number(8))),
        # containers
        "(": _mark,
        ")": _push(lambda r: ()),
        "\x85": lambda r: r.push_tuple(1),
        "\x86": lambda r: r.push_tuple(2),
        "\x87": lambda r: r.push_tuple(3),
        "t": lambda r: _replace_mark(r, tuple),
        "]": _push(lambda r: []),
        "l": lambda r: _replace_mark(r, list),
        "a": _append,
        "e": lambda r: r.append(r.pop_mark()),
        "}": _push(lambda r: {}),
        "d": _dict,
        "s": _set_item,
        "u": lambda r: r.set_items(r.pop_mark()),
        "\x8f": _push(lambda r: set()),
        "\x90": lambda r: r.add(r.pop_mark()),
        "\x91": _frozenset,
        # stack and memo
        "0": _pop,
        "1": lambda r: r.pop_mark() and None,
        "2": _push(lambda r: r.stack[-1]),
        "h": _push(lambda r: r.memo[r.number(1)]),
        "j": _push(lambda r: r.memo[r.number(4)]),
        "q": _put(lambda r: r.number(1)),
        "r": _put(lambda r: r.number(4)),
        "\x94": _put(lambda r: len(r.memo)),
        # names
        "c": lambda r: r.push_global(r.line(), r.line()),
        "\x93": _stack_global,
        "R": lambda r: r.make(r.functions),
        "\x81": lambda r: r.make(r.classes),
        "b": lambda r: r.build(),
        "Q": lambda r: r.push_persistent(),
    }.items()
}


def _replace_mark(reader: RestrictedUnpickler, container: Callable[[list[Any]], Any]) -> None:
    items = reader.pop_mark()
    reader.stack.append(container(items))
