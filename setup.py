"""Installs the two library packages, and only those.

`criteria`, `datasets` and `scripts` are plain folders of the checkout: PyPI has packages of those names, so installing
ours would overwrite a user's copy. Hence the list by hand, never find_packages().

`PSP_BUILD_OPS=1 pip install --no-build-isolation .` also compiles the CUDA kernels, for TORCH_CUDA_ARCH_LIST or else
Ampere to Hopper; without it they are compiled when a GPU first needs them. Only then is torch imported here.
"""

import os
import re
import runpy
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
VERSION = re.search(r'VERSION = "(.+)"', (HERE / "psp" / "cli.py").read_text(encoding="utf-8"))
README = HERE / "README.md"


class WithKernels(build_py):
    """Puts the compiled kernels beside the modules."""

    def run(self):
        super().run()
        module = runpy.run_path(str(HERE / "stylegan2_ops" / "build.py"))
        archs = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").split() or module["RELEASED"]
        package = HERE if self.editable_mode else Path(self.build_lib)
        try:
            module["build"](package / "stylegan2_ops" / "_kernels", archs, timeout=3600.0)
        except ImportError as error:
            raise SystemExit(f"PSP_BUILD_OPS=1 needs torch ({error}): pip install --no-build-isolation .") from None
        except module["BuildError"] as error:
            raise SystemExit(f"PSP_BUILD_OPS=1: {error}") from None


class Binary(Distribution):
    """Kernels are compiled for one platform."""

    def has_ext_modules(self):
        return True


COMPILE = os.environ.get("PSP_BUILD_OPS", "0") not in ("", "0")
assert VERSION is not None
setup(
    name="psp-faces",
    version=VERSION[1],
    description="Sketches and label maps become faces: pixel2style2pixel, from scratch, on one CPU or many GPUs",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    packages=[
        "psp",
        "psp.benchmark",
        "psp.images",
        "psp.inference",
        "psp.models",
        "psp.networks",
        "psp.studio",
        "psp.training",
        "psp.training.methods",
        "psp.weights",
        "psp.weights.download",
        "stylegan2_ops",
    ],
    package_data={"stylegan2_ops": ["csrc/*"], "psp.studio": ["static/*", "static/words/*"]},
    cmdclass={"build_py": WithKernels} if COMPILE else {},
    distclass=Binary if COMPILE else Distribution,
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.10,<2.16",
        "torchvision>=0.25,<0.30",
        "numpy>=2.0,<3",
        "pillow>=11,<14",
        "scipy>=1.13,<2",
        "tqdm>=4.66,<5",
        "safetensors>=0.5,<1",
        "pyyaml>=6,<7",
        "filelock>=4.1,<5",
    ],
    extras_require={"studio": ["flask>=3.1,<4", "waitress>=3,<4"], "ray": ["ray[data]>=2.30,<3"]},
)
