"""Data roots of a few dozen photos: what is set apart for testing, and what is said where too little is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import drawing, fill_folder, photo

from datasets.roots import open_data_root
from psp.errors import UserError
from psp.tasks import get_task

SKETCH = get_task("celebs_sketch_to_face")


@pytest.mark.parametrize(("n", "least"), [(2, 1), (9, 1), (20, 2), (48, 4)])
def test_enough_is_set_apart_to_choose_by(n: int, least: int, tmp_path: Path) -> None:
    fill_folder(tmp_path / "photos", [f"{k}.png" for k in range(n)], lambda k: photo(k, 8))
    found = open_data_root(tmp_path, SKETCH)
    assert least <= len(found.test_target) <= max(1, n // 5) and len(found.test_target) + len(found.train_target) == n


def test_names_without_a_partner_are_told(tmp_path: Path) -> None:
    fill_folder(tmp_path / "photos", ["anna.png", *(f"face{k}.png" for k in range(7))], photo)
    fill_folder(tmp_path / "sketches", ["anna_sketch.png", "berta.png"], drawing)
    with pytest.raises(UserError) as caught:
        open_data_root(tmp_path, SKETCH)
    alone = "no photo for berta.png, no source for face0.png, face1.png, face2.png, face3.png, face4.png, ..."
    assert f"1 pairs are too few to train and test ({alone}); at least 2 are needed, with the same" in str(caught.value)
