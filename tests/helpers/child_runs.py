"""What the child processes of the tests do; see `child_processes`."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import multiprocessing
import os
import resource
import runpy
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import tiny_training as tiny
import torch
from tiny_games import KINDS, game
from tiny_runs import CONFIG

from datasets.loader import eval_loader, train_loader
from psp.batch import Batch
from psp.errors import UserError
from psp.networks.stylegan2 import NoiseInjection
from psp.training import loop as training
from psp.training.config import Config
from psp.training.distributed import digest, process_group, rank, require_same, share_batch_norms, world_size
from psp.training.log import TrainLog
from psp.training.loop import Trainer
from psp.training.method import Method, MethodOptions
from psp.training.methods.face_parser_step import ParserMethod
from psp.weights.save import save_torch

IMAGES = 10


class Numbered(torch.utils.data.Dataset):
    """Images that depend on index and augmentation seed, as those of `PairedImages` do."""

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, item: int | tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, str]:
        index, seed = item if isinstance(item, tuple) else (item, 0)
        batch = tiny.sketch_batch(index + seed % 7, 1)
        return batch.source[0], batch.target[0], str(index)


def tiny_trainer(
    folder: str | Path, *, method: Method | None = None, workers: int = 0, prepared: Any = None, **options: Any
) -> Trainer:
    """A trainer on `Numbered` in which every step writes its images' names to `samples.<rank>.txt`."""
    torch.manual_seed(0)
    method = tiny.psp_method() if method is None else method
    if prepared:
        prepared(method)
    config = dataclasses.replace(CONFIG, exp_dir=str(folder), image_interval=999, val_interval=999, **options)
    if config.sync_bn:
        share_batch_norms(method.networks_in_step())
    share = {"rank": rank(), "world": world_size()}
    if multiprocessing.parent_process() is not None:  # slower than all the rest; other tests of this process want it
        TrainLog.draw_curves = lambda self: None  # type: ignore[method-assign]
    train = method.training_step

    def recorded(batches: Any, step: int) -> Any:
        with (Path(folder) / f"samples.{rank()}.txt").open("a") as file:
            file.write(f"{step} {','.join(name for batch in batches for name in batch.names)}\n")
        return train(batches, step)

    method.training_step = recorded  # type: ignore[method-assign]
    data: Any = Numbered()

    def batches(start: int) -> Iterator[Batch]:
        return iter(train_loader(data, config.batch_size, seed=0, step=start, workers=workers, **share))

    return Trainer(method, config, MethodOptions(), batches=batches, validation=lambda: eval_loader(data, 4, **share))


def run(folder: str, options: dict[str, Any]) -> int:
    return tiny_trainer(folder, **options).run()


def run_quietly(folder: str, options: dict[str, Any]) -> int:
    return tiny_trainer(folder, prepared=quiet, **options).run()


def quiet(method: Any) -> None:
    """No noise: it is drawn per rank, and these runs are compared with one process that draws for all samples."""
    for module in method.model.modules():
        if isinstance(module, NoiseInjection):
            torch.nn.init.zeros_(module.weight)


def announced(folder: str, options: dict[str, Any], passed: Any) -> int:
    """`run`, telling through a pipe when it begins (B), and when each save begins (S) and ends (E)."""
    pipe = passed.detach()

    def save(*args: Any, **kwargs: Any) -> None:
        os.write(pipe, b"S")
        save_torch(*args, **kwargs)
        os.write(pipe, b"E")

    training.save_torch = save  # type: ignore[assignment]
    os.write(pipe, b"B")
    return run(folder, options)


def train_script(arguments: list[str]) -> int:
    """scripts/train.py from its first line on, but for the curves, which take longer than the training here."""
    script = Path(__file__).resolve().parents[2] / "scripts" / "train.py"
    sys.argv = [str(script), *arguments]
    TrainLog.draw_curves = lambda self: None  # type: ignore[method-assign]
    runpy.run_path(str(script), run_name="__main__")
    raise AssertionError("a script ends with its status")


# ---- several ranks --------------------------------------------------------------------------------


