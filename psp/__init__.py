"""pixel2style2pixel: sketches and label maps become W+ style vectors, which a StyleGAN2 turns into faces.

    import psp

    model = psp.load("celebs_sketch_to_face")  # bundled; or a file, a folder, owner/name on the Hugging Face Hub
    psp.Translator(model).translate("my_sketch.png")[0].save("my_face.png")
    psp.Translator(model, edits={"sefa0": 2.0}).translate("my_sketch.png")  # "smile", and follow=: docs/editing.md
    psp.translate_folder(psp.InferenceOptions(data_path="my_sketches", exp_dir="my_faces"))
    psp.save(model, "my_model")  # the folder that the Hub and every script take

Importing this package does nothing: each name brings what it needs when it is first used. The rest is in its rooms:
`psp.weights.load`, `psp.images.preprocess`, `psp.models.psp`, ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psp.cli import VERSION as __version__

if TYPE_CHECKING:
    from psp.errors import UserError
    from psp.inference.editor import Editor
    from psp.inference.options import InferenceOptions
    from psp.inference.run import translate_folder
    from psp.inference.styles import Styles
    from psp.inference.translator import Translator
    from psp.weights.hub import from_pretrained as load
    from psp.weights.hub import save_pretrained as save

__all__ = [
    "Editor", "InferenceOptions", "Styles", "Translator", "UserError", "__version__", "load", "save",
    "translate_folder",
]  # fmt: skip

_PLACES = {  # name -> its module, and what it is called there
    "Editor": ("psp.inference.editor", "Editor"),
    "InferenceOptions": ("psp.inference.options", "InferenceOptions"),
    "Styles": ("psp.inference.styles", "Styles"),
    "Translator": ("psp.inference.translator", "Translator"),
    "UserError": ("psp.errors", "UserError"),
    "load": ("psp.weights.hub", "from_pretrained"),
    "save": ("psp.weights.hub", "save_pretrained"),
    "translate_folder": ("psp.inference.run", "translate_folder"),
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _PLACES:
        raise AttributeError(f"module 'psp' has no attribute {name!r}")
    module, there = _PLACES[name]
    return getattr(importlib.import_module(module), there)
