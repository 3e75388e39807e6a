"""What the options of a training make of a data root."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_checkpoints import refused
from tiny_models import fill_folder, labels, photo

from datasets.training_data import open_data, training_weights
from psp.training.config import Config
from psp.training.method import DataSpec
from psp.training.resolve import from_mapping, resolve

Out = pytest.CaptureFixture[str]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Five training and two test photos of 32 px with their label maps."""
    for part, names in (("train", "abcde"), ("test", "xy")):
        for kind, make in (("photos", photo), ("labels", labels)):
            fill_folder(tmp_path / part / kind, [f"{name}.png" for name in names], lambda k, make=make: make(k, 32))
    return tmp_path


def config(faces: Path, **given: Any) -> tuple[Config, DataSpec]:
    """What `open_data` takes, of the values that are given."""
    given = {"data_root": str(faces), "exp_dir": "x", "dataset_type": "celebs_sketch_to_face", **given}
    common, options = resolve(from_mapping(given, where="test"), examples=False)
    return common, options.data(common)


def test_generators_get_photos_of_their_own_size(faces: Path) -> None:
    options: dict[str, Any] = {"method": "stylegan2", "batch_size": 8, "guide": "source"}
    train, test = open_data(*config(faces, size=16, **options))
    for data in (train, test):
        assert data[0][0].shape == (1, 256, 256) and data[0][1].shape == (3, 16, 16)
    train, _ = open_data(*config(faces, **options))
    assert train[0][1].shape == (3, 128, 128)  # that of a new one
    alone, _ = open_data(*config(faces, size=16, method="stylegan2"))
    assert alone[0][0].shape == alone[0][1].shape == (3, 16, 16)
    encoder, _ = open_data(*config(faces))
    assert encoder[0][1].shape == (3, 256, 256) and encoder[0][1].dtype == torch.uint8


def test_label_maps_travel_where_faces_are_parsed(faces: Path) -> None:
    options: dict[str, Any] = {"method": "stylegan2", "batch_size": 8, "guide": "source", "size": 16}
    train, test = open_data(*config(faces, parsing_lambda=0.1, **options))
    for data in (train, test):
        assert data[0][3].shape == (16, 16)
    assert np.array_equal(test[0][3], np.asarray(labels(0, 32).resize((16, 16), Image.Resampling.NEAREST)))
    train, _ = open_data(*config(faces, parsing_lambda=0.0, **options))
    assert len(train[0]) == 3
    for path in (faces / "test" / "labels").iterdir():
        path.unlink()
    train, _ = open_data(*config(faces, parsing_lambda=0.1, **options))
    assert len(train[0]) == 3  # not for one part alone


def test_styles_of_the_options_are_drawn(faces: Path, capsys: Out) -> None:
    pytest.importorskip("datasets.drawing.draw")
    train, test = open_data(*config(faces, sketch_styles="xdog=1,drawing=3", unfinished=0.5))
    assert train.unfinished == 0.5 and test.unfinished == 0
    assert "drawn from the photos (xdog, drawing)" in capsys.readouterr().out
    for k in range(6):
        assert train[k % 5, k][0].shape == test[k % 2][0].shape == (1, 256, 256)
    for path in (faces / "test" / "labels").iterdir():
        path.unlink()
    assert "prepare_data.py labels" in refused(lambda: open_data(*config(faces, sketch_styles="drawing")))
    assert "--sketch_styles" in refused(lambda: open_data(*config(faces, sketch_styles="charcoal")))
    assert "--unfinished 1.5 must lie between 0 and 1" in refused(lambda: config(faces, unfinished=1.5))


def test_weights_are_those_of_the_training_photos(faces: Path, capsys: Out) -> None:
    train, _ = open_data(*config(faces))
    assert training_weights(config(faces)[0], train) is None
    path = faces / "w.json"
    path.write_text(json.dumps({"a*": 3, "x*": 2, "[bc].png": 0.5}))
    weights = training_weights(config(faces, sample_weights=str(path))[0], train)
    assert weights is not None and weights.tolist() == [3, 0.5, 0.5, 1, 1]
    out = capsys.readouterr().out
    assert "an epoch holds 6 of 5 photos" in out and "match no photo: x*" in out