def ranks_run(folder: str, options: dict[str, Any], trouble: str = "", at: int = 3) -> int:
    """Train as one of the ranks; `trouble` comes over rank 1 in step `at`."""

    def prepared(method: Any) -> None:
        quiet(method)
        step = method.training_step

        def troubled(batches: list[Batch], number: int) -> Any:
            if trouble == "slow":
                time.sleep(0.05)
            if rank() == 1 and number == at:
                if trouble == "nan":
                    batches = [Batch(b.source * float("nan"), b.target, b.names) for b in batches]
                if trouble == "drift":
                    with torch.no_grad():
                        next(method.model.encoder.parameters()).view(-1)[0] += 1e-6
                if trouble == "error":
                    raise UserError("this rank has a problem")
                if trouble == "stop":
                    os.kill(os.getpid(), 15)
                if trouble == "kill":
                    os.kill(os.getpid(), 9)
                if trouble == "freeze":
                    os.kill(os.getpid(), 19)
            return step(batches, number)

        method.training_step = troubled

    patience = {"patience": timedelta(seconds=20)} if trouble == "freeze" else {}  # as after ten minutes otherwise
    with process_group(torch.device("cpu"), **patience):
        made = tiny_trainer(folder, prepared=prepared, **options)
        status = made.run()
        require_same(made.method.state(), when="at the end")
        return status


def ranks_methods(folder: str) -> int:
    """Three steps of every method; the ranks compare all that it holds, and each writes how many were the same."""
    from tiny_runs import METHODS

    from psp.training.distributed import average_statistics
    from psp.training.loop import step_seed

    made = METHODS | {
        "parser": lambda: ParserMethod(
            Config(dataset_type="celebs_seg_to_face", learning_rate=1e-3, max_steps=9), device=torch.device("cpu")
        ),
        **{name: functools.partial(game, name) for name in KINDS},
    }
    with process_group(torch.device("cpu")):
        for name, make in made.items():
            torch.manual_seed(0)
            method = make()
            before = digest(method.state())
            for step in range(2):
                torch.manual_seed(step_seed(0, step * world_size() + rank()))
                task = "celebs_seg_to_face" if name == "parser" else "celebs_sketch_to_face"
                n = 8 if name == "joint" else 2
                method.training_step([tiny.sketch_batch(10 * step + rank(), n, task)], step)
                average_statistics(method.networks_in_step())
            require_same(method.state(), when=name)
            assert digest(method.state()) != before
            (Path(folder) / f"{name}.{rank()}").touch()
    return 0


def infer(folder: str, out: str) -> int:
    """scripts/inference.py on `folder`/in into `folder`/`out`."""
    from psp.inference.options import parse
    from psp.inference.run import translate_folder

    flags = [f"--data_path={folder}/in", f"--exp_dir={folder}/{out}", f"--checkpoint_path={folder}/tiny.pt"]
    options = parse([*flags, "--device=cpu"], mixing=False)
    return translate_folder(options).status


def cost(module: str, call: str, arguments: list[str]) -> None:
    """Prints the message of the UserError that the call raises, its CPU seconds and the MiB of this process."""
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    known = vars(importlib.import_module(module))
    sys.argv = ["-c", *arguments]
    message = None
    begun = time.process_time()
    try:
        exec(call, {"sys": sys, module.split(".")[0]: sys.modules[module.split(".")[0]]})
    except (UserError, known.get("Refused", UserError)) as error:
        message = str(error)
    seconds = time.process_time() - begun
    lines = Path("/proc/self/status").read_text().splitlines()  # getrusage counts what the parent had, too
    status = dict(line.split(":", 1) for line in lines)
    print(json.dumps([message, seconds, int(status["VmHWM"].split()[0]) >> 10]))


def script(name: str, flags: list[str], folder: str) -> int | None:
    """scripts/`name`.py."""
    os.chdir(folder)
    sys.argv = [f"scripts/{name}.py", *flags]
    status: int | None = importlib.import_module(f"scripts.{name}").main()
    return status


def code(source: str, arguments: list[str]) -> None:
    """What `python -c` does."""
    sys.argv = ["-c", *arguments]
    exec(compile(source, "<code>", "exec"), {"__name__": "__main__"})
