"""A model in the fastest form that gives the same results, for inference on one device.

The choices were measured where that was possible: docs/performance.md has the tables, and what did not pay.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from psp.device import pick_precision
from psp.errors import UserError
from psp.inference.frozen_encoder import cast_weights, frozen_encoder
from psp.models.psp import PSP
from psp.networks.stylegan2_inference import BatchedGenerator, FrozenGenerator

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
GRAPHS = 8  # CUDA graphs kept per network, one per input shape


class Engine:
    """`encode` and `decode` of a model, without gradient, with the generator's fixed noise; results in float32.

    precision: "fp32" agrees with the model to about 1e-5; "tf32" (GPU; what pSp runs there) to about 1e-3; "bf16" and
    "fp16" (GPU) to about 1e-2; "auto" is "bf16" where that is fast, else "fp32". compile: `torch.compile` for both
    networks, which takes a minute or two; UserError where there is no compiler. graphs: on a GPU, replay a CUDA graph
    per input shape instead of launching hundreds of kernels. On a CPU in fp32 the encoder's memory layout is changed in
    place.
    """

    def __init__(self, model: PSP, *, precision: str = "fp32", compile: bool = False, graphs: bool = True):
        precision = pick_precision(model.device, precision)  # refuses at once what cannot work
        self.model, self.precision, self.compile = model, precision, compile
        self.dtype, self.refines = DTYPES[precision], model.refines
        self.gpu = model.device.type == "cuda"
        encoder: nn.Module
        decoder: nn.Module
        if self.gpu:
            encoder = frozen_encoder(model.encoder, self.dtype)
            decoder = BatchedGenerator(model.decoder, self.dtype)
        else:
            encoder = model.encoder.eval()
            if self.dtype != torch.float32:
                encoder = copy.deepcopy(encoder)
                cast_weights(encoder, self.dtype)
            encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            decoder = FrozenGenerator(model.decoder, self.dtype)
        forms: list[Callable[[Tensor], Tensor]] = [encoder, decoder]
        if compile:
            forms = [torch.compile(form, dynamic=False) for form in forms]
        if self.gpu and graphs:
            pool = torch.cuda.graph_pool_handle()  # one for both: they never run at the same time
            forms = [Graphed(form, pool) for form in forms]
        self.encoder, self.decoder = forms
        self.average_image: Tensor | None = None  # of ReStyle models, once it is needed

    @torch.inference_mode()
    def encode(self, inputs: Tensor) -> Tensor:
        """Network input [B,C,256,256] -> W+ codes [B,N,D]."""
        inputs = inputs.to(self.dtype)
        if not self.gpu and len(inputs) > 1:  # as quick as together, and no result depends on its neighbours
            return torch.cat([self.encode(one) for one in inputs.split(1)])
        if not self.refines:
            return self._run(lambda: self.model.around_average(self.encoder(inputs)).float())
        if self.average_image is None:
            self.average_image = self.model.average_image(self.decode)
        first = self.average_image
        return self._run(lambda: self.model.refined(inputs, first, encoder=self.encoder, decode=self.decode))

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """W+ codes [B,N,D] -> images [B,3,S,S], not clipped."""
        return self._run(lambda: self.decoder(codes.float()))

    def _run(self, call: Callable[[], Tensor]) -> Tensor:
        with tf32(self.precision == "tf32") if self.gpu else contextlib.nullcontext():
            try:
                return call()
            except Exception as error:
                kind = type(error).__name__
                if not self.compile or ("Inductor" not in kind and "Compil" not in kind):
                    raise
                reason = str(error).strip().splitlines()[0][:200]
                raise UserError(f"--compile: torch could not compile the model ({reason})", "leave it out") from error


@contextlib.contextmanager
def tf32(allowed: bool):  # type: ignore[no-untyped-def]
    """Whether convolutions and matrix products of float32 may be rounded to TF32 on the way in."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


class Graphed:
    """A function of one tensor, recorded once per input shape as a CUDA graph and replayed from then on.

    run: works on the GPU alone, takes the same way for every input, and is used by one thread at a time. pool: where
    the graphs' memory comes from; all that share it are replayed one after another. A shape that cannot be recorded
    runs as it is, with one warning.
    """

    def __init__(self, run: Callable[[Tensor], Tensor], pool: Any):
        self.run, self.pool = run, pool
        self.graphs: dict[tuple[object, ...], tuple[Tensor, torch.cuda.CUDAGraph, Tensor] | None] = {}

    def __call__(self, x: Tensor) -> Tensor:
        key = (x.shape, x.dtype, x.stride())
        if key not in self.graphs:
            if len(self.graphs) >= GRAPHS:
                self.graphs.pop(next(iter(self.graphs)))
            try:
                self.graphs[key] = self._record(x)
            except RuntimeError as error:
                self.graphs[key] = None
                reason = str(error).strip().splitlines()[0][:200]
                warnings.warn(f"no CUDA graph for inputs of {tuple(x.shape)}: {reason}", stacklevel=2)
        recorded = self.graphs[key]
        if recorded is None:
            return self.run(x)
        given, graph, result = recorded
        given.copy_(x)
        graph.replay()
        return result.clone()

    def _record(self, x: Tensor) -> tuple[Tensor, torch.cuda.CUDAGraph, Tensor]:
        given, before = x.clone(), torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = True  # the shapes are fixed: trying all algorithms once pays
        try:
            side = torch.cuda.Stream(x.device)
            side.wait_stream(torch.cuda.current_stream(x.device))
            with torch.cuda.stream(side):  # the first runs choose algorithms and build kernels
                for _ in range(3):
                    self.run(given)
            torch.cuda.current_stream(x.device).wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            # thread_local: what other threads do with CUDA meanwhile, a studio's for example, is none of its business
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                result = self.run(given)
        finally:
            torch.backends.cudnn.benchmark = before
        return given, graph, result
