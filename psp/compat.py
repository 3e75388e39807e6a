"""Work-arounds for the packages around us, each with the condition that makes it unnecessary."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

_torchvision_library: Any = None  # torch forgets the operators when their Library is collected


def prepare_torchvision() -> None:
    """Make `import torchvision` work when its compiled half does not fit the installed torch; call it before.

    The torchvision wheel on PyPI is a CUDA build. Beside a CPU build of torch its library cannot be loaded, and the
    import dies with "operator torchvision::nms does not exist", as do lpips and facenet_pytorch, which import it.
    Here the two operators that torchvision registers shapes for are declared, `nms` with a CPU implementation. After
    that transforms, models and `torchvision.ops.nms` work; `torchvision.io` does not (read and write with PIL).

    Does nothing where torch has CUDA or ROCm, where the library loads, or where torchvision is not installed.
    Calling it again costs nothing.
    """
    global _torchvision_library
    import torch
    from torch import library as registry

    if _torchvision_library is not None or torch.version.cuda is not None or torch.version.hip is not None:
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or _compiled_half_loads(Path(spec.origin).parent):
        return
    library = registry.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    _torchvision_library = library

    import torchvision.ops.boxes as boxes

    boxes._assert_has_ops = lambda: None


def _compiled_half_loads(package: Path) -> bool:
    import torch

    for path in (path for ending in ("so", "pyd", "dylib") for path in package.glob(f"_C*.{ending}")):
        try:
            torch.ops.load_library(str(path))
            return True
        except OSError:
            continue
    return False


def _nms(dets: Any, scores: Any, iou_threshold: float) -> Any:
    """Greedy non-maximum suppression. dets: [N,4] as x1, y1, x2, y2; scores: [N]. Returns kept indices, best first."""
    import torch

    order = scores.argsort(descending=True, stable=True)
    boxes = dets[order]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if not alive[i]:
            continue
        size = (
            torch.minimum(boxes[i, 2:], boxes[i + 1 :, 2:]) - torch.maximum(boxes[i, :2], boxes[i + 1 :, :2])
        ).clamp(min=0)
        overlap = size[:, 0] * size[:, 1]
        alive[i + 1 :] &= overlap <= iou_threshold * (areas[i] + areas[i + 1 :] - overlap)
    return order[alive]
