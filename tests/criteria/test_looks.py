"""Looks: the same faces differ by nothing, other faces by something, and a face is nearest to its own photo."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from criteria.evaluation.looks import LookJudge
from criteria.extractors import Extractor
from psp.images.decode import open_image
from psp.images.preprocess import prepare_target


@pytest.fixture(scope="module")
def photos(root: Path) -> list[Tensor]:
    files = sorted((root / "examples" / "photos").glob("*.jpg"))[:3]
    return [prepare_target(open_image(file), size=128)[None] for file in files]


@pytest.fixture(scope="module")
def judge(photos: list[Tensor]) -> LookJudge:
    extractor = Extractor("mean colours", {}, lambda images: images.mean((2, 3)))
    return LookJudge(photos, extractor)


def test_photos_of_themselves_are_perfect(judge: LookJudge, photos: list[Tensor]) -> None:
    perfect = judge.against_photos(photos)
    assert perfect == pytest.approx({"frechet": 0, "lpips": 0, "identity": 0}, abs=1e-4)
    others = judge.against_photos([photos[1], photos[2], photos[0]])
    assert others["lpips"] > 0.2 and others["identity"] > 0.3
    assert others["frechet"] == pytest.approx(0, abs=1e-4)  # the same set, in another order
    darker = judge.against_photos([photo * 0.5 - 0.5 for photo in photos])
    assert darker["frechet"] > 0.1 and 0 < darker["identity"] < others["identity"]


def test_people_and_parts_among_several(judge: LookJudge, photos: list[Tensor]) -> None:
    same = judge.among([photos[0].repeat(3, 1, 1, 1)])
    assert same["identity_among"] == pytest.approx(0, abs=1e-4) and same["parts_kept"] == 1
    mirrored = judge.among([torch.cat([photos[0], photos[0].flip(3)])])
    people = judge.among([torch.cat(photos)])
    assert mirrored["identity_among"] < people["identity_among"]
    assert people["parts_kept"] < 0.9
    both = judge.among([photos[0].repeat(3, 1, 1, 1), torch.cat(photos)])
    assert both["parts_kept"] == pytest.approx((1 + people["parts_kept"]) / 2)


def test_without_an_extractor_that_number_is_left_out(photos: list[Tensor]) -> None:
    assert set(LookJudge(photos[:1]).against_photos(photos[:1])) == {"lpips", "identity"}
