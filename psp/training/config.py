"""Training options: one frozen dataclass whose fields are the flags of `scripts/train.py`, by pSp's names."""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psp.cli import Parser, add_bool
from psp.errors import UserError, shown
from psp.tasks import IMAGE_GANS, LAMBDAS, TASKS

METHODS = ("psp", "stylegan2", "parser", *IMAGE_GANS)

MAX_CONFIG_BYTES = 1 << 16


def option(default: Any, help: str, choices: Sequence[str] | None = None) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class TrainConfig:
    """Everything a training run depends on. None means "fill from the task, the data or the device" (see `resolve`)."""

    # what and where
    dataset_type: str = option("celebs_sketch_to_face", "task", tuple(TASKS))
    method: str = option(
        "psp",
        "what to train: psp (encoder), stylegan2 (generator), parser (photo to label map), or picture to picture",
        METHODS,
    )
    data_root: str | None = option(
        None,
        "folder or zip with train/ and test/, or just the two image folders, or tar shards such as "
        "faces-{0000..0012}.tar with key.sketch.png and key.photo.jpg (default: the examples)",
    )
    exp_dir: str | None = option(
        None, "results and checkpoints; the same folder again resumes (default: experiments/<name>)"
    )
    seed: int = option(0, "everything random follows from it")
    device: str = option("auto", "auto, cpu, cuda or cuda:N")
    precision: str = option(
        "fp32", "autocast; fp16 on GPUs only; auto: bf16 where it is fast, else fp32", ("auto", "fp32", "bf16", "fp16")
    )
    dry_run: bool = option(False, "print the resolved options and the data found, then stop")

    # model
    encoder_type: str | None = option(
        None,
        "encoder class, see psp/networks/encoders.py (default: CompactStyleEncoder for generators up "
        "to 128 px, GradualStyleEncoder above)",
    )
    input_nc: int | None = option(None, "input channels (default: from the task)")
    label_nc: int | None = option(None, "0 photo, 1 sketch, >1 label classes (default: from the task)")
    output_size: int | None = option(None, "output side in pixels (default: the generator's)")
    stylegan_weights: str | None = option(None, "pretrained generator (default: the bundled one)")
    irse50_weights: str | None = option(
        None, "model_ir_se50.pth to start the encoder from, as pSp does, or the checkpoint of another task's encoder"
    )
    checkpoint_path: str | None = option(None, "weights to start from (a pSp checkpoint or one of ours)")
    train_decoder: bool = option(False, "train the generator as well")
    start_from_latent_avg: bool = option(True, "predict the difference to the average latent")
    learn_in_w: bool = option(False, "one style for all layers (encoder IntoW)")

    # data
    batch_size: int = option(4, "training batch (of each process, with torchrun)")
    test_batch_size: int = option(4, "validation batch")
    workers: int = option(2, "loader processes for training (0: in the main process)")
    test_workers: int = option(0, "loader processes for validation")
    cache_mb: int = option(
        0, "decoded pixels kept in memory, up to this many megabytes; the loader processes share them"
    )
    resize_factors: str | None = option(None, "super-resolution factors, e.g. 1,2,4,8 (default: from the task)")
    label_resize: str = option(
        "nearest", "how label maps are resized; bilinear reproduces pSp", ("nearest", "bilinear")
    )
    label_map: str = option("celebamask", "label numbering: celebamask, zllrunning, color or a JSON file")
    fit: str = option("auto", "images that are not square", ("auto", "stretch", "crop", "letterbox"))
    roughen: bool = option(
        True, "vary line width and ink, warp and erase training sketches, so that hand-drawn ones work"
    )
    sketch_styles: str | None = option(
        None,
        "styles of the sketches drawn from photos, with weights, e.g. sobel=1,pencil=1,xdog=1,drawing=3; drawing needs "
        "label maps beside the photos, see scripts/prepare_data.py labels (default: the first three)",
    )
    unfinished: float = option(0.0, "share of training sketches that are only begun, as while somebody draws")
    sample_weights: str | None = option(
        None, "JSON file: pattern of photos' names -> how often an epoch has them, see scripts/prepare_data.py weights"
    )

    # optimisation
    learning_rate: float | None = option(
        None, "default: 1e-4 for psp, 3e-4 for its short run on the examples, 2e-3 for stylegan2 and parser, else 2e-4"
    )
    optim_name: str = option("ranger", "optimiser of psp", ("ranger", "adam"))
    max_steps: int | None = option(None, "default: 500000, or a short schedule when the example data is used")
    epochs: int | None = option(None, "stop when every image was seen this often, if --max_steps is not before")
    grad_accumulation: int = option(1, "batches per optimiser step")
    sync_bn: bool = option(False, "with torchrun: BatchNorm over the images of all processes, not each one's own")
    gradient_checkpointing: bool = option(
        False, "psp: keep fewer activations and compute them again, for cards with little memory; the same gradients"
    )
    max_bad_steps: int = option(5, "stop after this many steps in a row with a NaN or infinite loss")
    lpips_lambda: float | None = option(None, "LPIPS weight")
    id_lambda: float | None = option(None, "identity weight (with --guide, too)")
    l2_lambda: float | None = option(None, "L2 weight")
    w_norm_lambda: float | None = option(None, "weight of the distance to the average latent")
    lpips_lambda_crop: float | None = option(None, "LPIPS weight on the inner face")
    l2_lambda_crop: float | None = option(None, "L2 weight on the inner face")
    moco_lambda: float | None = option(None, "MoCo similarity weight, for domains that are not faces")
    lpips_net: str = option("alex", "LPIPS network", ("alex", "vgg"))
    id_net: str = option("dlib", "identity network", ("dlib", "ir_se50", "facenet"))
    parsing_lambda: float | None = option(
        None,
        "weight of what the face parser finds in the output, against the label map or the target photo (with "
        "--guide, too)",
    )
    use_latent_mask: bool = option(
        False, "take the fine layers' codes from the target's own code while training (against dull averaged colours)"
    )
    code_lambda: float = option(
        0.0, "weight of the distance of the structure layers' codes to the target's own code, for short trainings"
    )
    latent_mask: str | None = option(None, "the layers for --use_latent_mask, e.g. 8-17 (default: from the task)")

    # picture to picture (--method pix2pix, cyclegan, cgan; they use --size, too)
    width: int | None = option(None, "channels after the first convolution (default: 64, cgan 32)")
    blocks: int | None = option(None, "residual blocks of cyclegan and cgan (default: 9 above 128 px, else 6)")
    norm: str | None = option(None, "normalisation (default: batch, cyclegan instance)", ("batch", "instance"))
    dropout: bool | None = option(None, "drop half of some layers' values while training (default: pix2pix alone)")
    jitter: bool = option(False, "enlarge training images by 286/256 and cut at random, as in the papers")
    beta1: float = option(0.5, "Adam's momentum")
    decay_from: int | None = option(None, "step from which the learning rate falls linearly (default: half of them)")
    decay_until: int | None = option(None, "step at which it would reach zero (default: --max_steps)")
    l1_lambda: float = option(100.0, "pix2pix, cgan: weight of the distance to the target")
    cycle_lambda: float = option(10.0, "cyclegan: weight of the way there and back")
    identity_lambda: float = option(0.5, "cyclegan: weight, as a share of --cycle_lambda, of leaving targets alone")
    pool_size: int = option(50, "cyclegan: earlier images that the discriminators are shown again")

    # schedule and logs
    image_interval: int | None = option(None, "steps between image grids")
    board_interval: int | None = option(None, "steps between log lines")
    val_interval: int | None = option(None, "steps between validations")
    save_interval: int | None = option(None, "steps between checkpoints")
    keep_checkpoints: int = option(3, "numbered checkpoints to keep")
    use_wandb: bool = option(False, "log to Weights & Biases, too (WANDB_MODE=offline: to files only)")

    # generator training (--method stylegan2)
    size: int | None = option(
        None,
        "generator side in pixels (default: 128, or that of --stylegan_weights; a larger one grows it; 256 for "
        "pix2pix and cyclegan)",
    )
    style_dim: int = option(512, "length of z and w")
    n_mlp: int = option(8, "layers of the mapping network")
    lr_mlp: float = option(0.01, "learning-rate factor of the mapping network")
    channels: str | None = option(
        None,
        "channels at 4, 8, 16, ... px, e.g. 256,256,256,128,32,16; weights that are narrower are widened without "
        "changing their pictures (default: from --channel_base and --channel_max)",
    )
    channel_base: int = option(16384, "channels at resolution r are channel_base / r, at most channel_max")
    channel_max: int = option(512, "widest layer")
    discriminator: str = option(
        "residual",
        "residual: StyleGAN2's; projected: small networks on the features of EfficientNet-lite0, which learn faster "
        "from little (Projected GANs); always projected with --guide",
        ("residual", "projected"),
    )
    r1_gamma: float | None = option(None, "weight of the R1 gradient penalty (default: 1, projected 0)")
    r1_interval: int = option(16, "steps between R1 penalties")
    path_lambda: float = option(2.0, "weight of path-length regularisation (0: off)")
    path_interval: int = option(4, "steps between path-length penalties")
    mixing_prob: float = option(0.9, "probability of style mixing")
    ema_kimg: float = option(10.0, "half-life of the generator average, in thousands of images")
    augment: str = option("diffaugment", "what the discriminator sees", ("none", "diffaugment", "ada"))
    ada_target: float = option(0.6, "ada: share of training images the discriminator is sure of")
    guide: str = option(
        "none",
        "encoders that are trained with the generator, for a fast start on small hardware: photo alone, or structure "
        "from the task's source and colours from the photo; none is plain StyleGAN2",
        ("none", "photo", "source"),
    )
    discriminator_rate: float = option(5e-4, "with --guide: learning rate of the discriminator")
    discriminator_first: int = option(40, "with --guide: steps in which the discriminator learns alone")
    adversarial_share: float = option(
        0.6, "with --guide: length of the adversarial gradient at the images, as a share of the other losses'"
    )
    adversarial_floor: float = option(0.2, "with --guide: the adversarial loss weighs at least this much")
    feature_lambda: float = option(1.0, "with --guide: weight of the distance of the discriminator's frozen features")
    static_lambda: float = option(
        1.0, "with --guide: weight of fine detail that all images have in common, against fixed patterns"
    )

    @property
    def losses(self) -> dict[str, float]:
        """The pSp lambdas by name."""
        return {
            f.name: getattr(self, f.name) or 0.0
            for f in dataclasses.fields(self)
            if "_lambda" in f.name and f.name in LAMBDAS
        }


