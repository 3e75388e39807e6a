"""What pix2pix, CycleGAN and cGAN share: steps, schedules, bad steps, precision, resuming, checkpoints."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import tiny_training as tiny
import torch
from tiny_games import KINDS, game
from tiny_runs import STEPS, Finished, Interrupting, poisoned, same, same_end, state, trainer, whole
from torch import Tensor, nn

from psp.batch import Batch
from psp.errors import UserError
from psp.models.image_to_image import PictureModel, picture_input
from psp.tasks import get_task
from psp.training.bad_steps import BadStep
from psp.training.decay import decayed
from psp.training.methods.image_gan import Player
from psp.weights.load import load_any_model
from psp.weights.save import save_torch

NAMES = sorted(KINDS)


# ---- steps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_step_moves_every_parameter_of_both_players(name: str) -> None:
    method = game(name)
    before = {n: {k: v.clone() for k, v in net.named_parameters()} for n, net in method.networks.items()}
    terms = method.training_step([tiny.sketch_batch(1)], 0)
    assert all(torch.isfinite(value) and not value.requires_grad for value in terms.values())
    still = [
        f"{n}.{key}"
        for n, net in method.networks.items()
        for key, value in net.named_parameters()
        if torch.equal(value, before[n][key])
    ]
    # a shift before batch or instance norm changes nothing, so it has no gradient but rounding
    assert [key for key in still if not key.endswith("bias")] == []


@pytest.mark.parametrize("name", NAMES)
def test_validation_changes_nothing(name: str) -> None:
    method = game(name)
    method.training_step([tiny.sketch_batch(1)], 0)
    before = whole(method)
    torch.manual_seed(0)
    first = method.validation_step(tiny.sketch_batch(2))
    torch.manual_seed(0)
    second = method.validation_step(tiny.sketch_batch(2))
    method.pictures(tiny.sketch_batch(2))
    same(first, second)
    same(method.state(), before)


def test_accumulated_gradients_are_those_of_one_large_batch() -> None:
    options: dict[str, Any] = {"norm": "instance", "dropout": False, "beta1": 0.0}
    a, b = (game("pix2pix", seed=3, **options) for _ in range(2))
    one = tiny.sketch_batch(1, 4)
    halves = [Batch(one.source[i : i + 2], one.target[i : i + 2]) for i in (0, 2)]
    for method, batches in ((a, [one]), (b, halves)):
        method.training_step(batches, 0)
    for name, network in a.networks.items():
        for key, value in network.state_dict().items():
            if not key.endswith(
                "bias"
            ):  # Adam's first step turns rounding into a whole step where there is no gradient
                torch.testing.assert_close(value, b.networks[name].state_dict()[key], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_generators_loss_gives_the_discriminators_no_gradient(name: str) -> None:
    method = game(name)
    seen: list[bool] = []
    backward = method.players["generator"].backward

    def watched(loss: Tensor, who: str) -> None:
        backward(loss, who)
        seen.append(any(p.grad is not None for p in method.players["discriminator"].networks.parameters()))

    method.players["generator"].backward = watched  # type: ignore[method-assign]
    method.training_step([tiny.sketch_batch(1)], 0)
    assert seen == [False]
    assert all(p.requires_grad for player in method.players.values() for p in player.networks.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16(name: str) -> None:
    method = game(name, precision="bf16")
    terms = method.training_step([tiny.sketch_batch(1)], 0)
    assert all(torch.isfinite(value) for value in terms.values())
    assert {p.dtype for player in method.players.values() for p in player.networks.parameters()} == {torch.float32}


# ---- learning rate -----------------------------------------------------------------------------------


def test_the_rate_is_constant_and_then_falls_linearly() -> None:
    assert [decayed(step, 4, 8) for step in range(10)] == [1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    assert decayed(7, 5, 5) == 0 and decayed(4, 5, 5) == 1
    assert decayed(10**6, -1, 8) == decayed(10**6, 4, -1) == 1


def test_both_players_follow_the_schedule() -> None:
    method = game("pix2pix", decay_from=1, decay_until=3, learning_rate=0.01)
    for step, factor in ((0, 1.0), (1, 1.0), (2, 0.5)):
        terms = method.training_step([tiny.sketch_batch(step)], step)
        assert float(terms["learning_rate"]) == pytest.approx(0.01 * factor)
        for player in method.players.values():
            (group,) = player.optimiser.param_groups
            assert group["lr"] == pytest.approx(0.01 * factor) and group["betas"] == (0.5, 0.999)


# ---- bad steps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_batch_changes_nothing(name: str) -> None:
    method = game(name)
    method.training_step([tiny.sketch_batch(0)], 0)
    before = whole(method)
    with pytest.raises(BadStep, match="generator's loss is nan"):
        method.training_step([tiny.sketch_batch(1), poisoned(tiny.sketch_batch(2))], 1)
    same(method.state(), before)
    assert all(p.grad is None and p.requires_grad for p in method.networks.parameters())
    method.training_step([tiny.sketch_batch(1)], 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_discriminator_leaves_the_generator_alone_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = game(name)
    method.training_step([tiny.sketch_batch(0)], 0)
    before = whole(method)
    found = method.discriminator_loss

    def infinite(*args: Any) -> Any:
        loss, terms = found(*args)
        return loss * float("inf"), terms

    monkeypatch.setattr(method, "discriminator_loss", infinite)
    with pytest.raises(BadStep, match="discriminator's loss is inf"):
        method.training_step([tiny.sketch_batch(1)], 1)
    same(method.state(), before)


def test_a_gradient_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    method = game("pix2pix")
    before = whole(method)
    weight = next(method.networks["discriminator"].parameters())
    hook = weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(BadStep, match="discriminator's gradient is nan"):
        method.training_step([tiny.sketch_batch(1)], 0)
    hook.remove()
    same(method.state(), before)


def test_fp16_overflow_lowers_the_scale_and_skips() -> None:
    """A loss scale works on any device, so this needs no GPU."""
    layer = nn.Linear(2, 1)
    player = Player([layer], 0.1, 0.5, torch.device("cpu"), "fp16")
    scale = player.scaler.get_scale()
    before = layer.weight.detach().clone()
    player.backward(layer(torch.full((1, 2), 1e38)).sum(), "generator")  # finite, and its scaled gradient is not
    assert not torch.isfinite(player.gradient_norm("generator"))
    player.step(1.0)
    assert torch.equal(layer.weight, before) and player.scaler.get_scale() == scale / 2
    player.backward(layer(torch.ones(1, 2)).sum(), "generator")
    assert float(player.gradient_norm("generator")) == pytest.approx(3**0.5)
    player.step(1.0)
    assert not torch.equal(layer.weight, before)
    player.scaler.update(1.0)  # as small as it gets: now the gradient itself is to blame
    layer.weight.register_hook(lambda gradient: gradient * float("inf"))
    player.backward(layer(torch.ones(1, 2)).sum(), "generator")
    with pytest.raises(BadStep):
        player.gradient_norm("generator")


# ---- resuming, checkpoints ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return Finished(tmp_path_factory, lambda name, folder: trainer(folder, game(name, seed=0)).run())


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "at"),
    [("pix2pix", 1), ("pix2pix", 3), ("pix2pix", 4), ("pix2pix", 6), ("cyclegan", 3), ("cgan", 5)],
)
def test_stopped_and_resumed(name: str, at: int, uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    """Dropout, image pool and learning rate included: the same bytes as without the stop."""
    assert trainer(tmp_path, Interrupting(game(name, seed=0), at, signal.SIGTERM)).run() == 128 + signal.SIGTERM
    assert state(tmp_path)["step"] == at
    assert trainer(tmp_path, game(name, seed=1)).run() == 0  # other weights to start with: all come from the file
    same_end(tmp_path, uninterrupted[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_checkpoint_is_a_model(name: str, uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    folder = uninterrupted[name] / "checkpoints"
    model = load_any_model(folder / f"iteration_{STEPS}.pt")
    assert isinstance(model, PictureModel) and model.output_size == 32
    method = game(name, seed=1)
    method.load_state(state(uninterrupted[name])["method"])
    batch = tiny.sketch_batch(5)
    torch.testing.assert_close(model.translate(batch.source), method.translate(batch.source))
    content = torch.load(folder / "best_model.pt", weights_only=True)
    assert content.keys() == {"networks", "opts"} and content["networks"].keys() == method.networks.keys()
    assert content["opts"] == {"method": name, "dataset_type": "celebs_sketch_to_face", "size": 32,
                               "test_dropout": name == "pix2pix"}  # fmt: skip


def test_going_on_from_a_checkpoint(tmp_path: Path) -> None:
    first, start = game("pix2pix", seed=0), {"checkpoint_path": str(tmp_path / "a.pt")}
    save_torch(first.checkpoint(), tmp_path / "a.pt")
    second = game("pix2pix", seed=1, **start)
    for name, network in first.networks.items():
        same(dict(network.state_dict()), dict(second.networks[name].state_dict()))
    with pytest.raises(UserError, match="no sketch_to_photo of --method cyclegan"):
        game("cyclegan", **start)
    with pytest.raises(UserError, match="the generator in .* does not fit"):
        game("pix2pix", width=8, **start)


# ---- inputs ------------------------------------------------------------------------------------------


def test_inputs_of_every_kind() -> None:
    kind = {"device": "cpu", "size": 32}
    sketch = picture_input(torch.ones(1, 1, 256, 256), get_task("celebs_sketch_to_face"), channels=1, **kind)
    assert sketch.shape == (1, 1, 32, 32) and (sketch == 1).all()  # white
    grey = picture_input(torch.zeros(1, 1, 32, 32), get_task("celebs_sketch_to_face"), channels=3, **kind)
    assert grey.shape == (1, 3, 32, 32) and (grey == -1).all()
    photo = picture_input(torch.full((1, 3, 64, 64), 0.5), get_task("ffhq_encode"), channels=3, **kind)
    assert photo.shape == (1, 3, 32, 32) and (photo == 0.5).all()
    ids = torch.randint(0, 19, (2, 256, 256), dtype=torch.uint8)
    labels = picture_input(ids, get_task("celebs_seg_to_face"), channels=19, **kind)
    assert labels.shape == (2, 19, 32, 32) and torch.equal(labels.sum(1), torch.ones(2, 32, 32))
    assert torch.equal(labels.argmax(1), ids[:, ::8, ::8].long())
    with pytest.raises(UserError, match="takes 4 channels, ffhq_encode gives 3"):
        picture_input(torch.zeros(1, 3, 32, 32), get_task("ffhq_encode"), channels=4, **kind)


@pytest.mark.parametrize("name", ["pix2pix", "cgan"])
@pytest.mark.parametrize("task", ["celebs_seg_to_face", "celebs_super_resolution"])
def test_label_maps_and_photos_train(name: str, task: str) -> None:
    method = game(name, task=task)
    batch = tiny.sketch_batch(1, task=task)
    method.training_step([batch], 0)
    assert len(method.pictures(batch)) == 2 and "l1" in method.validation_step(batch)
