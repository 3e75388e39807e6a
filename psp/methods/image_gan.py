"""What pix2pix, CycleGAN and cGAN share: two players with an Adam each, and one step of both.

Both gradients are taken from the same state of all networks and applied together; so a NaN in either changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.checkpoint import load_strictly
from psp.device import autocast
from psp.errors import UserError
from psp.formats import read_weights
from psp.methods.base import BadStep
from psp.methods.image_gan_options import LEARNING_RATE, ImageGanOptions
from psp.methods.player import Player, decayed
from psp.model import parameter_count
from psp.picture_model import PictureModel, picture_input
from psp.tasks import Task
from psp.types import Batch
from psp.visualize import Picture, source_to_image, to_image

Terms = dict[str, Tensor]
AnyOptions = TypeVar("AnyOptions", bound=ImageGanOptions)


def log_loss(scores: Tensor, real: bool) -> Tensor:
    """Cross entropy of logits against "all real" or "all fake": the original GAN loss, non-saturating."""
    return F.softplus(-scores if real else scores).mean()


def square_loss(scores: Tensor, real: bool) -> Tensor:
    """Squared distance to 1 (real) or 0 (fake): LSGAN (Mao et al. 2017)."""
    return (scores - float(real)).square().mean()


class ImageGan(Generic[AnyOptions]):
    """Base of the three. A subclass makes the networks and says what each player loses.

    generators, discriminators: by name; the names appear in checkpoints, and the first generator is the one that
    `translate` runs. channels: of the source, default the task's. GAN losses do not order models, and the test set is
    not used to choose one: the best checkpoint is the newest.
    """

    name = ""
    noisy = False  # whether it is tested as it was trained, see `psp.picture_model.noisy_copy`
    monitor: str | None = None

    def __init__(
        self,
        generators: Mapping[str, nn.Module],
        discriminators: Mapping[str, nn.Module],
        options: AnyOptions,
        *,
        task: Task,
        learning_rate: float = LEARNING_RATE,
        precision: str = "fp32",
        device: torch.device | str = "cpu",
        channels: int | None = None,
    ):
        self.device, self.options, self.task = torch.device(device), options, task
        self.learning_rate, self.precision = learning_rate, precision
        self.channels = channels or task.input_nc
        self.networks = {name: net.to(self.device) for name, net in {**generators, **discriminators}.items()}

        def player(networks: Mapping[str, nn.Module]) -> Player:
            return Player(list(networks.values()), learning_rate, options.beta1, self.device, precision)

        self.players = {"generator": player(generators), "discriminator": player(discriminators)}

    # ---- what a subclass defines -------------------------------------------------------------------

    def generator_loss(self, source: Tensor, target: Tensor) -> tuple[Tensor, Terms, Any]:
        """The generators' loss on a batch, its terms (detached), and what the discriminators need to know of it."""
        raise NotImplementedError

    def discriminator_loss(self, source: Tensor, target: Tensor, made: Any) -> tuple[Tensor, Terms]:
        """The discriminators' loss on the same batch; made: from `generator_loss`."""
        raise NotImplementedError

    # ---- training ----------------------------------------------------------------------------------

    def training_step(self, batches: Sequence[Batch], step: int) -> Terms:
        generator, discriminator = self.players.values()
        for network in self.networks.values():
            network.train()
        terms: Terms = {}
        with self._unchanged_by_a_bad_step():
            for batch in batches:
                source, target = self.pair(batch)
                discriminator.require_gradients(False)
                with autocast(self.device, self.precision):
                    loss, found, made = self.generator_loss(source, target)
                generator.backward(loss / len(batches), "generator")
                discriminator.require_gradients(True)
                with autocast(self.device, self.precision):
                    loss, more = self.discriminator_loss(source, target, made)
                discriminator.backward(loss / len(batches), "discriminator")
                for name, value in {**found, **more}.items():
                    terms[name] = terms.get(name, torch.zeros_like(value)) + value / len(batches)
            for name, player in self.players.items():
                terms[f"gradient_norm_{name}"] = player.gradient_norm(name)
        factor = decayed(step, self.options.decay_from, self.options.decay_until)
        for player in self.players.values():
            player.step(factor)
            player.optimiser.zero_grad(set_to_none=True)
        terms["learning_rate"] = torch.tensor(self.learning_rate * factor)
        return terms

    @contextmanager
    def _unchanged_by_a_bad_step(self) -> Iterator[None]:
        """Parameters only move afterwards; this puts back everything else and drops the gradients."""
        kept = self._keep()
        try:
            yield
        except BadStep:
            self._put_back(kept)
            for player in self.players.values():
                player.require_gradients(True)
                player.forget()
            raise

    def _keep(self) -> Any:
        """Batch-norm statistics, and what else a subclass changes before its gradients are known."""
        return [buffer.clone() for network in self.networks.values() for buffer in network.buffers()]

    def _put_back(self, kept: Any) -> None:
        buffers = (buffer for network in self.networks.values() for buffer in network.buffers())
        for buffer, old in zip(buffers, kept, strict=True):
            buffer.copy_(old)

    def pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Network input [B,C,S,S] and photo [B,3,S,S] in [-1,1], both at the size that is trained."""
        size = self.options.size
        source = picture_input(batch.source, self.task, self.device, size=size, channels=self.channels)
        target = batch.target.to(self.device, non_blocking=True)
        if target.shape[-1] != size:
            target = F.interpolate(target, size=(size, size), mode="area")
        return source, target

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> Terms:
        for network in self.networks.values():
            network.eval()
        source, target = self.pair(batch)
        with autocast(self.device, self.precision):
            _, terms, made = self.generator_loss(source, target)
            return terms | self.discriminator_loss(source, target, made)[1]

    def networks_in_step(self) -> list[nn.Module]:
        return list(self.networks.values())

    # ---- use ---------------------------------------------------------------------------------------

    def translate(self, source: Tensor, seed: int = 0) -> Tensor:
        """`Batch.source` -> RGB images [B,3,S,S] of the first generator, in [-1,1]."""
        network = next(iter(self.networks.values()))
        what = {"size": self.options.size, "method": self.name, "noisy": self.noisy}
        return PictureModel(network, self.task, device=self.device, **what).translate(source, seed)  # type: ignore[arg-type]

    @torch.no_grad()
    def pictures(self, batch: Batch) -> list[list[Picture]]:
        """source, target and output of every sample."""
        images = self.translate(batch.source)
        return [
            [source_to_image(source, self.task), to_image(target), to_image(image)]
            for source, target, image in zip(batch.source, batch.target, images, strict=True)
        ]

    # ---- state -------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        networks = {name: network.state_dict() for name, network in self.networks.items()}
        return networks | {f"player_{name}": player.state_dict() for name, player in self.players.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name, network in self.networks.items():
            load_strictly(network, state[name], where=f"the saved {name}")
        for name, player in self.players.items():
            player.load_state_dict(state[f"player_{name}"])

    def start_from(self, path: str | Path) -> None:
        """Go on from the networks of an earlier checkpoint of the same method; UserError when one does not fit."""
        weights = read_weights(path)
        for name, network in self.networks.items():
            if not (tensors := weights.part(name)):
                raise UserError(f"{path} holds no {name} of --method {self.name}; see --checkpoint_path")
            load_strictly(network, tensors, where=f"the {name} in {path}")

    def summary(self) -> str:
        """The method, its size and the parameters of its networks, in words."""
        sizes = ", ".join(f"{name} {parameter_count(net) / 1e6:.2f} M" for name, net in self.networks.items())
        return f"{self.name}: {self.options.size} px, parameters: {sizes}"

    def checkpoint(self) -> dict[str, Any]:
        """`networks`: name -> state dict; `opts`: plain values that say what was trained and for which task."""
        networks = {
            name: {key: value.detach().cpu() for key, value in network.state_dict().items()}
            for name, network in self.networks.items()
        }
        opts = {"method": self.name, "dataset_type": self.task.name, "size": self.options.size}
        return {"networks": networks, "opts": opts | {"test_dropout": self.noisy}}
