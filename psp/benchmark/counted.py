"""What `scripts/benchmark.py --count` counts: encoder, generator, picture and training step, ours and pSp's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from psp.benchmark import original
from psp.benchmark.cases import REFERENCE, Objective, random_model, sketches, trainer
from psp.benchmark.count import CARDS, Count, counted
from psp.benchmark.report import Row, table
from psp.inference.frozen_encoder import frozen_encoder
from psp.networks.stylegan2_inference import BatchedGenerator

META = torch.device("meta")


def row(what: str, way: str, precision: str, images: int, count: Count) -> Row:
    """One thing counted, for a batch of `images`: launches, blocking reads, and per image bytes, arithmetic and, for
    each card, the predicted time."""
    return {
        "what": what, "way": way, "precision": precision, "images": images, "launches": count.total,
        "blocking": count.blocking, "mb_per_image": 1e3 * count.gigabytes / images,
        "gflop_per_image": count.gflop / images,
        "predicted_ms": {card.name: count.predicted_ms(card, precision) / images for card in CARDS},
    }  # fmt: skip


@torch.no_grad()
def inference(size: int, batch: int) -> list[Row]:
    """Encoder, generator and picture: pSp's structure in TF32, and ours in fp16."""
    model = random_model(size, META)
    average = model.latent_avg
    source, codes = sketches(batch, META), torch.empty(batch, model.n_styles, 512, device=META)
    plain, ours = original.encoder(model.encoder), frozen_encoder(model.encoder, torch.float16)
    batched = BatchedGenerator(model.decoder, torch.float16)
    ways = [
        (REFERENCE, "tf32", lambda: plain(source) + average, lambda: original.synthesize(model.decoder, codes)),
        ("ours", "fp16", lambda: (ours(source.half()) + average.half()).float(), lambda: batched(codes)),
    ]
    rows = []
    for way, precision, to_codes, to_images in ways:
        encoder, generator = counted(to_codes), counted(to_images)
        blocking = encoder.blocking + generator.blocking
        picture = Count(encoder.launches + generator.launches, encoder.work + generator.work, blocking)
        for name, part in (("encoder", encoder), (f"generator {size}", generator), (f"picture {size}", picture)):
            rows.append(row(name, way, precision, batch, part))
    return rows


def training(size: int, batch: int, objective: Objective) -> list[Row]:
    """One training step of the encoder and the backward pass in it, pSp's structure and ours, in TF32."""
    source = torch.zeros(batch, 1, 256, 256, pin_memory=torch.cuda.is_available())
    target = torch.zeros(batch, 3, 256, 256)
    on_device = source.to(META), target.to(META)  # the loop has copied them there, from pinned memory
    model = random_model(size, META)
    steps = {
        REFERENCE: partial(original.trainer(model, objective), source, target),
        "ours": partial(trainer(model, objective), *on_device),
    }
    rows = []
    for way, step in steps.items():
        counted(step)  # the first makes the optimiser's state
        whole, backward = step_and_backward(step)
        rows.append(row(f"training step {size}", way, "tf32", batch, whole))
        rows.append(row(f"its backward pass {size}", way, "tf32", batch, backward))
    return rows


def step_and_backward(step: Callable[[], object]) -> tuple[Count, Count]:
    """A step, and the part of it that `Tensor.backward` runs."""
    parts: list[Count] = []
    plain = Tensor.backward

    def backward(self: Tensor, *args: Any, **kwargs: Any) -> None:
        parts.append(counted(lambda: plain(self, *args, **kwargs)))  # type: ignore[no-untyped-call]

    Tensor.backward = backward  # type: ignore[method-assign]
    try:
        whole = counted(step)
    finally:
        Tensor.backward = plain  # type: ignore[method-assign]
    return whole, parts[0]


def markdown(rows: list[Row]) -> str:
    """A table; times are predicted."""
    titles = ["what", "batch", "way", "launches", "blocking reads", "MB / image", "GFLOP / image"]
    titles += [f"{card.name}, predicted ms / image" for card in CARDS]
    lines = [
        (row["what"], row["images"], f"{row['way']}, {row['precision']}", row["launches"], row["blocking"],
         f"{row['mb_per_image']:.0f}", f"{row['gflop_per_image']:.0f}",
         *(f"{ms:.2f}" for ms in row["predicted_ms"].values()))
        for row in rows
    ]  # fmt: skip
    return table(titles, lines)
