"""Compiles the CUDA kernels where that is asked for; everything else about the packages stands in pyproject.toml.

`PSP_BUILD_OPS=1 pip install --no-build-isolation .` compiles them, for TORCH_CUDA_ARCH_LIST or else Ampere to Hopper;
without it they are compiled when a GPU first needs them. Only then is torch imported here.
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
    cmdclass={"build_py": WithKernels} if COMPILE else {},
    distclass=Binary if COMPILE else Distribution,
)
