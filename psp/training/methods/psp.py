"""`--method psp`: an encoder to W+ in front of a frozen generator. Its options, and how it is built; no torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from psp.errors import UserError
from psp.tasks import LAMBDAS, IdNet, LpipsNet, Task
from psp.training.config import Config
from psp.training.decay import DecayOptions
from psp.training.method import Built
from psp.training.networks import Networks
from psp.training.options import POSITIVE, filled, option, place, resumable, weight
from psp.training.saved_options import saved
from psp.weights.places import BUNDLED, BUNDLED_GENERATOR

if TYPE_CHECKING:
    import torch
    from torch import nn

    from psp.models.psp import PSP
    from psp.networks.stylegan2 import Generator
    from psp.weights.load import GeneratorFile

INTO_W = "BackboneEncoderUsingLastLayerIntoW"  # what learn_in_w means
COMPACT_UP_TO = 128  # px; before larger generators pSp's own encoder is the default


@dataclass(frozen=True, kw_only=True)
class Options(DecayOptions):
    """Options of encoder training, most of them pSp's."""

    encoder_type: str = filled(
        "",
        "encoder class, see psp/networks/encoders.py (default: CompactStyleEncoder for generators up "
        "to 128 px, GradualStyleEncoder above)",
    )
    output_size: int = filled(0, "output side in pixels (default: the generator's)", allowed=POSITIVE)
    stylegan_weights: str = place("", "pretrained generator (default: the bundled one)")
    irse50_weights: str = place(
        "", "model_ir_se50.pth to start the encoder from, as pSp does, or the checkpoint of another task's encoder"
    )
    checkpoint_path: str = place("", "weights to start from (a pSp checkpoint or one of ours)")
    from_scratch: bool = resumable(False, "a new encoder, also where the bundled one could be fine-tuned")
    train_decoder: bool = option(False, "train the generator as well")
    start_from_latent_avg: bool = option(True, "predict the difference to the average latent")
    learn_in_w: bool = option(False, "one style for all layers (encoder IntoW)")
    optim_name: Literal["ranger", "adam"] = option("ranger", "optimiser")
    gradient_checkpointing: bool = resumable(
        False, "keep fewer activations and compute them again, for cards with little memory; the same gradients"
    )
    lpips_lambda: float = weight(0.8, "LPIPS weight (default: from the task)", filled=True)
    id_lambda: float = weight(0.0, "identity weight (default: from the task)", filled=True)
    l2_lambda: float = weight(1.0, "L2 weight (default: from the task)", filled=True)
    w_norm_lambda: float = weight(
        0.0, "weight of the distance to the average latent (default: from the task)", filled=True
    )
    lpips_lambda_crop: float = weight(0.0, "LPIPS weight on the inner face (default: from the task)", filled=True)
    l2_lambda_crop: float = weight(0.0, "L2 weight on the inner face (default: from the task)", filled=True)
    moco_lambda: float = weight(0.0, "MoCo similarity weight, for domains that are not faces (default: 0)", filled=True)
    parsing_lambda: float = weight(
        0.0,
        "weight of what the face parser finds in the output, against the label map or the target photo (default: 0)",
        filled=True,
    )
    lpips_net: LpipsNet = option("alex", "LPIPS network")
    id_net: IdNet = option("dlib", "identity network")
    use_latent_mask: bool = option(
        False, "take the fine layers' codes from the target's own code while training (against dull averaged colours)"
    )
    code_lambda: float = weight(
        0.0,
        "weight of the distance of the codes to the target's own code, for short trainings; with --use_latent_mask "
        "the fine layers learn from it alone",
    )
    latent_mask: str = filled("", "the layers for --use_latent_mask, e.g. 8-17 (default: from the task)")

    @property
    def losses(self) -> dict[str, float]:
        """The pSp lambdas by name."""
        return {name: float(getattr(self, name)) for name in LAMBDAS}

    @classmethod
    def defaults(cls, given: Mapping[str, Any], task: Task, *, examples: bool) -> dict[str, Any]:
        """The task's losses, unless one is given: who names one weight means pSp's defaults for the others.

        What fits on a small machine teaches a new encoder little, so the bundled one is fine-tuned, unless the flags
        name other weights or another encoder, or ask for a new one.
        """
        values: dict[str, Any] = {"exp_dir": f"experiments/{task.name}"}
        if not any(name in given for name in LAMBDAS):
            values |= {name: task.losses.get(name, 0.0) for name in LAMBDAS}
        chosen = {"checkpoint_path", "stylegan_weights", "encoder_type", "irse50_weights"} & given.keys()
        new = given.get("from_scratch") or given.get("learn_in_w") or given.get("preset") == "paper"
        if task.name in BUNDLED and not chosen and not new and given.get("start_from_latent_avg", True):
            values |= {"checkpoint_path": str(BUNDLED[task.name]), "learning_rate": 3e-4}
        return values

    @classmethod
    def idle(cls, given: Mapping[str, Any]) -> Collection[str]:
        return () if given.get("use_latent_mask") else ("latent_mask",)

    def check(self, config: Config) -> None:
        if not any(self.losses.values()):
            raise UserError("every loss weight is 0: set --l2_lambda or --lpips_lambda above 0")
        if self.checkpoint_path and (self.stylegan_weights or self.irse50_weights):
            raise UserError("--checkpoint_path holds all weights", "leave --stylegan_weights and --irse50_weights out")
        if self.checkpoint_path and self.from_scratch:
            raise UserError("--from_scratch asks for a new encoder", "leave it or --checkpoint_path out")
        if self.learn_in_w and self.encoder_type not in ("", INTO_W):
            raise UserError(f"--learn_in_w needs --encoder_type {INTO_W}, not {self.encoder_type}")


