"""The names and signatures of the operations that compiled kernels implement; `operators` says what they compute."""

from __future__ import annotations

PARTS = "Tensor? scale, Tensor? noise, Tensor? strength, Tensor? bias, float slope, float gain, float? clamp"
BOX = "SymInt left, SymInt right, SymInt top, SymInt bottom"
SIGNATURES = {
    "epilogue": f"(Tensor x, {PARTS}, Tensor? next=None) -> Tensor",
    "epilogue_slope": f"(Tensor grad, Tensor saved, {PARTS}, bool saved_is_output) -> Tensor",
    "epilogue_backward": f"(Tensor grad, Tensor saved, {PARTS}, bool saved_is_output, "
    "bool want_scale, bool want_strength, bool want_bias) -> (Tensor, Tensor, Tensor, Tensor)",
    "upfirdn2d": f"(Tensor x, Tensor kernel, SymInt up, SymInt down, {BOX}, bool flip) -> Tensor",
    "blur_epilogue": f"(Tensor x, Tensor kernel, {BOX}, {PARTS}, Tensor? next=None) -> Tensor",
    "epilogue_to_rgb": f"(Tensor x, {PARTS}, Tensor? next, bool keep, Tensor weight, Tensor rgb_bias, "
    "float? rgb_clamp, Tensor? skip, Tensor kernel) -> (Tensor, Tensor)",
}
OPERATIONS = tuple(SIGNATURES)
