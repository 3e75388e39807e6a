"""What pix2pix, CycleGAN and cGAN share: two players with an Adam each, and one step of both.

Both gradients are taken from the same state of all networks and applied together; so a NaN in either changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.batch import Batch
from psp.device import autocast
from psp.errors import UserError
from psp.images.sheets import Picture, source_to_image, to_image
from psp.models.image_to_image import PictureModel, picture_input
from psp.models.psp import parameter_count
from psp.networks.state import load_strictly
from psp.training.bad_steps import averaged_gradient_norm, require_finite, unchanged_by_a_bad_step
from psp.training.config import Config
from psp.training.decay import decayed
from psp.training.methods.image_gan_options import ImageGanOptions
from psp.weights.formats import read_weights

Terms = dict[str, Tensor]


def log_loss(scores: Tensor, real: bool) -> Tensor:
    """Cross entropy of logits against "all real" or "all fake": the original GAN loss, non-saturating."""
    return F.softplus(-scores if real else scores).mean()


def square_loss(scores: Tensor, real: bool) -> Tensor:
    """Squared distance to 1 (real) or 0 (fake): LSGAN (Mao et al. 2017)."""
    return (scores - float(real)).square().mean()


class Player:
    """Networks that move together: their parameters, their Adam, their fp16 loss scale."""

    def __init__(self, networks: Sequence[nn.Module], lr: float, beta1: float, device: torch.device, precision: str):
        self.networks = nn.ModuleList(networks)
        self.rate = lr
        self.optimiser = torch.optim.Adam(self.networks.parameters(), lr=lr, betas=(beta1, 0.999))
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def backward(self, loss: Tensor, who: str) -> None:
        require_finite(loss, f"the {who}'s loss")
        self.scaler.scale(loss).backward()

    def gradient_norm(self, who: str) -> Tensor:
        return averaged_gradient_norm(list(self.networks.parameters()), f"the {who}'s gradient", self.scaler)

    def step(self, factor: float) -> None:
        """factor: of the learning rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * factor
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimiser.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimiser.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


class ImageGan:
    """Base of the games. A subclass says what each player loses.

    GAN losses do not order models, and the test set is not used to choose one: the best checkpoint is the newest.
    """

    monitor: str | None = None

    def __init__(
        self,
        generators: Mapping[str, nn.Module],
        discriminators: Mapping[str, nn.Module],
        config: Config,
        options: ImageGanOptions,
        *,
        device: torch.device,
        channels: int | None = None,
        noisy: bool = False,
    ):
        """generators, discriminators: by the names that checkpoints have; `translate` runs the first generator.
        channels: of the source; None: the task's.
        noisy: whether it is tested as it was trained, see `psp.models.image_to_image.noisy_copy`.

        UserError: the checkpoint of `--checkpoint_path` lacks one of the networks, or holds one that does not fit.
        """
        self.config, self.options, self.device, self.noisy = config, options, device, noisy
        self.task = config.task
        self.channels = channels or self.task.input_nc
        self.networks = nn.ModuleDict({**generators, **discriminators}).to(device)

        def player(networks: Mapping[str, nn.Module]) -> Player:
            return Player(list(networks.values()), config.learning_rate, options.beta1, device, config.precision)

        self.players = {"generator": player(generators), "discriminator": player(discriminators)}
        if path := options.checkpoint_path:
            weights = read_weights(path)
            for name, network in self.networks.items():
                if not (tensors := weights.part(name)):
                    raise UserError(f"{path} holds no {name} of --method {config.method}", "see --checkpoint_path")
                load_strictly(network, tensors, where=f"the {name} in {path}")
        sizes = ", ".join(f"{name} {parameter_count(net) / 1e6:.2f} M" for name, net in self.networks.items())
        print(f"{config.method}: {options.size} px, parameters: {sizes}, on {device}")

    # ---- what a subclass defines -------------------------------------------------------------------

    def generator_loss(self, source: Tensor, target: Tensor) -> tuple[Tensor, Terms, Any]:
        """The generators' loss on a batch, its terms (detached), and what the discriminators need to know of it."""
        raise NotImplementedError

    def discriminator_loss(self, source: Tensor, target: Tensor, fakes: Any) -> tuple[Tensor, Terms]:
        """The discriminators' loss on the same batch; fakes: from `generator_loss`."""
        raise NotImplementedError

    # ---- training ----------------------------------------------------------------------------------

    def training_step(self, batches: Sequence[Batch], step: int) -> Terms:
        generator, discriminator = self.players.values()
        self.networks.train()
        terms: Terms = {}
        with unchanged_by_a_bad_step(self.networks.values(), [generator.optimiser, discriminator.optimiser]):
            for batch in batches:
                source, target = self.pair(batch)
                discriminator.networks.requires_grad_(False)
                with autocast(self.device, self.config.precision):
                    loss, terms_generator, fakes = self.generator_loss(source, target)
                generator.backward(loss / len(batches), "generator")
                discriminator.networks.requires_grad_(True)
                with autocast(self.device, self.config.precision):
                    loss, terms_discriminator = self.discriminator_loss(source, target, fakes)
                discriminator.backward(loss / len(batches), "discriminator")
                for name, value in {**terms_generator, **terms_discriminator}.items():
                    terms[name] = terms.get(name, torch.zeros_like(value)) + value / len(batches)
            for name, player in self.players.items():
                terms[f"gradient_norm_{name}"] = player.gradient_norm(name)
        factor = decayed(step, self.options.decay_from, self.options.decay_until)
        for player in self.players.values():
            player.step(factor)
        terms["learning_rate"] = torch.tensor(self.config.learning_rate * factor)
        return terms

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
        self.networks.eval()
        source, target = self.pair(batch)
        with autocast(self.device, self.config.precision):
            _, terms, fakes = self.generator_loss(source, target)
            return terms | self.discriminator_loss(source, target, fakes)[1]

    def networks_in_step(self) -> list[nn.Module]:
        return list(self.networks.values())

    # ---- use ---------------------------------------------------------------------------------------

    def translate(self, source: Tensor, seed: int = 0) -> Tensor:
        """`Batch.source` -> RGB images [B,3,S,S] of the first generator, in [-1,1]."""
        network = next(iter(self.networks.values()))
        size, method = self.options.size, self.config.method
        model = PictureModel(network, self.task, size=size, method=method, device=self.device, noisy=self.noisy)
        return model.translate(source, seed)

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

    def checkpoint(self) -> dict[str, Any]:
        """`networks`: name -> state dict; `opts`: plain values that say what was trained and for which task."""
        networks = {
            name: {key: value.detach().cpu() for key, value in network.state_dict().items()}
            for name, network in self.networks.items()
        }
        opts = {"method": self.config.method, "dataset_type": self.task.name, "size": self.options.size}
        return {"networks": networks, "opts": opts | {"test_dropout": self.noisy}}
