"""A model in the fastest form that gives the same results, for inference on one device.

The choices were measured: docs/performance.md has the tables, and what did not pay.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from psp.device import autocast
from psp.errors import UserError
from psp.frozen import FrozenGenerator
from psp.model import PSP

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Engine:
    """`encode` and `decode` of a model, without gradient, with the generator's fixed noise; results in float32.

    precision: "fp32" agrees with the model to about 1e-5; "bf16" and "fp16" (GPU only) to about 1e-2, and take a copy
    of the encoder. compile: `torch.compile` for both networks, which takes a minute at the first call of each batch
    size; UserError where there is no compiler. The encoder's memory layout is changed in place.
    """

    def __init__(self, model: PSP, *, precision: str = "fp32", compile: bool = False):
        autocast(model.device, precision)  # refuses at once what cannot work
        self.model, self.precision, self.compile = model, precision, compile
        self.dtype = DTYPES[precision]
        self.encoder: Callable[[Tensor], Tensor]
        self.decoder: Callable[[Tensor], Tensor]
        self.average_image: Tensor | None = None
        encoder = model.encoder.eval()
        if precision != "fp32":
            encoder = copy.deepcopy(encoder).to(self.dtype)
            for layer in encoder.modules():  # the running statistics of BatchNorm need their digits
                if isinstance(layer, nn.BatchNorm2d):
                    layer.float()
        encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        decoder: Callable[[Tensor], Tensor] = self._on_gpu
        if model.device.type == "cpu":
            decoder = FrozenGenerator(model.decoder, self.dtype)
        if compile:
            self.encoder, self.decoder = torch.compile(encoder, dynamic=False), torch.compile(decoder, dynamic=False)
        else:
            self.encoder, self.decoder = encoder, decoder

    @torch.inference_mode()
    def encode(self, inputs: Tensor) -> Tensor:
        """Network input [B,C,256,256] -> W+ codes [B,N,D]."""
        if self.model.refines and self.average_image is None:
            self.average_image = self.model.average_image(self.decode)
        encode = functools.partial(
            self.model.encode, encoder=self.encoder, decode=self.decode, average_image=self.average_image
        )
        return self._run(lambda: encode(inputs.to(self.dtype)).float())

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """W+ codes [B,N,D] -> images [B,3,S,S], not clipped."""
        return self._run(lambda: self.decoder(codes.float()))

    def _on_gpu(self, codes: Tensor) -> Tensor:
        with autocast(self.model.device, self.precision):
            return self.model.decode(codes).float()

    def _run(self, call: Callable[[], Tensor]) -> Tensor:
        if not self.compile:
            return call()
        try:
            return call()
        except Exception as error:
            if "Inductor" not in type(error).__name__ and "Compil" not in type(error).__name__:
                raise
            reason = str(error).strip().splitlines()[0][:200]
            raise UserError(f"--compile: torch could not compile the model ({reason}); leave the flag out") from error
