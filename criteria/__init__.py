"""Losses and metrics: LPIPS, identity, MoCo, W-norm, and the weighted pSp objective.

`from criteria import PspObjective, Losses` loads them on first use; importing the package alone loads nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from criteria.objective import Losses, PspObjective, TargetFeatures

__all__ = ["Losses", "PspObjective", "TargetFeatures"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        import criteria.objective

        return getattr(criteria.objective, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
