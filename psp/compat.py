"""Work-arounds for the packages around us, each with the condition that makes it unnecessary."""

from __future__ import annotations

from typing import Any

_torchvision_library: Any = None  # torch forgets the operators when their Library is collected


def prepare_torchvision() -> None:
    """Import torchvision, also where its compiled half does not fit the installed torch; call it before others do.

    The torchvision wheel on PyPI is a CUDA build. Beside a CPU build of torch its library cannot be loaded, and the
    import dies with "operator torchvision::nms does not exist", as do lpips and facenet_pytorch, which import it.
    Then the two operators that torchvision registers shapes for are declared, `nms` with a CPU implementation. After
    that transforms, models and `torchvision.ops.nms` work; `torchvision.io` does not (read and write with PIL).

    Does nothing where torchvision is not installed. Calling it again costs nothing.
    """
    global _torchvision_library
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        from torch import library as registry

        _torchvision_library = registry.Library("torchvision", "FRAGMENT")
        _torchvision_library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _torchvision_library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _torchvision_library.impl("nms", _nms, "CPU")

        import torchvision.ops.boxes as boxes

        boxes._assert_has_ops = lambda: None


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
