"""Generator and encoders trained together: what a step does, that a bad one does nothing, what a checkpoint holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_training as tiny
import torch
from tiny_runs import poisoned, same, whole
from torch import Tensor, nn

from psp.batch import Batch
from psp.models.mixing import VIVID
from psp.networks.widening import widen
from psp.training.averaging import update_average
from psp.training.bad_steps import BadStep
from psp.training.methods.stylegan2 import code_bank, joint
from psp.training.methods.stylegan2.code_bank import CodeBank
from psp.training.methods.stylegan2.joint import JointMethod
from psp.training.methods.stylegan2.rows import split_rows
from psp.weights.load import load_generator, load_model
from psp.weights.save import save_torch

N = 8  # the smallest batch that has rows of every kind


def step(method: JointMethod, number: int, n: int = N) -> dict[str, Tensor]:
    return method.training_step([tiny.sketch_batch(number, n)], number)


@pytest.fixture
def small_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_bank, "ENOUGH", 4)


# ---- rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [8, 9, 12, 16, 32, 33])
@pytest.mark.parametrize("structure", [False, True])
def test_rows_follow_one_another_and_fill_the_batch(n: int, structure: bool) -> None:
    rows = split_rows(n, structure=structure)
    assert [i for part in rows for i in range(n)[part]] == list(range(n))
    own, guided, photo, mixed, random = (part.stop - part.start for part in rows)
    assert photo and random and bool(own and guided and mixed) is structure
    assert mixed <= own  # they borrow their drawings
    assert abs(random - n * (3 if structure else 5) / 16) <= 1


# ---- the step --------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_identity_and_parser_take_turns() -> None:
    method = tiny.joint_method()
    usual = {"colour", "lpips", "eyes", "mouth", "static", "features"}
    usual |= {"adversarial", "adversarial_weight", "discriminator", "score_real", "score_fake"}
    assert [set(step(method, i)) - usual for i in range(4)] == [{"id"}, {"parsing"}, {"id"}, {"parsing"}]
    assert set(step(tiny.joint_method(id_lambda=0.0, parsing_lambda=0.0), 1)) == usual


def test_a_step_moves_every_network(small_bank: None) -> None:
    method = tiny.joint_method()
    before = {name: [p.clone() for p in net.parameters()] for name, net in vars(method).items() if is_network(net)}
    for i in range(2):
        step(method, i)
    for name, old in before.items():
        moved = [not torch.equal(a, b) for a, b in zip(old, getattr(method, name).parameters(), strict=True)]
        assert any(moved), name
    mapping = method.generator.style
    assert all(p.grad is None for p in mapping.parameters())  # random faces come from the bank, not from z


def is_network(value: object) -> bool:
    return isinstance(value, nn.Module)


def test_labels_of_the_data_spare_the_parser() -> None:
    method = tiny.joint_method()
    asked: list[int] = []
    parsing = method.losses.parsing
    assert parsing is not None
    method._labels = lambda *args: (  # type: ignore[method-assign]
        asked.append(1) or JointMethod._labels(method, *args)  # type: ignore[func-returns-value]
    )
    batch = tiny.sketch_batch(0, N)
    known = torch.ones(N, 32, 32, dtype=torch.uint8)
    rows = split_rows(N, structure=True)
    assert torch.equal(
        JointMethod._labels(method, [Batch(batch.source, batch.target, labels=known)], batch.target, rows),
        known[: rows.guided.stop],
    )
    found = JointMethod._labels(method, [batch], batch.target, rows)
    assert found is not None and torch.equal(found, parsing.features(batch.target)[: rows.guided.stop])


@pytest.mark.thorough
def test_the_adversarial_gradient_has_its_share_and_a_floor() -> None:
    method = tiny.joint_method(adversarial_share=0.5, adversarial_floor=0.0, discriminator_first=0)
    leaf = torch.zeros(4, 3, 2, 2, requires_grad=True)
    known = slice(0, 4)
    pull = method._balanced_gradient(leaf, 6 * leaf.sum(), (leaf * torch.tensor([1.0, -1.0])).sum(), known, 0)
    assert method.balance == pytest.approx(6) and torch.allclose(pull[..., 0], torch.tensor(9.0))
    assert torch.allclose(pull[..., 1], torch.tensor(3.0))
    again = method._balanced_gradient(leaf, 6 * leaf.sum(), (leaf * torch.tensor([1.0, -1.0])).sum(), known, 1)
    assert torch.allclose(again, pull)
    floor = tiny.joint_method(adversarial_share=0.5, adversarial_floor=4.0, discriminator_first=3)
    floor.balance = torch.tensor(6.0)
    assert floor._adversarial_weight(3) == 4 and floor._adversarial_weight(2) == 0


def test_the_discriminator_learns_alone_at_first() -> None:
    method = tiny.joint_method(discriminator_first=2)
    start = [p.clone() for p in method.generator.parameters()]
    judge = [p.clone() for p in method.judging]
    for i in range(2):
        step(method, i)
    assert all(torch.equal(a, b) for a, b in zip(start, method.generator.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(judge, method.judging, strict=True))
    step(method, 2)
    assert not all(torch.equal(a, b) for a, b in zip(start, method.generator.parameters(), strict=True))


def test_the_rate_falls_to_zero() -> None:
    method = tiny.joint_method(decay_from=1, decay_until=3, discriminator_first=0)
    groups = [optimiser.param_groups[0] for optimiser in (method.generator_optimiser, method.discriminator_optimiser)]
    bases = [group["lr"] for group in groups]
    for i, factor in enumerate((1, 1, 0.5, 0)):
        step(method, i)
        assert [group["lr"] for group in groups] == [pytest.approx(factor * base) for base in bases]


@pytest.mark.thorough
@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_a_bad_step_changes_nothing(part: str) -> None:
    method = tiny.joint_method()
    for i in range(2):
        step(method, i)
    before = whole(method)
    if part == "generator":
        with pytest.raises(BadStep):
            method.training_step([poisoned(tiny.sketch_batch(2, N))], 2)
    else:
        judge = method.discriminator.judge
        method.discriminator.judge = lambda maps: (  # type: ignore[method-assign]
            judge(maps) * (float("nan") if method.judging[0].requires_grad else 1)
        )
        with pytest.raises(BadStep, match=part):
            step(method, 2)
        method.discriminator.judge = judge  # type: ignore[method-assign]
    same(before, whole(method))
    assert all(p.requires_grad and p.grad is None for p in (*method.trained, *method.judging))
    step(method, 3)


def test_own_fine_styles_learn_from_vivid_ones_alone(small_bank: None, monkeypatch: pytest.MonkeyPatch) -> None:
    method = tiny.joint_method()
    rows, half = split_rows(N, structure=True), method.generator.n_styles // 2
    batch = tiny.sketch_batch(0, N)
    source = batch.source[: rows.guided.stop]
    torch.manual_seed(0)
    codes, targets, (_, fine) = method._codes(batch.target, source, rows)
    photos = method.encoders.photo(targets[rows.guided]).detach()
    n = len(photos)
    guided = (method.encoders.structure(source)[-n:] + method.centre)[::2, half:]  # type: ignore[misc]
    wanted = method.middle.lerp(photos[::2], VIVID)[:, None]
    assert torch.allclose(fine, joint.FINE_LAMBDA * (guided - wanted).square().mean(), rtol=1e-4)
    head = method.encoders.structure.heads[-1].weight  # type: ignore[union-attr]
    assert not torch.autograd.grad(codes[rows.own].sum(), head, retain_graph=True, allow_unused=True)[0].any()
    assert torch.autograd.grad(fine, head)[0].any()


def test_the_middle_is_a_running_mean_that_is_kept() -> None:
    method = tiny.joint_method()
    start = method.middle.clone()
    step(method, 0)
    assert not torch.equal(method.middle, start) and torch.equal(method.state()["middle"], method.middle)
    other = tiny.joint_method()
    other.load_state({name: value for name, value in method.state().items() if name != "middle"})
    assert torch.equal(other.middle, method.centre)  # of a state that knows of none


@pytest.mark.thorough
def test_it_learns_to_rebuild_what_it_is_shown() -> None:
    torch.manual_seed(0)
    method = tiny.joint_method(learning_rate=5e-3, static_lambda=0.0, adversarial_share=0.1, adversarial_floor=0.0)
    first = float(step(method, 0)["colour"])
    for i in range(1, 30):
        last = float(step(method, i)["colour"])
    assert last < 0.75 * first


# ---- what is judged --------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [8, 128])
@pytest.mark.parametrize("view", list(joint.VIEWS))
def test_what_is_judged_is_a_part_of_each_image(
    view: tuple[float, float, float], side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a part is, and how large, is read from images that hold the coordinates of their pixels."""
    monkeypatch.setattr(joint, "VIEWS", {view: 1.0})
    across = torch.arange(side, dtype=torch.float32).expand(2, 1, side, side)
    shown = joint.random_view(torch.cat([across, across.mT, across * 0], 1))
    assert shown.shape == (2, 3, side, side) and torch.equal(shown[0], shown[1])
    size, *centre = view
    for axis, values in zip(centre, (shown[0, 1, :, 0], shown[0, 0, 0])):
        assert values.diff().min() >= 0 and values[0] >= 0 and values[-1] < side
        assert values[-1] - values[0] == pytest.approx(round(size * side) - 1, abs=1e-4)
        assert values.mean() == pytest.approx(axis * side - 0.5, abs=max(1.0, round(size * side) // 8) + 0.6)


# ---- the bank --------------------------------------------------------------------------------------


def test_the_bank_keeps_the_newest_and_samples_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_bank, "SIZE", 6)
    monkeypatch.setattr(code_bank, "ENOUGH", 5)
    method = tiny.joint_method()
    encoder = method.encoders.photo
    bank = CodeBank(encoder, torch.device("cpu"))
    old, new = (torch.rand(4, 3, 16, 16) * 2 - 1 for _ in range(2))
    bank.remember(encoder, old)
    assert not bank.is_full_enough
    bank.remember(encoder, new)
    assert bank.is_full_enough and len(bank.photos) == 6
    assert torch.allclose(bank.encoded(encoder)[:4], encoder(new), atol=0.05)  # as far as 8 bits go
    assert torch.allclose(
        bank.encoded(encoder, torch.tensor([1, 4])), encoder(torch.stack([new[1], old[0]])), atol=0.05
    )
    codes = torch.arange(6.0)[:, None].expand(6, tiny.STYLE_DIM)
    monkeypatch.setattr(bank, "encoded", lambda _, chosen: codes[chosen])
    drawn = bank.sample(encoder, 2000)
    assert torch.equal(drawn[:, 0], drawn[:, 1])
    whole_codes = (drawn[:, 0] % 1 == 0).float().mean()
    assert 0.5 <= whole_codes < 0.7  # half, and those that go from a code to itself
    assert torch.allclose(drawn[:, 0].mean(), torch.tensor(2.5), atol=0.15)


def test_codes_of_the_bank_are_those_of_the_present_encoder(small_bank: None) -> None:
    method = tiny.joint_method()
    for i in range(3):
        step(method, i)
    encoder = method.encoders.photo
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(1.5)
    now = method.bank.encoded(encoder)
    drawn = method.random_codes(64, encoder, instead=now)
    whole_codes = (drawn[:, None] - now).abs().amax(2).amin(1) < 1e-4
    assert whole_codes.float().mean() >= 0.3


def test_random_rows_come_from_the_bank(small_bank: None, monkeypatch: pytest.MonkeyPatch) -> None:
    method = tiny.joint_method()
    for i in range(3):
        step(method, i)
    monkeypatch.setattr(method.bank, "encoded", lambda _, chosen: torch.full((len(chosen), tiny.STYLE_DIM), 7.0))
    method.bank.remember = lambda *_: None  # type: ignore[method-assign]
    torch.manual_seed(0)
    rows = split_rows(N, structure=True)
    batch = tiny.sketch_batch(9, N)
    codes, wanted, _ = method._codes(batch.target[:, :, :16, :16], batch.source[: rows.guided.stop], rows)
    assert (codes[rows.random] - 7).abs().max() < 1
    half = method.generator.n_styles // 2
    assert (codes[rows.mixed, half:] - 7).abs().max() < 1
    own = codes[rows.own, :half][: rows.mixed.stop - rows.mixed.start]
    assert (codes[rows.mixed, :half] - own).abs().max() < 1  # noise alone
    unchanged = [torch.equal(a, b) for a, b in zip(wanted, batch.target[:, :, :16, :16], strict=True)]
    assert all(unchanged[rows.own]) and all(unchanged[rows.random]) and not all(unchanged[rows.guided])


def test_fine_styles_of_a_drawing_learn_from_the_photos_codes_alone() -> None:
    method = tiny.joint_method()
    rows, batch = split_rows(N, structure=True), tiny.sketch_batch(9, N)
    codes, _, priors = method._codes(batch.target[:, :, :16, :16], batch.source[: rows.guided.stop], rows)
    half, encoder = method.generator.n_styles // 2, method.encoders.structure
    assert encoder is not None
    fine = [p for name, p in encoder.named_parameters() if name.startswith(f"heads.{method.generator.n_styles - 1}.")]
    own = torch.autograd.grad(
        codes[rows.own, half:].sum() + codes[rows.own, :half].sum(), fine, retain_graph=True, allow_unused=True
    )
    assert fine and not any(gradient is not None and gradient.any() for gradient in own)
    assert any(gradient.any() for gradient in torch.autograd.grad(priors[1], fine))


# ---- what is kept ----------------------------------------------------------------------------------


def test_average_is_exponential_with_the_asked_half_life() -> None:
    average, present = nn.Linear(2, 2), nn.Linear(2, 2)
    start = average.weight.detach().clone()
    with torch.no_grad():
        present.weight.copy_(start + 1)
    update_average([(average, present)], images=10, step=10**6, half_life_kimg=0.01)  # 10 of 10 images: one half-life
    assert torch.allclose(average.weight, start + 0.5)
    update_average([(average, present)], images=2, step=0, half_life_kimg=0.01)  # at the first step it follows at once
    assert (average.weight - start - 1).abs().max() < 1e-5


def test_statistics_are_averaged_with_the_weights() -> None:
    average, present = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    present.running_mean.fill_(1.0)  # type: ignore[union-attr]
    present.num_batches_tracked.fill_(3)  # type: ignore[union-attr]
    update_average([(average, present)], images=10, step=10**6, half_life_kimg=0.01)
    assert torch.allclose(average.running_mean, torch.tensor([0.5, 0.5])) and int(average.num_batches_tracked) == 3


def test_a_checkpoint_is_a_complete_model(small_bank: None, tmp_path: Path) -> None:
    method = tiny.joint_method()
    for i in range(3):
        step(method, i)
    method.centre += 5  # as far from the codes as a long training may leave it
    before = whole(method)
    content = method.checkpoint()
    same(before, whole(method))
    save_torch(content, tmp_path / "m.pt")
    model = load_model(tmp_path / "m.pt", task="celebs_sketch_to_face")
    source = tiny.sketch_batch(7).source
    assert model.photo_encoder is not None
    # W has moved, and everything with it: the pictures are the same
    assert torch.allclose(
        model.decode(model.encode(source)), method.generator_ema.synthesize(method.own_codes(source)), atol=1e-4
    )
    photos = torch.rand(2, 3, 16, 16) * 2 - 1
    codes = method.encoders_ema.photo(photos)[:, None].expand(-1, 6, -1)
    assert torch.allclose(model.decode(model.style_of(photos)), method.generator_ema.synthesize(codes), atol=1e-4)
    assert content["style_bank"]["codes"].shape == (len(method.bank.photos), tiny.STYLE_DIM)
    # truncation leads to the middle of the photos' codes
    assert torch.allclose(model.map(torch.randn(1, tiny.STYLE_DIM), 0.0)[0, 0], model.style_bank.mean(), atol=1e-4)


def test_without_structure_it_is_a_generator(tmp_path: Path) -> None:
    method = tiny.joint_method(structure=False)
    for i in range(2):
        step(method, i)
    save_torch(method.checkpoint(), tmp_path / "g.pt")
    found = load_generator(tmp_path / "g.pt")
    assert found.photo_encoder is not None
    z = torch.randn(3, tiny.STYLE_DIM)
    assert torch.allclose(tiny.faces(found.generator, z), tiny.faces(method.generator_ema, z), atol=1e-4)
    assert len(method.pictures(tiny.sketch_batch(0, 3))) == 3
    assert {"l1_held_out", "lpips_held_out"} <= method.validation_step(tiny.sketch_batch(0)).keys()


def test_state_goes_there_and_back(small_bank: None) -> None:
    method = tiny.joint_method()
    for i in range(2):
        step(method, i)
    other = tiny.joint_method()
    other.load_state(whole(method))
    same(whole(other), whole(method))


def test_validation_and_pictures_change_nothing(small_bank: None) -> None:
    method = tiny.joint_method()
    for i in range(2):
        step(method, i)
    before = whole(method)
    terms = method.validation_step(tiny.sketch_batch(0, 4))
    assert {"lpips_held_out", "lpips_random", "static_own", "id_held_out", "parts_held_out"} <= terms.keys()
    rows = method.pictures(tiny.sketch_batch(0, 3))
    assert [len(row) for row in rows] == [14, 14, 14]
    assert rows[1][6].tobytes() == method.pictures(tiny.sketch_batch(5, 3))[1][6].tobytes()  # a random face
    same(before, whole(method))


# ---- a wider start ---------------------------------------------------------------------------------


def test_a_wider_generator_makes_the_same_pictures() -> None:
    narrow = tiny.generator()
    wide = widen(narrow, {4: 12, 8: 8, 16: 20})
    assert wide.channels == {4: 12, 8: 8, 16: 20}
    codes = torch.randn(3, 6, tiny.STYLE_DIM)
    assert torch.allclose(wide.synthesize(codes), narrow.synthesize(codes), atol=1e-5)
    loss = wide.synthesize(codes).square().sum()
    loss.backward()
    added = wide.conv1.conv.weight.grad[0, :8, 8:]
    assert added.abs().max() > 0  # what is new can learn
    with pytest.raises(ValueError, match="at 8 px are 4"):
        widen(narrow, {4: 12, 8: 4, 16: 20})
