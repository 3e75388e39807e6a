"""The flags of scripts/train.py: pSp's names, files, types, and one line for everything that cannot work."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from psp_commands import PSP_FLAGS, SKETCH_COMMAND

from psp.errors import UserError
from psp.tasks import TASKS
from psp.training.config import METHODS, Config
from psp.training.flags import ignored, parse
from psp.training.method import MethodOptions, method_named
from psp.training.methods.stylegan2.options import parse_channels
from psp.training.resolve import PAPER, from_mapping, known_options, resolve, schedule
from psp.training.saved_options import saved

SHORT = {"max_steps": 300, "image_interval": 100, "board_interval": 10, "val_interval": 50, "save_interval": 50}


def together(config: Config, options: MethodOptions) -> SimpleNamespace:
    """Common and own options under one roof, with the losses where the method has them."""
    losses = {"losses": getattr(options, "losses", {})}
    return SimpleNamespace(**dataclasses.asdict(config), **dataclasses.asdict(options), **losses)


def resolved(*argv: str, examples: bool = False) -> SimpleNamespace:
    return together(*resolve(parse(argv), examples=examples))


def refused(*argv: str, examples: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        resolve(parse(argv), examples=examples)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", PSP_FLAGS)
@pytest.mark.parametrize("style", ["equals", "space"])
def test_every_flag_of_psp_is_known(name: str, style: str) -> None:
    value = PSP_FLAGS[name]
    argv = [f"--{name}={value}"] if value and style == "equals" else [f"--{name}", value] if value else [f"--{name}"]
    found = parse(argv)[name]
    wanted: Any = {"": True, "True": True, "false": False}.get(value, value)
    assert found == (type(found)(wanted) if not isinstance(found, bool) else wanted)


def test_psps_sketch_command() -> None:
    config = resolved(*SKETCH_COMMAND.split(), "--data_root", "data")
    assert config.losses == {
        "l2_lambda": 1, "lpips_lambda": 0.8, "id_lambda": 0, "w_norm_lambda": 0.005, "lpips_lambda_crop": 0,
        "l2_lambda_crop": 0, "moco_lambda": 0, "parsing_lambda": 0,
    }  # fmt: skip
    assert (config.val_interval, config.save_interval, config.checkpoint_path) == (2500, 5000, "")
    assert (config.learning_rate, config.optim_name, config.batch_size) == (1e-4, "ranger", 8)


def test_wandb_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = refused("--use_wandb")
    assert "pip install wandb" in message and "TensorBoard" in message
    resolved("--use_wandb=false")


@pytest.mark.parametrize("name", ["train_decoder", "start_from_latent_avg", "learn_in_w", "dry_run", "roughen"])
def test_booleans(name: str) -> None:
    for argv, wanted in (
        ([f"--{name}"], True), ([f"--{name}", "true"], True), ([f"--{name}=false"], False),
        ([f"--{name}", "False"], False), ([f"--{name}=1"], True), ([f"--{name}", "--batch_size=3"], True),
    ):  # fmt: skip
        assert parse(argv)[name] is wanted
    assert "true or false" in refused(f"--{name}=maybe")


def test_nothing_given_is_filled_from_the_task() -> None:
    for name, task in TASKS.items():
        config = resolved(f"--dataset_type={name}")
        assert {key: value for key, value in config.losses.items() if value} == dict(task.losses)
        assert (config.input_nc, config.label_nc, config.resize_factors) == (
            task.input_nc,
            task.label_nc,
            task.resize_factors or "",
        )
    assert resolved("--max_steps=7", examples=True).max_steps == 7
    assert resolved("--method=stylegan2").learning_rate == 2e-3


def scheduled(*argv: str, n_images: int = 88, examples: bool = False, device: str = "cpu") -> SimpleNamespace:
    return together(*schedule(*resolve(parse(argv), examples=examples), n_images, device=device))


def intervals(config: SimpleNamespace) -> dict[str, int]:
    return {name: getattr(config, name) for name in PAPER}


def test_the_schedule_follows_from_the_data_and_the_device() -> None:
    """Hours at most, whatever there is; on paper it is pSp's; what is given stays."""
    assert intervals(scheduled(examples=True, n_images=48)) == SHORT
    assert scheduled(n_images=12).max_steps == 300
    own = {"max_steps": 2200, "image_interval": 220, "board_interval": 10, "val_interval": 110, "save_interval": 110}
    assert intervals(scheduled()) == own
    large = own | {"max_steps": 20_000, "image_interval": 2000, "board_interval": 50}
    assert intervals(scheduled(n_images=70_000)) == large | {"val_interval": 1000, "save_interval": 1000}
    assert scheduled(n_images=70_000, device="cuda").max_steps == 100_000
    for examples in (True, False):
        assert intervals(scheduled("--preset=paper", examples=examples)) == PAPER
    given = scheduled("--max_steps=40", "--val_interval=7", "--preset=paper")
    assert (given.max_steps, given.val_interval, given.save_interval) == (40, 7, 1000)


