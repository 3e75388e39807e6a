"""The house rules: who imports whom, what an import may do, what lies where, what pip installs.

The reasons are in CONTRIBUTING.md. Each rule is checked on the source as it is, so that a new file is covered at once.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from house import FOLDERS, PACKAGES, ROOT, everything, imported, listed, name, parse, python_files

from psp.training.config import METHODS

OURS = {*PACKAGES, "scripts", "tests"}
# Room -> the rooms (or single files) that its files may import besides their own; every import counts, also those
# inside functions and those for type checkers. From top to bottom nothing points to a line further down. `psp` is the
# ground: the files that lie directly in it. psp/__init__.py is the door: it may open any room, and no room goes out
# through it.
DATA_OPTIONS = {"psp/training/config.py", "psp/training/method.py"}
MODELS = {"psp", "psp/images", "psp/networks", "psp/models"}
MAY_IMPORT: dict[str, set[str]] = {
    "stylegan2_ops": set(),
    "psp": set(),
    "psp/images": {"psp"},
    "psp/networks": {"stylegan2_ops", "psp", "psp/images"},
    "psp/models": MODELS - {"psp/models"},
    "psp/weights": MODELS,
    "psp/weights/download": {"psp", "psp/weights"},
    "psp/training": MODELS | {"psp/weights"},
    "psp/training/methods/stylegan2": MODELS | {"psp/weights", "psp/training"},
    "psp/training/methods": MODELS | {"psp/weights", "psp/training", "psp/training/methods/stylegan2"},
    "psp/inference": MODELS | {"psp/weights"},
    "psp/export": MODELS,
    "psp/studio": MODELS | {"psp/weights", "psp/inference"},
    "psp/commands": MODELS | {"psp/weights", "psp/inference", "psp/export", "psp/studio"},
    "psp/benchmark": MODELS | {"stylegan2_ops", "psp/weights", "psp/training", "psp/training/methods", "psp/inference"},
    "criteria": {"psp", "psp/images", "psp/networks", "psp/weights", "psp/weights/download"},
    "criteria/evaluation": {"psp", "psp/images", "psp/models", "psp/weights", "criteria"},
    "datasets/drawing": {"psp", "psp/images"},
    "datasets": {"psp", "psp/images", "psp/networks", "psp/weights", *DATA_OPTIONS, "datasets/drawing"},
    "datasets/prepare": {"psp", "psp/images", "psp/networks", "psp/weights", "datasets"},
    "scripts": {"psp", "psp/images", "criteria", "criteria/evaluation", "datasets", "datasets/prepare"}
    | {f"psp/{room}" for room in ("networks", "models", "weights", "weights/download", "training", "training/methods")}
    | {f"psp/{room}" for room in ("inference", "export", "studio", "commands", "benchmark")},
}
DOOR = "psp/__init__.py"
MOST_FILES = 18  # in one room; the ground has at most 10
MOST_SCRIPTS = 20  # five of them are only pSp's names for others
# What --help and the options of training need.
TORCHLESS = (
    "psp", "psp.errors", "psp.compat", "psp.tasks",
    *(f"psp.training.{name}" for name in ("options", "config", "method", "resolve", "flags", "saved_options")),
    *METHODS.values(),
)  # fmt: skip
# Optional or slow to import: only inside the functions that need them.
LAZY = (
    "torchvision", "lpips", "facenet_pytorch", "dlib", "matplotlib", "tensorboard", "huggingface_hub", "cv2",
    "flask", "waitress", "spandrel", "wandb", "torch_fidelity", "onnx", "onnxruntime", "onnxscript",
)  # fmt: skip


def file_of(module: str) -> str | None:
    """Path of the file that a module of ours lies in; None for other packages and for what is no module."""
    path = ROOT / module.replace(".", "/")
    candidates = [path / "__init__.py", path.with_suffix(".py")] if module.split(".")[0] in OURS else []
    return next((name(file) for file in candidates if file.is_file()), None)


@functools.cache
def arrows() -> list[tuple[str, int, str]]:
    """(file, line, file) of every import between files of ours, `from folder import file` resolved to the file."""
    found = []
    for path in python_files(*PACKAGES, "scripts"):
        for node in ast.walk(parse(path)):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inside = f"{node.module}.{alias.name}"
                    modules.append(inside if file_of(inside) else node.module)
            found += [(name(path), node.lineno, file) for module in modules if (file := file_of(module))]
    return found


def room_of(path: str) -> str:
    return path.rpartition("/")[0]


def test_rooms_lie_in_order() -> None:
    """A room may import only what stands above it in the table, so that no rooms form a circle."""
    above: set[str] = set()
    for room, allowed in MAY_IMPORT.items():
        assert {entry if "." not in entry else room_of(entry) for entry in allowed} <= above, room
        above.add(room)


def test_every_file_lies_in_a_room() -> None:
    files = [name(path) for path in python_files(*PACKAGES, "scripts")]
    assert {room_of(path) for path in files} == set(MAY_IMPORT)
    count = Counter(map(room_of, files))
    assert count["psp"] <= 10, "the ground is for what everything stands on"
    assert count.pop("scripts") <= MOST_SCRIPTS
    assert max(count.values()) <= MOST_FILES, count.most_common(3)


def test_arrows_point_down() -> None:
    upward = []
    for source, line, target in arrows():
        room, other = room_of(source), room_of(target)
        allowed = {room, *MAY_IMPORT[room]} if source != DOOR else {other}
        if target == DOOR or not {other, target} & allowed:
            upward.append(f"{source}:{line} imports {target}")
    assert not upward


def test_no_files_import_each_other_in_a_circle() -> None:
    imports: dict[str, set[str]] = {}
    for source, _, target in arrows():
        imports.setdefault(source, set()).add(target)
    graph = graphlib.TopologicalSorter(imports)
    graph.prepare()  # CycleError names the files


def test_only_scripts_put_everything_together() -> None:
    wrong = [
        f"{name(path)}:{line} imports {module}"
        for path in python_files(*PACKAGES)
        for line, module in imported(parse(path))
        if module.split(".")[0] in {"scripts", "tests"}
    ]
    assert not wrong


def test_imports_name_the_package() -> None:
    relative = [
        f"{name(path)}:{node.lineno}"
        for path in python_files(*PACKAGES, "scripts")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative, "relative imports hide the direction"


@pytest.mark.parametrize("path", python_files("scripts"), ids=name)
def test_scripts_put_the_checkout_first_on_the_path(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head: list[ast.stmt] = []
    for node in parse(path).body:
        head.append(node)
        if isinstance(node, ast.Expr) and ast.unparse(node).startswith("sys.path.insert(0,"):
            break
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        constant = isinstance(node, ast.Assign)  # ROOT = Path(__file__).resolve().parents[1]
        module = {part.split(".")[0] for _, part in imported(node)}
        assert docstring or constant or module & {"__future__", "sys", "pathlib", "os"} == module != set(), (
            f"{name(path)}:{node.lineno}: comes before sys.path.insert(0, ...)"
        )
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    exec(compile(ast.Module(head, []), str(path), "exec"), {"__file__": str(path)})
    assert sys.path == [str(ROOT), "elsewhere"]


@pytest.mark.parametrize("path", python_files("scripts"), ids=name)
def test_help_needs_no_torch(path: Path, tmp_path: Path) -> None:
    code = (
        "import runpy, sys; sys.modules['torch'] = None; del sys.argv[0];"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_import_does_nothing(tmp_path: Path) -> None:
    """No print, no file, no compiler, no CUDA context, no slow or optional package, for all modules at once."""
    modules = [name(path)[:-3].replace("/", ".").removesuffix(".__init__") for path in python_files(*PACKAGES)]
    code = f"""
