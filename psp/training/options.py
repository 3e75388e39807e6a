"""How an option of training is declared: a field of a frozen dataclass, whose name is the flag and the key in files.

`psp.training.config.Config` holds the options of every run, the `Options` of a method those that it alone reads. No
torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import typing
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from psp.cli import MAX_SEED
from psp.errors import UserError, shown


@dataclass(frozen=True)
class Allowed:
    """The numbers that an option takes.

    message: what a message says of them.
    holds: whether a number is one of them.
    """

    message: str
    holds: Callable[[float], bool]


POSITIVE = Allowed("must be at least 1", lambda value: value >= 1)
SEED = Allowed(f"must be a whole number from 0 to {MAX_SEED}", lambda value: 0 <= value <= MAX_SEED)
NOT_NEGATIVE = Allowed("must be a number that is not negative", lambda value: 0 <= value < math.inf)
SHARE = Allowed("must lie between 0 and 1", lambda value: 0 <= value <= 1)
RATE = Allowed("must lie between 0 and 1", lambda value: 0 < value < 1)
FACTOR = Allowed("must lie between 0 and 1", lambda value: 0 < value <= 1)
MOMENTUM = Allowed("must be at least 0 and less than 1", lambda value: 0 <= value < 1)


@dataclass(frozen=True)
class Declared:
    """A declared option.

    default: bool, int, float or str, as the field's type says.
    help: for --help; where it does not speak of a default, the default is shown behind it.
    choices: the allowed texts, also those that a registry gets later; of a `Literal` they are known.
    allowed: the numbers that may be given.
    resumable: may differ when a run goes on, since it changes how fast or how long it runs, not what is computed.
    group: heading in --help of this option and of those below it.
    filled, place: see the functions of these names.
    name, kind: those of the field; kind is int, float, bool or str.
    """

    default: Any
    help: str
    choices: Collection[str] = ()
    allowed: Allowed | None = None
    resumable: bool = False
    group: str = ""
    filled: bool = False
    place: bool = False
    name: str = ""
    kind: type = str

    def is_absent(self, value: Any) -> bool:
        """Whether the value stands for none: nobody can give it."""
        return self.filled and (value == "" or (self.allowed is not None and not self.allowed.holds(value)))

    def checked(self, value: Any, where: str) -> Any:
        """The value in the option's type; UserError, beginning with `where`, for one that does not fit."""
        kind = self.kind
        if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):  # YAML reads 1e-4 as text
            with contextlib.suppress(ValueError, OverflowError):
                value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UserError(f"{where}: {self.name} is {shown(value)}, expected {kind.__name__}")
        if self.choices and value not in self.choices:
            raise UserError(f"{where}: {self.name} is {shown(value)}", f"choose one of: {', '.join(self.choices)}")
        if self.allowed is not None and not self.allowed.holds(value):  # type: ignore[arg-type]
            raise UserError(f"--{self.name} {shown(value)} {self.allowed.message}")
        return value


def option(default: Any, help: str, **about: Any) -> Any:
    """A field with a default that always holds. default, help, about: see `Declared`."""
    return field(default=default, metadata={"declared": Declared(default, help, **about)})


# An option that is filled from the task, the data or the weights where nobody gives it. Until then it has its default;
# where it can be absent, that is a value that nobody can give, such as "". In a file null means "not given".
filled = functools.partial(option, filled=True)
# A filled option that names a file or folder: only its name is saved with a run, and compared.
place = functools.partial(option, filled=True, place=True)
weight = functools.partial(option, allowed=NOT_NEGATIVE)  # of a loss
resumable = functools.partial(option, resumable=True)  # may differ when a run goes on
# Steps or epochs that `psp.training.resolve.schedule` fills by the size of the training set, where nobody gives them.
scheduled = functools.partial(filled, 0, allowed=POSITIVE, resumable=True)


def declared(options: type) -> dict[str, Declared]:
    """The declared options of a dataclass, by name, in order.

    options: `psp.training.config.Config` or the `Options` of a method.
    """
    hints = typing.get_type_hints(options)
    return {f.name: _named(f.metadata["declared"], f.name, hints[f.name]) for f in dataclasses.fields(options)}


def _named(one: Declared, name: str, hint: Any) -> Declared:
    if typing.get_origin(hint) is typing.Literal:
        return dataclasses.replace(one, name=name, choices=typing.get_args(hint))
    return dataclasses.replace(one, name=name, kind=hint)
