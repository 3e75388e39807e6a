"""Installs the two library packages, and only those.

`criteria`, `datasets` and `scripts` are plain folders of the checkout: PyPI has packages of those names, so installing
ours would overwrite a user's copy. Hence the list by hand, never find_packages(). Nothing here imports torch.
"""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "psp" / "__init__.py").read_text(encoding="utf-8"))
README = HERE / "README.md"

assert VERSION is not None
setup(
    name="psp-faces",
    version=VERSION[1],
    description="Sketches and label maps become faces: pixel2style2pixel, from scratch, on one CPU or many GPUs",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    packages=["psp", "psp.benchmark", "psp.methods", "psp.studio", "stylegan2_ops"],
    package_data={"stylegan2_ops": ["csrc/*"], "psp.studio": ["static/*"]},
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
    ],
    extras_require={"studio": ["flask>=3.1,<4", "waitress>=3,<4"]},
)
