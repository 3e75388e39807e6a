"""The one place where a `--dataset_type` is defined. To add a task, add one entry to `TASKS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from psp.errors import UserError

SourceKind = Literal["photo", "sketch", "labels"]
DEFAULT_TASK = "celebs_sketch_to_face"  # where neither flags nor checkpoint say which
LAMBDAS = (  # loss weights: pSp's, and that of the face parser
    "l2_lambda",
    "lpips_lambda",
    "id_lambda",
    "w_norm_lambda",
    "lpips_lambda_crop",
    "l2_lambda_crop",
    "moco_lambda",
    "parsing_lambda",
)
LpipsNet = Literal["alex", "vgg"]
IdNet = Literal["dlib", "ir_se50", "facenet"]
IMAGE_GANS = ("pix2pix", "cyclegan", "cgan")  # the methods that turn a picture straight into a picture
DIRECTIONS = ("sketch_to_photo", "photo_to_sketch")  # of CycleGAN, which learns both


@dataclass(frozen=True)
class Task:
    """What distinguishes one image-to-face task from another.

    source: kind of input. label_nc: 0 photo, 1 sketch, >1 number of classes (pSp's flag). losses: pSp's lambda names
    and weights, used where the command line says nothing. source_dir, target_dir: sub-folders of `--data_root`, below
    `train/` and `test/`. resize_factors: random down-sampling of the source (super-resolution).
    frontalize: the encoder sees a randomly mirrored face (pSp, 4.2).
    """

    name: str
    description: str
    source: SourceKind
    label_nc: int
    losses: Mapping[str, float]
    source_dir: str = "photos"
    target_dir: str = "photos"
    resize_factors: str | None = None
    frontalize: bool = False

    @property
    def input_nc(self) -> int:
        """Channels that the encoder sees: of RGB, of a sketch, one for each class."""
        return self.label_nc or 3


_SKETCH_LOSSES = {"l2_lambda": 1.0, "lpips_lambda": 0.8, "w_norm_lambda": 0.005}
_PHOTO_LOSSES = {"l2_lambda": 1.0, "lpips_lambda": 0.8, "id_lambda": 0.1}
_TURN_LOSSES = {
    "l2_lambda": 0.001,
    "lpips_lambda": 0.08,
    "l2_lambda_crop": 0.01,
    "lpips_lambda_crop": 0.8,
    "id_lambda": 1.0,
    "w_norm_lambda": 0.005,
}
_SKETCH = Task(DEFAULT_TASK, "sketch or drawing -> face", "sketch", 1, _SKETCH_LOSSES, source_dir="sketches")

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _SKETCH,
        Task(
            "celebs_seg_to_face",
            "CelebAMask-HQ label map (19 classes) -> face",
            "labels",
            19,
            _SKETCH_LOSSES,
            source_dir="labels",
        ),
        replace(_SKETCH, name="cufs_sketch_to_face", description="artist's pencil sketch (CUFS) -> face"),
        Task("ffhq_encode", "photo -> its own W+ code (inversion)", "photo", 0, _PHOTO_LOSSES),
        Task(
            "ffhq_frontalize", "photo -> the same face seen from the front", "photo", 0, _TURN_LOSSES, frontalize=True
        ),
        Task(
            "celebs_super_resolution",
            "low-resolution photo -> face",
            "photo",
            0,
            {**_PHOTO_LOSSES, "w_norm_lambda": 0.005},
            resize_factors="1,2,4,8,16,32",
        ),
    )
}


def get_task(name: str) -> Task:
    """The task of that name; UserError naming the allowed ones."""
    if name not in TASKS:
        raise UserError(f"--dataset_type {name!r} is not known", f"choose one of: {', '.join(TASKS)}")
    return TASKS[name]
