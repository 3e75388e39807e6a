"""Options of `--method stylegan2`: a generator, alone or together with encoders. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from psp.errors import UserError
from psp.tasks import IdNet, LpipsNet, Task, get_task
from psp.training.config import Config
from psp.training.decay import DecayOptions
from psp.training.method import DataSpec
from psp.training.methods.stylegan2.rows import MIN_BATCH
from psp.training.options import FACTOR, NOT_NEGATIVE, POSITIVE, RATE, SHARE, filled, option, place, weight

ALONE = (  # options of a generator that is trained without encoders
    "discriminator", "r1_gamma", "r1_interval", "path_lambda", "path_interval", "mixing_prob", "augment", "ada_target",
)  # fmt: skip
GUIDED = (  # of one that is trained with them
    "irse50_weights", "discriminator_rate", "discriminator_first", "decay_from", "decay_until", "adversarial_share",
    "adversarial_floor", "feature_lambda", "lpips_lambda", "lpips_net", "id_lambda", "id_net", "parsing_lambda",
    "static_lambda",
)  # fmt: skip
NEW_SIZE = 128  # px of a generator where nothing says another size
PHOTOS_ALONE = "ffhq_encode"  # the task whose data a generator without structure encoder reads, whatever the task


@dataclass(frozen=True, kw_only=True)
class Options(DecayOptions):
    """Options of generator training, alone or, with `guide`, together with encoders."""

    size: int = filled(
        0,
        "generator side in pixels (default: 128, or that of --stylegan_weights; a larger one grows it)",
        allowed=POSITIVE,
    )
    stylegan_weights: str = place("", "generator to go on from (default: a new one)")
    style_dim: int = option(512, "length of z and w", allowed=POSITIVE)
    n_mlp: int = option(8, "layers of the mapping network", allowed=POSITIVE)
    lr_mlp: float = option(0.01, "learning-rate factor of the mapping network", allowed=FACTOR)
    channels: str = filled(
        "",
        "channels at 4, 8, 16, ... px, e.g. 256,256,256,128,32,16; weights that are narrower are widened without "
        "changing their pictures (default: from --channel_base and --channel_max)",
    )
    channel_base: int = option(16384, "channels at resolution r are channel_base / r, at most channel_max")
    channel_max: int = option(512, "widest layer", allowed=POSITIVE)
    discriminator: Literal["residual", "projected"] = option(
        "residual",
        "residual: StyleGAN2's; projected: small networks on the features of EfficientNet-lite0, which learn faster "
        "from little (Projected GANs); always projected with --guide",
    )
    r1_gamma: float = weight(1.0, "weight of the R1 gradient penalty (default: 1, projected 0)", filled=True)
    r1_interval: int = option(16, "steps between R1 penalties", allowed=POSITIVE)
    path_lambda: float = weight(2.0, "weight of path-length regularisation (0: off)")
    path_interval: int = option(4, "steps between path-length penalties", allowed=POSITIVE)
    mixing_prob: float = option(0.9, "probability of style mixing", allowed=SHARE)
    ema_kimg: float = option(10.0, "half-life of the generator average, in thousands of images", allowed=NOT_NEGATIVE)
    augment: Literal["none", "diffaugment", "ada"] = option("diffaugment", "what the discriminator sees")
    ada_target: float = option(0.6, "ada: share of training images the discriminator is sure of", allowed=SHARE)
    guide: Literal["none", "photo", "source"] = option(
        "none",
        "encoders that are trained with the generator, for a fast start on small hardware: photo alone, or structure "
        "from the task's source and colours from the photo; none is plain StyleGAN2",
    )
    irse50_weights: str = place(
        "", "with --guide source: checkpoint to start the structure encoder from (default: that of --stylegan_weights)"
    )
    discriminator_rate: float = option(5e-4, "with --guide: learning rate of the discriminator", allowed=RATE)
    discriminator_first: int = option(
        40, "with --guide: steps in which the discriminator learns alone", allowed=NOT_NEGATIVE
    )
    adversarial_share: float = option(
        0.6,
        "with --guide: length of the adversarial gradient at the images, as a share of the other losses'",
        allowed=NOT_NEGATIVE,
    )
    adversarial_floor: float = option(
        0.2, "with --guide: the adversarial loss weighs at least this much", allowed=NOT_NEGATIVE
    )
    feature_lambda: float = weight(1.0, "with --guide: weight of the distance of the discriminator's frozen features")
    lpips_lambda: float = weight(0.25, "with --guide: LPIPS weight (default: 0.25)", filled=True)
    lpips_net: LpipsNet = option("alex", "LPIPS network")
    id_lambda: float = weight(0.2, "with --guide: identity weight (default: 0.2)", filled=True)
    id_net: IdNet = option("dlib", "identity network")
    parsing_lambda: float = weight(
        0.1, "with --guide: weight of what the face parser finds in the output (default: 0.1)", filled=True
    )
    static_lambda: float = weight(
        1.0, "with --guide: penalty on fine detail that all images have in common (fixed patterns)"
    )

    @classmethod
    def defaults(cls, given: Mapping[str, Any], task: Task, *, examples: bool) -> dict[str, Any]:
        return {"learning_rate": 2e-3, "r1_gamma": 0.0 if given.get("discriminator") == "projected" else 1.0}

    @classmethod
    def idle(cls, given: Mapping[str, Any]) -> Collection[str]:
        return GUIDED if given.get("guide", "none") == "none" else ALONE

    def check(self, config: Config) -> None:
        if config.precision == "fp16":
            raise UserError("--precision fp16 loses the small gradients of a discriminator", "use bf16 or fp32")
        images = config.batch_size * config.grad_accumulation
        if self.guide != "none" and images < MIN_BATCH:
            raise UserError(f"--guide {self.guide} needs {MIN_BATCH} images a step, not {images}: raise --batch_size")
        if self.channels:
            parse_channels(self.channels)

    def data(self, config: Config) -> DataSpec:
        """Photos as large as the generator; with a structure encoder also the task's source, and label maps."""
        side = self.size or self._side_of_weights()
        if self.guide != "source":
            return DataSpec(task=get_task(PHOTOS_ALONE), size=side, target_size=side)
        return DataSpec(task=config.task, target_size=side, labels=self.parsing_lambda > 0)

    def _side_of_weights(self) -> int:
        """Of the generator in --stylegan_weights, or of a new one."""
        from psp.weights.load import load_generator

        return load_generator(self.stylegan_weights).generator.size if self.stylegan_weights else NEW_SIZE


def parse_channels(text: str) -> dict[int, int]:
    """`--channels`: "256,256,128" -> {4: 256, 8: 256, 16: 128}; UserError for anything else."""
    widths = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and 0 < int(part) <= 4096 for part in widths) or not 2 <= len(widths) <= 9:
        raise UserError(
            f"--channels {text!r} must be 2 to 9 numbers from 1 to 4096, those at 4, 8, 16, ... px, "
            f"for instance 256,256,256,128,32,16"
        )
    return {4 << k: int(part) for k, part in enumerate(widths)}
