"""What every training run depends on, whatever its method; the method's own options stand beside it. No torch."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from psp.errors import UserError
from psp.tasks import DEFAULT_TASK, TASKS, Task, get_task
from psp.training.options import NOT_NEGATIVE, POSITIVE, RATE, SEED, SHARE, filled, option, place, resumable, scheduled

# --method -> its file (`psp.training.method.MethodModule`), which is imported on first use and needs no torch
METHODS = {
    "psp": "psp.training.methods.psp",
    "stylegan2": "psp.training.methods.stylegan2.build",
    "parser": "psp.training.methods.face_parser",
    "pix2pix": "psp.training.methods.pix2pix",
    "cyclegan": "psp.training.methods.cyclegan",
    "cgan": "psp.training.methods.cgan",
}
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """The options of every run; each field is a flag of `scripts/train.py`, by pSp's name where pSp has it."""

    dataset_type: str = option(DEFAULT_TASK, "task", choices=TASKS, group="what and where")
    method: str = option(
        "psp",
        "what to train: psp (encoder), stylegan2 (generator), parser (photo to label map), or picture to picture",
        choices=METHODS,
    )
    data_root: str = place(
        "",
        "folder or zip with train/ and test/, or just the two image folders (default: the examples)",
    )
    exp_dir: str = place(
        "",
        "results and checkpoints; the same folder again resumes (default: experiments/<name>)",
        resumable=True,
    )
    preset: Literal["small", "paper"] = resumable(
        "small",
        "of what is not given: small fine-tunes the bundled encoder where it fits, with a length by the data, "
        "hours at most; paper trains a new encoder for pSp's 500000 steps",
    )
    seed: int = option(0, "everything random follows from it", allowed=SEED)
    device: str = resumable("auto", "auto, cpu, cuda or cuda:N")
    precision: Precision = option("fp32", "autocast; fp16 on GPUs only; auto: bf16 where it is fast, else fp32")
    dry_run: bool = resumable(False, "print the resolved options and the data found, then stop")
    input_nc: int = filled(1, "input channels (default: from the task)")
    label_nc: int = filled(1, "0 photo, 1 sketch, >1 label classes (default: from the task)")

    batch_size: int = resumable(4, "training batch (of each process, with torchrun)", allowed=POSITIVE, group="data")
    test_batch_size: int = resumable(4, "validation batch", allowed=POSITIVE)
    workers: int = resumable(2, "loader processes for training (0: in the main process)", allowed=NOT_NEGATIVE)
    test_workers: int = resumable(0, "loader processes for validation", allowed=NOT_NEGATIVE)
    cache_mb: int = resumable(
        0,
        "decoded pixels kept in memory, up to this many megabytes; the loader processes share them",
        allowed=NOT_NEGATIVE,
    )
    resize_factors: str = filled("", "super-resolution factors, e.g. 1,2,4,8 (default: from the task)")
    label_resize: Literal["nearest", "bilinear"] = option(
        "nearest", "how label maps are resized; bilinear reproduces pSp"
    )
    label_map: str = place(
        "celebamask", "label numbering: celebamask, zllrunning, color or a JSON file (default: celebamask)"
    )
    fit: Literal["auto", "stretch", "crop", "letterbox"] = option("auto", "images that are not square")
    roughen: bool = option(
        True, "vary line width and ink, warp and erase training sketches, so that hand-drawn ones work"
    )
    sketch_styles: str = filled(
        "",
        "styles of the sketches drawn from photos, with weights, e.g. sobel=1,pencil=1,xdog=1,drawing=3; drawing needs "
        "label maps beside the photos, see scripts/prepare_data.py labels (default: the first three)",
    )
    draw_missing: bool = option(
        False, "draw the sketches of photos that have none beside them, instead of leaving these out"
    )
    unfinished: float = option(
        0.0, "share of training sketches that are only begun, as while somebody draws", allowed=SHARE
    )
    jitter: bool = option(False, "enlarge training images by 286/256 and cut at random, as pix2pix does")
    sample_weights: str = place(
        "", "JSON file: pattern of photos' names -> their sampling weight, see scripts/prepare_data.py weights"
    )

    learning_rate: float = filled(
        1e-4,
        "default: 1e-4 for psp, 3e-4 where it goes on from the bundled encoder, 2e-3 for stylegan2 and parser, else "
        "2e-4",
        allowed=RATE,
        group="optimisation",
    )
    max_steps: int = scheduled(
        "default: 100 times through the data, at least 300 steps, at most 20000 on a CPU and 100000 on a GPU; on the "
        "examples 300",
    )
    epochs: int = scheduled(
        "stop when every image was seen this often, if --max_steps is not before (default: --max_steps alone)",
    )
    grad_accumulation: int = resumable(1, "batches per optimiser step", allowed=POSITIVE)
    sync_bn: bool = option(False, "with torchrun: BatchNorm over the images of all processes, not each one's own")
    max_bad_steps: int = resumable(
        5, "stop after this many steps in a row with a NaN or infinite loss", allowed=POSITIVE
    )

    image_interval: int = scheduled(
        "steps between image grids (default: a tenth of them all, 100 to 2000)",
        group="schedule and logs",
    )
    board_interval: int = scheduled("steps between log lines (default: 10 to 50)")
    val_interval: int = scheduled("steps between validations (default: a twentieth of them all, 50 to 1000)")
    save_interval: int = scheduled("steps between checkpoints (default: as --val_interval's)")
    save_minutes: float = resumable(
        10.0,
        "minutes after which last.pt is written, whatever --save_interval says (0: never)",
        allowed=NOT_NEGATIVE,
    )
    keep_checkpoints: int = resumable(3, "numbered checkpoints to keep", allowed=POSITIVE)
    use_wandb: bool = resumable(False, "log to Weights & Biases, too (WANDB_MODE=offline: to files only)")

    @property
    def task(self) -> Task:
        """The task of `dataset_type`."""
        return get_task(self.dataset_type)

    def check(self) -> None:
        """UserError where options contradict the task, or need what is not installed."""
        task = self.task
        if self.use_wandb and importlib.util.find_spec("wandb") is None:
            raise UserError(
                "--use_wandb needs the package wandb (pip install wandb)",
                "without it there is TensorBoard, in EXP_DIR/logs",
            )
        if (self.input_nc, self.label_nc) != (task.input_nc, task.label_nc):
            raise UserError(
                f"--input_nc {self.input_nc} --label_nc {self.label_nc} do not fit {task.name}, "
                f"which has --input_nc {task.input_nc} --label_nc {task.label_nc}",
                "leave both flags out",
            )
