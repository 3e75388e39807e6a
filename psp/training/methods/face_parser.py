"""`--method parser`: the face parser, photo to label map. Its options, and how it is built; no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psp.errors import UserError
from psp.tasks import Task
from psp.training.config import Config
from psp.training.method import Built, MethodOptions
from psp.training.networks import Networks
from psp.training.options import place

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Options(MethodOptions):
    """Options of face parser training."""

    checkpoint_path: str = place("", "weights to start from (a face parser)")

    @classmethod
    def defaults(cls, given: Mapping[str, Any], task: Task, *, examples: bool) -> dict[str, Any]:
        return {"learning_rate": 2e-3}

    def check(self, config: Config) -> None:
        if config.task.source != "labels":
            raise UserError(
                f"--method parser learns from label maps: --dataset_type celebs_seg_to_face, not {config.dataset_type}"
            )
        if config.precision == "fp16":
            raise UserError("--precision fp16 needs a loss scale, which --method parser has not", "use bf16 or fp32")


def build(config: Config, options: Options, *, device: torch.device, networks: Networks) -> Built:
    """The face parser, new or from `--checkpoint_path`, on the pairs of the label-map task."""
    from psp.training.methods.face_parser_step import ParserMethod
    from psp.weights.face_parser import load_face_parser

    path = options.checkpoint_path
    method = ParserMethod(config, device=device, start=load_face_parser(path) if path else None)
    print(f"face parser: {'continuing from ' + path if path else 'new'}, on {device}")
    return method, options
