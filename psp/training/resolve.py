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

# On the example data, so that a CPU shows something within minutes.
SHORT_SCHEDULE = {
    "max_steps": 300,
    "image_interval": 100,
    "board_interval": 10,
    "val_interval": 50,
    "save_interval": 50,
}


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
            raise UserError(f"{where}: unknown option {shown(name)}", f"{hint}")
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
    method = str(given.get("method", declared(Config)["method"].default))
    task = get_task(str(given.get("dataset_type", declared(Config)["dataset_type"].default)))
    kind = method_named(method).Options
    values: dict[str, Any] = {
        "exp_dir": f"experiments/{method}",
        "input_nc": task.input_nc,
        "label_nc": task.label_nc,
        "resize_factors": task.resize_factors or "",
        **(SHORT_SCHEDULE if examples else {}),
    }
    if "epochs" in given:
        values["max_steps"] = declared(Config)["max_steps"].default
    values |= kind.defaults(given, task, examples=examples)
    values |= given
    config = Config(**{name: values[name] for name in declared(Config) if name in values})
    options = kind(**{name: values[name] for name in declared(kind) if name in values})
    config.check()
    options.check(config)
    return config, options


def schedule(config: Config, options: MethodOptions, n_images: int, *, ranks: int = 1) -> tuple[Config, MethodOptions]:
    """Fill what depends on the size of the training set: --max_steps from --epochs, and when rates decay.

    n_images: that an epoch holds.
    ranks: processes that train together.
    """
    if config.epochs > 0:
        per_step = config.batch_size * config.grad_accumulation * ranks
        steps = min(config.max_steps, math.ceil(config.epochs * n_images / per_step))
        config = dataclasses.replace(config, max_steps=steps)
    return config, options.scheduled(config.max_steps)
