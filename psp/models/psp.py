"""pixel2style2pixel: an encoder to W+ before a frozen StyleGAN2 (Richardson et al., "Encoding in Style", CVPR 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from psp.device import images_at_once
from psp.errors import UserError
from psp.models.mixing import fine_layers, parse_layers
from psp.models.restyle import DEFAULT_ITERS, INPUT_NC, check_iters, image_of
from psp.models.style_bank import StyleBank
from psp.networks.encoders import ENCODERS
from psp.networks.feature_pyramid import INPUT_SIZE
from psp.networks.photo_encoder import PhotoEncoder
from psp.networks.stylegan2 import Generator
from psp.tasks import Task

LATENT_AVG_SAMPLES = 100_000


def build_encoder(encoder_type: str, n_styles: int, input_nc: int, style_dim: int, **widths: Any) -> nn.Module:
    """One of `psp.networks.encoders.ENCODERS`; UserError naming them otherwise."""
    if encoder_type not in ENCODERS:
        raise UserError(f"--encoder_type {encoder_type!r} is not known", f"choose one of: {', '.join(ENCODERS)}")
    return ENCODERS[encoder_type](n_styles, input_nc, style_dim, **widths)


class PSP(nn.Module):
    """Encoder and generator speaking W+ codes [B, n_styles, style_dim].

    encoder: [B,C,256,256] -> codes. decoder: generator; gets no gradients (`requires_grad` off, always in eval mode)
    unless `train_decoder`. latent_avg: mean w, [D] or [1,D] or [N,D]; None when the model does not know it yet.
    start_from_latent_avg: the encoder predicts the difference to it. task: what the model was trained for, if known.
    config: the options saved with the weights (pSp's names). photo_encoder: gives a photo's own style (`style_of`).
    style_bank: where random styles come from; None: from the mapping network.
    """

    latent_avg: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: Generator,
        *,
        latent_avg: Tensor | None = None,
        task: Task | None = None,
        start_from_latent_avg: bool = True,
        train_decoder: bool = False,
        config: Mapping[str, Any] | None = None,
        photo_encoder: PhotoEncoder | None = None,
        style_bank: StyleBank | None = None,
    ):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        # helpers outside the released layout: kept off the module list, so that state_dict stays pSp's
        self._photo_encoder = [photo_encoder.eval().requires_grad_(False)] if photo_encoder is not None else []
        self.n_styles, self.style_dim, self.output_size = decoder.n_styles, decoder.style_dim, decoder.size
        if style_bank is not None and style_bank.style_dim != decoder.style_dim:
            problem = f"the style bank has codes of {style_bank.style_dim}"
            raise UserError(f"{problem}, the generator styles of {decoder.style_dim}")
        self.style_bank = style_bank
        if latent_avg is None and style_bank is not None:
            latent_avg = style_bank.mean()
        if latent_avg is None:
            latent_avg = decoder.mean_latent(LATENT_AVG_SAMPLES, torch.Generator().manual_seed(0))
        self.register_buffer("latent_avg", self._expand_avg(latent_avg))
        self.task = task
        self.path: Path | None = None  # the file that it was read from: what is known of its codes lies beside it
        self.start_from_latent_avg = start_from_latent_avg
        self.train_decoder = train_decoder
        self.config = dict(config or {})
        if type(encoder).__name__ in ENCODERS:  # e4e's tensors do not say that they are not pSp's
            self.config.setdefault("encoder_type", type(encoder).__name__)
        if decoder.conv_clamp is not None:  # nor that layers are clamped
            self.config.setdefault("conv_clamp", decoder.conv_clamp)
        saved_iters = self.config.get("n_iters_per_batch")
        n_iters = DEFAULT_ITERS if saved_iters is None else saved_iters
        self.n_iters = check_iters(n_iters, "n_iters_per_batch") if self.refines else 1
        decoder.requires_grad_(train_decoder)
        self.train(self.training)

    def _expand_avg(self, avg: Tensor) -> Tensor:
        n, d = self.n_styles, self.style_dim
        if tuple(avg.shape) not in ((d,), (1, d), (n, d)):
            raise UserError(f"latent_avg has shape {tuple(avg.shape)}", f"the generator has {n} styles of {d}")
        if not torch.isfinite(avg).all():
            raise UserError("latent_avg is not finite: the generator or its file is damaged")
        return avg.detach().float().expand(n, d).clone()

    def train(self, mode: bool = True) -> PSP:
        super().train(mode)
        if not self.train_decoder:
            self.decoder.eval()
        return self

    @property
    def refines(self) -> bool:
        """Whether this is a ReStyle model: its encoder also sees what the codes so far give, and corrects them."""
        return self.encoder_nc == INPUT_NC

    @property
    def input_nc(self) -> int:
        """Channels of the source, as the encoder's first convolution has them; 3 of ReStyle's 6."""
        return INPUT_NC // 2 if self.refines else self.encoder_nc

    @property
    def encoder_nc(self) -> int:
        """Channels of the encoder's first convolution; 6 for ReStyle, which also sees the picture made so far."""
        return next((m.in_channels for m in self.encoder.modules() if isinstance(m, nn.Conv2d)), 0)

    @property
    def device(self) -> torch.device:
        return self.latent_avg.device

    def encode(self, source: Tensor) -> Tensor:
        """Network input [B,C,256,256] (see `psp.images.preprocess.to_network`) -> W+ codes [B,N,D]."""
        if self.refines:
            return self.refined(source, self.average_image(self.decode), encoder=self.encoder, decode=self.decode)
        return self.around_average(self.encoder(source))

    def around_average(self, codes: Tensor) -> Tensor:
        """What an encoder predicts [B,N,D], with the average latent where it predicts the difference to that."""
        return codes + self.latent_avg.to(codes.dtype) if self.start_from_latent_avg else codes

    def refined(
        self,
        source: Tensor,
        first: Tensor,
        *,
        encoder: Callable[[Tensor], Tensor],
        decode: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """W+ codes [B,N,D], float32, of a ReStyle model after its `n_iters` passes.

        source: RGB [B,3,256,256] in [-1,1].
        first: `average_image`, which the first pass sees.
        encoder, decode: `self.encoder` and `self.decode`, or other forms of them, compiled or in half precision.
        No gradient flows from one pass to the one before, as in the original's training.
        """
        codes, image = self.latent_avg.float()[None], first.expand(len(source), -1, -1, -1)
        for k in range(self.n_iters):
            if k > 0:
                image = image_of(codes, decode, images_at_once(self.device, self.output_size))
            codes = codes.detach() + encoder(torch.cat([source, image.to(source.dtype)], dim=1)).float()
        return codes

    def average_image(self, decode: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """What the average latent gives with fixed noise, at 256 px: RGB [1,3,256,256]. ReStyle starts from it."""
        return image_of(self.latent_avg[None], decode or self.decode)

    def map(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """z [B,D] ~ N(0,1) -> W+ codes [B,N,D] with equal rows; truncation below 1 pulls them to the average latent.

        By the style bank where there is one, else by the mapping network.
        """
        w = self.decoder.map(z) if self.style_bank is None else self.style_bank.map(z)
        codes = w.unsqueeze(1).expand(-1, self.n_styles, -1)
        return codes if truncation == 1.0 else self.latent_avg.lerp(codes, truncation)

    def mixing_layers(self) -> list[int]:
        """The W+ layers that style mixing replaces unless told otherwise.

        Those that the model was trained to take from elsewhere (`latent_mask` in its config), else `fine_layers`.
        """
        trained = self.config.get("latent_mask")
        if trained:
            return parse_layers(str(trained), self.n_styles)
        return fine_layers(self.n_styles)

    def bands(self) -> dict[str, list[int]]:
        """Layers by what they decide: coarse (pose, shape), middle (features, hair), fine (colour, light).

        Fine are those that style mixing replaces by default; the others are halved. For 18 layers these are StyleGAN's
        own groups 0-3, 4-7 and 8-17 (Karras et al., CVPR 2019, figure 3).
        """
        fine = self.mixing_layers()
        rest = [layer for layer in range(self.n_styles) if layer not in fine]
        half = (len(rest) + 1) // 2
        return {"coarse": rest[:half], "middle": rest[half:], "fine": fine}

    @property
    def photo_encoder(self) -> PhotoEncoder | None:
        return self._photo_encoder[0] if self._photo_encoder else None

    @torch.no_grad()
    def style_of(self, photos: Tensor) -> Tensor:
        """RGB photos [B,3,H,W] in [-1,1] -> their own W+ codes [B,N,D], for the layers that carry the style.

        From the encoder stored beside the generator or, in a photo-to-photo model, from the model's own encoder.
        UserError when there is neither.
        """
        codes: Tensor
        if self.photo_encoder is not None:
            codes = self.photo_encoder.to(photos.device)(photos).unsqueeze(1).expand(-1, self.n_styles, -1)
        elif self.task is not None and self.task.source == "photo":
            size = (INPUT_SIZE, INPUT_SIZE)
            codes = self.encode(nn.functional.interpolate(photos, size=size, mode="bilinear", antialias=True))
        else:
            raise UserError(
                "this generator comes without a photo encoder, so the style of a photo is unknown",
                "give the style as --style_code or --style_seed, or train an ffhq_encode model for it",
            )
        return codes

    def decode(self, codes: Tensor, *, randomize_noise: bool = False) -> Tensor:
        """W+ codes [B,N,D] -> images [B,3,S,S], not clipped, about [-1,1]. Noise: the fixed one unless asked."""
        return self.decoder.synthesize(codes, randomize_noise=randomize_noise)

    def resize(self, images: Tensor) -> Tensor:
        """Average-pool to 256 px, where pSp compares and trains; smaller images stay as they are."""
        if images.shape[-1] <= INPUT_SIZE:
            return images
        return nn.functional.adaptive_avg_pool2d(images, INPUT_SIZE)


def parameter_count(module: nn.Module) -> int:
    return sum(math.prod(p.shape) for p in module.parameters())
