"""Several ranks on one machine: the same weights as one process with the whole batch, and one end for all of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from child_processes import finish, ranks, start
from tiny_games import KINDS
from tiny_runs import METHODS, records, state

from datasets.loader import EpochSampler, eval_loader
from psp.models.image_to_image import OwnStatistics, noisy_copy
from psp.networks.irse import BatchNorm2d
from psp.training.distributed import SharedBatchNorm, digest, share_batch_norms

OPTIONS = {"max_steps": 5, "batch_size": 2, "board_interval": 1, "save_interval": 2}


def train(folder: Path, trouble: str = "", *, world: int = 2, **options: Any) -> list[int | None]:
    processes = ranks("ranks_run", str(folder / "run"), OPTIONS | options, trouble, folder=folder, world=world)
    return finish(*processes)


def alone(folder: Path, **options: Any) -> None:
    assert finish(start("run_quietly", str(folder), OPTIONS | options, output=folder.parent / "alone.txt")) == [0]


def samples(folder: Path, *parts: int) -> list[str]:
    """The images of each step in the order of one process."""
    columns = [dict(line.split() for line in (folder / f"samples.{r}.txt").read_text().splitlines()) for r in parts]
    return [",".join(column[step] for column in columns) for step in columns[0]]


def far(a: Any, b: Any) -> float:
    """Largest difference between the weights of two training states."""
    first, second = a["method"]["state_dict"], b["method"]["state_dict"]
    assert first.keys() == second.keys()
    return max(float((first[key].double() - second[key].double()).abs().max()) for key in first)


@pytest.mark.thorough
def test_two_ranks_are_one_process_with_twice_the_batch(tmp_path: Path) -> None:
    alone(tmp_path / "whole", batch_size=4)
    assert train(tmp_path, sync_bn=True) == [0, 0]  # the ranks themselves compare their states, to the last bit
    whole, shared = state(tmp_path / "whole"), state(tmp_path / "run")
    assert samples(tmp_path / "whole", 0) == samples(tmp_path / "run", 0, 1)
    assert far(whole, shared) < 1e-5
    for one, two in zip(records(tmp_path / "whole"), records(tmp_path / "run")):  # what is logged is the mean
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-5), (one, two)
    assert "rank1" not in "".join(path.name for path in (tmp_path / "run").iterdir())
    assert (tmp_path / "rank1.txt").read_text() == ""


@pytest.mark.slow
def test_the_number_of_ranks_may_change(tmp_path: Path) -> None:
    alone(tmp_path / "whole", batch_size=4, sync_bn=True)
    alone(tmp_path / "run", batch_size=4, sync_bn=True, max_steps=2)
    assert train(tmp_path, sync_bn=True) == [0, 0]
    seen = samples(tmp_path / "whole", 0)
    assert samples(tmp_path / "run", 0)[:2] == seen[:2] and samples(tmp_path / "run", 1) == [
        step.split(",", 2)[2] for step in seen[2:]
    ]
    assert far(state(tmp_path / "whole"), state(tmp_path / "run")) < 1e-5
    assert train(tmp_path, sync_bn=True, batch_size=4, max_steps=9) == [2, 2]
    assert "4 images a step, now there are 8" in (tmp_path / "rank0.txt").read_text()


@pytest.mark.thorough
def test_a_bad_loss_on_one_rank_is_skipped_by_all(tmp_path: Path) -> None:
    assert train(tmp_path, "nan") == [0, 0]
    assert state(tmp_path / "run")["bad_total"] == 1
    assert "step 4 skipped: the loss is not finite on another rank" in (tmp_path / "rank0.txt").read_text()


@pytest.mark.slow
def test_ranks_that_differ_save_nothing(tmp_path: Path) -> None:
    assert train(tmp_path, "drift") == [2, 2]
    said = (tmp_path / "rank0.txt").read_text()
    assert "the ranks differ in state_dict" in said and "Traceback" not in said
    assert state(tmp_path / "run")["step"] == 2


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_all_after_the_same_step(tmp_path: Path) -> None:
    alone(tmp_path / "whole", batch_size=4, sync_bn=True)
    assert train(tmp_path, "stop", sync_bn=True) == [143, 143]
    assert state(tmp_path / "run")["step"] == 4
    assert train(tmp_path, sync_bn=True) == [0, 0]
    assert samples(tmp_path / "run", 0, 1) == samples(tmp_path / "whole", 0)
    assert far(state(tmp_path / "whole"), state(tmp_path / "run")) < 1e-5


@pytest.mark.parametrize("trouble", ["kill", *(pytest.param(t, marks=pytest.mark.slow) for t in ("error", "freeze"))])
def test_a_lost_rank_ends_the_others(trouble: str, tmp_path: Path) -> None:
    """Killed or ended with an error: its connections close. Frozen: nothing is heard of it, and patience ends."""
    processes = ranks("ranks_run", str(tmp_path / "run"), OPTIONS | {"max_steps": 999}, trouble, folder=tmp_path)
    began = time.monotonic()
    try:
        processes[0].join(90)
        took = time.monotonic() - began
    finally:
        if trouble == "freeze":
            processes[1].kill()
    assert finish(*processes)[0] == 2 and took < 70  # starting included
    said = (tmp_path / "rank0.txt").read_text()
    assert said.count("error: ") == 1 and said.strip().splitlines()[-1].startswith("error: ")
    assert "has failed or is gone" in said and "Traceback" not in said
    assert state(tmp_path / "run")["step"] == 2
    print(f"{trouble}: the other rank ended {took:.1f} s after the start")


@pytest.mark.thorough
def test_every_method_keeps_its_ranks_the_same(tmp_path: Path) -> None:
    """Also what is neither weights nor optimiser: path length, augmentation, queues, averages."""
    assert finish(*ranks("ranks_methods", str(tmp_path), folder=tmp_path)) == [0, 0], [
        path.read_text() for path in tmp_path.glob("rank*.txt")
    ]
    assert {path.name for path in tmp_path.glob("*.1")} == {f"{name}.1" for name in [*METHODS, "parser", *KINDS]}


def test_shares_are_the_whole_in_order() -> None:
    """Of training and of evaluation data, for sizes that do not divide."""
    for world in (1, 2, 3):
        whole = iter(EpochSampler(7, 2, seed=1, start_step=4 * world))
        shares = [iter(EpochSampler(7, 2, seed=1, rank=r, world=world, start_step=4)) for r in range(world)]
        for _ in range(9):
            for share in shares:
                assert next(share) == next(whole)
        numbers: Any = [(torch.zeros(1), torch.zeros(1), str(i)) for i in range(7)]
        loaders = [list(eval_loader(numbers, 2, rank=r, world=world)) for r in range(world)]
        rows = [loaders[k % world][k // world].names for k in range(4)]
        assert rows == [["0", "1"], ["2", "3"], ["4", "5"], ["6"]]


def test_digests_differ() -> None:
    base = {"a": torch.ones(2), "b": [1, {"c": None}]}
    others = [{"a": torch.ones(2).half()}, {"a": torch.ones(1, 2)}, {"b": [1, {"c": 0}]}, {"a": torch.ones(2) + 1e-7}]
    assert len({digest(base | other) for other in [{}, *others]}) == 5
    assert digest(base) == digest({"a": torch.ones(2), "b": [1, {"c": None}]})


def test_shared_batch_norm_alone_is_batch_norm() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    x = torch.randn(2, 3, 5, 5)
    keys, before = net.state_dict().keys(), net(x)
    share_batch_norms([net])
    assert [isinstance(layer, SharedBatchNorm) for layer in net] == [False, True]
    assert net.state_dict().keys() == keys and torch.equal(net(x), before)


def test_shared_batch_norm_counts_no_steps_in_any_number_of_processes() -> None:
    """So a run goes on with another number of them; a model that was published with a count is read as before."""
    net = torch.nn.Sequential(BatchNorm2d(4), torch.nn.BatchNorm2d(4))
    net.load_state_dict({**net.state_dict(), "0.num_batches_tracked": torch.tensor(7)})
    share_batch_norms([net])
    net(torch.randn(2, 4, 5, 5))
    assert [int(norm.num_batches_tracked) for norm in net] == [7, 0]
    assert not torch.equal(net[1].running_mean, torch.zeros(4))
    assert all(isinstance(layer, OwnStatistics) for layer in noisy_copy(net)), "a noisy model still knows its norms"
