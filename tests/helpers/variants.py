"""Variants of a parametrized test that the everyday run leaves out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def thorough(*variants: Any) -> Iterable[Any]:
    """These values of `parametrize`, in `make test-all` alone; a tuple holds a value for each argument."""
    for variant in variants:
        values = variant if isinstance(variant, tuple) else (variant,)
        yield pytest.param(*values, marks=pytest.mark.thorough)
