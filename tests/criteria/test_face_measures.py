"""Measures of faces: a face painted from ellipses, changed in one thing, changes in that measure and says which way."""

from __future__ import annotations

import numpy as np
import pytest

from criteria.evaluation.face_measures import MEASURES, measure_face
from psp.images.labels import LABELS

SIDE = 128


def ellipse(ids: np.ndarray, name: str, row: float, column: float, height: float, width: float) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    ids[((y - row) / height) ** 2 + ((x - column) / width) ** 2 <= 1] = LABELS.index(name)


def face(*, nose: float = 64, smile: float = 0, hair: float = 60) -> tuple[np.ndarray, np.ndarray]:
    ids = np.zeros((SIDE, SIDE), np.uint8)
    ellipse(ids, "hair", 50, 64, hair, 48)
    ellipse(ids, "skin", 70, 64, 45, 34)
    for name, column in (("r_eye", 50), ("l_eye", 78)):
        ellipse(ids, name, 60, column, 3, 6)
    ellipse(ids, "nose", 75, nose, 8, 6)
    for x in range(48, 81):
        lift = smile * abs(x - 64) / 16
        ids[round(94 - lift) : round(98 - lift), x] = LABELS.index("u_lip")
    pixels = np.full((SIDE, SIDE, 3), 100, np.uint8)
    pixels[ids == LABELS.index("hair")] = 30
    return pixels, ids


def test_a_plain_face_has_all_measures() -> None:
    found = measure_face(*face())
    assert found.keys() == set(MEASURES) - {"glasses"}
    assert found["yaw"] == pytest.approx(0, abs=0.01) and found["smile"] == pytest.approx(0, abs=0.01)
    assert found["side_light"] == 0 and found["skin_brightness"] == 100 and found["hair_brightness"] == 30


def test_what_changes_is_what_is_measured() -> None:
    plain = measure_face(*face())
    assert measure_face(*face(nose=74))["yaw"] > plain["yaw"] + 0.05
    assert measure_face(*face(smile=6))["smile"] > plain["smile"] + 0.02
    assert measure_face(*face(hair=76))["hair_length"] > plain["hair_length"] + 0.05
    pixels, ids = face()
    pixels[:, 64:] = 180
    lit = measure_face(pixels, ids)
    assert lit["side_light"] > 50 and lit["skin_brightness"] > 100


def test_what_is_not_there_is_not_measured() -> None:
    assert measure_face(np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE), np.uint8)) == {}