def build(config: Config, options: Options, *, device: torch.device, networks: Networks) -> Built:
    """Encoder, frozen generator, objective and optimiser."""
    from psp.models.mixing import fine_layers, parse_layers
    from psp.training.gradient_checkpointing import recompute_activations
    from psp.training.methods.psp_step import PspMethod
    from psp.training.ranger import make_optimizer

    task = config.task
    model, start = _continued(config, options) if options.checkpoint_path else _new(config, options)
    if options.output_size not in (0, model.output_size):
        raise UserError(
            f"--output_size {options.output_size}, but the generator makes {model.output_size} px", "leave the flag out"
        )
    options = dataclasses.replace(
        options,
        output_size=model.output_size,
        encoder_type=type(model.encoder).__name__,
        start_from_latent_avg=model.start_from_latent_avg,
    )
    print(f"{task.name}: {start}, {model.output_size} px, on {device}")
    model.config |= saved(config, options)
    model.to(device)
    if (options.use_latent_mask or options.code_lambda) and model.photo_encoder is None and task.source != "photo":
        raise UserError(
            "--use_latent_mask and --code_lambda need a generator with a photo encoder (one trained with --guide)"
        )
    own_fine_layers: list[int] = []
    if options.use_latent_mask:
        mask, n = options.latent_mask, model.n_styles
        own_fine_layers = parse_layers(mask, n) if mask else [] if task.source == "photo" else fine_layers(n)
    if options.gradient_checkpointing:
        recompute_activations(model)
    method = PspMethod(
        model,
        networks.objective(options.losses, lpips_net=options.lpips_net, id_net=options.id_net),
        make_optimizer(options.optim_name, model.parameters(), config.learning_rate),
        task=task,
        precision=config.precision,
        own_fine_layers=own_fine_layers,
        code_lambda=options.code_lambda,
        decay=(options.decay_from, options.decay_until),
    )
    return method, options


def _continued(config: Config, options: Options) -> tuple[PSP, str]:
    """The model of `--checkpoint_path`, and a phrase that says where it comes from."""
    from psp.weights.load import load_model

    task, path = config.task, options.checkpoint_path
    model = load_model(path)
    encoder_type = type(model.encoder).__name__
    if options.encoder_type not in ("", encoder_type):
        raise UserError(f"--encoder_type {options.encoder_type}, but {path} holds a {encoder_type}")
    if model.refines:
        raise UserError(f"{path} is a ReStyle model, which cannot be fine-tuned here, only used")
    if options.learn_in_w and encoder_type != INTO_W:
        raise UserError(f"--learn_in_w, but {path} holds a {encoder_type}", "leave the flag out")
    if model.start_from_latent_avg and not options.start_from_latent_avg:
        raise UserError(f"--start_from_latent_avg false, but {path} was trained with it", "leave the flag out")
    if model.input_nc != task.input_nc:
        raise UserError(f"{path} takes {model.input_nc}-channel input, {task.name} gives {task.input_nc}")
    continued = _assembled(config, options, model.encoder, model.decoder, model)
    if mask := model.config.get("latent_mask"):  # its style mixing stays as it is
        continued.config["latent_mask"] = mask
    bundled = Path(path) == BUNDLED.get(task.name)
    start = f"the bundled encoder ({Path(path).name}; --from_scratch begins with a new one)" if bundled else path
    return continued, f"going on from {start}"


def _new(config: Config, options: Options) -> tuple[PSP, str]:
    """A new encoder in front of the generator of `--stylegan_weights`, and a phrase that says how it starts."""
    from psp.models.psp import build_encoder, parameter_count
    from psp.training.methods.psp_step import start_from_tensors
    from psp.weights.formats import read_weights
    from psp.weights.load import load_generator

    task = config.task
    weights = options.stylegan_weights or str(BUNDLED_GENERATOR)
    file = load_generator(weights)
    decoder = file.generator
    small = "CompactStyleEncoder" if decoder.size <= COMPACT_UP_TO else "GradualStyleEncoder"
    encoder_type = INTO_W if options.learn_in_w else options.encoder_type or small
    encoder = build_encoder(encoder_type, decoder.n_styles, task.input_nc, decoder.style_dim)
    start = f"a new {encoder_type} ({parameter_count(encoder) / 1e6:.1f} M parameters)"
    if options.irse50_weights:
        other = read_weights(options.irse50_weights)
        n = start_from_tensors(encoder, other.part("encoder") or other.tensors, label_nc=task.label_nc)
        start += f", {n} tensors from {options.irse50_weights}"
    return _assembled(config, options, encoder, decoder, file), f"{start}, generator {weights}"


def _assembled(
    config: Config, options: Options, encoder: nn.Module, decoder: Generator, beside: PSP | GeneratorFile
) -> PSP:
    """Encoder and generator as the options have them, with what lies beside the generator."""
    from psp.models.psp import PSP

    return PSP(
        encoder,
        decoder,
        latent_avg=beside.latent_avg,
        task=config.task,
        start_from_latent_avg=getattr(beside, "start_from_latent_avg", options.start_from_latent_avg),
        train_decoder=options.train_decoder,
        photo_encoder=beside.photo_encoder,
        style_bank=beside.style_bank,
    )
