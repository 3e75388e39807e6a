"""Train a pSp encoder, the StyleGAN2 generator behind it, or pix2pix, CycleGAN, a conditional GAN. Without flags:
bundled generator and example data."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dataclasses
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from psp.errors import UserError, run_main
from psp.tasks import get_task
from psp.training.config import TrainConfig, parse
from psp.training.resolve import resolve, schedule

if TYPE_CHECKING:
    import torch
    from torch import nn

    from psp.batch import Batch
    from psp.networks.stylegan2 import Generator
    from psp.networks.stylegan2_discriminator import Discriminator
    from psp.training.method import Method
    from psp.weights.formats import Weights

CHECKOUT = Path(__file__).resolve().parents[1]
EXAMPLES = CHECKOUT / "examples" / "train_data"


def main() -> int:
    config = parse()
    examples = config.data_root is None
    config = resolve(
        dataclasses.replace(
            config,
            data_root=config.data_root or str(EXAMPLES),
            checkpoint_path=example_start(config) if examples else config.checkpoint_path,
            exp_dir=config.exp_dir or f"experiments/{_run_name(config)}",
        ),
        examples=examples,
    )

    from psp.device import allow_tf32, autocast, pick_device, warn_of_slow_precision
    from psp.training.distributed import local_rank, process_group

    device = pick_device(config.device, local_rank())
    autocast(device, config.precision)  # complains before the data is read
    warn_of_slow_precision(device, config.precision)
    if device.type == "cuda":
        rounded = "rounded to TF32" if allow_tf32(config.precision) else "not rounded to TF32"
        print(f"--precision {config.precision}: products of float32 are {rounded}")
    with process_group(device):
        return train(config, device, examples=examples)


def train(config: TrainConfig, device: torch.device, *, examples: bool) -> int:
    """One run from data to checkpoints, in each process of it."""
    import torch

    from datasets.sample_weights import epoch_length
    from datasets.training_data import open_data, training_weights
    from psp.files import make_folder
    from psp.training.distributed import rank, share_batch_norms, world_size

    if not config.dry_run:
        make_folder(str(config.exp_dir))
    if examples:
        print(
            f"no --data_root: training on the {EXAMPLES.relative_to(CHECKOUT)} portraits for {config.max_steps} steps"
        )
    training, test = open_data(config)
    weights = training_weights(config, training)
    config = schedule(config, epoch_length(weights) if weights is not None else len(training), ranks=world_size())
    torch.manual_seed(config.seed)
    build = {"psp": build_psp, "stylegan2": build_stylegan2, "parser": build_parser}.get(config.method, build_image_gan)
    if config.dry_run:
        print(json.dumps(dataclasses.asdict(config), indent=2))
        return 0
    method, config = build(config, device)
    if config.sync_bn:
        share_batch_norms(method.networks_in_step())

    from datasets.loader import eval_loader, train_loader
    from psp.training.loop import Trainer

    share: dict[str, Any] = {"rank": rank(), "world": world_size()}
    options: dict[str, Any] = {"seed": config.seed, "workers": config.workers, "weights": weights, **share}
    options["pin_memory"] = device.type == "cuda"
    test.fill(training.fill())

    def batches(start: int) -> Iterator[Batch]:
        return iter(train_loader(training, config.batch_size, step=start, **options))

    trainer = Trainer(
        method,
        config,
        batches=batches,
        exp_dir=str(config.exp_dir),
        device=device,
        validation=lambda: eval_loader(test, config.test_batch_size, workers=config.test_workers, **share),
    )
    status = trainer.run()
    curves = trainer.exp_dir / "loss_curves.png"
    print(f"checkpoints: {trainer.checkpoints}   pictures: {trainer.images}   curves: {curves}")
    return status


def example_start(config: TrainConfig) -> str | None:
    """What a run on the example portraits starts from: 48 pairs teach a new encoder little, so the bundled one is
    trained on, unless the flags name other weights or another encoder."""
    from psp.weights.load import BUNDLED

    chosen = config.checkpoint_path or config.stylegan_weights or config.encoder_type or config.irse50_weights
    if chosen or config.learn_in_w or config.method != "psp" or config.dataset_type not in BUNDLED:
        return config.checkpoint_path
    return str(BUNDLED[config.dataset_type])


def build_psp(config: TrainConfig, device: Any) -> tuple[Method, TrainConfig]:
    """Encoder, frozen generator, objective and optimiser."""
    from criteria.objective import PspObjective
    from psp.models.mixing import parse_layers
    from psp.models.psp import PSP, build_encoder, parameter_count
    from psp.training.gradient_checkpointing import recompute_activations
    from psp.training.methods.psp import PspMethod, start_from_face_recognition
    from psp.training.ranger import make_optimizer
    from psp.weights.formats import read_weights
    from psp.weights.load import BUNDLED_GENERATOR, load_generator, load_model

    task = get_task(config.dataset_type)
    inherited: dict[str, Any] = {}
    if config.checkpoint_path:
        if config.stylegan_weights or config.irse50_weights:
            raise UserError("--checkpoint_path holds all weights; leave --stylegan_weights and --irse50_weights out")
        model = load_model(config.checkpoint_path)
        start = f"continuing from {config.checkpoint_path}"
        encoder, decoder = model.encoder, model.decoder
        photo_encoder, style_bank = model.photo_encoder, model.style_bank
        latent_avg: torch.Tensor | None = model.latent_avg
        encoder_type, channels = type(encoder).__name__, model.input_nc
        if config.latent_mask is None and model.config.get("latent_mask"):  # its style mixing stays as it is
            inherited["latent_mask"] = model.config["latent_mask"]
        if config.encoder_type not in (None, encoder_type):
            raise UserError(
                f"--encoder_type {config.encoder_type}, but {config.checkpoint_path} holds a {encoder_type}"
            )
        if model.refines:
            raise UserError(f"{config.checkpoint_path} is a ReStyle model, which cannot be trained on here, only used")
        if config.learn_in_w and encoder_type != "BackboneEncoderUsingLastLayerIntoW":
            raise UserError(f"--learn_in_w, but {config.checkpoint_path} holds a {encoder_type}; leave the flag out")
        if channels != task.input_nc:
            raise UserError(
                f"{config.checkpoint_path} takes {channels}-channel input, {task.name} gives {task.input_nc}"
            )
    else:
        weights = config.stylegan_weights or BUNDLED_GENERATOR
        found = load_generator(weights)
        decoder, latent_avg = found.generator, found.latent_avg
        photo_encoder, style_bank = found.photo_encoder, found.style_bank
        encoder_type = config.encoder_type or ("CompactStyleEncoder" if decoder.size <= 128 else "GradualStyleEncoder")
        if config.learn_in_w:
            encoder_type = "BackboneEncoderUsingLastLayerIntoW"
            if config.encoder_type not in (None, encoder_type):
                raise UserError(f"--learn_in_w needs --encoder_type {encoder_type}, not {config.encoder_type}")
        encoder = build_encoder(encoder_type, decoder.n_styles, task.input_nc, decoder.style_dim)
        start = f"a new {encoder_type} ({parameter_count(encoder) / 1e6:.1f} M parameters)"
        if config.irse50_weights:
            other = read_weights(config.irse50_weights)
            fitting = other.part("encoder") or other.tensors
            n = start_from_face_recognition(encoder, fitting, label_nc=task.label_nc)
            start += f", {n} tensors from {config.irse50_weights}"
        start += f", generator {weights}"
    if config.output_size not in (None, decoder.size):
        raise UserError(
            f"--output_size {config.output_size}, but the generator makes {decoder.size} px; leave the flag out"
        )
    config = dataclasses.replace(config, output_size=decoder.size, encoder_type=encoder_type)
    print(f"{task.name}: {start}, {decoder.size} px, on {device}")
    model = PSP(
        encoder,
        decoder,
        latent_avg=latent_avg,
        task=task,
        start_from_latent_avg=config.start_from_latent_avg,
        train_decoder=config.train_decoder,
        photo_encoder=photo_encoder,
        style_bank=style_bank,
        config={k: v for k, v in dataclasses.asdict(config).items() if k != "exp_dir"} | inherited,
    ).to(device)
    own = []
    if (config.use_latent_mask or config.code_lambda) and photo_encoder is None and task.source != "photo":
        raise UserError(
            "--use_latent_mask and --code_lambda need a generator with a photo encoder (one trained with --guide)"
        )
    if config.use_latent_mask:
        own = (
            parse_layers(config.latent_mask, model.n_styles)
            if config.latent_mask
            else task.mixing_layers(model.n_styles)
        )
    objective = PspObjective(config.losses, device=device, lpips_net=config.lpips_net, id_net=config.id_net)  # type: ignore[arg-type]
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = make_optimizer(config.optim_name, trained, config.learning_rate)  # type: ignore[arg-type]
    if config.gradient_checkpointing:
        recompute_activations(model)
    method = PspMethod(
        model,
        objective,
        optimiser,
        task=task,
        precision=config.precision,
        own_fine_layers=own,
        code_lambda=config.code_lambda,
    )
    return method, config


def build_stylegan2(config: TrainConfig, device: Any) -> tuple[Method, TrainConfig]:
    """A generator, new or from `--stylegan_weights`, with a discriminator; with `--guide` also encoders."""

    from psp.models.psp import parameter_count
    from psp.networks.stylegan2 import Generator, grow, resolutions
    from psp.networks.widening import widen
    from psp.training.checks import parse_channels
    from psp.training.methods.joint import JointMethod, JointOptions
    from psp.training.methods.stylegan2 import GanOptions, StyleGAN2Method
    from psp.weights.formats import read_weights
    from psp.weights.load import load_generator

    weights = read_weights(config.stylegan_weights) if config.stylegan_weights else None
    found = load_generator(weights) if weights else None
    size = config.size or (found.generator.size if found else 128)
    try:
        sides = resolutions(size)
    except ValueError as error:
        raise UserError(f"--size {size}: {error}") from error
    channels = {r: min(config.channel_base // r, config.channel_max) for r in sides}
    chosen = parse_channels(config.channels) if config.channels else {}
    if chosen and not chosen.keys() >= set(sides):
        raise UserError(f"--channels {config.channels} ends at {max(chosen)} px, but --size is {size}")
    if found is None:
        generator = Generator(size, config.style_dim, config.n_mlp, channels=channels | chosen, lr_mlp=config.lr_mlp)
    elif found.generator.size <= size:
        found.generator.set_mapping_rate(config.lr_mlp)
        generator = found.generator
        if any(chosen.get(r, width) != width for r, width in generator.channels.items()):
            try:
                generator = widen(generator, chosen)
            except ValueError as error:
                raise UserError(f"--channels {config.channels}: {error}; use at least these") from error
        if generator.size < size:
            generator = grow(generator, channels | chosen | generator.channels, size)
    else:
        raise UserError(f"--size {size}, but {config.stylegan_weights} makes {found.generator.size} px; leave it out")
    kept = found.discriminator if found is not None and generator is found.generator else None
    print(f"stylegan2: generator {generator.size} px, {parameter_count(generator) / 1e6:.1f} M parameters, on {device}")
    config = dataclasses.replace(config, size=size)
    if config.guide == "none":
        options = GanOptions(**{f.name: getattr(config, f.name) for f in dataclasses.fields(GanOptions)})
        judge = discriminator_for(config, generator, kept, device)
        return StyleGAN2Method(generator, judge, options, device=device), config
    method = JointMethod(
        generator,
        discriminator_for(dataclasses.replace(config, discriminator="projected"), generator, None, device),
        joint_losses(config, device),
        JointOptions(**{f.name: getattr(config, f.name) for f in dataclasses.fields(JointOptions)}),
        photo_encoder=found.photo_encoder if found else None,
        structure=structure_encoder(config, generator, weights) if config.guide == "source" else None,
        centre=found.latent_avg if found else None,
        task=get_task(config.dataset_type),
        device=device,
    )
    return method, config


def structure_encoder(config: TrainConfig, generator: Generator, weights: Weights | None) -> nn.Module:
    """A CompactStyleEncoder of the task: the one in `--irse50_weights`, else in the generator's weights, else new.

    Of a grown generator, the added styles start as copies of the last one.
    """
    from psp.models.psp import build_encoder
    from psp.networks.state import load_strictly
    from psp.weights.formats import read_weights

    task = get_task(config.dataset_type)
    encoder = build_encoder("CompactStyleEncoder", generator.n_styles, task.input_nc, generator.style_dim)
    if config.irse50_weights:
        weights = read_weights(config.irse50_weights)
    state = dict(weights.part("encoder")) if weights else {}
    if not state:
        return encoder
    last = max((int(key.split(".")[1]) for key in state if key.startswith("heads.")), default=0)
    copied = {key: value for key, value in state.items() if key.startswith(f"heads.{last}.")}
    for style in range(last + 1, generator.n_styles):
        state |= {key.replace(f".{last}.", f".{style}.", 1): value for key, value in copied.items()}
    load_strictly(encoder, state, where=f"the encoder in {config.irse50_weights or config.stylegan_weights}")
    return encoder


def joint_losses(config: TrainConfig, device: Any) -> Any:
    """The frozen networks of --guide: LPIPS, and identity and face parser where they have a weight."""
    from criteria.identity import IdentityLoss
    from criteria.lpips import LPIPS
    from criteria.parsing import ParsingLoss
    from psp.training.methods.joint_losses import JointLosses

    identity = IdentityLoss(config.id_net).to(device) if config.id_lambda else None  # type: ignore[arg-type]
    return JointLosses(
        perceptual=LPIPS(config.lpips_net).to(device),  # type: ignore[arg-type]
        identity=None if identity is None else lambda output, target: identity(output, target)[0],
        parsing=ParsingLoss().to(device) if config.parsing_lambda else None,
    )


def discriminator_for(config: TrainConfig, generator: Generator, kept: Discriminator | None, device: Any) -> Any:
    """The discriminator of `--discriminator`. kept: one that comes with the generator."""
    if config.discriminator == "projected":
        from criteria.efficientnet_lite import MIN_SIZE, EfficientNetLite0
        from psp.networks.projected_discriminator import ProjectedDiscriminator

        features = EfficientNetLite0().to(device)
        return ProjectedDiscriminator(features, features.channels, size=max(generator.size, MIN_SIZE) // 4)
    from psp.networks.stylegan2_discriminator import Discriminator

    return kept or Discriminator(generator.size, channels=generator.channels)


def build_parser(config: TrainConfig, device: Any) -> tuple[Method, TrainConfig]:
    """The face parser, new or from `--checkpoint_path`, on the pairs of the label-map task."""
    from psp.training.methods.face_parser import ParserMethod
    from psp.weights.face_parser import load_face_parser

    task = get_task(config.dataset_type)
    if task.source != "labels":
        raise UserError(f"--method parser learns from label maps: --dataset_type celebs_seg_to_face, not {task.name}")
    assert config.learning_rate is not None and config.max_steps is not None
    start = load_face_parser(config.checkpoint_path) if config.checkpoint_path else None
    rate, steps, precision = config.learning_rate, config.max_steps, config.precision
    method = ParserMethod(task, learning_rate=rate, max_steps=steps, device=device, precision=precision, start=start)
    print(f"face parser: {'continuing from ' + str(config.checkpoint_path) if start else 'new'}, on {device}")
    return method, config


def build_image_gan(config: TrainConfig, device: Any) -> tuple[Method, TrainConfig]:
    """pix2pix, CycleGAN or cGAN, new or going on from the networks in `--checkpoint_path`."""
    from psp.models.psp import parameter_count
    from psp.training.image_gan_options import ImageGanOptions
    from psp.training.methods.cgan import CGan
    from psp.training.methods.cyclegan import CycleGan
    from psp.training.methods.pix2pix import Pix2Pix

    methods = {"pix2pix": Pix2Pix, "cyclegan": CycleGan, "cgan": CGan}
    options = ImageGanOptions(**{f.name: getattr(config, f.name) for f in dataclasses.fields(ImageGanOptions)})
    method = methods[config.method](options, task=get_task(config.dataset_type), device=device)
    if config.checkpoint_path:
        method.start_from(config.checkpoint_path)
    sizes = ", ".join(f"{name} {parameter_count(net) / 1e6:.2f} M" for name, net in method.networks.items())
    print(f"{config.method}: {options.size} px, parameters: {sizes}, on {device}")
    return method, config


def _run_name(config: TrainConfig) -> str:
    return config.dataset_type if config.method == "psp" else config.method


if __name__ == "__main__":
    run_main(main)
