"""pixel2style2pixel: sketches and label maps become W+ style vectors, which a StyleGAN2 turns into faces.

    import psp

    model = psp.load("my_model.pt")  # or a folder, or owner/name on the Hugging Face Hub
    psp.save(model, "my_model")  # the folder that the Hub and every script take

Importing this package does nothing. The rest is in its rooms: `psp.weights.load`, `psp.images.preprocess`,
`psp.models.psp`, ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psp.cli import VERSION as __version__

if TYPE_CHECKING:
    from pathlib import Path

    from psp.models.psp import PSP

__all__ = ["__version__", "load", "save"]


def load(name_or_folder: str | Path, **options: Any) -> PSP:
    """Model of a weights file, a folder, or a repository of the Hub; see `psp.weights.hub.from_pretrained`."""
    from psp.weights.hub import from_pretrained

    return from_pretrained(name_or_folder, **options)


def save(model: PSP, folder: str | Path, **options: Any) -> Path:
    """Write model.safetensors, config.json and a card into a folder; see `psp.weights.hub.save_pretrained`."""
    from psp.weights.hub import save_pretrained

    return save_pretrained(model, folder, **options)
