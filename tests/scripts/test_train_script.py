"""scripts/train.py from the command line to the files: pSp's own command, both methods, resuming, and mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_training as tiny
import torch
from PIL import Image
from psp_commands import SKETCH_COMMAND, Train, mistake
from tiny_models import drawing, fill_folder, photo
from tiny_runs import same

from datasets.loader import loader_processes
from psp.inference.options import parse as parse_inference
from psp.inference.run import translate_folder
from psp.models.psp import PSP
from psp.networks.photo_encoder import PhotoEncoder
from psp.networks.stylegan2 import Generator
from psp.networks.stylegan2_discriminator import Discriminator
from psp.weights.load import load_any_model, load_generator, load_model, read_training_state
from psp.weights.save import psp_state, save_torch

CHANNELS = dict.fromkeys((4, 8, 16, 32), 8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator of 32 px with a photo encoder beside it."""
    torch.manual_seed(3)
    made = Generator(32, tiny.STYLE_DIM, 2, channels=CHANNELS)
    content = {
        "g_ema": made.state_dict(),
        "d": Discriminator(32, channels=CHANNELS).state_dict(),
        "latent_avg": made.mean_latent(1000)[0],
        "photo_encoder": PhotoEncoder(32, tiny.STYLE_DIM, channels=CHANNELS).state_dict(),
    }
    path = tmp_path_factory.mktemp("weights") / "g.pt"
    save_torch(content, path)
    return path


# ---- psp ---------------------------------------------------------------------------------------------


