"""Installs the two library packages, and only those; what is said about them stands in pyproject.toml.

`criteria`, `datasets` and `scripts` are plain folders of the checkout: PyPI has packages of those names, so installing
ours would overwrite a user's copy. Hence the list by hand, never find_packages().

`PSP_BUILD_OPS=1 pip install --no-build-isolation .` also compiles the CUDA kernels, for TORCH_CUDA_ARCH_LIST or else
Ampere to Hopper; without it they are compiled when a GPU first needs them. Only then is torch imported here.
"""

import os
import runpy
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent


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
setup(
    packages=[
        "psp",
        "psp.commands",
        "psp.export",
        "psp.images",
        "psp.inference",
        "psp.models",
        "psp.networks",
        "psp.pretrained",
        "psp.pretrained.auxiliary",
        "psp.studio",
        "psp.training",
        "psp.training.methods",
        "psp.training.methods.stylegan2",
        "psp.weights",
        "psp.weights.download",
        "stylegan2_ops",
    ],
    package_dir={"psp.pretrained": "pretrained", "psp.pretrained.auxiliary": "pretrained/auxiliary"},
    package_data={
        "psp": ["py.typed"],
        "psp.pretrained": ["*.safetensors", "manifest.json"],
        "psp.pretrained.auxiliary": ["face_parser.safetensors"],
        "psp.studio": ["static/*", "static/words/*", "web/*"],
        "stylegan2_ops": ["py.typed", "csrc/*"],
    },
    include_package_data=False,
    cmdclass={"build_py": WithKernels} if COMPILE else {},
    distclass=Binary if COMPILE else Distribution,
)
