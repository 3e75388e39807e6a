"""Each task is complete, agrees with pSp where pSp has it, and is known by name."""

from __future__ import annotations

import pytest

from criteria.objective import LAMBDAS, PspObjective
from psp.errors import UserError
from psp.tasks import TASKS, Task, get_task

PSP_LAMBDAS = {  # from the training commands that pSp publishes
    "celebs_sketch_to_face": {"lpips_lambda": 0.8, "l2_lambda": 1, "id_lambda": 0, "w_norm_lambda": 0.005},
    "celebs_seg_to_face": {"lpips_lambda": 0.8, "l2_lambda": 1, "id_lambda": 0, "w_norm_lambda": 0.005},
    "ffhq_encode": {"lpips_lambda": 0.8, "l2_lambda": 1, "id_lambda": 0.1},
    "celebs_super_resolution": {"lpips_lambda": 0.8, "l2_lambda": 1, "id_lambda": 0.1, "w_norm_lambda": 0.005},
    "ffhq_frontalize": {
        "lpips_lambda": 0.08, "l2_lambda": 0.001, "lpips_lambda_crop": 0.8, "l2_lambda_crop": 0.01, "id_lambda": 1,
        "w_norm_lambda": 0.005,
    },
}  # fmt: skip


def test_the_promised_tasks_are_there() -> None:
    assert set(TASKS) == {*PSP_LAMBDAS, "cufs_sketch_to_face"}
    assert all(name == task.name for name, task in TASKS.items())


@pytest.mark.parametrize("name", PSP_LAMBDAS)
def test_loss_weights_are_psps(name: str) -> None:
    wanted = {key: value for key, value in PSP_LAMBDAS[name].items() if value}
    assert dict(get_task(name).losses) == wanted


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_task_is_consistent(task: Task) -> None:
    assert task.source in ("photo", "sketch", "labels")
    assert (task.input_nc, task.label_nc) == {"photo": (3, 0), "sketch": (1, 1), "labels": (19, 19)}[task.source]
    assert set(task.losses) <= set(LAMBDAS) and any(task.losses.values())
    assert task.source_dir and task.target_dir and task.description
    if task.source != "photo":
        assert task.source_dir != task.target_dir


def test_the_objective_accepts_the_weights_of_a_task() -> None:
    PspObjective(get_task("celebs_sketch_to_face").losses)


def test_an_unknown_task_is_told_the_known_ones() -> None:
    with pytest.raises(UserError, match="--dataset_type 'celebs_sketch'.*celebs_sketch_to_face"):
        get_task("celebs_sketch")


def test_tasks_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        get_task("ffhq_encode").input_nc = 1  # type: ignore[misc]
