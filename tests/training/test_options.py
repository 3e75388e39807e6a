"""How options are declared, which of them are saved with a run, and how a run of an older version goes on."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_training as tiny
from psp_commands import PSP_FLAGS
from tiny_runs import CONFIG, state, trainer

from psp.errors import UserError
from psp.tasks import LAMBDAS
from psp.training.config import METHODS, Config
from psp.training.flags import ignored, parse
from psp.training.options import Declared, declared
from psp.training.resolve import from_mapping, known_options, resolve
from psp.training.saved_options import changes, saved
from psp.weights.save import save_torch


def test_every_option_is_explained_and_used() -> None:
    known = known_options()
    assert all(one.help.strip() for owned in known.values() for _, one in owned)
    assert set(LAMBDAS) <= known.keys() and set(PSP_FLAGS) <= known.keys()
    root = Path(__file__).parents[2]
    shared = [root / path for path in ("scripts/train.py", "datasets/training_data.py")]
    text = "".join(path.read_text() for path in [*shared, *(root / "psp" / "training").rglob("*.py")])
    read = {*re.findall(r"(?:config|options)\.(\w+)", text), *re.findall(r"self\.(\w+)", text)}
    by_table = {*LAMBDAS, "dataset_type", "dry_run"}
    assert known.keys() - read - by_table == set()


def test_methods_agree_about_options_that_they_share() -> None:
    """One flag has one type, and the same values are allowed whatever the method."""
    for name, owned in known_options().items():
        assert len({owner for owner, _ in owned}) == len(owned) and (len(owned) == 1 or owned[0][0]), name

        def value(one: Declared) -> tuple[Any, ...]:
            return one.kind, tuple(one.choices), one.allowed, one.filled, one.place, one.resumable

        assert len({value(one) for _, one in owned}) == 1, name


def test_nothing_is_none_and_every_default_has_its_type() -> None:
    for method in METHODS:
        task = "celebs_seg_to_face" if method == "parser" else "celebs_sketch_to_face"
        config, options = resolve(parse([f"--method={method}", f"--dataset_type={task}"]), examples=False)
        for part in (config, options, Config(), type(options)()):
            for name, one in declared(type(part)).items():
                assert one.kind in (bool, int, float, str) and type(getattr(part, name)) is one.kind, name


def test_places_are_declared_as_such() -> None:
    """So that no path of this machine gets into a file that is passed on."""
    for name, owned in known_options().items():
        if re.search("_path$|_root$|_dir$|_weights$|_map$", name):
            assert all(one.place for _, one in owned), name


def test_flags_of_other_methods_are_named() -> None:
    given = parse(["--method=psp", "--size=64", "--l2_lambda=1", "--width=9", "--beta1=0.5", "--max_steps=3"])
    assert ignored(given) == "ignored by --method psp: --size, --width"  # --beta1 is what it is anyway
    config, options = resolve(given, examples=False)
    assert config.max_steps == 3 and not hasattr(options, "size")
    assert ignored(parse(["--method=cgan", "--size=64", "--width=9"])) == ""
    assert "did you mean batch_size" in message_of(lambda: from_mapping({"batchsize": 3}, where="c.yaml"))
    assert "did you mean --batch_size" in message_of(lambda: parse(["--batchsize=3"]))


def message_of(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    return str(caught.value)


# ---- what is saved ---------------------------------------------------------------------------------------

# What a run saved before every method had options of its own: those of all methods, null for absent ones, whole paths.
FLAT: dict[str, Any] = {
    "dataset_type": "celebs_sketch_to_face",
    "method": "psp",
    "data_root": "/home/somebody/data/faces.zip",
    "exp_dir": "/home/somebody/runs/a",
    "seed": 0,
    "device": "auto",
    "precision": "fp32",
    "dry_run": False,
    "encoder_type": None,
    "input_nc": 1,
    "label_nc": 1,
    "output_size": None,
    "stylegan_weights": "/home/somebody/weights/g.pt",
    "irse50_weights": None,
    "checkpoint_path": None,
    "train_decoder": False,
    "start_from_latent_avg": True,
    "learn_in_w": False,
    "batch_size": 4,
    "test_batch_size": 4,
    "workers": 2,
    "test_workers": 0,
    "cache_mb": 0,
    "resize_factors": None,
    "label_resize": "nearest",
    "label_map": "celebamask",
    "fit": "auto",
    "roughen": True,
    "sketch_styles": None,
    "unfinished": 0.0,
    "sample_weights": None,
    "learning_rate": 0.0001,
    "optim_name": "ranger",
    "max_steps": 500000,
    "epochs": None,
    "grad_accumulation": 1,
    "sync_bn": False,
    "gradient_checkpointing": False,
    "max_bad_steps": 5,
    "lpips_lambda": 0.8,
    "id_lambda": 0.0,
    "l2_lambda": 1.0,
    "w_norm_lambda": 0.005,
    "lpips_lambda_crop": 0.0,
    "l2_lambda_crop": 0.0,
    "moco_lambda": 0.0,
    "lpips_net": "alex",
    "id_net": "dlib",
    "parsing_lambda": 0.0,
    "use_latent_mask": False,
    "code_lambda": 0.0,
    "latent_mask": None,
    "width": None,
    "blocks": None,
    "norm": None,
    "dropout": None,
    "jitter": False,
    "beta1": 0.5,
    "decay_from": None,
    "decay_until": None,
    "l1_lambda": 100.0,
    "cycle_lambda": 10.0,
    "identity_lambda": 0.5,
    "pool_size": 50,
    "image_interval": 100,
    "board_interval": 50,
    "val_interval": 1000,
    "save_interval": 1000,
    "keep_checkpoints": 3,
    "use_wandb": False,
    "size": None,
    "style_dim": 512,
    "n_mlp": 8,
    "lr_mlp": 0.01,
    "channels": None,
    "channel_base": 16384,
    "channel_max": 512,
    "discriminator": "residual",
    "r1_gamma": 1.0,
    "r1_interval": 16,
    "path_lambda": 2.0,
    "path_interval": 4,
    "mixing_prob": 0.9,
    "ema_kimg": 10.0,
    "augment": "diffaugment",
    "ada_target": 0.6,
    "guide": "none",
    "discriminator_rate": 0.0005,
    "discriminator_first": 40,
    "adversarial_share": 0.6,
    "adversarial_floor": 0.2,
    "feature_lambda": 1.0,
    "static_lambda": 1.0,
}


def flat(config: Config, **values: Any) -> dict[str, Any]:
    """Saved options of an older version, with those of a run and other values."""
    return {**FLAT, **dataclasses.asdict(config), "learning_rate": None, "resize_factors": None, **values}


def test_of_places_only_the_names_are_saved() -> None:
    given = {
        "data_root": "/home/somebody/data/faces.zip", "exp_dir": "/home/somebody/runs/a", "label_map": "../maps/m.json",
        "stylegan_weights": "/home/somebody/weights/g.pt", "sample_weights": "mine/w.json", "irse50_weights": "~/i.pth",
    }  # fmt: skip
    values = saved(*resolve(given, examples=False))
    assert "somebody" not in json.dumps(values) and "exp_dir" not in values
    assert {name: values[name] for name in given if name != "exp_dir"} == {
        "data_root": "faces.zip", "label_map": "m.json", "stylegan_weights": "g.pt", "sample_weights": "mine/w.json",
        "irse50_weights": "i.pth",
    }  # fmt: skip
    own = {*declared(Config), *declared(type(resolve({}, examples=False)[1]))}
    assert values.keys() < own and "checkpoint_path" not in values and "epochs" not in values
    assert all(type(value) in (bool, int, float, str) for value in values.values())


def test_the_bundled_model_is_found_again_by_its_name() -> None:
    config, options = resolve({}, examples=True)
    again, same = resolve(saved(config, options), examples=False)
    assert saved(again, same) == saved(config, options)


def test_options_of_an_older_version_are_compared() -> None:
    places = {name: FLAT[name] for name in ("data_root", "stylegan_weights", "exp_dir")}
    run = resolve(places, examples=False)
    assert changes(FLAT, *run) == []
    moved = {"data_root": "/other/faces.zip", "stylegan_weights": "g.pt", "workers": 0, "gradient_checkpointing": True}
    assert changes(FLAT, *resolve(moved, examples=False)) == []
    other = resolve(
        {**places, "data_root": "/home/somebody/data/cufs", "latent_mask": "8-9", "seed": 1}, examples=False
    )
    assert changes(FLAT, *other) == [
        "--data_root 'faces.zip' -> 'cufs'", "--seed 0 -> 1", "--latent_mask '' -> '8-9'",
    ]  # fmt: skip
    generator = resolve({**places, "method": "stylegan2"}, examples=False)
    assert "--method 'psp' -> 'stylegan2'" in changes(FLAT, *generator)


def test_the_options_file_of_an_older_version_is_a_config_file(tmp_path: Path) -> None:
    path = tmp_path / "opt.json"
    path.write_text(json.dumps(FLAT))
    given = parse([f"--config={path}"])
    assert ignored(given) == ""
    assert changes(FLAT, *resolve(given, examples=False)) == []


@pytest.mark.thorough
def test_a_run_of_an_older_version_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer(tmp_path, max_steps=3).run()
    last = tmp_path / "checkpoints" / "last.pt"
    training = state(tmp_path)
    options = flat(CONFIG, max_steps=3, data_root="/elsewhere/data", exp_dir=str(tmp_path))
    save_torch({"training": {**training, "options": options}}, last)
    with pytest.raises(UserError, match=r"with other options \(--data_root 'data' -> ''; --seed 0 -> 4\)"):
        trainer(tmp_path, max_steps=5, seed=4).run()
    assert trainer(tmp_path, max_steps=5, data_root="/here/data").run() == 0
    assert "after step 3" in capsys.readouterr().out and state(tmp_path)["step"] == 5
    assert state(tmp_path)["options"]["data_root"] == "data" and "beta1" not in state(tmp_path)["options"]


def test_checkpoints_hold_nothing_of_this_machine(tmp_path: Path) -> None:
    """Neither in what resumes nor in what is passed on."""
    places = {"data_root": str(tmp_path / "data"), "exp_dir": str(tmp_path / "run")}
    config = dataclasses.replace(CONFIG, **places)
    method = tiny.psp_method()
    method.model.config |= saved(config, resolve({}, examples=False)[1])
    trainer(tmp_path / "run", method, max_steps=2, **places).run()
    files = [path for path in (tmp_path / "run").rglob("*") if path.suffix in (".pt", ".json")]
    assert len(files) >= 4
    for path in files:
        assert str(tmp_path).encode() not in path.read_bytes(), path