import sys, importlib
for module in {modules!r}:
    importlib.import_module(module)
    loaded = [name for name in {LAZY!r} if name in sys.modules]
    assert not loaded, f"{{module}} imports {{loaded}}"
import torch
assert not torch.cuda.is_initialized()
assert torch.initial_seed() == torch.default_generator.initial_seed()
"""
    for folder in ("home", "tmp", "empty"):
        (tmp_path / folder).mkdir()
    env = {
        "PATH": str(tmp_path / "empty"),
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "tmp"),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    before = set(everything())
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path / "empty", capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert {path for path in set(everything()) - before if path.split("/")[0] in PACKAGES} == set()


@pytest.mark.parametrize("module", TORCHLESS)
def test_what_help_needs_does_not_import_torch(module: str) -> None:
    code = f"import sys; sys.modules['torch'] = sys.modules['numpy'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_top_level_folders_are_the_planned_ones() -> None:
    folders = {path.split("/")[0] for path in listed() if "/" in path}
    assert folders <= FOLDERS, f"not planned: {sorted(folders - FOLDERS)}"
    assert folders >= FOLDERS, f"missing: {sorted(FOLDERS - folders)}"


def test_nothing_looks_into_folders_of_the_users_own() -> None:
    """Whatever lies beside the project: pytest, ruff and mypy are told where to look, git's list is cut to the plan."""
    makefile, settings = (ROOT / "Makefile").read_text(), (ROOT / "pyproject.toml").read_text()
    for tool in ("ruff", "mypy"):
        given = re.findall(rf"-m {tool}(?: check| format --check)? (.*)", makefile)
        checked = re.search(r"^CHECKED := (.*)", makefile, re.M)
        assert given and checked
        for words in given:
            folders = set(words.replace("$(CHECKED)", checked[1]).split())
            assert {*PACKAGES, "scripts"} <= folders <= FOLDERS | {"setup.py"}, (tool, words)
    assert 'testpaths = ["tests"]' in settings
    assert {path.split("/")[0] for path in everything() if "/" in path} <= FOLDERS


