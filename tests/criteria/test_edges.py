"""Edge agreement: lines in place, moved and missing, and a face against its own and another drawing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from criteria.edges import edge_agreement, line_response
from datasets.sketches import STYLES


def drawing(shift: int = 0, ink: int = 0, paper: int = 255, side: int = 256) -> np.ndarray:
    pixels = np.full((side, side), paper, np.uint8)
    pixels[60 + shift : 62 + shift, 50:200] = ink
    pixels[60:200, 120 + shift : 122 + shift] = ink
    return pixels


def test_the_same_lines_agree_however_pale_they_are() -> None:
    assert edge_agreement(drawing(), drawing()) == (1.0, 1.0, 1.0)
    assert min(edge_agreement(drawing(ink=110, paper=140), drawing())) > 0.99  # a pale, grey picture of them
    assert min(edge_agreement(drawing(shift=1), drawing())) > 0.99  # within the tolerance
    assert max(edge_agreement(drawing(shift=9), drawing())) < 0.2


def test_nothing_to_compare_with() -> None:
    blank = np.full((256, 256), 200, np.uint8)
    assert edge_agreement(blank, drawing()) == (0.0, 0.0, 0.0)
    assert np.isnan(edge_agreement(drawing(), blank)).all()
    with pytest.raises(ValueError, match="at 256 px"):
        edge_agreement(drawing()[:100], drawing())


def test_half_of_the_lines() -> None:
    half = drawing()
    half[:, :119] = 255
    precision, recall, f1 = edge_agreement(half, drawing())
    assert precision > 0.95 and 0.6 < recall < 0.85 and recall < f1 < precision


def test_response_does_not_depend_on_size_and_light() -> None:
    assert line_response(drawing(side=256)[:128]).shape == (128, 256)
    big = np.asarray(Image.fromarray(drawing()).resize((512, 512), Image.Resampling.BICUBIC))
    assert edge_agreement(big, drawing())[2] > 0.99
    shaded = np.clip(drawing(ink=40).astype(float) * np.linspace(0.4, 1, 256), 0, 255).astype(np.uint8)
    assert edge_agreement(shaded, drawing())[2] > 0.95


@pytest.mark.thorough
def test_a_photo_follows_its_own_sketch_more_than_another(root: Path) -> None:
    photos = [
        np.asarray(Image.open(path).convert("L")) for path in sorted((root / "examples/photos").glob("*.jpg"))[:4]
    ]
    for style in STYLES.values():
        sketches = [style(photo) for photo in photos]
        for k, photo in enumerate(photos):
            own = edge_agreement(photo, sketches[k])[2]
            other = edge_agreement(photo, sketches[k - 1])[2]
            assert own > other + 0.15, (own, other)
