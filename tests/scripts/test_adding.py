"""A method is one file and one line in `METHODS`, a task one entry in `TASKS`: one of each is added and trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from psp_commands import Train, mistake

from psp.tasks import TASKS, Task
from psp.training import flags
from psp.training.config import METHODS
from psp.weights.load import load_any_model, read_training_state

METHOD = '''
"""Learns one colour that is added to every photo."""

from __future__ import annotations

from dataclasses import dataclass

from psp.training.method import DataSpec, MethodOptions
from psp.training.options import NOT_NEGATIVE, option


@dataclass(frozen=True, kw_only=True)
class Options(MethodOptions):
    strength: float = option(0.5, "what the colour is multiplied with", allowed=NOT_NEGATIVE)

    @classmethod
    def defaults(cls, given, task, *, examples):
        return {"learning_rate": 0.25}

    def data(self, config):
        return DataSpec(task=config.task, size=32, target_size=32)


def build(config, options, *, device, networks):
    import torch
    import torch.nn.functional as F

    from psp.images.sheets import to_image

    class Method:
        monitor = "loss"

        def __init__(self):
            self.colour = torch.nn.Conv2d(1, 3, 1).to(device)

        def loss(self, batch):
            assert batch.source.shape[1:] == (1, 32, 32)
            return F.mse_loss(options.strength * self.colour(batch.source), batch.target)

        def training_step(self, batches, step):
            loss = sum(self.loss(batch) for batch in batches)
            gradients = torch.autograd.grad(loss, list(self.colour.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(self.colour.parameters(), gradients):
                    parameter -= config.learning_rate * gradient
            return {"loss": loss.detach()}

        @torch.no_grad()
        def validation_step(self, batch):
            return {"loss": self.loss(batch)}

        def networks_in_step(self):
            return [self.colour]

        def pictures(self, batch):
            return [[to_image(target)] for target in batch.target]

        def state(self):
            return {"colour": self.colour.state_dict()}

        def load_state(self, state):
            self.colour.load_state_dict(state["colour"])

        checkpoint = state

    return Method(), options
'''


@pytest.fixture
def shifting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "colour_method.py").write_text(METHOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(METHODS, "colour", "colour_method")


def test_a_method_is_one_file_and_one_line(
    shifting: None,
    train: Train,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    command = ["--method=colour", f"--data_root={data}", f"--exp_dir={run}", "--strength=0.75"]
    assert train(*command, "--max_steps=1", "--size=64") == 0
    assert "ignored by --method colour: --size\n" in capsys.readouterr().out
    assert train(*command, "--max_steps=2") == 0
    assert "after step 1" in capsys.readouterr().out
    training = read_training_state(run / "checkpoints" / "last.pt")
    assert training["step"] == 2 and training["method"]["colour"]["weight"].shape == (3, 1, 1, 1)
    options = json.loads((run / "opt.json").read_text())
    assert (options["method"], options["strength"], options["learning_rate"]) == ("colour", 0.75, 0.25)
    assert "--strength 0.75 -> 0.5" in mistake(train, *command[:-1])
    assert "--strength -1.0 must be a number" in mistake(train, *command[:-1], "--strength=-1")
    text = flags.build_parser().format_help()
    assert "what the colour is multiplied with [0.5]" in text.split("\n--method colour:\n")[1]
    assert flags.ignored(flags.parse(["--strength=2"])) == "ignored by --method psp: --strength"


def test_a_task_is_one_entry(
    train: Train,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = {"l2_lambda": 1.0}
    task = Task("colouring", "grey photo -> photo", "photo", 0, losses, resize_factors="4")
    common = [f"--data_root={data}", "--dataset_type=colouring", "--max_steps=2"]
    assert "invalid choice: 'colouring'" in mistake(train, *common)
    monkeypatch.setitem(TASKS, task.name, task)
    pictures = ["--method=pix2pix", "--width=4", "--size=32", f"--exp_dir={tmp_path}"]
    assert train(*common, *pictures) == 0
    model = load_any_model(tmp_path / "checkpoints" / "best_model.pt")
    assert model.task is task and model.translate(torch.zeros(1, 3, 256, 256)).shape == (1, 3, 32, 32)
    options = json.loads((tmp_path / "opt.json").read_text())
    assert (options["dataset_type"], options["resize_factors"], options["input_nc"]) == ("colouring", "4", 3)
