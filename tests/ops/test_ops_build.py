"""Everything that can go wrong between csrc and a loaded library: compilers, caches, locks, other devices.

No GPU and no compiler: nvcc is a script here. What the real one makes of the sources is in test_kernels_compile.py.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_nvcc import AMPERE, HOPPER, Nvcc, builds, fresh_loader, use

from stylegan2_ops import build, loader
from stylegan2_ops.build import BuildError
from stylegan2_ops.loader import only_compiler

fork = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with fresh_loader(monkeypatch, tmp_path):
        yield


@pytest.fixture
def nvcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Nvcc:
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "toolkit"))
    return Nvcc(tmp_path / "toolkit")


# ---- a build and what comes of it -----------------------------------------------------------------


def test_sources_are_compiled_once_for_the_device_and_found_again(nvcc: Nvcc, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []
    monkeypatch.setattr(loader, "_load", loaded.append)
    assert use()
    (folder,) = builds()
    assert loaded == [folder / build.LIBRARY] and loaded[0].read_text() == "compiled\n"
    assert {path.name for path in folder.iterdir()} == {build.LIBRARY, build.RECORD}
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    kernels = nvcc.calls("compute_90,code=sm_90")
    assert any("epilogue.cu" in call for call in kernels) and not nvcc.calls("sm_80")
    before = len(nvcc.calls(""))
    loader.load_kernels.cache_clear()
    assert use() and len(loaded) == 2
    assert len(nvcc.calls("")) == before


def test_another_device_gets_a_build_of_its_own(nvcc: Nvcc, monkeypatch: pytest.MonkeyPatch) -> None:
    assert use()
    monkeypatch.setattr(loader, "device_capabilities", lambda: [AMPERE, HOPPER])
    loader.load_kernels.cache_clear()
    assert use() and len(builds()) == 2 and nvcc.calls("code=sm_80")


def test_changed_sources_make_a_new_build(nvcc: Nvcc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert use()
    (tmp_path / "csrc").mkdir()
    for path in build.sources():
        (tmp_path / "csrc" / path.name).write_bytes(path.read_bytes() + b"\n")
    monkeypatch.setattr(build, "CSRC", tmp_path / "csrc")
    loader.load_kernels.cache_clear()
    assert use() and len(builds()) == 2


def test_a_failing_compiler_is_quoted_and_tried_once(nvcc: Nvcc) -> None:
    nvcc.answer('echo "kernel.cu(3): error: wrong" ; exit 1')
    with pytest.warns(
        UserWarning, match=r"compiling failed: kernel.cu\(3\): error: wrong \(all of it: .*\.log\)"
    ) as told:
        assert not use()
        before = len(nvcc.calls(""))
        assert not use()
    assert len(nvcc.calls("")) == before and builds() == []
    assert "error: wrong" in Path(str(told[0].message).split("all of it: ")[1].split(")")[0]).read_text()
    nvcc.answer()  # what failed once is not held against the next process
    loader.load_kernels.cache_clear()
    assert use()


def test_a_hanging_compiler_is_killed_with_its_children(
    nvcc: Nvcc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nvcc.answer(f"sleep 600 & echo $! > {tmp_path}/child; wait")
    monkeypatch.setenv("PSP_OPS_BUILD_TIMEOUT", "0.5")
    begun = time.monotonic()
    loaded, reason = loader.load_kernels()
    assert not loaded and "took longer than 0.5 s (PSP_OPS_BUILD_TIMEOUT)" in reason
    assert time.monotonic() - begun < 20 and builds() == []
    child = Path("/proc") / (tmp_path / "child").read_text().strip() / "status"
    assert not child.exists() or "Z (zombie)" in child.read_text()


@pytest.mark.parametrize(
    "damage", ["short library", "no library", "no record", "record is no JSON", "record of a list"]
)
def test_half_of_a_build_is_made_again(nvcc: Nvcc, damage: str) -> None:
    assert use()
    (folder,) = builds()
    if damage == "short library":
        (folder / build.LIBRARY).write_text("comp")
    elif damage.startswith("no "):
        (folder / {"no library": build.LIBRARY, "no record": build.RECORD}[damage]).unlink()
    else:
        (folder / build.RECORD).write_text("[1]" if damage.endswith("list") else "{")
    with pytest.raises(BuildError, match="damaged"):
        build.check(folder, [HOPPER])
    loader.load_kernels.cache_clear()
    assert use()
    assert build.check(folder, [HOPPER]).read_text() == "compiled\n"


def test_a_build_for_another_arch_or_torch_is_refused(nvcc: Nvcc, tmp_path: Path) -> None:
    build.build(loader.PREBUILT, ["8.0", "8.6"], 60)
    assert build.check(loader.PREBUILT, [(8, 0), (8, 9)])
    with pytest.raises(BuildError, match=r"was built for compute capability 8.0, 8.6, a device here has 9.0"):
        build.check(loader.PREBUILT, [(8, 0), HOPPER])
    assert use(), "compiled for the device instead"
    assert len(builds()) == 1
    record = json.loads((loader.PREBUILT / build.RECORD).read_text())
    (loader.PREBUILT / build.RECORD).write_text(json.dumps({**record, "torch": "1.0"}))
    with pytest.raises(BuildError, match=r"was built for torch 1.0, this is 2"):
        build.check(loader.PREBUILT, [AMPERE])


def test_what_was_prebuilt_for_this_device_is_used(nvcc: Nvcc) -> None:
    build.build(loader.PREBUILT, build.RELEASED, 60)
    assert use() and builds() == []


def test_a_library_that_cannot_be_loaded_falls_back(nvcc: Nvcc, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(library: Path) -> None:
        raise OSError(f"{library}: undefined symbol:\n_ZN2at")

    monkeypatch.setattr(loader, "_load", fail)
    assert loader.load_kernels()[0] is False
    assert "undefined symbol: _ZN2at" in loader.load_kernels()[1]


def test_machine_code_runs_within_a_major_version_and_ptx_upwards() -> None:
    assert build.covers(["8.0"], (8, 6)) and not build.covers(["8.6"], (8, 0)) and not build.covers(["8.0"], (9, 0))
    assert build.covers(["9.0+PTX"], (12, 0)) and not build.covers(["9.0+PTX"], (8, 0))
    assert all(build.covers(build.RELEASED, capability) for capability in [(8, 0), (8, 6), (8, 9), (9, 0), (10, 0)])


@pytest.mark.slow
def test_pip_compiles_them_when_asked(nvcc: Nvcc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path) -> None:
    source = tmp_path / "source"  # pip leaves build folders in the tree that it builds from
    names = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split()
    for path in names:
        if path.split("/")[0] in ("psp", "stylegan2_ops", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes((root / path).read_bytes())
    monkeypatch.setenv("PSP_BUILD_OPS", "1")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*pip, str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert not wheel.name.endswith("none-any.whl"), "compiled for one platform"
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    built = tmp_path / "site" / "stylegan2_ops" / "_kernels"
    assert build.check(built, [AMPERE, HOPPER, (12, 0)]).read_text() == "compiled\n"
    assert nvcc.calls("code=compute_90")
    nvcc.answer("echo error: broken; exit 1")
    done = subprocess.run([*pip, str(source)], capture_output=True, text=True)
    assert done.returncode != 0 and "PSP_BUILD_OPS=1: compiling failed: error: broken" in done.stdout + done.stderr


# ---- several processes ----------------------------------------------------------------------------


def load_in_child(results: multiprocessing.Queue) -> None:
    loader.load_kernels.cache_clear()
    results.put(loader.load_kernels())


def load_in_children(count: int) -> list[tuple[bool, str]]:
    results = fork.Queue()
    children = [fork.Process(target=load_in_child, args=(results,)) for _ in range(count)]
    for child in children:
        child.start()
    answers = [results.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    return answers


@pytest.mark.thorough
def test_of_processes_at_once_one_compiles(nvcc: Nvcc) -> None:
    nvcc.answer("sleep 0.3")
    assert load_in_children(4) == [(True, "")] * 4
    assert len(nvcc.calls("epilogue.cu")) == len(nvcc.calls("-shared")) == 1


@pytest.mark.thorough
def test_of_processes_at_once_one_fails_for_all(nvcc: Nvcc) -> None:
    nvcc.answer("sleep 1; echo error: no; exit 1")
    answers = load_in_children(3)
    assert all(not loaded and "error: no" in reason for loaded, reason in answers)
    assert len(nvcc.calls("epilogue.cu")) == 1


def test_a_lock_that_a_dead_process_left_is_no_obstacle(nvcc: Nvcc) -> None:
    nvcc.answer(f"echo $$ >> {nvcc.home}/pids; exec sleep 600")
    child = fork.Process(target=loader.load_kernels)
    child.start()
    while not (nvcc.home / "pids").exists():
        time.sleep(0.02)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    (lock,) = loader.cache_folder().glob("*.lock")
    assert lock.read_text().startswith(f"process {child.pid} on ")
    nvcc.answer()
    begun = time.monotonic()
    assert use() and time.monotonic() - begun < 10
    assert not list(loader.cache_folder().glob("*building*"))
    for pid in (nvcc.home / "pids").read_text().split():  # what the dead process could not stop
        os.kill(int(pid), signal.SIGKILL)


def hold(path: Path, taken: multiprocessing.synchronize.Event, release: multiprocessing.synchronize.Event) -> None:
    with only_compiler(path, 1.0):
        taken.set()
        release.wait(60)


def test_who_waits_too_long_says_for_whom(tmp_path: Path) -> None:
    taken, release = fork.Event(), fork.Event()
    child = fork.Process(target=hold, args=(tmp_path / "lock", taken, release))
    child.start()
    assert taken.wait(20)
    with (
        pytest.raises(BuildError, match=rf"process {child.pid} on .* was still compiling after 0.3 s"),
        only_compiler(tmp_path / "lock", 0.3),
    ):
        raise AssertionError
    release.set()
    child.join()
    with only_compiler(tmp_path / "lock", 5.0):
        pass


# ---- settings -------------------------------------------------------------------------------------


def test_missing_tools_and_bad_settings_are_named(nvcc: Nvcc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def reason() -> str:
        loader.load_kernels.cache_clear()
        loaded, why = loader.load_kernels()
        assert not loaded
        return why

    monkeypatch.setenv("PSP_OPS_BUILD_TIMEOUT", "soon")
    assert "PSP_OPS_BUILD_TIMEOUT=soon: must be a number of seconds" in reason()
    monkeypatch.delenv("PSP_OPS_BUILD_TIMEOUT")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PSP_OPS_CACHE", str(tmp_path / "file" / "cache"))
    assert "set PSP_OPS_CACHE to a folder of yours" in reason()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setenv("PSP_OPS_CACHE", str(tmp_path / "open"))
    assert f"anybody may write to {tmp_path / 'open'}" in reason()
    monkeypatch.setenv("PSP_OPS_CACHE", str(tmp_path / "cache"))
    with monkeypatch.context() as inside:
        inside.setattr(build.shutil, "which", lambda name, path=None: None)
        assert "ninja not found: pip install ninja" in reason()
        inside.delenv("CUDA_HOME")
        inside.setattr(build, "_find_ninja", lambda: "ninja")
        assert "nvcc not found: install the CUDA toolkit and set CUDA_HOME" in reason()
    monkeypatch.setattr(loader, "device_capabilities", lambda: [])
    assert "no CUDA device" in reason()
