"""Train a pSp encoder, the StyleGAN2 generator behind it, or pix2pix, CycleGAN, a conditional GAN. Without flags:
bundled generator and example data."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if __name__ == "__main__":
    from psp.signals import end_at_once

    end_at_once()  # until the trainer takes over, and once it has saved: before the imports, which take seconds

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from psp.errors import run_main
from psp.training.config import Config
from psp.training.flags import ignored, parse
from psp.training.method import MethodOptions, method_named
from psp.training.resolve import resolve, schedule

if TYPE_CHECKING:
    import torch

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "train_data"


def main() -> int:
    flags = parse()
    if note := ignored(flags):
        print(note)
    examples = "data_root" not in flags
    config, options = resolve({"data_root": str(EXAMPLES), **flags}, examples=examples)

    from psp.device import allow_tf32, autocast, pick_device, warn_of_slow_precision
    from psp.training.distributed import local_rank, process_group

    device = pick_device(config.device, local_rank())
    autocast(device, config.precision)  # complains before the data is read
    warn_of_slow_precision(device, config.precision)
    if device.type == "cuda":
        rounded = "rounded to TF32" if allow_tf32(config.precision) else "not rounded to TF32"
        print(f"--precision {config.precision}: products of float32 are {rounded}")
    with process_group(device):
        return train(config, options, device, examples=examples)


def train(config: Config, options: MethodOptions, device: torch.device, *, examples: bool) -> int:
    """One run from data to checkpoints, in each process of it."""
    import torch

    from datasets.loader import eval_loader, loader_processes, train_loader
    from datasets.sample_weights import epoch_length
    from datasets.training_data import open_data, training_weights
    from psp.files import make_folder
    from psp.training.distributed import rank, share_batch_norms, world_size

    if not config.dry_run:
        make_folder(config.exp_dir)
    if examples:
        print("no --data_root: training on the examples/train_data portraits")
    training, test = open_data(config, options.data(config))
    weights = training_weights(config, training)
    n_images = epoch_length(weights) if weights is not None else len(training)
    config, options = schedule(config, options, n_images, ranks=world_size(), device=device.type)
    print(
        f"--preset {config.preset}: {config.max_steps} steps, a validation every {config.val_interval}, "
        f"last.pt every {config.save_interval} steps and {config.save_minutes:g} minutes"
    )
    torch.manual_seed(config.seed)
    if config.dry_run:
        print(json.dumps(dataclasses.asdict(config) | dataclasses.asdict(options), indent=2))
        return 0

    from criteria.networks import FrozenNetworks
    from psp.training.loop import Trainer

    print("reading the networks")
    build = method_named(config.method).build
    method, options = build(config, options, device=device, networks=FrozenNetworks(device))
    if config.sync_bn:
        share_batch_norms(method.networks_in_step())
    share: dict[str, Any] = {"rank": rank(), "world": world_size()}
    workers = loader_processes("workers", config.workers)
    test_workers = loader_processes("test_workers", config.test_workers)
    order: dict[str, Any] = {"seed": config.seed, "workers": workers, "weights": weights, **share}
    order["pin_memory"] = device.type == "cuda"
    test.fill(training.fill())

    trainer = Trainer(
        method,
        config,
        options,
        batches=lambda start: iter(train_loader(training, config.batch_size, step=start, **order)),
        device=device,
        validation=lambda: eval_loader(test, config.test_batch_size, workers=test_workers, **share),
        data=training.fingerprint(),
    )
    status = trainer.run()
    curves = trainer.exp_dir / "loss_curves.png"
    print(f"checkpoints: {trainer.checkpoints}   pictures: {trainer.images}   curves: {curves}")
    return status


if __name__ == "__main__":
    run_main(main)