def test_the_bundled_encoder_goes_on_where_it_fits() -> None:
    def begins_with(*argv: str) -> str:
        return Path(resolved("--data_root=mine", *argv).checkpoint_path).name

    assert begins_with() == begins_with("--dataset_type=cufs_sketch_to_face") == "psp_sketch_to_face.safetensors"
    assert begins_with("--dataset_type=celebs_seg_to_face", "--preset=small") == "psp_seg_to_face.safetensors"
    assert begins_with("--checkpoint_path=a.pt") == "a.pt"
    for argv in (
        "--from_scratch", "--preset=paper", "--dataset_type=ffhq_encode", "--stylegan_weights=g.pt", "--learn_in_w",
        "--irse50_weights=b.pth", "--encoder_type=GradualStyleEncoder", "--start_from_latent_avg=false",
    ):  # fmt: skip
        assert begins_with(argv) == "", argv
    assert resolved().learning_rate == 3e-4 and resolved("--from_scratch").learning_rate == 1e-4
    assert "--from_scratch" in refused("--from_scratch", "--checkpoint_path=a.pt")


def test_one_named_weight_means_psps_defaults_for_the_others() -> None:
    config = resolved("--dataset_type=ffhq_encode", "--moco_lambda=0.5")
    assert {key: value for key, value in config.losses.items() if value} == {
        "l2_lambda": 1,
        "lpips_lambda": 0.8,
        "moco_lambda": 0.5,
    }


def test_losses_and_penalties_of_a_generator() -> None:
    """Only what was asked for: the lambdas of the task are those of an encoder."""
    own = ["--method=stylegan2", "--dataset_type=ffhq_encode", "--guide=photo", "--batch_size=8"]
    config = resolved(*own)
    assert (config.lpips_lambda, config.id_lambda, config.parsing_lambda, config.r1_gamma) == (0.25, 0.2, 0.1, 1)
    config = resolved(*own, "--parsing_lambda=0", "--discriminator=projected")
    assert (config.lpips_lambda, config.id_lambda, config.parsing_lambda, config.r1_gamma) == (0.25, 0.2, 0, 0)
    assert resolved(*own, "--discriminator=projected", "--r1_gamma=2").r1_gamma == 2


def test_channels_are_a_list_from_4_px_on() -> None:
    assert parse_channels("256, 128,8") == {4: 256, 8: 128, 16: 8}
    for text in ("256", "a,b", "0,1", "8,-8", "1,2,3,4,5,6,7,8,9,10", "5000,1", ""):
        with pytest.raises(UserError, match="--channels"):
            parse_channels(text)


def test_configs_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1  # type: ignore[misc]
    for method in METHODS:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(method_named(method).Options(), "size", 1)  # noqa: B010


# ---- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json"])
def test_options_from_a_file_and_flags_that_win(suffix: str, tmp_path: Path) -> None:
    values = {
        "batch_size": 3,
        "learning_rate": 0.01,
        "train_decoder": True,
        "exp_dir": "there",
        "stylegan_weights": None,
    }
    path = tmp_path / f"c{suffix}"
    path.write_text(json.dumps(values))
    given = parse(["--config", str(path), "--batch_size=5", "--train_decoder=false"])
    assert given == {"batch_size": 5, "learning_rate": 0.01, "train_decoder": False, "exp_dir": "there"}


