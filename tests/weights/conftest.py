"""A small model, and the checkpoint that pSp would have written of it."""

from __future__ import annotations

import pytest
import tiny_training as tiny
from tiny_checkpoints import Content, published

from psp.models.psp import PSP


@pytest.fixture
def psp() -> PSP:
    return tiny.model().eval()


@pytest.fixture
def content(psp: PSP) -> Content:
    return published(psp)