def build_parser() -> Parser:
    """Flags made from the fields of `TrainConfig`, and `--config FILE`. Those not given are not in the namespace."""
    parser = Parser(
        description="Train a pSp encoder, the StyleGAN2 generator behind it, or one of the methods before it: "
        "pix2pix, CycleGAN, a conditional GAN. Without flags: the bundled generator and the example data."
    )
    parser.add_argument(
        "--config",
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="YAML or JSON file with any of these options; flags win",
    )
    hints = typing.get_type_hints(TrainConfig)
    for f in dataclasses.fields(TrainConfig):
        kind = _plain_type(hints[f.name])
        text = f.metadata["help"]
        shown = f"{text} [{f.default}]" if f.default is not None else text
        if kind is bool:
            add_bool(parser, f.name, None, shown).default = argparse.SUPPRESS
        else:
            parser.add_argument(
                f"--{f.name}",
                type=kind,
                choices=f.metadata["choices"],
                default=argparse.SUPPRESS,
                metavar=None if f.metadata["choices"] else kind.__name__.upper(),
                help=shown.replace("%", "%%"),
            )
    return parser


def parse(argv: Sequence[str] | None = None) -> TrainConfig:
    """Command line -> config; `--config` first, then flags."""
    given = vars(build_parser().parse_args(argv))
    path = given.pop("config", None)
    values = read_config(path) if path else {}
    return from_mapping({**values, **given}, where=str(path or "command line"))