def test_yaml_as_people_write_it(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("# mine\nlearning_rate: 1e-4\nid_lambda: 0\nroughen: no\ndata_root: 'my data'\n")
    given = parse(["--config", str(path)])
    assert given == {"learning_rate": 1e-4, "id_lambda": 0.0, "roughen": False, "data_root": "my data"}


def test_the_options_of_a_run_are_a_config_file(tmp_path: Path) -> None:
    for command in (SKETCH_COMMAND, "--method=stylegan2 --guide=photo --batch_size=8", "--method=cgan --epochs=3"):
        config, options = resolve(parse([*command.split(), "--data_root", "data"]), examples=False)
        (tmp_path / "opt.json").write_text(json.dumps(saved(config, options)))
        given = parse([f"--config={tmp_path / 'opt.json'}"])
        again, same = resolve({**given, "exp_dir": config.exp_dir}, examples=False)
        assert (again, same) == (config, options) and ignored(given) == ""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("batch_sise: 3", "unknown option 'batch_sise'"), ("batch_size: many", "batch_size is 'many', expected int"),
        ("batch_size: 2.5", "expected int"), ("batch_size: true", "expected int"), ("roughen: 1", "expected bool"),
        ("learning_rate: fast", "expected float"), ("optim_name: sgd", "ranger, adam"), ("exp_dir: 3", "expected str"),
        ("losses: {l2_lambda: 1}", "unknown option 'losses'"), ("[1, 2]", "mapping"), ("3", "mapping"), ("", "mapping"),
        ("a: [", "malformed"), ("a: !!python/object:os.system x", "malformed"), ("\x00", "malformed"),
        ("batch_size: null", "expected int"), ("dataset_type: faces", "choose one of"),
    ],
)  # fmt: skip
def test_faulty_files(text: str, wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    message = refused("--config", str(path))
    assert wanted in message and str(path) in message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("{'a': 1}")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x01")
    assert "malformed" in refused("--config", str(tmp_path / "c.json"))
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "b.yaml"):
        assert f"cannot read --config {path}" in refused("--config", str(path))


# ---- what cannot work --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ("--batch_size=0", "--batch_size 0 must be at least 1"), ("--batch_size=x", "batch_size"),
        ("--max_steps=-1", "--max_steps"), ("--workers=-1", "--workers"), ("--seed=-1", "--seed"),
        ("--learning_rate=0", "--learning_rate"), ("--learning_rate=nan", "--learning_rate"),
        ("--l2_lambda=-1", "--l2_lambda"), ("--l2_lambda=inf", "--l2_lambda"), ("--id_lambda=nan", "--id_lambda"),
        ("--l2_lambda=0 --lpips_lambda=0", "every loss weight is 0"), ("--dataset_type=faces", "celebs_sketch_to_face"),
        ("--label_nc=19", "leave both flags out"), ("--input_nc=3", "--input_nc 1"), ("--batchsize=3", "--batch_size"),
        ("--optim_name=sgd", "ranger"), ("--keep_checkpoints=0", "--keep_checkpoints"), ("stray", "stray"),
        ("--method=stylegan2 --channel_base=x", "--channel_base"), ("--method=stylegan2 --lr_mlp=0", "--lr_mlp"),
        ("--method=stylegan2 --precision=fp16", "bf16"), ("--method=stylegan2 --channels=8,x", "--channels"),
        ("--method=stylegan2 --guide=photo --batch_size=4", "--batch_size"), ("--r1_interval=0", "--r1_interval"),
        ("--method=stylegan2 --guide=photo --batch_size=8 --discriminator_rate=0", "--discriminator_rate"),
        ("--adversarial_share=-1", "--adversarial_share"), ("--static_lambda=nan", "--static_lambda"),
        ("--method=stylegan2 --mixing_prob=2", "--mixing_prob"), ("--n_mlp=0", "--n_mlp"),
        ("--method=parser --dataset_type=celebs_seg_to_face --precision=fp16", "bf16"),
    ],
)  # fmt: skip
def test_options_that_cannot_work(argv: str, wanted: str) -> None:
    assert wanted in refused(*argv.split())


def test_types_are_checked_for_programs_too() -> None:
    with pytest.raises(UserError, match="expected float"):
        from_mapping({"l2_lambda": "much"}, where="here")
    given = from_mapping({"l2_lambda": 1, "learning_rate": "1e-3", "size": None}, where="here")
    assert given == {"l2_lambda": 1.0, "learning_rate": 1e-3} and isinstance(given["l2_lambda"], float)


# ---- the help ----------------------------------------------------------------------------------------


