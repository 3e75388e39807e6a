"""Label maps through psp.images: every way to write one, other numberings, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_images import label_file, round_trip

from psp.errors import UserError
from psp.images.labels import COLOURS, LABELS, colourise, get_label_map, mirror_labels
from psp.images.preprocess import described_pixels, prepare_source, to_network
from psp.tasks import TASKS

LABEL, PHOTO = TASKS["celebs_seg_to_face"], TASKS["ffhq_encode"]


def test_every_form_of_a_label_map_gives_the_same_ids() -> None:
    ids = (np.arange(256 * 256).reshape(256, 256) // 3400).astype(np.uint8)
    assert ids.max() == 18 + 1 or ids.max() <= 19
    ids = np.minimum(ids, 18)
    colours = Image.fromarray(colourise(ids))
    forms = {
        "palette": label_file(ids), "grey": Image.fromarray(ids),
        "rgb grey": Image.fromarray(np.repeat(ids[..., None], 3, 2)),
        "colours": colours, "rgba colours": colours.convert("RGBA"), "16 bit": Image.fromarray(ids.astype(np.uint16)),
        "32 bit": Image.fromarray(ids.astype(np.int32)), "float": Image.fromarray(ids.astype(np.float32)),
    }  # fmt: skip
    for name, image in forms.items():
        assert np.array_equal(prepare_source(image, LABEL, name=name).numpy(), ids), name
        if image.mode not in ("F", "I"):
            assert np.array_equal(prepare_source(round_trip(image), LABEL, name=name).numpy(), ids), name


def test_palette_of_other_colours_keeps_its_indices_unless_colours_count() -> None:
    ids = np.full((256, 256), 13, np.uint8)
    image = Image.fromarray(ids)
    image.putpalette([255 - i % 256 for i in range(768)])
    assert prepare_source(round_trip(image), LABEL).unique().tolist() == [13]
    shuffled = Image.fromarray(np.full((256, 256), 2, np.uint8))
    shuffled.putpalette([9, 9, 9, 8, 8, 8, *COLOURS[17]])
    assert prepare_source(round_trip(shuffled), LABEL, label_map="color").unique().tolist() == [17]


def test_palettes_that_another_program_sorted_count_by_colour() -> None:
    """As "indexed" in a drawing program or pngquant save them: the most frequent colour first."""
    ids = np.array([17] * 100 + [13] * 60 + [0] * 40 + [1] * 56, np.uint8).repeat(256).reshape(256, 256)
    for shown in (colourise(ids), np.repeat(ids[..., None], 3, 2)):
        indexed = Image.fromarray(shown).convert("P", palette=Image.Palette.ADAPTIVE, colors=20)
        assert not np.array_equal(np.asarray(indexed), ids)
        assert np.array_equal(prepare_source(indexed, LABEL).numpy(), ids)
        assert np.array_equal(prepare_source(round_trip(indexed), LABEL).numpy(), ids)
    black = Image.fromarray(ids)
    black.putpalette([0] * 768)  # says nothing
    assert np.array_equal(prepare_source(black, LABEL).numpy(), ids)
    numbered = Image.fromarray(np.where(ids == 17, 3, ids).astype(np.uint8))  # zllrunning's numbers in our colours
    numbered.putpalette(label_file(ids).getpalette())
    other = prepare_source(numbered, LABEL, label_map="zllrunning").numpy()
    assert set(np.unique(other)) == {0, 1, 7, 12}  # by its own table: 3 r_brow, 13 l_lip


def test_label_out_of_range_names_ids_and_file() -> None:
    ids = np.zeros((64, 64), np.uint8)
    ids[0, 0], ids[5, 5] = 19, 200
    with pytest.raises(UserError, match=r"face7\.png.*19, 200.*0\.\.18"):
        prepare_source(Image.fromarray(ids), LABEL, name="face7.png")
    with pytest.raises(UserError, match="-1"):
        prepare_source(Image.fromarray(np.full((8, 8), np.nan, np.float32)), LABEL)


def test_unknown_colours_are_named() -> None:
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:8] = (1, 2, 3)
    with pytest.raises(UserError, match=r"m\.png.*#010203"):
        prepare_source(Image.fromarray(rgb), LABEL, name="m.png")
    with pytest.raises(UserError, match="PNG"):
        photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        prepare_source(Image.fromarray(photo), LABEL, name="m.jpg")


def test_label_maps_of_other_programs(tmp_path: Path) -> None:
    hair, hat = 17, 18  # in face-parsing.PyTorch
    image = Image.fromarray(np.array([[hair, hat], [2, 0]], np.uint8))
    got = described_pixels(image, LABEL, size=2, label_map="zllrunning")[0]
    assert [LABELS[i] for i in got.flatten()] == ["hair", "hat", "l_brow", "background"]
    assert sorted(get_label_map("zllrunning").ids.values()) == list(range(19))  # type: ignore[union-attr]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"0": 0, "255": "skin"}))
    image = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8))
    assert described_pixels(image, LABEL, size=2, label_map=str(path))[0].flatten().tolist() == [0, 1, 1, 0]
    with pytest.raises(UserError, match="7.*out of range"):
        described_pixels(Image.fromarray(np.full((2, 2), 7, np.uint8)), LABEL, size=2, label_map=str(path))[0]
    path.write_text(json.dumps({"#ffffff": "hair", "#000000": 0}))
    white = Image.new("RGB", (4, 4), "white")
    assert described_pixels(white.convert("P"), LABEL, size=4, label_map=str(path))[0].max() == 13


@pytest.mark.parametrize("text", ["{", "3", "{}", '{"a": 1}', '{"1": 19}', '{"1": "beard"}', '{"1": true}'])
def test_bad_label_map_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UserError, match="label map"):
        get_label_map(str(path))
    with pytest.raises(UserError, match="--label_map"):
        get_label_map("nonsense")


def test_one_hot_on_the_device() -> None:
    ids = torch.randint(0, 19, (2, 8, 8), dtype=torch.uint8)
    hot = to_network(ids, LABEL, "cpu")
    assert hot.shape == (2, 19, 8, 8) and hot.dtype == torch.float32
    assert torch.equal(hot.argmax(1).to(torch.uint8), ids) and torch.equal(hot.sum(1), torch.ones(2, 8, 8))
    photo = torch.rand(1, 3, 8, 8)
    assert to_network(photo, PHOTO, "cpu") is photo


def test_mirrored_labels_exchange_left_and_right() -> None:
    assert mirror_labels(np.array([[4, 1], [6, 13]], np.uint8)).tolist() == [[1, 5], [13, 7]]
    ids = np.random.default_rng(0).integers(0, 19, (5, 6), dtype=np.uint8)
    assert np.array_equal(mirror_labels(mirror_labels(ids)), ids)
