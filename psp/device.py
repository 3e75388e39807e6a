"""Which device the work runs on, in which precision, and when it is really finished."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import torch

from psp.errors import UserError

PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16")
CHUNK_PIXELS = {"cpu": 1 << 20, "cuda": 16 << 20}  # how much of a batch a generator works on at a time


def pick_device(name: str, local: int | None = None) -> torch.device:
    """`--device`: "auto" (CUDA if there is one, else the CPU), "cpu", "cuda" or "cuda:N". UserError when not there.

    local: number of this process among those started together on this machine; each takes a GPU of its own where the
    name leaves it open.
    """
    if local is not None and name in ("auto", "cuda") and torch.cuda.is_available():
        name = f"cuda:{local % torch.cuda.device_count()}"
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is not known", "--device takes auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"device {name!r} was asked for, but torch {torch.__version__} sees no CUDA GPU", "use --device cpu"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name!r} does not exist: there are {torch.cuda.device_count()} GPUs (see --device)")
    return device


def device_name(device: torch.device) -> str:
    """For records: "cuda (NVIDIA H100 ...)" or "cpu (2 threads)"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is quicker than float32 there. CPUs without AMX or AVX512-BF16 imitate it, 15 times slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def warn_of_slow_precision(device: torch.device, precision: str) -> None:
    """One loud line when `precision` is bf16 and the device has to imitate it."""
    if precision == "bf16" and not has_fast_bf16(device):
        print(
            f"warning: {device_name(device)} has no bf16 units and imitates them, about 15 times slower than fp32; "
            f"use --precision auto or fp32",
            file=sys.stderr,
        )


def pick_precision(device: torch.device, precision: str) -> str:
    """`--precision` as one of the others where it is auto: bf16 where `has_fast_bf16`, else fp32.

    UserError: an unknown one, or fp16 on a CPU, which takes minutes.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision {precision!r} is not known", f"--precision takes {', '.join(PRECISIONS)}")
    if precision == "fp16" and device.type == "cpu":
        raise UserError("--precision fp16 needs a GPU", "on a CPU use --precision bf16 or fp32")
    if precision == "auto":
        return "bf16" if has_fast_bf16(device) else "fp32"
    return precision


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """The autocast context of `--precision`, none for fp32 and tf32. Errors as `pick_precision`."""
    precision = pick_precision(device, precision)
    if precision in ("fp32", "tf32"):
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def allow_tf32(precision: str) -> bool:
    """Let a GPU round the inputs of float32 products and convolutions to TF32, unless `precision` is fp32; whether.

    Torch by itself allows it for convolutions and not for products. bf16 and fp16 leave some of the work in float32.
    """
    allowed = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    return allowed


def images_at_once(device: torch.device, size: int) -> int:
    """How many images of `size` px a generator makes at a time, to bound its memory."""
    return max(1, CHUNK_PIXELS.get(device.type, 1 << 20) // size**2)


@contextlib.contextmanager
def memory_errors(advice: str) -> Iterator[None]:
    """Turn torch's out-of-memory errors into a UserError that ends with `advice`."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError("out of GPU memory", advice) from None
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise
        raise UserError("out of memory", advice) from None
