"""The fields of a request, from JSON or a form, as checked values: what is unknown or absurd is named and refused."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from psp.studio.limits import Refused

MAX_SEED = 2**31 - 1
MAX_AMOUNTS = 50


@dataclass
class Fields:
    """values: text or JSON values by name. files: uploaded bytes by name. Each getter raises Refused(400) by itself."""

    values: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)

    def only(self, allowed: Collection[str]) -> None:
        """Refuse names that mean nothing here, so that a typing mistake does not pass for a default."""
        for name in [*self.values, *self.files]:
            if name not in allowed:
                raise Refused(400, f"There is no field {str(name)[:40]!r} here; known are {', '.join(allowed)}.")

    def has(self, name: str) -> bool:
        return name in self.files or self.values.get(name) not in (None, "")

    def text(self, name: str, default: str | None = None, *, longest: int = 200) -> str:
        value = self.values.get(name, default)
        if value is None:
            raise Refused(400, f"The field {name!r} is missing.")
        if not isinstance(value, str) or len(value) > longest or not value.isprintable():
            raise Refused(400, f"The field {name!r} should be a short text.")
        return value

    def choice(self, name: str, allowed: Collection[str], default: str) -> str:
        value = self.text(name, default)
        if value not in allowed:
            raise Refused(400, f"{name} is {value[:40]!r}; choose one of: {', '.join(allowed)}.")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        return _number(self.values.get(name, default), name, low, high)

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        value = self.values.get(name, default)
        number = _number(value, name, low, high, kind="a whole number")
        if number != int(number):
            raise Refused(400, f"{name} is {str(value)[:40]}; it should be a whole number from {low} to {high}.")
        return int(number)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.values.get(name, default)
        if isinstance(value, bool):
            return value
        if str(value).lower() not in ("true", "false", "1", "0"):
            raise Refused(400, f"{name} is {str(value)[:40]!r}; it should be true or false.")
        return str(value).lower() in ("true", "1")

    def numbers(self, name: str, default: list[float], low: float, high: float, *, most: int) -> list[float]:
        """A JSON list, or numbers with commas between them."""
        value = self.values.get(name, default)
        if isinstance(value, str):
            value = value.split(",", most + 1)
        if isinstance(value, (int, float)):
            value = [value]
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            raise Refused(400, f"{name} should be 1 to {most} numbers.")
        return [_number(item, name, low, high) for item in value]

    def amounts(self, name: str, low: float, high: float) -> dict[str, float]:
        """A JSON object of numbers by short names, also as text; empty where there is none."""
        value = self.values.get(name, {})
        if isinstance(value, str):
            try:
                value = json.loads(value) if value else {}
            except (ValueError, RecursionError):
                value = None
        if not isinstance(value, dict) or len(value) > MAX_AMOUNTS:
            raise Refused(400, f"{name} should be a JSON object of at most {MAX_AMOUNTS} numbers.")
        if any(len(key) > 60 or not key.isprintable() for key in value):
            raise Refused(400, f"The names in {name} should be short.")
        return {key: _number(number, f"{name}: {key}", low, high) for key, number in value.items()}

    def data(self, name: str) -> bytes | None:
        """An uploaded file or base64, with or without `data:...;base64,` before it; None where there is nothing."""
        if name in self.files:
            return self.files[name]
        value = self.values.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise Refused(400, f"The field {name!r} should be a file or base64 text.")
        head, comma, tail = value.partition(",")
        try:
            return base64.b64decode(tail if comma and head.startswith("data:") else value, validate=True)
        except ValueError:
            raise Refused(400, f"The {name} is not base64.") from None


def _number(value: Any, name: str, low: float, high: float, *, kind: str = "a number") -> float:
    number = math.nan
    if isinstance(value, str) and len(value) <= 40:
        try:
            number = float(value)
        except ValueError:
            pass
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:
        number = float(value)
    if not low <= number <= high:  # NaN is not
        raise Refused(400, f"{name} is {str(value)[:40]!r}; it should be {kind} from {low:g} to {high:.10g}.")
    return number