def test_help_is_quick_and_needs_no_torch(root: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['train.py', '--help'];"
        f"import runpy; runpy.run_path({str(root / 'scripts' / 'train.py')!r}, run_name='__main__')"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 10
    assert all(f"--{name} " in done.stdout for name in known_options())
    assert "celebs_sketch_to_face" in done.stdout
    headings = [line.rstrip(":") for line in done.stdout.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings[1:5] == ["what and where", "data", "optimisation", "schedule and logs"]
    assert {"--method psp", "--method stylegan2", "--method psp, stylegan2"} <= set(headings[5:])
    assert headings[5:7] == ["--method psp, stylegan2, pix2pix, cyclegan, cgan", "--method psp"]
    assert all(heading.startswith("--method ") for heading in headings[5:])
    below = done.stdout.split("\n--method psp:\n")[1].split("\n\n")[0]
    assert "--optim_name" in below and "--r1_gamma" not in below and "--batch_size" not in below


# ---- pix2pix, CycleGAN, cGAN ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        ("pix2pix", {"size": 256, "width": 64, "norm": "batch", "dropout": True}),
        ("cyclegan", {"size": 256, "width": 64, "norm": "instance", "dropout": False, "blocks": 9}),
        ("cgan", {"size": 128, "width": 32, "norm": "batch", "dropout": False, "blocks": 6}),
    ],
)
def test_published_values_are_the_defaults(method: str, wanted: dict[str, Any]) -> None:
    config = resolved(f"--method={method}")
    assert {name: getattr(config, name) for name in wanted} == wanted
    assert (config.learning_rate, config.beta1) == (2e-4, 0.5)
    if method == "cyclegan":
        assert (config.cycle_lambda, config.identity_lambda, config.pool_size) == (10.0, 0.5, 50)
    else:
        assert config.l1_lambda == 100.0
    smaller = resolved(f"--method={method}", "--size=128", "--width=7", "--dropout=true", examples=True)
    assert (smaller.size, smaller.width, smaller.dropout) == (128, 7, True)
    assert getattr(smaller, "blocks", 6) == 6
    tiny = resolved(f"--method={method}", examples=True)
    assert (tiny.size, tiny.width) == {"pix2pix": (128, 32), "cyclegan": (64, 32), "cgan": (128, 32)}[method]


def test_epochs_and_the_decay_follow_from_the_data() -> None:
    command = ["--method=pix2pix", "--batch_size=16", "--epochs=11"]
    filled = scheduled(*command)
    assert (filled.max_steps, filled.decay_from, filled.decay_until) == (61, 30, 61)
    sooner = scheduled(*command, "--max_steps=9", "--decay_from=2")
    assert (sooner.max_steps, sooner.decay_from, sooner.decay_until) == (9, 2, 9)
    at_once = scheduled(*command, "--decay_from=0")
    assert (at_once.decay_from, at_once.decay_until) == (0, 61)
    assert scheduled(*command, "--grad_accumulation=2").max_steps == 31
    plain = scheduled("--epochs=2", n_images=48, examples=True)
    assert plain.max_steps == 24 and plain.decay_from == -1  # never


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["--size=100"], "--size 100 does not work with --method pix2pix; possible are 32, 64, 128, 256"),
        (["--size=512"], "--size 512"),
        (["--method=cyclegan", "--size=100"], "possible are 32, 64, 96"),
        (["--beta1=1"], "--beta1 1.0"),
        (["--epochs=0"], "--epochs 0 must be at least 1"),
        (["--width=0"], "--width 0 must be at least 1"),
        (["--decay_from=-1"], "--decay_from -1"),
        (["--pool_size=-1"], "--pool_size -1"),
        (["--method=cyclegan", "--cycle_lambda=0"], "--cycle_lambda 0 leaves nothing that ties output to input"),
        (["--norm=layer"], "batch"),
    ],
)
def test_mistakes_with_pictures(argv: list[str], wanted: str) -> None:
    assert wanted in refused("--method=pix2pix", *argv)


@pytest.mark.parametrize("name", ["cufs_pix2pix", "cufs_cyclegan", "cufs_cgan"])
def test_short_recipes_have_their_steps(name: str, root: Path) -> None:
    given = parse([f"--config={root / 'pretrained' / 'recipes' / name}.yaml"])
    config, _ = schedule(*resolve(given, examples=False), 88)
    assert config.max_steps == {"cufs_pix2pix": 61, "cufs_cyclegan": 17_600, "cufs_cgan": 1100}[name]


def test_every_recipe_is_valid(root: Path) -> None:
    recipes = sorted((root / "pretrained" / "recipes").glob("*.yaml"))
    assert len(recipes) > 8
    for path in recipes:
        given = parse([f"--config={path}"])
        resolve(given, examples=False)
        assert ignored(given) == "", path
