"""datasets.drawing: what is drawn where, what is left out, and that nothing depends on anything but the arguments."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from datasets.drawing import draw as drawings
from datasets.drawing.beard import beard_map
from datasets.drawing.draw import LEFT_OUT, begun, drawing, face_strokes
from datasets.drawing.eyes import find_eyes
from datasets.drawing.outlines import face_map
from datasets.drawing.pen import Hand, Line, draw_hand
from psp.errors import UserError
from psp.images.labels import LABELS, mirror_labels

SIDE = 128


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def face(*, hair: bool = True, glasses: bool = False, tilt: int = 0) -> np.ndarray:
    """A face [128,128] of ellipses with every common class; tilt moves the features to one side."""
    image = Image.new("L", (SIDE, SIDE), 0)
    draw = ImageDraw.Draw(image)
    draw.rectangle([20, 112, 108, 128], fill=18)
    draw.rectangle([50, 90, 78, 115], fill=17)
    if hair:
        draw.ellipse([26, 8, 102, 90], fill=13)
    draw.ellipse([26, 54, 36, 74], fill=8)
    draw.ellipse([92, 54, 102, 74], fill=9)
    draw.ellipse([32, 20 if hair else 10, 96, 106], fill=1)
    for side, eye, brow in ((-1, 4, 6), (1, 5, 7)):
        x = 64 + side * 15 + tilt
        if glasses:
            draw.rectangle([x - 11, 52, x + 11, 68], fill=3)
        draw.ellipse([x - 7, 57, x + 7, 63], fill=eye)
        draw.rectangle([x - 9, 47, x + 9, 50], fill=brow)
    if glasses:
        draw.rectangle([58 + tilt, 57, 70 + tilt, 59], fill=3)
    draw.polygon([(62 + tilt, 58), (66 + tilt, 58), (72 + tilt, 78), (56 + tilt, 78)], fill=2)
    draw.ellipse([52 + tilt, 84, 76 + tilt, 96], fill=12)
    draw.rectangle([52 + tilt, 84, 76 + tilt, 89], fill=11)
    return np.asarray(image)


def photo(labels: np.ndarray, *, beard: bool = False, skin: int = 190) -> np.ndarray:
    """Grey [128,128]: skin of one tone, dark eyes, hair and lips, and if asked a dark chin and upper lip."""
    grey = np.where(labels == 13, 60, np.where(labels == 0, 220, skin)).astype(np.uint8)
    grey[np.isin(labels, (4, 5, 6, 7, 11, 12))] = 70
    if beard:
        grey[78:][labels[78:] == 1] = skin // 3
    return grey


def ink(pixels: np.ndarray) -> float:
    return float(255 - pixels.astype(float).mean())


def parts(made: list[Line]) -> set[str]:
    return {line.part for line in made}


def test_same_arguments_same_drawing() -> None:
    labels, grey = face(), photo(face())
    first = drawing(labels, grey, rng(5))
    assert first.shape == (256, 256) and first.dtype == np.uint8
    assert np.array_equal(first, drawing(labels, grey, rng(5)))
    others = [drawing(labels, grey, rng(seed)) for seed in (6, 7, 8)]
    assert all((first != other).mean() > 0.02 for other in others)


@pytest.mark.parametrize("seed", range(6))
def test_dark_strokes_on_white(seed: int) -> None:
    pixels = drawing(face(), photo(face()), rng(seed))
    assert np.median(pixels) == 255 and pixels.min() < 130 and 2 < ink(pixels) < 60


class OtherSide(np.random.Generator):
    """Draws the same numbers, but the first one, which decides about turning the face, from the other end."""

    first = True

    def random(self, *args: object, **kwargs: object) -> float:  # type: ignore[override]
        value = super().random(*args, **kwargs)  # type: ignore[call-overload]
        if self.first:
            self.first, value = False, 1.0 - value
        return value


@pytest.mark.parametrize("seed", range(4))
def test_mirrored_face_is_drawn_mirrored(seed: int) -> None:
    """A face and its mirror image have the same drawings, mirrored, so that neither side is preferred."""
    labels, grey = face(tilt=6), photo(face(tilt=6))
    straight = drawing(labels, grey, rng(seed))
    mirrored = drawing(mirror_labels(labels), grey[:, ::-1], OtherSide(np.random.PCG64(seed)))
    assert np.array_equal(straight, mirrored[:, ::-1])
    assert not np.array_equal(straight, drawing(mirror_labels(labels), grey[:, ::-1], rng(seed))[:, ::-1])


@pytest.mark.parametrize("seed", range(8))
def test_bald_head_is_a_clean_skull(seed: int) -> None:
    labels = face(hair=False)
    pixels = drawing(labels, photo(labels), rng(seed))
    assert pixels[46:76, 100:156].min() == 255  # nothing inside the skull above the brows
    assert pixels[:50, 70:186].min() < 200  # and its outline


@pytest.mark.parametrize("seed", range(8))
def test_hair_has_an_outline_and_a_hairline(seed: int) -> None:
    made = face_strokes(face(), photo(face()), draw_hand(rng(seed)), rng(seed))
    assert "hair" in parts(made) and "jaw" in parts(made)
    bald = face_strokes(face(hair=False), photo(face(hair=False)), draw_hand(rng(seed)), rng(seed))
    assert not {"hair", "hairline", "strands"} & parts(bald)


@pytest.mark.parametrize("skin", [190, 70])
def test_beard_is_drawn_where_the_photo_is_dark(skin: int) -> None:
    labels = face()
    chin = (slice(198, 208), slice(110, 146))
    with_beard, without = 0.0, 0.0
    for seed in range(6):
        with_beard += ink(drawing(labels, photo(labels, beard=True, skin=skin), rng(seed))[chin])
        without += ink(drawing(labels, photo(labels, skin=skin), rng(seed))[chin])
    assert with_beard > 1.5 * without


def test_shade_on_one_side_is_no_beard() -> None:
    labels = face()
    grey = photo(labels).astype(float)
    grey[:, 64:] *= 0.4
    assert beard_map(face_map(labels, 1.5), grey) is None
    where = beard_map(face_map(labels, 1.5), photo(labels, beard=True).astype(float))
    assert where is not None and where[49:51, 29:35].all() and not where[:38].any()


def test_light_beard_is_told_by_its_texture() -> None:
    labels = face()
    grey = photo(labels).astype(np.float32)
    below = (labels == 1) & (np.arange(SIDE)[:, None] > 78)
    grey[below] *= 0.75
    assert beard_map(face_map(labels, 1.5), grey) is None  # smooth: a shadow
    grey[below] += rng(0).normal(0, 16, below.sum())
    where = beard_map(face_map(labels, 1.5), grey)
    assert where is not None and where[49:51, 29:35].mean() > 0.7


@pytest.mark.parametrize("seed", range(6))
def test_glasses(seed: int) -> None:
    plain, worn = face(), face(glasses=True)
    hand = draw_hand(rng(seed))
    assert "glasses" not in parts(face_strokes(plain, photo(plain), hand, rng(seed)))
    made = [line for line in face_strokes(worn, photo(worn), hand, rng(seed)) if line.part == "glasses"]
    centres = [line.points.mean(0) * SIDE for line in made if np.ptp(line.points[:, 0]) > 0.12]
    assert len(centres) == 2 and sorted(np.round(c[0]) for c in centres) == pytest.approx([49, 79], abs=6)


def test_eyes_behind_glasses_are_in_the_lenses() -> None:
    """Scraps of eye classes about the bridge are no eyes; dark glasses without such hide them."""
    worn = face(glasses=True)
    grey = photo(worn)
    assert [round(eye.middle[0]) for eye in find_eyes(face_map(worn, 1.5), grey)] == [50, 80]
    scraps = np.where(np.isin(worn, (4, 5)), 3, worn).astype(np.uint8)
    scraps[57:60, 56:60], scraps[57:60, 69:73] = 4, 5
    centres = [eye.middle[0] for eye in find_eyes(face_map(scraps, 1.5), grey)]
    assert centres == pytest.approx([50, 80], abs=4)
    dark = np.where(np.isin(worn, (4, 5)), 3, worn).astype(np.uint8)
    grey = photo(dark)
    assert len(find_eyes(face_map(dark, 1.5), grey)) == 2
    grey[dark == 3] = 30
    assert find_eyes(face_map(dark, 1.5), grey) == []


def test_an_eye_lies_in_its_lens_where_the_nose_lies_beside_the_glasses() -> None:
    """A face turned far to one side, and its mirror image."""
    worn = np.zeros((SIDE, SIDE), np.uint8)
    worn[40:90, 20:31], worn[45:65, 40:76] = 2, 3
    grey = np.full((SIDE, SIDE), 190, np.uint8)
    (eye,) = find_eyes(face_map(worn, 1.5), grey)
    (other,) = find_eyes(face_map(mirror_labels(worn), 1.5), grey)
    assert eye.middle[0] == pytest.approx(58) and other.middle[0] == pytest.approx(SIDE - 58)


def test_eyes_look_where_the_photo_is_dark() -> None:
    labels, grey = face(), photo(face())
    grey[labels == 4] = 230
    grey[55:65, 52:56][labels[55:65, 52:56] == 4] = 20
    looking, other = find_eyes(face_map(labels, 1.5), grey)
    assert looking.gaze > 0.2 and abs(other.gaze) < 0.1


@pytest.mark.thorough
def test_parts_are_left_out_sometimes_and_never_the_eyes() -> None:
    seen: dict[str, int] = {}
    for seed in range(120):
        for part in parts(face_strokes(face(), photo(face()), draw_hand(rng(seed)), rng(seed))):
            seen[part] = seen.get(part, 0) + 1
    assert seen["eyes"] == seen["hair"] == 120
    assert all(0 < seen[part] < 120 for part in ("ears", "cloth", "neck", "brows", "nose"))
    assert abs(seen["ears"] / 120 - (1 - LEFT_OUT["ears"])) < 0.12


def test_unfinished_drawings_grow_to_the_finished_one() -> None:
    hand = draw_hand(rng(0))
    made = face_strokes(face(), photo(face()), hand, rng(1))
    for order in (0.1, 0.5, 0.8, 0.95):
        counts = [len(begun(made, order, part)) for part in np.linspace(0, 1, 9)]
        assert counts == sorted(counts) and 3 <= counts[0] < counts[4] < counts[-1] < len(made)
        first, second = begun(made, order, 0.3), begun(made, order, 0.6)
        assert all(a is b for a, b in zip(first, second))
    assert begun(made, 0.1, 0.0)[0].part == "jaw" and begun(made, 0.95, 0.0)[0].part == "eyes"


def test_unfinished_has_less_ink() -> None:
    labels, grey = face(), photo(face())
    whole = [ink(drawing(labels, grey, rng(seed))) for seed in range(12)]
    part = [ink(drawing(labels, grey, rng(seed), unfinished=True)) for seed in range(12)]
    assert all(a < b for a, b in zip(part, whole)) and min(part) < 0.5 * np.median(whole) and min(part) > 0


def test_hands_differ_and_agree_with_themselves() -> None:
    hands = [draw_hand(rng(seed)) for seed in range(60)]
    for name in Hand.__dataclass_fields__:
        assert len({getattr(hand, name) for hand in hands}) > 1, name
    widths = [hand.width for hand in hands]
    assert min(widths) < 1.6 and max(widths) > 3


@pytest.mark.parametrize("index", range(len(LABELS)), ids=LABELS)
def test_a_map_of_one_class(index: int) -> None:
    """Nothing but one class has no borders; a patch of it alone is drawn or not, and never fails."""
    grey = np.full((SIDE, SIDE), 128, np.uint8)
    assert drawing(np.full((SIDE, SIDE), index, np.uint8), grey, rng(0)).shape == (256, 256)
    patch = np.zeros((SIDE, SIDE), np.uint8)
    patch[50:80, 40:90] = index
    drawn = ink(drawing(patch, grey, rng(0)))
    assert (drawn > 0) == (LABELS[index] not in ("background", "ear_r"))


def test_blank_map_is_white() -> None:
    assert drawing(np.zeros((SIDE, SIDE), np.uint8), np.zeros((8, 8), np.uint8), rng(0)).min() == 255


@pytest.mark.parametrize(
    ("map_side", "grey_shape", "size"),
    [(128, (128, 128), 64), (512, (33, 70), 255), (37, (1, 1), 511), (1, (5, 5), 1)],
)
def test_any_size(map_side: int, grey_shape: tuple[int, int], size: int) -> None:
    labels = np.asarray(Image.fromarray(face()).resize((map_side, map_side), Image.Resampling.NEAREST))
    grey = np.asarray(Image.fromarray(photo(face())).resize(grey_shape[::-1]))
    pixels = drawing(labels, grey, rng(1), size=size)
    assert pixels.shape == (size, size)
    assert map_side == 1 or ink(pixels) > 1


def test_same_drawing_whatever_the_size() -> None:
    large = Image.fromarray(drawing(face(), photo(face()), rng(3), size=256)).resize((64, 64), Image.Resampling.BOX)
    small = Image.fromarray(drawing(face(), photo(face()), rng(3), size=128)).resize((64, 64), Image.Resampling.BOX)
    assert np.abs(np.asarray(large).astype(float) - np.asarray(small)).mean() < 8


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 4), np.int64),
        np.zeros((4, 4, 3), np.uint8),
        np.full((4, 4), 19, np.uint8),
    ],
)
def test_maps_that_are_none(labels: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"label (map|id)"):
        drawing(labels, np.zeros((4, 4), np.uint8), rng(0))


def test_every_part_has_its_place_in_every_order() -> None:
    for names, _ in drawings.ORDERS:
        order = names.split()
        assert len(order) == len(set(order)) == len(drawings.ORDERS[0][0].split())
        made = face_strokes(face(glasses=True), photo(face(), beard=True), draw_hand(rng(0)), rng(0))
        assert parts(made) <= set(order)
    assert sum(share for _, share in drawings.ORDERS) == pytest.approx(1)
