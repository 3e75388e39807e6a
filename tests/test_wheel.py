"""What pip installs: the packages, the command, and nothing of anybody else's."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from house import ROOT, everything, imported, name, parse, python_files
from tiny_models import fill_folder

STAYS = "psp.benchmark"  # in the checkout: it compares with the original pSp, and pip installs no scripts


def declared(pattern: str) -> set[str]:
    """The quoted names in the part of pyproject.toml that a pattern finds."""
    part = re.search(pattern, (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert part, pattern
    return set(re.findall(r'^ *"([\w.]+)"', part[1], re.M))


def test_the_packages_are_listed_by_hand() -> None:
    allowed = {"os", "runpy", "pathlib", "setuptools"}
    assert {module.split(".")[0] for _, module in imported(parse(ROOT / "setup.py"))} <= allowed
    listed = declared(r"^packages = (\[.*?^\])")
    weights = declared(r"^\[tool\.setuptools\.package-dir\]\n(.*?)\n\n")  # the folder pretrained/, as data
    there = {name(path.parent).replace("/", ".") for path in python_files("psp", "stylegan2_ops")} - {STAYS}
    assert listed == there | weights and weights == {"psp.pretrained", "psp.pretrained.auxiliary"}
    assert [package for package in there if not (ROOT / package.replace(".", "/") / "__init__.py").exists()] == []


def test_setup_asks_for_nothing_that_requirements_lack() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    dependencies = re.search(r"^dependencies = (\[.*?^\])", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert dependencies and set(ast.literal_eval(dependencies[1])) <= set(lines)


def snippet() -> str:
    """The lines of Python that README shows, for a sketch `in/a.png`."""
    text = (ROOT / "README.md").read_text()
    code = text[text.index("```python\nimport psp\n") :].split("```")[1].removeprefix("python\n")
    return code.replace("my_sketches/", "in/").replace("my_sketch.png", "in/a.png")


@pytest.mark.slow
def test_pip_installs_and_removes_only_our_two_packages(tmp_path: Path) -> None:
    source = tmp_path / "source"  # pip leaves build folders in the tree that it builds from
    for path in everything():
        if path.split("/")[0] not in ("examples", "docs", ".ci"):
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes((ROOT / path).read_bytes())
    venv.create(tmp_path / "venv", with_pip=False)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    for package in ("datasets", "criteria", "scripts"):
        (site / package).mkdir()
        (site / package / "__init__.py").write_text("whose = 'somebody else'")
    (site / "here.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    before = {path.name for path in site.iterdir()}

    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*wheel, str(source)], check=True)
    (built,) = tmp_path.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(tmp_path / "venv" / "bin" / "python")]
    subprocess.run([*pip, "install", "-q", "--no-deps", str(built)], check=True)
    new = {path.name for path in site.iterdir()} - before
    assert {entry for entry in new if not entry.endswith(".dist-info")} == {"psp", "stylegan2_ops"}
    shipped = {path.relative_to(site) for top in ("psp", "stylegan2_ops") for path in (site / top).rglob("*.py")}
    ours = {path.relative_to(ROOT) for path in python_files("psp", "stylegan2_ops")}
    assert shipped == {path for path in ours if name(ROOT / path.parent).replace("/", ".") != STAYS}

    page = ROOT / "psp" / "studio" / "static"
    there_too = (site / "psp/studio/static").rglob("*.*")
    assert {path.name for path in there_too} == {path.name for path in page.rglob("*.*")}

    assert (site / "psp/py.typed").exists() and (site / "stylegan2_ops/py.typed").exists()

    fill_folder(tmp_path / "in", ["a.png"])
    command, env = tmp_path / "venv" / "bin" / "psp", {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""}

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([command, *argv], cwd=tmp_path, capture_output=True, text=True, env=env)

    assert "infer " in run("--help").stdout and "--data_path" in run("infer", "--help").stdout
    for name_of, folder in (("infer", "inference_results"), ("mix", "style_mixing")):
        made = run(name_of, "--data_path=in", f"--exp_dir={name_of}", "--device=cpu", "--n_outputs_to_generate=2")
        assert made.returncode == 0 and (tmp_path / name_of / folder / "a.png").exists(), made.stderr
    missing = run("infer", "--exp_dir=none", "--device=cpu")
    assert missing.returncode == 2 and missing.stderr.startswith("error: --data_path is missing")
    assert run("convert", "celebs_sketch_to_face", "own.pt").returncode == 0 and (tmp_path / "own.pt").exists()
    python = [tmp_path / "venv" / "bin" / "python", "-c", snippet()]
    done = subprocess.run(python, cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.returncode == 0 and (tmp_path / "my_faces/inference_results/a.png").exists(), done.stderr

    subprocess.run([*pip, "uninstall", "-q", "-y", "psp-faces"], check=True)
    assert {path.name for path in site.iterdir()} == before
    assert all((site / package / "__init__.py").exists() for package in ("datasets", "criteria", "scripts"))
    assert os.listdir(source) and not (ROOT / "build").exists()
