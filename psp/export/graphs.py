"""The networks as ONNX graphs have them: any batch, inputs that need no torch to make, plain operations alone.

A drawing or photo goes in as `Batch.source` has it: sketches float [B,1,256,256] in [0,1] with white as 1, photos float
[B,3,256,256] in [-1,1], label maps uint8 [B,256,256] of class numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.errors import UserError
from psp.images.preprocess import to_network
from psp.models.image_to_image import EqualDropout, PictureModel, as_rgb, picture_input
from psp.models.mixing import TRUNCATION, mix
from psp.models.psp import PSP
from psp.models.style_bank import COORDINATES, STEPS, StyleBank
from psp.networks.feature_pyramid import INPUT_SIZE
from psp.networks.stylegan2_inference import BatchedGenerator
from psp.tasks import Task

PARTS = ("encoder", "mapping", "generator")


@dataclass(frozen=True)
class Graph:
    """A network to be exported and what to hold it against.

    inputs: name -> an example; those in `batched` have any number of rows, each a number of its own.
    plain: what the model itself gives for such inputs. output: the name of the result.
    """

    network: nn.Module
    inputs: Mapping[str, Tensor]
    batched: tuple[str, ...]
    plain: Callable[..., Tensor]
    output: str


def graph_of(model: PSP | PictureModel, part: str, *, rows: int = 2, seed: int = 0) -> Graph:
    """One of PARTS, or "all" of them in one graph, which is the only one that picture models have.

    rows: of the examples. seed: of what a noisy picture model drops, which is fixed when it is exported.
    UserError for a part that there is not, and for models that do not say what they take.
    """
    task = model.task
    if task is None:
        raise UserError("the file does not say what it was trained for", "add --dataset_type")
    source = {"image": example(task, rows)}
    if isinstance(model, PictureModel):
        if part != "all":
            raise UserError(f"{model.method} has no {part}", "leave out --part, and write one file")
        network = PictureGraph(model, source["image"][:1], seed)
        return Graph(network, source, ("image",), lambda image: model.translate(image, seed), "faces")
    if part not in (*PARTS, "all"):
        raise UserError(f"there is no part {part!r}", f"choose one of: {', '.join(PARTS)}, all")
    generator = BatchedGenerator(model.decoder)
    noise = torch.randn(rows, model.style_dim, generator=torch.Generator().manual_seed(1))
    styles = {"z": noise, "truncation": torch.tensor([TRUNCATION])}

    def encode(image: Tensor) -> Tensor:
        return model.encode(to_network(image, task, "cpu"))

    def mapped(z: Tensor, truncation: Tensor) -> Tensor:
        return model.map(z, float(truncation))

    def everything(image: Tensor, z: Tensor, truncation: Tensor, strength: Tensor) -> Tensor:
        codes = encode(image).repeat_interleave(len(z), dim=0)
        random = mapped(z, truncation).repeat(len(image), 1, 1)
        return model.decode(mix(codes, random, strength.nonzero().flatten().tolist()))

    if part == "encoder":
        return Graph(EncoderGraph(model, generator), source, ("image",), encode, "codes")
    if part == "mapping":
        return Graph(MappingGraph(model), styles, ("z",), mapped, "codes")
    if part == "generator":
        return Graph(generator, {"codes": model.map(styles["z"]).contiguous()}, ("codes",), model.decode, "faces")
    strength = torch.zeros(model.n_styles)
    strength[model.mixing_layers()] = 1.0
    faces = FacesGraph(EncoderGraph(model, generator), MappingGraph(model), generator)
    return Graph(faces, {**source, **styles, "strength": strength}, ("image", "z"), everything, "faces")


def example(task: Task, rows: int) -> Tensor:
    """Something that could be an input: `Batch.source` of random blocks."""
    random = torch.Generator().manual_seed(0)
    if task.source == "labels":
        ids = torch.randint(task.label_nc, (rows, 8, 8), generator=random, dtype=torch.uint8)
        return ids.repeat_interleave(32, 1).repeat_interleave(32, 2)
    blocks = torch.rand(rows, task.input_nc, 16, 16, generator=random)
    pictures = F.interpolate(blocks, size=INPUT_SIZE, mode="bilinear")
    return pictures if task.source == "sketch" else pictures * 2 - 1


class EncoderGraph(nn.Module):
    """`PSP.encode`: image [B,...] -> W+ codes [B,N,D]. Of ReStyle models all passes, one after another."""

    latent_avg: Tensor
    first: Tensor

    def __init__(self, model: PSP, generator: BatchedGenerator):
        super().__init__()
        assert model.task is not None
        self.encoder, self.task, self.passes = model.encoder.eval(), model.task, model.n_iters
        self.refines, self.from_average = model.refines, model.refines or model.start_from_latent_avg
        self.register_buffer("latent_avg", model.latent_avg.detach().clone())
        if self.refines:
            self.generator = generator
            self.register_buffer("first", model.average_image())

    def forward(self, image: Tensor) -> Tensor:
        source = to_network(image, self.task, image.device)
        if not self.refines:
            codes: Tensor = self.encoder(source)
            return codes + self.latent_avg if self.from_average else codes
        seen = self.first.expand(len(source), -1, -1, -1)
        codes = self.latent_avg + self.encoder(torch.cat([source, seen], dim=1))
        for _ in range(self.passes - 1):
            codes = codes + self.encoder(torch.cat([source, at_256(self.generator(codes))], dim=1))
        return codes


def at_256(images: Tensor) -> Tensor:
    """`adaptive_avg_pool2d` to 256 px of images whose side is a power of two, in operations that ONNX has."""
    side = images.shape[-1]
    if side >= INPUT_SIZE:
        return F.avg_pool2d(images, side // INPUT_SIZE)
    return F.interpolate(images, scale_factor=INPUT_SIZE // side, mode="nearest")


class MappingGraph(nn.Module):
    """`PSP.map`: z [n,D] ~ N(0,1), truncation [1] -> W+ codes [n,N,D] with equal rows where it is 1."""

    latent_avg: Tensor

    def __init__(self, model: PSP):
        super().__init__()
        self.w = model.decoder.style if model.style_bank is None else BankGraph(model.style_bank)
        self.register_buffer("latent_avg", model.latent_avg.detach().clone())

    def forward(self, z: Tensor, truncation: Tensor) -> Tensor:
        output: Tensor = self.latent_avg + truncation * (self.w(z)[:, None] - self.latent_avg)
        return output


class BankGraph(nn.Module):
    """`StyleBank.map`: z [n,D] -> w [n,D]."""

    bank: Tensor
    mean: Tensor
    lengths: Tensor
    neighbours: Tensor
    cosines: Tensor

    def __init__(self, bank: StyleBank):
        super().__init__()
        self.register_buffer("bank", bank.codes)
        self.register_buffer("mean", bank.mean())
        for name, table in bank.tables().items():
            self.register_buffer(name, table.float() if table.is_floating_point() else table)

    def forward(self, z: Tensor) -> Tensor:
        picks = [(z[:, k, None] > getattr(self, f"borders_{k}")).long().sum(1) for k in range(COORDINATES)]
        near, which, way = picks[0], picks[1], (picks[2] + 0.5) / (2 * STEPS)
        flat = near * self.neighbours.shape[1] + which
        far = self.neighbours.flatten()[flat]
        start, end = (1 - way) * self.lengths[near], way * self.lengths[far]
        squared = start * start + end * end + 2 * start * end * self.cosines.flatten()[flat]
        length = start + end
        scale = length / squared.clamp(min=0).sqrt().maximum(length / 2).clamp(min=1e-12)
        first = (self.bank[near] - self.mean) * ((1 - way) * scale)[:, None]
        output: Tensor = self.mean + first + (self.bank[far] - self.mean) * (way * scale)[:, None]
        return output


class FacesGraph(nn.Module):
    """From a drawing to faces: every one of B images in every one of n styles, [B*n,3,S,S], the first image's first.

    strength [N]: how far each layer's code goes from the image's own (0) to the style's (1).
    """

    def __init__(self, encoder: EncoderGraph, mapping: MappingGraph, generator: BatchedGenerator):
        super().__init__()
        self.encoder, self.mapping, self.generator = encoder, mapping, generator

    def forward(self, image: Tensor, z: Tensor, truncation: Tensor, strength: Tensor) -> Tensor:
        share = strength[:, None]
        codes = self.encoder(image)[:, None] * (1 - share) + self.mapping(z, truncation)[None] * share
        faces: Tensor = self.generator(codes.flatten(0, 1))
        return faces


class PictureGraph(nn.Module):
    """`PictureModel.translate`: image [B,...] -> RGB [B,3,S,S] in [-1,1]."""

    def __init__(self, model: PictureModel, image: Tensor, seed: int):
        super().__init__()
        self.network, self.task = copy.deepcopy(model.network), model.task
        self.size, self.channels = model.output_size, model.channels
        if model.noisy:
            keep_drops(self.network)
            with torch.random.fork_rng([]), torch.no_grad():
                torch.manual_seed(seed)
                self(image)

    def forward(self, image: Tensor) -> Tensor:
        pictures = picture_input(image, self.task, image.device, size=self.size, channels=self.channels)
        return as_rgb(self.network(pictures))


class KeptDropout(nn.Module):
    """`EqualDropout` that leaves out what it left out when it was first used."""

    kept: Tensor

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "kept"):
            self.register_buffer("kept", F.dropout(torch.ones_like(x[:1]), self.share))
        return x * self.kept


def keep_drops(network: nn.Module) -> None:
    """In place: what is dropped is chosen once."""
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            if isinstance(module, EqualDropout):
                setattr(parent, name, KeptDropout(module.share))