def test_psps_sketch_command_with_a_small_encoder(train: Train, data: Path, weights: Path, tmp_path: Path) -> None:
    command = [*SKETCH_COMMAND.split(), f"--exp_dir={tmp_path}", "--encoder_type=CompactStyleEncoder"]
    assert train(*command, f"--data_root={data}", f"--stylegan_weights={weights}", "--max_steps=2") == 0
    model = load_model(tmp_path / "checkpoints" / "best_model.pt", task="celebs_sketch_to_face")
    assert (model.output_size, model.n_styles, model.input_nc) == (32, 8, 1)
    options = json.loads((tmp_path / "opt.json").read_text())
    assert (options["max_steps"], options["w_norm_lambda"], options["output_size"]) == (2, 0.005, 32)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "loss_l2", "loss_lpips", "loss_w_norm"} <= records[-1].keys()
    assert [(r["phase"], r["step"]) for r in records if r["phase"] == "val"] == [("val", 0), ("val", 2)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_psps_sketch_command_as_published(data: Path, weights: Path, root: Path, tmp_path: Path) -> None:
    command = [*SKETCH_COMMAND.split(), f"--exp_dir={tmp_path}", "--max_steps=4"]
    done = subprocess.run(
        [sys.executable, root / "scripts/train.py", *command, f"--data_root={data}", f"--stylegan_weights={weights}"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_training_state(tmp_path / "checkpoints" / "last.pt")["step"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Encoder4Editing", "BackboneEncoder"])
def test_an_encoder_of_e4e_or_restyle_from_scratch(name: str, train: Train, data: Path, tmp_path: Path) -> None:
    """In full width before an 8 px generator; its checkpoint says which of two with the same tensors it is."""
    made = Generator(8, 512, 2, channels=CHANNELS)
    save_torch({"g_ema": made.state_dict(), "latent_avg": made.mean_latent(100)[0]}, tmp_path / "g.pt")
    command = [f"--encoder_type={name}", "--dataset_type=ffhq_encode", "--l2_lambda=1", "--lpips_lambda=0"]
    command += [f"--data_root={data}", f"--stylegan_weights={tmp_path / 'g.pt'}", "--max_steps=1", "--batch_size=1"]
    assert train(*command, f"--exp_dir={tmp_path}") == 0
    model = load_model(tmp_path / "checkpoints" / "best_model.pt")
    assert type(model.encoder).__name__ == model.config["encoder_type"] == name
    assert not model.refines and model.encode(torch.zeros(1, 3, 256, 256)).shape == (1, 4, 512)


@pytest.mark.slow
def test_without_any_flag_but_the_end(root: Path, tmp_path: Path) -> None:
    """Bundled generator, example data."""
    command = [sys.executable, root / "scripts/train.py", "--dataset_type", "celebs_sketch_to_face", "--max_steps=3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no --data_root: training on the examples/train_data portraits" in done.stdout
    folder = tmp_path / "experiments" / "celebs_sketch_to_face"
    assert (folder / "checkpoints" / "best_model.pt").exists() and (folder / "loss_curves.png").exists()


@pytest.mark.thorough
@pytest.mark.parametrize("task", ["celebs_seg_to_face", "ffhq_encode", "celebs_super_resolution", "ffhq_frontalize"])
def test_other_tasks(task: str, train: Train, data: Path, weights: Path, tmp_path: Path) -> None:
    common = [f"--data_root={data}", f"--stylegan_weights={weights}", f"--exp_dir={tmp_path}", "--max_steps=1"]
    assert train(f"--dataset_type={task}", "--l2_lambda=1", *common) == 0
    assert load_model(tmp_path / "checkpoints" / "iteration_1.pt").task.name == task


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["psp", "stylegan2"])
def test_the_same_command_resumes(method: str, train: Train, data: Path, weights: Path, tmp_path: Path) -> None:
    common = [f"--data_root={data}", f"--stylegan_weights={weights}", f"--method={method}", "--grad_accumulation=2"]
    guided = ["--guide=source", "--lr_mlp=0.1", "--batch_size=4", "--discriminator_first=1"]
    common += guided if method == "stylegan2" else ["--use_latent_mask"]
    common += ["--max_steps=2"]
    assert train(*common, f"--exp_dir={tmp_path / 'a'}") == 0
    assert train(*common, f"--exp_dir={tmp_path / 'b'}", "--max_steps=1") == 0
    assert train(*common, f"--exp_dir={tmp_path / 'b'}") == 0
    a, b = (read_training_state(tmp_path / name / "checkpoints" / "last.pt") for name in "ab")
    same(a["method"], b["method"])
    assert a["step"] == b["step"] == 2
    assert "--seed 0 -> 1" in mistake(train, *common, f"--exp_dir={tmp_path / 'b'}", "--seed=1")


@pytest.mark.thorough
def test_continuing_from_a_checkpoint(train: Train, data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    psp = tiny.model(size=32).eval()
    save_torch(psp_state(psp), tmp_path / "m.pt")
    common = [f"--data_root={data}", f"--checkpoint_path={tmp_path / 'm.pt'}"]
    assert train(*common, f"--exp_dir={tmp_path / 'a'}") == 0
    model = load_model(tmp_path / "a" / "checkpoints" / "iteration_4.pt")
    same(dict(model.decoder.state_dict()), dict(psp.decoder.state_dict()))
    difference = (model.encoder.heads[0].weight - psp.encoder.heads[0].weight).abs().max()
    assert 0 < difference < 0.01
    other = [*common, f"--exp_dir={tmp_path / 'b'}"]
    assert "CompactStyleEncoder" in mistake(train, *other, "--encoder_type=GradualStyleEncoder")
    assert "1-channel" in mistake(train, *other, "--dataset_type=celebs_seg_to_face")
    assert "leave --stylegan_weights" in mistake(train, *other, "--stylegan_weights=x.pt")
    assert "--learn_in_w" in mistake(train, *other, "--learn_in_w")
    refining = PSP(tiny.encoder(6, 6), tiny.generator(16), latent_avg=torch.zeros(tiny.STYLE_DIM))
    save_torch(psp_state(refining), tmp_path / "m.pt")
    assert "ReStyle" in mistake(train, *other, "--dataset_type=ffhq_encode")


# ---- stylegan2 ---------------------------------------------------------------------------------------

GENERATOR = ["--method=stylegan2", "--size=32", "--style_dim=16", "--n_mlp=2", "--channel_base=256", "--channel_max=16"]


GUIDED = ["--batch_size=8", "--discriminator_first=1", "--max_steps=2"]


@pytest.mark.thorough
def test_a_generator_is_trained_and_then_used(train: Train, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "g"
    guided = [*GUIDED, "--guide=photo", "--lr_mlp=0.1"]
    assert train(*GENERATOR, f"--data_root={data}", f"--exp_dir={folder}", *guided) == 0
    newest = folder / "checkpoints" / "best_model.pt"
    found = load_generator(newest)
    assert (found.generator.size, found.generator.style_dim, found.generator.n_mlp) == (32, 16, 2)
    assert found.generator.channels == {4: 16, 8: 16, 16: 16, 32: 8} and found.photo_encoder is not None
    common = [f"--data_root={data}", f"--stylegan_weights={newest}"]
    assert train(*common, f"--exp_dir={tmp_path / 'e'}", "--use_latent_mask", "--max_steps=1") == 0
    larger = ["--method=stylegan2", "--size=64", "--channel_base=256", f"--exp_dir={tmp_path / 'l'}", "--max_steps=1"]
    assert train(*common, *larger) == 0
    assert load_generator(tmp_path / "l" / "checkpoints" / "best_model.pt").generator.size == 64


@pytest.mark.thorough
def test_a_guide_with_structure_makes_a_complete_model(train: Train, data: Path, tmp_path: Path) -> None:
    assert train(*GENERATOR, f"--data_root={data}", f"--exp_dir={tmp_path}", "--guide=source", *GUIDED) == 0
    model = load_model(tmp_path / "checkpoints" / "best_model.pt", task="celebs_sketch_to_face")
    assert model.photo_encoder is not None and model.output_size == 32


@pytest.mark.thorough
def test_a_complete_model_grows(train: Train, data: Path, tmp_path: Path) -> None:
    """The structure encoder comes along, its new styles as copies; the old layers become wider."""
    common = [*GENERATOR, f"--data_root={data}", "--guide=source", *GUIDED]
    assert train(*common, f"--exp_dir={tmp_path / 'a'}", "--max_steps=1") == 0
    small = tmp_path / "a" / "checkpoints" / "best_model.pt"
    larger = ["--size=64", "--channels=24,16,16,8,8", f"--stylegan_weights={small}", f"--exp_dir={tmp_path / 'b'}"]
    assert train(*common, *larger, "--learning_rate=1e-9", "--max_steps=1") == 0
    before, after = (load_model(p).encoder.state_dict() for p in (small, tmp_path / "b/checkpoints/best_model.pt"))
    for key, value in after.items():
        old = before[key.replace("heads.9.", "heads.7.").replace("heads.8.", "heads.7.")]
        if value.is_floating_point() and "running" not in key:
            assert torch.allclose(value, old, atol=1e-6), key
    assert load_generator(tmp_path / "b/checkpoints/best_model.pt").generator.channels[4] == 24
    assert train(*common, *larger, "--learning_rate=1e-9", "--max_steps=2") == 0  # resumes
    assert "at 4 px are 8" in mistake(train, *common, *larger, "--channels=8,16,16,8,8", f"--exp_dir={tmp_path / 'c'}")
    assert "ends at 16 px" in mistake(train, *common, *larger, "--channels=8,16,16", f"--exp_dir={tmp_path / 'c'}")


# ---- pix2pix, CycleGAN, cGAN --------------------------------------------------------------------------

PICTURES = {"pix2pix": ["--size=32"], "cyclegan": ["--size=32", "--blocks=1"], "cgan": ["--size=32", "--blocks=1"]}


@pytest.mark.thorough
@pytest.mark.parametrize("method", PICTURES)
def test_picture_to_picture_and_back_out(method: str, train: Train, data: Path, tmp_path: Path, root: Path) -> None:
    """One command trains, the same one goes on, and scripts/inference.py runs what comes out."""
    common = [f"--data_root={data}", f"--method={method}", "--width=4", *PICTURES[method], "--jitter", "--epochs=2"]
    assert train(*common, f"--exp_dir={tmp_path / 'a'}", "--max_steps=9") == 0
    decay = ["--decay_from=2", "--decay_until=5"]  # of 2 epochs of 5 pairs, two at a time
    assert train(*common, *decay, f"--exp_dir={tmp_path / 'b'}", "--max_steps=3") == 0
    assert train(*common, *decay, f"--exp_dir={tmp_path / 'b'}", "--max_steps=9") == 0
    a, b = (read_training_state(tmp_path / name / "checkpoints" / "last.pt") for name in "ab")
    assert a["step"] == b["step"] == 5
    same(a["method"], b["method"])
    weights = tmp_path / "a" / "checkpoints" / "best_model.pt"
    options = parse_inference(
        [f"--checkpoint_path={weights}", f"--data_path={data / 'test' / 'sketches'}", f"--exp_dir={tmp_path / 'c'}"],
        mixing=False,
    )
    assert translate_folder(options).status == 0
    made = sorted((tmp_path / "c" / "inference_results").iterdir())
    assert [(path.name, Image.open(path).size) for path in made] == [("x.png", (32, 32)), ("y.png", (32, 32))]


def test_label_maps_train_pix2pix(train: Train, data: Path, tmp_path: Path) -> None:
    common = [f"--data_root={data}", "--method=pix2pix", "--width=4", "--size=32", "--jitter", "--max_steps=2"]
    assert train(*common, "--dataset_type=celebs_seg_to_face", f"--exp_dir={tmp_path}") == 0
    model = load_any_model(tmp_path / "checkpoints" / "best_model.pt")
    assert model.task is not None and model.task.name == "celebs_seg_to_face"
    assert model.translate(torch.zeros(1, 256, 256, dtype=torch.uint8)).shape == (1, 3, 32, 32)
    assert "label maps are none" in mistake(train, *common, "--method=cyclegan", "--dataset_type=celebs_seg_to_face")


def test_cyclegan_needs_no_pairs(train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, names, make in (("sketches", "abc", drawing), ("photos", "vwxyz", photo)):
        fill_folder(tmp_path / "d" / kind, [f"{name}.png" for name in names], make)
    common = [f"--data_root={tmp_path / 'd'}", "--width=4", "--size=32", "--max_steps=1"]
    assert train(*common, "--method=cyclegan", "--blocks=1", f"--exp_dir={tmp_path / 'a'}") == 0
    assert "1 sources and 1 photos set apart" in capsys.readouterr().out
    assert "too few" in mistake(train, *common, "--method=pix2pix", f"--exp_dir={tmp_path / 'b'}")


# ---- mistakes ----------------------------------------------------------------------------------------


def test_mistakes(train: Train, data: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    bare = tmp_path / "bare.pt"
    save_torch({"g_ema": load_generator(weights).generator.state_dict()}, bare)
    common = [f"--data_root={data}", f"--stylegan_weights={weights}", f"--exp_dir={tmp_path / 'run'}"]
    for argv, wanted in (
        ([f"--exp_dir={tmp_path / 'file' / 'run'}"], "cannot create folder"),
        (["--data_root=/nowhere"], "/nowhere"),
        ([f"--data_root={tmp_path / 'file'}"], "file"),
        (["--stylegan_weights=/none.pt"], "does not exist"),
        ([f"--stylegan_weights={tmp_path / 'file'}"], "damaged"),
        (["--output_size=1024"], "makes 32 px"),
        (["--encoder_type=Nothing"], "GradualStyleEncoder"),
        (["--learn_in_w", "--encoder_type=GradualStyleEncoder"], "--learn_in_w needs"),
        ([f"--stylegan_weights={bare}", "--use_latent_mask"], "photo encoder"),
        (["--use_latent_mask", "--latent_mask=7-20"], "20"),
        (["--precision=fp16"], "--precision fp16 needs a GPU"),
        (["--device=gpu"], "--device"),
        ([f"--irse50_weights={weights}"], "irse50_weights"),
        (["--method=stylegan2", "--size=16"], "--size 16"),
        (["--method=stylegan2", "--size=100"], "power of two"),
    ):
        assert wanted in mistake(train, *common, *argv), argv


def test_a_mistake_is_one_line_and_status_2(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, root / "scripts/train.py", "--batch_size=0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("error: --batch_size 0") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_dry_run_writes_nothing(train: Train, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(f"--data_root={data}", f"--exp_dir={tmp_path / 'run'}", "--dry_run") == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["l2_lambda"] == 1.0
    assert "train: 5 pairs" in out and "test: 2 pairs" in out
    assert not (tmp_path / "run").exists()


def test_no_more_loader_processes_than_cores(capsys: pytest.CaptureFixture[str]) -> None:
    """Without torch's long warning, which every loader gives."""
    cores = loader_processes("workers", 10_000)
    assert 1 <= cores < 10_000 and capsys.readouterr().out == f"--workers 10000: {cores} are used, one for each core\n"
    assert loader_processes("workers", 1) == 1 and not capsys.readouterr().out


def test_epochs_hold_what_the_weights_say(
    train: Train, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "w.json"
    path.write_text('{"a*": 4}')
    arguments = ["--data_root", data, "--exp_dir", tmp_path / "run", "--max_steps=99", "--epochs=3", "--dry_run"]
    assert train(*arguments) == 0
    assert '"max_steps": 8' in capsys.readouterr().out  # 3 epochs of 5 images in batches of 2
    assert train(*arguments, "--sample_weights", path) == 0
    assert '"max_steps": 12' in capsys.readouterr().out  # 8 images
