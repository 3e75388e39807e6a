"""Training the face parser: losses against torch's, changes that keep photo and map together, steps that resume."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_runs import same
from tiny_training import sketch_batch

from psp.networks.face_parser import CLASSES, FaceParser, parsing_losses
from psp.training.bad_steps import BadStep
from psp.training.config import Config
from psp.training.methods.face_parser_step import ParserMethod, schedule, vary

CONFIG = Config(dataset_type="celebs_seg_to_face", method="parser", learning_rate=5e-2, max_steps=12)


def method() -> ParserMethod:
    torch.manual_seed(0)
    return ParserMethod(CONFIG, device=torch.device("cpu"), start=FaceParser(widths=(8, 8, 8, 8)))


def batch(number: int = 0):  # type: ignore[no-untyped-def]
    return sketch_batch(number, 2, "celebs_seg_to_face")


def test_losses_equal_torch_s_cross_entropy_and_the_dice_of_one_hot_maps() -> None:
    logits, ids = torch.randn(3, CLASSES, 8, 8, dtype=torch.double), torch.randint(0, 12, (3, 8, 8))
    hot = F.one_hot(ids, CLASSES).permute(0, 3, 1, 2).double()
    counts, guess = hot.sum((0, 2, 3)), logits.softmax(1)
    dice = 1 - ((2 * (guess * hot).sum((0, 2, 3)) + 50) / (guess.sum((0, 2, 3)) + counts + 50)).mean()
    weight = (counts / counts.sum() + 1e-4).rsqrt()
    found = parsing_losses(logits, ids)
    assert found["loss_entropy"].item() == pytest.approx(F.cross_entropy(logits, ids, weight=weight).item())
    assert found["loss_dice"].item() == pytest.approx(dice.item())
    perfect = parsing_losses(100 * hot - 50, ids)
    assert perfect["loss_entropy"] < 1e-9 and perfect["loss_dice"] < 1e-6


def test_photo_and_map_are_changed_alike() -> None:
    """A photo that shows its own label map still does afterwards, wherever the parts went."""
    ids = torch.zeros(4, 256, 256, dtype=torch.uint8)
    ids[:, 60:160, 80:220] = 1
    photo = ids[:, None].float().expand(-1, 3, -1, -1) * 2 - 1
    images, wanted = vary(photo, ids)
    assert images.shape == (4, 3, 128, 128) and wanted.dtype == torch.int64 and images.abs().max() <= 1
    for image, labels in zip(images.mean(1), wanted, strict=True):
        bright = image > (image[labels == 1].mean() + image[labels == 0].mean()) / 2
        assert (bright == (labels == 1)).float().mean() > 0.97
    assert not torch.equal(wanted[0], wanted[1]), "each sample has its own change"


@pytest.mark.thorough
def test_it_learns_and_resumes_to_the_bit() -> None:
    def steps(made: ParserMethod, first: int, last: int) -> list[float]:
        found = []
        for step in range(first, last):
            torch.manual_seed(step)
            found.append(float(made.training_step([batch(step % 2)], step)["loss"]))
        return found

    whole = method()
    course = steps(whole, 0, 8)
    assert sum(course[-3:]) < sum(course[:3]) - 0.2 and all(math.isfinite(loss) for loss in course)
    half = method()
    steps(half, 0, 4)
    again = method()
    again.load_state(half.state())
    assert steps(again, 4, 8) == course[4:]
    same(again.state(), whole.state())


def test_validation_pictures_and_checkpoint() -> None:
    made = method()
    values = made.validation_step(batch())
    assert {"loss", "miou", "accuracy"} <= set(values) and 0 <= float(values["miou"]) <= 1
    rows = made.pictures(batch())
    assert len(rows) == 2 and [len(row) for row in rows] == [3, 3] and rows[0][2].size == rows[0][0].size
    state = made.checkpoint()["state_dict"]
    fresh = FaceParser(widths=(8, 8, 8, 8))
    fresh.load_state_dict(state)


def test_a_bad_step_leaves_everything_as_it_was() -> None:
    made = method()
    before = {name: value.clone() for name, value in made.net.state_dict().items()}
    broken = batch()
    broken.target[:] = float("nan")
    with pytest.raises(BadStep):
        made.training_step([broken], 0)
    same(dict(made.net.state_dict()), before)


def test_schedule() -> None:
    assert schedule(0, 1000) < 0.03 and schedule(60, 1000) > 0.9 and schedule(1000, 1000) == pytest.approx(0)
    assert schedule(5000, 1000) == pytest.approx(0), "a run that is prolonged does not start to learn backwards"
