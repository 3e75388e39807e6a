"""What comes in from outside, whatever its bytes: a value that can be used or one line, never another exception."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hostile_images import FORMATS, encoded, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_models import drawing, photo

from psp.errors import UserError, shown
from psp.images.decode import open_image
from psp.images.labels import get_label_map
from psp.images.preprocess import described_pixels
from psp.images.sources import Zip
from psp.tasks import get_task
from psp.training.flags import parse
from psp.training.resolve import resolve

PICTURES = [encoded(image, kind) for kind in FORMATS for image in (drawing(1, 32), photo(1, 32))]
SKETCH, PHOTO, LABEL = (get_task(f"celebs_{name}") for name in ("sketch_to_face", "super_resolution", "seg_to_face"))
# Always the same examples, so that no change is stopped by an old bug; FUZZ_EXAMPLES=5000 looks for new ones.
MANY = int(os.environ.get("FUZZ_EXAMPLES", "0"))
short = settings(
    max_examples=MANY or 60,
    derandomize=not MANY,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def one_line(error: UserError) -> None:
    assert len(str(error).splitlines()) == 1 and len(str(error)) < 1500


@st.composite
def damaged(draw: st.DrawFn, files: list[bytes]) -> bytes:
    """One of the files with some bytes changed, cut out or put in."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        data[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(data[: draw(st.one_of(st.none(), st.integers(0, len(data))))])


@pytest.mark.thorough
@short
@given(st.one_of(damaged(PICTURES), st.binary(max_size=200)), st.sampled_from([SKETCH, PHOTO, LABEL]))
def test_image_door(data: bytes, task: object) -> None:
    try:
        image = open_image(io.BytesIO(data), max_pixels=1_000_000, name="x.png")
        pixels, _ = described_pixels(image, task, size=32, name="x.png")  # type: ignore[arg-type]
    except UserError as error:
        one_line(error)
    else:
        assert pixels.dtype == np.uint8 and pixels.shape[:2] == (32, 32)


VALUES = st.one_of(st.integers(-3, 300), st.sampled_from([2**31 - 1, -(2**31), 65535, 18, 19]))
KEYS = st.one_of(VALUES.map(str), st.sampled_from(["#cc0000", "#", "# 1", "#-1", "1e3", "²", "", "9" * 5000]))
NESTED = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
TARGETS = st.one_of(st.integers(0, 18), st.integers(0, 18), st.sampled_from(["hair", "skin"]), NESTED)


@short
@given(
    entries=st.dictionaries(KEYS, st.one_of(st.integers(0, 18), TARGETS), max_size=5),
    values=st.lists(VALUES, min_size=1, max_size=4),
)
def test_label_door(entries: dict[str, object], values: list[int], tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps(entries))
    image = Image.fromarray(np.resize(np.array(values, np.int32), (6, 6)))
    for spec in (str(path), "celebamask", "zllrunning", "color"):
        try:
            ids = described_pixels(image, LABEL, size=16, label_map=get_label_map(spec), name="x.png")[0]  # type: ignore[arg-type]
        except UserError as error:
            one_line(error)
        else:
            assert ids.shape == (16, 16) and int(ids.max()) < LABEL.label_nc


NAMES = st.one_of(
    st.sampled_from(["method", "seed", "learning_rate", "batch_size", "data_root", "lpips_lambda"]), st.text()
)
DEEP = "[" * 1200 + "]" * 1200
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{','.join(['*' + chr(97 + k)] * 9)}]\n" for k in range(12)
)
SAID = ["seed: !!int ''", "seed: !!timestamp x", "seed: !!bool x", "? [a]\n: 1", "seed: 1" + "0" * 400, DEEP]
SAID += [
    "learning_rate: 1" + "0" * 400,
    "learning_rate: .nan",
    "!!python/object/apply:os.system [true]",
    "seed: &a [*a]",
]
SAID += [LAUGHS.replace("m:", "seed:"), "\x00", "a\nb: c: d", "seed: 1\nseed: 2", "{", "\ufeff{}"]


@pytest.mark.thorough
@short
@given(
    text=st.one_of(
        st.sampled_from(SAID), st.text(max_size=60), st.dictionaries(NAMES, NESTED, max_size=3).map(json.dumps)
    )
)
def test_config_door(text: str, tmp_path: Path) -> None:
    for ending in (".json", ".yaml"):
        path = tmp_path / f"config{ending}"
        path.write_bytes(text.encode(errors="surrogateescape") if text.isascii() else text.encode(errors="replace"))
        try:
            resolve(parse(["--config", str(path)]), examples=False)
        except UserError as error:
            one_line(error)


@pytest.mark.thorough
@pytest.mark.parametrize("text", SAID)
def test_config_door_says_no_to_what_it_knows(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    try:
        parse(["--config", str(path)])
    except UserError as error:
        one_line(error)


ARCHIVES = [zipped({"a.png": PICTURES[0], "b/c.jpg": PICTURES[2]})]


@short
@given(data=damaged(ARCHIVES))
def test_zip_door(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    try:
        source = Zip(path)
        for name in source.names:
            assert ".." not in name and not name.startswith("/")
            source.open(name)
    except UserError as error:
        one_line(error)


def test_values_are_shown_shortly() -> None:
    loop: list[object] = []
    loop.append(loop)
    wide: list[object] = ["x"] * 9
    for _ in range(12):
        wide = [wide] * 9
    assert all(len(shown(value)) <= 80 for value in (loop, wide, "x" * 10**6, 10**4000)) and shown("a") == "'a'"
