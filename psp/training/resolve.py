"""From the values that somebody gave to the complete options of a run. No torch.

Checked values (`from_mapping`, `psp.training.flags.parse`) become a `Config` and the method's `Options` (`resolve`),
and once the data is known they are complete (`schedule`). Both are frozen, and nothing in them is None.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from typing import Any

from psp.errors import UserError, shown
from psp.tasks import get_task
from psp.training.config import METHODS, Config
from psp.training.method import MethodOptions, method_named
from psp.training.options import Declared, declared

# --preset paper: as pSp's own program.
PAPER = {"max_steps": 500_000, "image_interval": 100, "board_interval": 50, "val_interval": 1000, "save_interval": 1000}
# --preset small: so many times through the data, within these numbers of steps; the examples take the fewest.
EPOCHS, FEWEST_STEPS, MOST_STEPS = 100, 300, {"cpu": 20_000, "cuda": 100_000}


def known_options() -> dict[str, list[tuple[str, Declared]]]:
    """Every option of training by name: who declares it ("" for `Config`, else methods), and how."""
    known = {name: [("", one)] for name, one in declared(Config).items()}
    for method in METHODS:
        for name, one in declared(method_named(method).Options).items():
            known.setdefault(name, []).append((method, one))
    return known


def from_mapping(values: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Given values with their types, choices and ranges checked; what is null is left out where it may be.

    values: option name -> value, also of other methods than the chosen one.
    where: for messages, where the values come from.
    """
    known = known_options()
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "scripts/train.py --help lists all"
            raise UserError(f"{where}: unknown option {shown(name)}", hint)
        one = known[name][0][1]
        if one.filled and (value is None or value == ""):
            continue
        given[name] = one.checked(value, where)
    return given


def resolve(given: Mapping[str, Any], *, examples: bool) -> tuple[Config, MethodOptions]:
    """Common and own options of the chosen method, complete but for what the data (`schedule`) and weights say.

    given: checked values, see `from_mapping`; what belongs to other methods is left out.
    examples: it is the example data; keep it short.
    """
    method = given.get("method", Config.method)
    task = get_task(given.get("dataset_type", Config.dataset_type))
    kind = method_named(method).Options
    values: dict[str, Any] = {
        "exp_dir": f"experiments/{method}",
        "input_nc": task.input_nc,
        "label_nc": task.label_nc,
        "resize_factors": task.resize_factors or "",
    }
    if examples and "epochs" not in given and given.get("preset") != "paper":
        values["max_steps"] = FEWEST_STEPS
    values |= kind.defaults(given, task, examples=examples)
    values |= given
    config = Config(**{name: values[name] for name in declared(Config) if name in values})
    options = kind(**{name: values[name] for name in declared(kind) if name in values})
    config.check()
    options.check(config)
    return config, options


def schedule(
    config: Config, options: MethodOptions, n_images: int, *, ranks: int = 1, device: str = "cpu"
) -> tuple[Config, MethodOptions]:
    """Fill what depends on the size of the training set: how long the training is, its intervals, when rates decay.

    n_images: that an epoch holds.
    ranks: processes that train together.
    device: the type of theirs, cpu or cuda.
    """
    paper = config.preset == "paper"
    per_step = config.batch_size * config.grad_accumulation * ranks
    steps = config.max_steps
    if config.epochs:
        whole = math.ceil(config.epochs * n_images / per_step)
        steps = min(steps or whole, whole)
    if not steps:
        worth = min(max(math.ceil(EPOCHS * n_images / per_step), FEWEST_STEPS), MOST_STEPS[device])
        steps = PAPER["max_steps"] if paper else worth
    every = min(max(steps // 20, 50), 1000)
    small = {"val_interval": every, "save_interval": every, "image_interval": 2 * every}
    small["board_interval"] = min(max(every // 20, 10), 50)
    complete: dict[str, Any] = {
        name: getattr(config, name) or value for name, value in (PAPER if paper else small).items()
    }
    return dataclasses.replace(config, **complete | {"max_steps": steps}), options.scheduled(steps)