def test_pickles_have_one_door() -> None:
    """Code in a file could run, or small files become large, in every other reader of pickles."""
    doors = {"psp/weights/pickles.py": "pickle"}
    around = []
    for path in [*python_files(*PACKAGES, "scripts", "docs"), ROOT / "setup.py"]:
        for line, module in imported(parse(path)):
            if module.split(".")[0] in {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}:
                around += [f"{name(path)}:{line} imports {module}"] if doors.get(name(path)) != module else []
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Attribute) and node.attr == "load":
                full = ast.unparse(node)
                around += [f"{name(path)}:{node.lineno}: {full}"] * (
                    full in {"torch.load", "np.load", "torch.jit.load"}
                )
            if isinstance(node, ast.ImportFrom) and node.module in ("torch", "numpy"):
                around += [f"{name(path)}:{node.lineno}"] * any(alias.name == "load" for alias in node.names)
    assert not around, "psp.weights.safe_torch and psp.files.load_array are the doors"


def test_tests_tell_torch_load_not_to_run_code() -> None:
    unsafe = []
    for path in python_files("tests"):
        for node in ast.walk(parse(path)):
            if not isinstance(node, ast.Call) or getattr(node.func, "attr", "") != "load":
                continue
            if ast.unparse(node.func) == "torch.load":
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                unsafe += [f"{name(path)}:{node.lineno}"] * (given.get("weights_only") != "True")
    assert not unsafe, "torch.load without weights_only=True can run code from the file"


def test_files_are_short() -> None:
    lines = {name(path): path.read_text("utf-8").count("\n") for path in python_files(*PACKAGES, "scripts", "tests")}
    assert {path: count for path, count in lines.items() if count > 400} == {}, "split by concept"


def test_modules_say_what_they_are() -> None:
    files = python_files(*PACKAGES, "scripts", "tests")
    assert [name(path) for path in files if not ast.get_docstring(parse(path))] == []


# What pip installs
