"""The parsing loss: low where the output has the parts that were asked for, with a gradient that puts them there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from criteria.objective import PspObjective
from criteria.parsing import ParsingLoss
from psp.images.preprocess import prepare_source, prepare_target
from psp.tasks import get_task

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Photo [1,3,256,256] and label map [1,256,256]."""
    photo = prepare_target(Image.open(EXAMPLES / "photos" / f"{name}.jpg"))
    return photo[None], prepare_source(Image.open(EXAMPLES / "labels" / f"{name}.png"), get_task("celebs_seg_to_face"))[
        None
    ]


@pytest.fixture(scope="module")
def loss() -> ParsingLoss:
    return ParsingLoss()


def test_a_photo_fits_its_own_map_best(loss: ParsingLoss) -> None:
    photos, maps = zip(*(example(name) for name in ("female_22", "male_21", "male_56")), strict=True)
    table = torch.tensor([[loss(photo, ids) for ids in maps] for photo in photos])
    assert (table.argmin(1) == torch.arange(3)).all() and (table.diag() < 0.75 * table.sum(1) / 3).all()
    assert not loss(photos[0], loss.features(photos[0])).requires_grad
    assert loss.train().parser.training is False


@pytest.mark.parametrize("size", [64, 128, 160])
def test_its_gradient_changes_the_picture_towards_the_map(loss: ParsingLoss, size: int) -> None:
    photo, _ = example("female_22")
    _, ids = example("male_21")
    picture = torch.nn.functional.interpolate(photo, size=size, mode="area").requires_grad_()
    before = loss(picture, ids)
    (gradient,) = torch.autograd.grad(before, picture)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    assert loss(picture - 0.02 * gradient.sign(), ids) < before - 0.1


def test_it_joins_the_sum(loss: ParsingLoss) -> None:
    objective = PspObjective({"l2_lambda": 1.0, "parsing_lambda": 0.5})
    photo, _ = example("female_22")
    other, ids = example("male_21")
    by_map, by_photo = objective(photo, other, labels=ids), objective(photo, other)
    for found, wanted in ((by_map, ids), (by_photo, loss.features(other))):
        assert found.terms["loss_parsing"].item() == pytest.approx(loss(photo, wanted).item(), rel=1e-5)
        weighted = found.terms["loss_l2"] + 0.5 * found.terms["loss_parsing"]
        assert found.total.item() == pytest.approx(weighted.item(), rel=1e-5)
    assert by_photo.total != by_map.total