def read_config(path: str | Path) -> dict[str, Any]:
    """Options of a YAML or JSON file; UserError when it is missing, malformed, or not a flat mapping."""
    from psp.files import read_json, read_text, read_yaml  # which need numpy

    read = read_json if Path(path).suffix == ".json" else read_yaml
    name = f"--config {path}"
    values = read(read_text(path, most=MAX_CONFIG_BYTES, name=name), where=name)
    if not isinstance(values, Mapping):
        raise UserError(f"--config {path} must hold a mapping of option names to values")
    return {str(key): value for key, value in values.items()}


def from_mapping(values: Mapping[str, Any], *, where: str) -> TrainConfig:
    """Config from names and values, types checked; UserError naming the unknown or ill-typed one."""
    hints = typing.get_type_hints(TrainConfig)
    fields = {f.name: f for f in dataclasses.fields(TrainConfig)}
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in fields:
            raise UserError(f"{where}: unknown option {shown(name)}; scripts/train.py --help lists all")
        kind = _plain_type(hints[name])
        if value is None and type(None) in typing.get_args(hints[name]):
            continue
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value) if abs(value) < 2**1000 else float("inf")
        if kind is float and isinstance(value, str):  # YAML reads 1e-4 as text
            try:
                value = float(value)
            except ValueError:
                pass
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UserError(f"{where}: {name} is {shown(value)}, expected {kind.__name__}")
        choices = fields[name].metadata["choices"]
        if choices and value not in choices:
            raise UserError(f"{where}: {name} is {shown(value)}; choose one of: {', '.join(choices)}")
        checked[name] = value
    return TrainConfig(**checked)


def _plain_type(hint: Any) -> type:
    if isinstance(hint, types.UnionType):
        return next(t for t in typing.get_args(hint) if t is not type(None))
    return hint
