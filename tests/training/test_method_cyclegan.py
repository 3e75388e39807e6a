"""CycleGAN: losses, image pool, both directions, and data without pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_training as tiny
import torch
from tiny_games import game
from tiny_models import drawing, fill_folder, photo
from tiny_runs import same

from datasets.pairs import PairedImages
from datasets.roots import open_data_root
from datasets.unpaired import UnpairedImages
from psp.errors import UserError
from psp.tasks import get_task
from psp.training.methods.unpaired_gan import ImagePool
from psp.weights.load import load_any_model
from psp.weights.save import save_torch

TASK = get_task("celebs_sketch_to_face")


def test_losses_are_those_of_the_paper() -> None:
    method = game("cyclegan")
    for network in method.networks.values():
        network.eval()
    g, f, judge_photo, judge_sketch = method.networks.values()
    x, y = method.pair(tiny.sketch_batch(1, 3))
    assert x.shape == y.shape == (3, 3, 32, 32)
    with torch.no_grad():
        loss, terms, made = method.generator_loss(x, y)
        judged, _ = method.discriminator_loss(x, y, made)
        fooling = (judge_photo(g(x)) - 1).square().mean() + (judge_sketch(f(y)) - 1).square().mean()
        cycle = (f(g(x)) - x).abs().mean() + (g(f(y)) - y).abs().mean()
        identity = (g(y) - y).abs().mean() + (f(x) - x).abs().mean()
        torch.testing.assert_close(loss, fooling + 10 * cycle + 10 * 0.5 * identity)
        real = (judge_photo(y) - 1).square().mean() + (judge_sketch(x) - 1).square().mean()
        fake = judge_photo(g(x)).square().mean() + judge_sketch(f(y)).square().mean()
        torch.testing.assert_close(judged, (real + fake) / 2)
    torch.testing.assert_close(terms["loss_cycle"], cycle)
    assert "loss_identity" not in game("cyclegan", identity_lambda=0.0).training_step([tiny.sketch_batch(1)], 0)


@pytest.mark.thorough
def test_it_learns_to_come_back() -> None:
    method = game("cyclegan", decay_from=100, decay_until=200, learning_rate=4e-3, seed=0)
    batch = tiny.sketch_batch(1)
    first = float(method.validation_step(batch)["loss_cycle"])
    for step in range(40):
        method.training_step([batch], step)
    assert float(method.validation_step(batch)["loss_cycle"]) < 0.6 * first


def test_label_maps_are_refused() -> None:
    with pytest.raises(UserError, match="use --method pix2pix"):
        game("cyclegan", task="celebs_seg_to_face")


def test_pictures_show_both_cycles() -> None:
    rows = game("cyclegan").pictures(tiny.sketch_batch(1, 2))
    assert [len(row) for row in rows] == [6, 6] and all(p.mode == "RGB" for row in rows for p in row)


def test_the_checkpoint_goes_both_ways(tmp_path: Path) -> None:
    method = game("cyclegan")
    save_torch(method.checkpoint(), tmp_path / "c.pt")
    batch = tiny.sketch_batch(1)
    there = load_any_model(tmp_path / "c.pt")
    back = load_any_model(tmp_path / "c.pt", direction="photo_to_sketch")
    assert there.task is not None and back.task is not None
    assert (there.task.source, back.task.source) == ("sketch", "photo")
    torch.testing.assert_close(there.translate(batch.source), method.translate(batch.source))
    _, photos = method.pair(batch)
    with torch.no_grad():
        wanted = method.networks["photo_to_sketch"].eval()(photos)
    torch.testing.assert_close(back.translate(batch.target), wanted)


# ---- image pool --------------------------------------------------------------------------------------


def numbered(*values: int) -> torch.Tensor:
    return torch.tensor(values).float().view(-1, 1, 1, 1).expand(-1, 3, 2, 2).clone()


def test_the_pool_fills_first() -> None:
    pool = ImagePool(3)
    for k in range(3):
        assert torch.equal(pool.exchange(numbered(k)), numbered(k))
    assert [int(image[0, 0, 0]) for image in pool.images] == [0, 1, 2]


@pytest.mark.thorough
def test_then_half_of_the_images_are_exchanged() -> None:
    pool, given, earlier = ImagePool(50), [], []
    pool.exchange(numbered(*range(50)))
    for k in range(50, 2050):
        (out,) = pool.exchange(numbered(k))
        given.append(int(out[0, 0, 0]))
        if given[-1] != k:
            earlier.append(k - given[-1])
        assert len(pool.images) == 50 and len({int(image[0, 0, 0]) for image in pool.images}) == 50
    assert len(given) == len(set(given))  # none is given twice: what is handed out has left the pool
    assert 900 < len(earlier) < 1100
    assert np.mean(earlier) == pytest.approx(100, rel=0.2)  # waits for 50 exchanges on average, two images each


def test_the_pool_keeps_copies_and_no_gradient() -> None:
    pool = ImagePool(2)
    image = numbered(1).requires_grad_()
    pool.exchange(image * 1)
    with torch.no_grad():
        image += 5
    assert not pool.images[0].requires_grad and int(pool.images[0][0, 0, 0]) == 1


def test_no_pool() -> None:
    pool, image = ImagePool(0), numbered(4, 5)
    assert pool.exchange(image) is image and pool.images == []


def test_the_pools_are_part_of_the_state() -> None:
    method = game("cyclegan", seed=0)
    for step in range(3):
        method.training_step([tiny.sketch_batch(step)], step)
    assert [len(pool.images) for pool in method.pools.values()] == [3, 3]  # type: ignore[attr-defined]
    other = game("cyclegan", seed=1)
    other.load_state(method.state())
    same(other.state(), method.state())


# ---- data --------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    fill_folder(tmp_path / "sketches", [f"s{k}.png" for k in range(4)], drawing)
    fill_folder(tmp_path / "photos", [f"p{k}.png" for k in range(7)], photo)
    return tmp_path


def test_names_need_not_match(data: Path) -> None:
    images = UnpairedImages(TASK, data / "sketches", data / "photos", size=32, augment=True, roughen=False)
    assert len(images) == 7 and "4 sources and 7 photos" in " ".join(images.report.lines())
    rows = [images[(k, seed)] for k in range(7) for seed in range(6)]
    assert sorted({row[2] for row in rows}) == [f"p{k}.png" for k in range(7)]  # every photo has its row
    for k in range(7):
        drawn = {row[0].sum().item() for row in rows[6 * k : 6 * k + 6]}
        assert len(drawn) > 1  # with another sketch every time
    first, second = images[(3, 11)], images[(3, 11)]
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    more = UnpairedImages(TASK, data / "photos", data / "sketches", size=32, augment=True, roughen=False)
    assert len(more) == 7 and len({more[(k, 1)][0].sum().item() for k in range(7)}) == 7


def test_without_augmentation_in_turn(data: Path) -> None:
    images = UnpairedImages(TASK, data / "sketches", data / "photos", size=32)
    pairs = [(f"s{k % 4}.png", f"p{k}.png") for k in range(7)]
    assert images.pairs == pairs
    sketches = PairedImages(TASK, data / "sketches", data / "sketches", size=32)
    assert images[5][2] == "p5.png" and len(sketches) == 4


def test_the_sides_are_mirrored_on_their_own(data: Path) -> None:
    images = UnpairedImages(TASK, data / "sketches", data / "photos", size=32, augment=True, roughen=False)
    plain = [images.pixels(k) for k in range(7)]
    seen = set()
    for seed in range(40):
        source, target, _ = images[(2, seed)]
        pixels = ((target.permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)
        target_flipped = not np.array_equal(pixels, plain[2][1])
        drawn = (source[0].numpy() * 255).round().astype(np.uint8)
        source_flipped = not any(np.array_equal(drawn, other[0]) for other in plain)
        seen.add((source_flipped, target_flipped))
    assert seen == {(False, False), (False, True), (True, False), (True, True)}


def test_photos_alone_are_enough(data: Path) -> None:
    images = UnpairedImages(TASK, None, data / "photos", size=32, augment=True)
    assert len(images) == 7 and images[(0, 1)][0].shape == (1, 32, 32)


def test_damaged_images_take_no_other_with_them(data: Path) -> None:
    (data / "sketches" / "s1.png").write_bytes(b"no image")
    images = UnpairedImages(TASK, data / "sketches", data / "photos", size=32)
    (line,) = images.verify()
    assert "s1.png" in line and len(images) == 7
    assert {source for source, _ in images.pairs} == {"s0.png", "s2.png", "s3.png"}
    for path in (data / "photos").iterdir():
        path.write_bytes(b"x")
    with pytest.raises(UserError, match="none of its 7 images can be read"):
        UnpairedImages(TASK, data / "sketches", data / "photos", size=32).verify()


def test_a_root_without_pairs_is_split_by_side(data: Path) -> None:
    with pytest.raises(UserError, match="too few"):
        open_data_root(data, TASK)
    root = open_data_root(data, TASK, paired=False)
    assert root.train_source is not None and root.test_source is not None
    assert len(root.train_source) + len(root.test_source) == 4 and len(root.test_source) >= 1
    assert len(root.train_target) + len(root.test_target) == 7 and len(root.test_target) >= 1
    assert not set(root.train_target.names) & set(root.test_target.names)
