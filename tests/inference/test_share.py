"""One folder, several processes: who does what, nothing lost or done twice, one record of all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import fill_folder, save_tiny

from psp.errors import UserError
from psp.inference.options import parse
from psp.inference.run import translate_folder
from psp.inference.share import Share, find_share
from psp.inference.stats import merge_stats, shard_path

TORCHRUN = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}
SRUN = {"SLURM_NTASKS": "3", "SLURM_PROCID": "2", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, (1, 0)),
        (TORCHRUN, (4, 3)),
        ({"WORLD_SIZE": "1", "RANK": "0"}, (1, 0)),
        (SRUN, (3, 2)),
        ({**SRUN, "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}, (3, 2)),
        ({**SRUN, "SLURM_JOB_ID": "7"}, (1, 0)),  # the batch script itself
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0"}, (1, 0)),
        ({**SRUN, **TORCHRUN}, (4, 3)),
        ({**SRUN, "WORLD_SIZE": "1", "RANK": "0"}, (3, 2)),
    ],
)
def test_launchers(environ: dict[str, str], found: tuple[int, int]) -> None:
    share = find_share(environ=environ)
    assert (share.count, share.index) == found
    assert bool(share.launcher) == (share.count > 1)


def test_flags_come_first() -> None:
    assert find_share(2, 1, TORCHRUN) == Share(2, 1)
    assert find_share(1, None, TORCHRUN) == Share() == find_share(None, 0, SRUN)
    for wrong in (
        {"WORLD_SIZE": "4", "RANK": "4"},
        {"WORLD_SIZE": "x", "RANK": "0"},
        {"WORLD_SIZE": "2", "RANK": "-1"},
    ):
        with pytest.raises(UserError, match="torchrun's WORLD_SIZE="):
            find_share(environ=wrong)
    for count, index in ((0, 0), (2, 2), (2, -1), (None, 1)):
        with pytest.raises(UserError, match="--num_shards"):
            find_share(count, index, {})


@given(st.integers(0, 200), st.integers(1, 40))
def test_shards_are_a_partition(images: int, count: int) -> None:
    shares = [find_share(environ={"WORLD_SIZE": str(count), "RANK": str(k)}) for k in range(count)]
    done = sorted(image for share in shares for image in range(images)[share.index :: share.count])
    assert done == list(range(images))


def result_times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "inference_results").iterdir()}


def test_nothing_is_lost_or_done_twice(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill_folder(tmp_path / "in", [f"{k}.png" for k in range(7)])
    (tmp_path / "in" / "bad.png").write_text("text")
    flags = [f"--data_path={tmp_path / 'in'}", f"--checkpoint_path={save_tiny(tmp_path / 'tiny.pt')}", "--device=cpu"]

    def shard(index: int, *more: str) -> int:
        monkeypatch.setenv("RANK", str(index))
        options = parse([*flags, f"--exp_dir={tmp_path / 'out'}", "--test_workers=0", *more], mixing=False)
        return translate_folder(options).status

    monkeypatch.setenv("WORLD_SIZE", "3")
    statuses, times = [], {}
    for index in (2, 0, 1):
        statuses.append(shard(index))
        now = result_times(tmp_path / "out")
        assert {name: now[name] for name in times} == times, "nothing is done again by another shard"
        times = now
        assert json.loads((tmp_path / "out" / "stats.json").read_text())["shards"].keys() <= {"0", "1", "2"}
    said = capsys.readouterr().out
    assert "shard 2 of 3 (from torchrun's WORLD_SIZE and RANK)" in said and "3 of 3 shards have finished" in said
    assert sorted(statuses) == [0, 0, 1] and sorted(times) == [f"{k}.png" for k in range(7)]
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert stats["counts"] == {"made": 7, "kept": 0, "failed": 1} and list(stats["failed"]) == ["bad.png"]
    assert len(stats["per_image"]) == 7 and sum(s["counts"]["made"] for s in stats["shards"].values()) == 7

    for index in range(3):  # --overwrite in one shard does not make the others' results old
        shard(index, "--overwrite")
    again = result_times(tmp_path / "out")
    assert all(again[name] > times[name] for name in times)
    for index in range(3):
        shard(index)
    assert result_times(tmp_path / "out") == again


def test_more_shards_than_images(tmp_path: Path, root: Path) -> None:
    fill_folder(tmp_path / "in", ["a.png"])
    flags = [f"--data_path={tmp_path / 'in'}", f"--checkpoint_path={save_tiny(tmp_path / 'tiny.pt')}", "--device=cpu"]
    for index in range(3):
        share = ["--num_shards=3", f"--shard_index={index}", f"--exp_dir={tmp_path / 'out'}"]
        assert translate_folder(parse([*flags, *share], mixing=False)).status == 0
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert stats["counts"]["made"] == 1 and len(stats["shards"]) == 3


def write_shard(path: Path, index: int, settings: dict[str, int], **more: object) -> None:
    part = {
        "settings": settings, "counts": {"made": 1, "kept": 0, "failed": 0}, "failed": {}, "device": "cpu",
        "seconds": {"total": index + 1.0}, "per_image": {f"{index}.png": 0.5}, **more,
    }  # fmt: skip
    shard_path(path, index, 3).write_text(json.dumps(part))


def test_merging_leaves_out_what_does_not_belong(tmp_path: Path) -> None:
    path = tmp_path / "stats.json"
    write_shard(path, 0, {"seed": 1})
    write_shard(path, 1, {"seed": 2})
    shard_path(path, 2, 3).write_text("{")
    assert merge_stats(path, 3, {"seed": 1}) == [0]
    write_shard(path, 2, {"seed": 1})
    assert merge_stats(path, 3, {"seed": 1}) == [0, 2]
    merged = json.loads(path.read_text())
    assert merged["seconds"]["total"] == 3.0 and merged["per_image"] == {"0.png": 0.5, "2.png": 0.5}
    assert path.with_suffix(".txt").read_text() == "Runtime 0.5000+-0.0000"


def test_a_shard_that_finishes_during_the_merging_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, late = tmp_path / "stats.json", iter([1, 2])
    write_shard(path, 0, {})
    import psp.inference.stats

    save = psp.inference.stats.save_json

    def save_while_others_finish(value: object, target: Path) -> None:
        save(value, target)
        for index in late:
            write_shard(path, index, {})
            break

    monkeypatch.setattr(psp.inference.stats, "save_json", save_while_others_finish)
    assert merge_stats(path, 3, {}) == [0, 1, 2]
    assert json.loads(path.read_text())["counts"]["made"] == 3


@pytest.mark.slow
def test_torchrun_shares_a_folder(tmp_path: Path, root: Path) -> None:
    """A shard whose images are all bad ends at once with 1; torchrun must not stop the other one for that."""
    names = [f"{k}.png" for k in range(60)]
    fill_folder(tmp_path / "in", names)
    for name in names[::2]:
        (tmp_path / "in" / name).write_text("text")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(root / "scripts" / "inference.py"), "--data_path=in", "--exp_dir=out", "--device=cpu"]
    command += [f"--checkpoint_path={save_tiny(tmp_path / 'tiny.pt')}", "--test_workers=0"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    )
    assert done.returncode == 1, done.stderr
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert set(result_times(tmp_path / "out")) == set(names[1::2])
    assert stats["counts"] == {"made": 30, "kept": 0, "failed": 30} and len(stats["shards"]) == 2
