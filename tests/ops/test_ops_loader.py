"""PSP_OPS: who computes, and what is said when kernels are missing. How they are built is in test_ops_build.py."""

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
from fake_nvcc import fresh_loader, use

from stylegan2_ops import bias_act, loader, upfirdn2d


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with fresh_loader(monkeypatch, tmp_path):
        yield


@pytest.fixture
def no_nvcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))


def test_cpu_tensors_use_the_reference_and_load_nothing() -> None:
    assert not loader.use_kernels(torch.zeros(1))
    assert loader.use_kernels(torch.zeros(1, device="meta"))  # no values: only what would run is of interest
    assert loader.load_kernels.cache_info().misses == 0


@pytest.mark.usefixtures("no_nvcc")
def test_without_kernels_the_gpu_gets_the_reference_and_one_warning() -> None:
    with pytest.warns(UserWarning, match="none prebuilt; no nvcc in CUDA_HOME=.*plain-torch reference") as caught:
        assert not any(use() for _ in range(3))
    assert len(caught) == 1


@pytest.mark.usefixtures("no_nvcc")
def test_ref_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSP_OPS", "ref")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not use()


@pytest.mark.usefixtures("no_nvcc")
def test_cuda_without_kernels_is_an_error_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSP_OPS", "cuda")
    with pytest.raises(loader.OpsError, match=r"none prebuilt; no nvcc in CUDA_HOME=.*; PSP_OPS=auto"):
        use()


def test_cuda_is_a_demand_on_cuda_tensors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSP_OPS", "cuda")  # scripts build a model on the CPU before it moves
    assert bias_act(torch.zeros(1, 2)).tolist() == [[0, 0]]
    assert loader.load_kernels.cache_info().misses == 0


def test_cuda_refuses_what_kernels_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSP_OPS", "cuda")
    double = types.SimpleNamespace(device=torch.device("cuda"), dtype=torch.float64)
    with pytest.raises(loader.OpsError, match="float64"):
        loader.use_kernels(double)  # type: ignore[arg-type]
    monkeypatch.setenv("PSP_OPS", "auto")
    assert not loader.use_kernels(double)  # type: ignore[arg-type]


def test_unknown_mode_names_the_allowed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSP_OPS", "fast")
    with pytest.raises(loader.OpsError, match="PSP_OPS=fast: allowed are auto, cuda, ref"):
        upfirdn2d(torch.zeros(1, 1, 4, 4), torch.ones(1, 1))


def test_the_decision_is_a_constant_to_torch_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> tuple[bool, str]:
        print(Path(os.devnull).read_text(), end="")  # nothing that could be compiled
        return True, ""

    monkeypatch.setattr(loader, "load_kernels", load)
    compiled = torch.compile(lambda x: x + 1 if loader._decide("cuda", True) else x, fullgraph=True, backend="eager")
    assert compiled(torch.zeros(1)).item() == 1


@pytest.mark.thorough
def test_scripts_print_the_error_as_one_line() -> None:
    code = (
        "import torch; from psp.errors import run_main; from stylegan2_ops import bias_act;"
        "run_main(lambda: bias_act(torch.zeros(1, 2)) and 0)"
    )
    environment = {**os.environ, "PSP_OPS": "wrong", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: PSP_OPS=wrong: allowed are auto, cuda, ref\n")


@pytest.mark.gpu
def test_on_a_gpu_auto_computes_whatever_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    loader.load_kernels.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = bias_act(torch.full((1, 2), -1.0, device="cuda"))
    assert y.is_cuda and y.shape == (1, 2)
