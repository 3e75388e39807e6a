"""The methods of training. To add one, write its file (`psp.methods.entry` says what it offers) and a line here."""

from __future__ import annotations

from types import ModuleType

# --method -> its module, or the name of it, which is imported on first use and needs no torch.
METHODS: dict[str, str | ModuleType] = {
    "psp": "psp.methods.psp",
    "stylegan2": "psp.methods.stylegan2",
    "parser": "psp.methods.parser",
    "pix2pix": "psp.methods.pix2pix",
    "cyclegan": "psp.methods.cyclegan",
    "cgan": "psp.methods.cgan",
}
