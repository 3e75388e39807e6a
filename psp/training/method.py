"""What is asked of a method: a file with its options and a function that builds it, and what that gives the trainer.

`psp.training.config.METHODS` names the files. No torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from psp.tasks import Task
from psp.training.config import METHODS, Config
from psp.training.networks import Networks

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from typing_extensions import Self

    from psp.batch import Batch
    from psp.images.sheets import Picture

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
    """The options that a method alone reads, declared as those of `Config` are. This one has none."""

    @classmethod
    def defaults(cls, given: Mapping[str, Any], task: Task, *, examples: bool) -> dict[str, Any]:
        """Values, of common and own options, for what was not given and depends on something else.

        given: what the command line and files say, checked, by name.
        task: that of --dataset_type.
        examples: the example data is used; keep it short.
        """
        return {}

    @classmethod
    def idle(cls, given: Mapping[str, Any]) -> Collection[str]:
        """Own options that change nothing beside those given; see `psp.training.flags.ignored`."""
        return ()

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


class Method(Protocol):
    """What the trainer asks of a method: it owns its networks, its optimisers and its step."""

    monitor: str | None  # the validation loss that decides which checkpoint is best; None: the newest is

    def training_step(self, batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        """One step over the micro-batches. Returns detached losses; raises BadStep with everything as before.

        For more than one process it says `bad_steps.require_finite` of each loss, and `distributed.average_gradients`
        before it looks at the gradients; state that is neither weights nor optimiser is made the same with
        `distributed.mean` and `distributed.gathered`.
        """

    def validation_step(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch, averaged over it, with fixed noise and no gradient."""

    def networks_in_step(self) -> Sequence[nn.Module]:
        """The networks that all ranks have to keep the same: their BatchNorm statistics are averaged after a step."""

    def pictures(self, batch: Batch) -> list[list[Picture]]:
        """One row of pictures per sample, for the image grid."""

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs besides the step: tensors and plain containers only."""

    def load_state(self, state: Mapping[str, Any]) -> None: ...

    def checkpoint(self) -> dict[str, Any]:
        """The weights alone, in the layout other tools read."""


Built = tuple[Method, MethodOptions]  # the method, ready to be trained, and its options with what the weights say


class MethodModule(Protocol):
    """The file of a method, named in `psp.training.config.METHODS`. Importing it needs no torch, and `build` imports
    what it needs.

    Options: its options, a subclass of `MethodOptions`.
    """

    Options: type[MethodOptions]

    def build(self, config: Config, options: Any, *, device: torch.device, networks: Networks) -> Built:
        """See `Built`.

        config: resolved, see `psp.training.resolve.resolve`.
        options: of the class `Options`, resolved with it.
        device: where it trains.
        networks: frozen networks to compare images with.
        """


def method_named(name: str) -> MethodModule:
    """The file of one of `METHODS`."""
    return cast(MethodModule, importlib.import_module(METHODS[name]))
