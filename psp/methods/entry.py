"""What the file of a method offers: its own options, and the function that builds it from them. No torch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from psp.config import Config
from psp.errors import UserError
from psp.methods import METHODS
from psp.tasks import Task

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

    from psp.methods.base import Method
    from psp.methods.networks import Networks

READ_SIZE = 256  # px at which images are read unless a method says otherwise


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """What a method reads of a data root.

    task: whose source is read.
    paired: whether source and target show the same face.
    size: side of the sources in pixels.
    target_size: side of the targets in pixels.
    labels: whether the targets' label maps come along, where the data has them.
    """

    task: Task
    paired: bool = True
    size: int = READ_SIZE
    target_size: int = READ_SIZE
    labels: bool = False


@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """The options that a method alone reads, declared as those of `psp.config.Config` are. This one has none."""

    @classmethod
    def defaults(cls, given: Mapping[str, Any], task: Task, *, examples: bool) -> dict[str, Any]:
        """Values, of common and own options, for what was not given and depends on something else.

        given: what the command line and files say, checked, by name.
        task: that of --dataset_type.
        examples: the example data is used; keep it short.
        """
        return {}

    def check(self, config: Config) -> None:
        """UserError, in one line, on what cannot work together. Types, choices and ranges are checked before."""

    def data(self, config: Config) -> DataSpec:
        """What the method reads: unless it says otherwise, pairs of the task's source and its target."""
        return DataSpec(task=config.task)

    def scheduled(self, max_steps: int) -> Self:
        """The options with all that depends on how long the training is.

        max_steps: the steps that there will be.
        """
        return self


class MethodModule(Protocol):
    """The file of a method, named in `psp.methods.METHODS`. Importing it needs no torch; `build` imports what it needs.

    Options: its options, a subclass of `MethodOptions`.
    """

    @property
    def Options(self) -> type[MethodOptions]: ...

    def build(
        self, config: Config, options: Any, *, device: torch.device, networks: Networks
    ) -> tuple[Method, MethodOptions]:
        """The method, ready to be trained, and its options with what the weights say.

        config: resolved, see `psp.resolve.resolve`.
        options: of the class `Options`, resolved with it.
        device: where it trains.
        networks: frozen networks to compare images with.
        """
        ...


def method_named(name: str) -> MethodModule:
    """The file of a method; UserError naming the known ones."""
    if name not in METHODS:
        raise UserError(f"--method {name!r} is not known; choose one of: {', '.join(METHODS)}")
    module = METHODS[name]
    return cast(MethodModule, importlib.import_module(module) if isinstance(module, str) else module)
