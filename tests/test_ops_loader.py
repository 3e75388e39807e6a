"""PSP_OPS: who computes, what is said when kernels are missing, and that a build cannot hang on an old lock."""

from __future__ import annotations

import os
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stylegan2_ops import bias_act, loader, upfirdn2d

ON_GPU = types.SimpleNamespace(is_cuda=True, device="cuda:0")  # all that the loader looks at


@pytest.fixture(autouse=True)
def fresh_loader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    monkeypatch.setattr(loader, "CSRC", tmp_path / "csrc")
    loader.load_kernels.cache_clear()
    loader._warn_once.cache_clear()
    yield
    loader.load_kernels.cache_clear()
    loader._warn_once.cache_clear()


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A prebuilt kernel module that answers with something the reference never would."""
    module = types.ModuleType(loader.PREBUILT)
    module.bias_act = lambda x, bias, negative_slope, gain: torch.full_like(x, 7.0)  # type: ignore[attr-defined]
    module.upfirdn2d = lambda x, kernel, up, down, pad: torch.tensor([up, down, *pad])  # type: ignore[attr-defined]
    module.__spec__ = types.SimpleNamespace(name=loader.PREBUILT)  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, loader.PREBUILT, module)
    return module


def test_cpu_tensors_use_the_reference_and_load_nothing() -> None:
    assert loader.kernels_for(torch.zeros(1)) is None
    assert loader.load_kernels.cache_info().misses == 0


def test_without_kernels_the_gpu_gets_the_reference_and_one_warning() -> None:
    with pytest.warns(UserWarning, match="no kernel sources in stylegan2_ops/csrc.*plain-torch reference") as caught:
        for _ in range(3):
            assert loader.kernels_for(ON_GPU) is None  # type: ignore[arg-type]
    assert len(caught) == 1


def test_ref_is_silent(monkeypatch: pytest.MonkeyPatch, kernels: types.ModuleType) -> None:
    monkeypatch.setenv("PSP_OPS", "ref")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert loader.kernels_for(ON_GPU) is None  # type: ignore[arg-type]


def test_cuda_without_kernels_is_an_error_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSP_OPS", "cuda")
    with pytest.raises(loader.OpsError, match=r"none prebuilt; no kernel sources in stylegan2_ops/csrc; PSP_OPS=auto"):
        loader.kernels_for(ON_GPU)  # type: ignore[arg-type]


def test_cuda_refuses_a_cpu_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSP_OPS", "cuda")
    with pytest.raises(loader.OpsError, match="a tensor is on cpu"):
        bias_act(torch.zeros(1, 2))


def test_unknown_mode_names_the_allowed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSP_OPS", "fast")
    with pytest.raises(loader.OpsError, match="PSP_OPS=fast: allowed are auto, cuda, ref"):
        upfirdn2d(torch.zeros(1, 1, 4, 4), torch.ones(1, 1))


def test_a_prebuilt_module_takes_over(monkeypatch: pytest.MonkeyPatch, kernels: types.ModuleType) -> None:
    assert loader.kernels_for(ON_GPU) is kernels  # type: ignore[arg-type]
    real = loader.kernels_for

    def pretend_gpu(x: Tensor) -> types.ModuleType | None:
        return real(ON_GPU)  # type: ignore[arg-type]

    monkeypatch.setattr(loader, "kernels_for", pretend_gpu)
    assert (bias_act(torch.zeros(2, 3), torch.zeros(3)) == 7).all()
    assert upfirdn2d(torch.zeros(1, 1, 9, 9), torch.ones(2, 2), 3, 2, (1, 0)).tolist() == [3, 2, 1, 0, 1, 0]
    with pytest.raises(ValueError, match="gain > 0"):  # checked before the kernel sees it
        bias_act(torch.zeros(2, 3), gain=-1.0)


def test_a_module_without_an_operation_is_not_used(kernels: types.ModuleType) -> None:
    del kernels.upfirdn2d
    module, reason = loader.load_kernels()
    assert module is None
    assert "lacks upfirdn2d" in reason and "no kernel sources" in reason


def test_a_failing_build_is_reported_and_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fail() -> types.ModuleType:
        calls.append(1)
        raise RuntimeError("nvcc not\nfound")

    monkeypatch.setattr(loader, "_build", fail)
    with pytest.warns(UserWarning, match="nvcc not found") as caught:
        loader.kernels_for(ON_GPU)  # type: ignore[arg-type]
        loader.kernels_for(ON_GPU)  # type: ignore[arg-type]
    assert len(caught) == len(calls) == 1


def test_scripts_print_the_error_as_one_line() -> None:
    code = (
        "import torch; from psp.errors import run_main; from stylegan2_ops import bias_act;"
        "run_main(lambda: bias_act(torch.zeros(1, 2)) and 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PSP_OPS": "wrong", "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == "error: PSP_OPS=wrong: allowed are auto, cuda, ref\n"


EXTENSION = """
#include <torch/extension.h>
torch::Tensor bias_act(torch::Tensor x, c10::optional<torch::Tensor> bias, double slope, double gain) { return x + 1; }
torch::Tensor upfirdn2d(torch::Tensor x) { return x; }
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("bias_act", &bias_act); m.def("upfirdn2d", &upfirdn2d); }
"""


@pytest.mark.slow
def test_sources_are_compiled_once_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The build works outside an activated environment, and a second process imports what the first one built."""
    loader.CSRC.mkdir()
    (loader.CSRC / "ops.cpp").write_text(EXTENSION)
    monkeypatch.setenv("PATH", os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if ".venv" not in p))
    module, reason = loader.load_kernels()
    assert module is not None, reason
    assert module.bias_act(torch.zeros(2), None, 0.2, 1.0).tolist() == [1, 1]
    cache = Path(os.environ["TORCH_EXTENSIONS_DIR"]) / "stylegan2_ops"
    assert [path.suffix for path in cache.iterdir()] == [".so"], "build folders and locks are gone"

    code = (
        "from pathlib import Path; from stylegan2_ops import loader; from torch.utils import cpp_extension;"
        f"loader.CSRC = Path({str(loader.CSRC)!r}); cpp_extension.load = None;"
        "print(loader.load_kernels()[0].__file__)"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == str(next(cache.iterdir())), done.stderr


@pytest.mark.slow
def test_a_broken_source_falls_back() -> None:
    loader.CSRC.mkdir()
    (loader.CSRC / "ops.cpp").write_text("this is no C++")
    module, reason = loader.load_kernels()
    assert module is None and "Error building extension" in reason


@pytest.mark.gpu
def test_on_a_gpu_auto_computes_whatever_is_there() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = bias_act(torch.full((1, 2), -1.0, device="cuda"))
    assert y.is_cuda and y.shape == (1, 2)
