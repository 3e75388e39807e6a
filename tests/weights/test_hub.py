"""Models as folders in the Hugging Face manner: the same outputs to the last bit, local, offline, and never a hole."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import tiny_training as tiny
import torch
import yaml
from child_processes import run_code, run_script
from huggingface_hub import errors
from tiny_checkpoints import outputs, refused

from psp.inference.editor import Editor
from psp.models.psp import PSP
from psp.weights.code_space import CodeSpace, mark_of, save_code_space
from psp.weights.formats import read_weights
from psp.weights.hub import from_pretrained, save_pretrained
from psp.weights.load import load_generator, load_model


@pytest.fixture
def psp() -> PSP:
    return tiny.model(photo_encoder=True, config={"mine": {"a": [1, None]}, "generator": "g.safetensors"}).eval()


@pytest.fixture
def folder(psp: PSP, tmp_path: Path) -> Path:
    return save_pretrained(psp, tmp_path / "model")


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


# ---- local folders -----------------------------------------------------------------------------------


def test_round_trip_is_exact(psp: PSP, folder: Path) -> None:
    assert sorted(os.listdir(folder)) == ["README.md", "config.json", "model.safetensors"]
    loaded = from_pretrained(folder)
    assert torch.equal(outputs(loaded), outputs(psp)) and not loaded.training
    photos = torch.rand(2, 3, 16, 16)
    assert torch.equal(loaded.style_of(photos), psp.style_of(photos))
    assert loaded.task == psp.task and loaded.config["mine"] == {"a": [1, None]}
    assert "generator" not in loaded.config  # it is in the file
    again = save_pretrained(loaded, folder.with_name("again"))
    assert (again / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    one, other = (read_weights(path).tensors for path in (folder, again))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_config_says_what_the_model_is(psp: PSP, folder: Path) -> None:
    assert config_of(folder) == {
        "dataset_type": "celebs_sketch_to_face", "encoder_type": "CompactStyleEncoder", "input_nc": 1, "label_nc": 1,
        "output_size": 16, "n_styles": 6, "start_from_latent_avg": True, "mine": {"a": [1, None]},
    }  # fmt: skip
    psp.config |= {"output_size": 1024, "n_styles": 18, "input_nc": None}  # what a changed model said once
    other = save_pretrained(psp, folder.with_name("other"), card=False)
    assert config_of(other) == config_of(folder) and not (other / "README.md").exists()
    psp.config["path"] = Path("x")
    assert "path" in refused(lambda: save_pretrained(psp, folder.with_name("third")))
    assert not folder.with_name("third").exists()


@pytest.mark.parametrize("start", [True, False])
def test_average_and_task_of_the_model_as_it_is(start: bool, tmp_path: Path) -> None:
    model = tiny.model("celebs_seg_to_face", start_from_latent_avg=start, config={"start_from_latent_avg": not start})
    loaded = from_pretrained(save_pretrained(model, tmp_path))
    assert loaded.start_from_latent_avg == start and torch.equal(loaded.latent_avg, model.latent_avg)
    assert loaded.task is not None and loaded.task.name == "celebs_seg_to_face"


def test_less_precision(psp: PSP, folder: Path) -> None:
    for dtype, tolerance in ((torch.float16, 0.02), (torch.bfloat16, 0.3)):
        half = save_pretrained(psp, folder.with_name(str(dtype)), dtype=dtype)
        assert (half / "model.safetensors").stat().st_size < 0.65 * (folder / "model.safetensors").stat().st_size
        difference = (outputs(from_pretrained(half)) - outputs(psp)).abs().max()
        assert 0 < difference < tolerance * outputs(psp).abs().max()
    with torch.no_grad():
        psp.decoder.conv1.conv.weight[0, 0, 0, 0, 0] = 1e6
    where = folder.with_name("too large")
    assert "conv1.conv.weight" in refused(lambda: save_pretrained(psp, where, dtype=torch.float16))
    assert not where.exists()


def test_card_is_one_that_the_hub_reads_and_is_never_replaced(psp: PSP, folder: Path) -> None:
    card = (folder / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "other" and header["pipeline_tag"] == "image-to-image"
    assert {"pixel2style2pixel", "celebs_sketch_to_face"} <= set(header["tags"])
    assert "16 px, 6 styles of 16" in card and "sketch or drawing -> face" in card
    huggingface_hub.ModelCard(card)
    (folder / "README.md").write_text("my own words")
    save_pretrained(psp, folder)
    assert (folder / "README.md").read_text() == "my own words"


def test_scripts_and_loaders_take_the_folder(psp: PSP, folder: Path, root: Path) -> None:
    assert torch.equal(outputs(load_model(str(folder))), outputs(psp))
    assert load_generator(folder).generator.size == 16
    sketch = root / "examples" / "sketches" / "female_1.jpg"
    flags = ["--checkpoint_path", folder, "--data_path", sketch, "--exp_dir", folder.parent / "out"]
    done = run_script("inference", *flags, folder=folder)
    assert done.returncode == 0, done.stderr
    record = json.loads((folder.parent / "out" / "inference.json").read_text())
    assert set(record["settings"]["model"]) == {"model.safetensors", "config.json"}


def test_weights_files_and_options(folder: Path) -> None:
    model = from_pretrained(folder / "model.safetensors", task="cufs_sketch_to_face", device="cpu")
    assert model.task is not None and model.task.name == "cufs_sketch_to_face"
    assert "trained for" in refused(lambda: from_pretrained(folder, task="celebs_seg_to_face"))
    assert "revision" in refused(lambda: from_pretrained(folder, revision="main"))


def test_folders_that_hold_no_model(folder: Path, tmp_path: Path) -> None:
    assert "without model.safetensors" in refused(lambda: from_pretrained(tmp_path))
    for missing in ("nothing", "./nothing/here", "nothing.pt", "some/file.pt", "a/b/c"):
        assert "does not exist" in refused(lambda missing=missing: from_pretrained(missing))
    assert "cannot read" in refused(lambda: from_pretrained("x" * 300))
    (folder / "config.json").unlink()  # the file has its options inside as well
    assert from_pretrained(folder).config["mine"] == {"a": [1, None]}
    (folder / "model.safetensors").write_bytes(b"<html>")
    assert "web page" in refused(lambda: from_pretrained(folder))


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ("[1]", "config.json: its options are a list"), ("{", "config.json is malformed or damaged"),
        ('{"a":' * 100_000, "damaged"),
        ('{"output_size": 1048576}', "output_size"), ('{"output_size": true}', "output_size"),
        ('{"input_nc": 1e9}', "input_nc"), ('{"encoder_type": "os.system"}', "os.system"),
        ('{"n_styles": 18}', "n_styles"), ('{"label_nc": -1}', "label_nc"), ('{"latent_mask": [8]}', "latent_mask"),
        (json.dumps({"many": list(range(20_000))}), "absurdly"), (json.dumps({"text": "x" * 20_000}), "text"),
        ('{"big": 1' + "0" * 30 + "}", "big"), ('{"start_from_latent_avg": "no"}', "start_from_latent_avg"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)  # fmt: skip
def test_hostile_configs_are_refused(config: str | bytes, wanted: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(config if isinstance(config, bytes) else config.encode())
    assert wanted in refused(lambda: from_pretrained(folder))


def test_configs_that_are_no_files(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert "regular file" in refused(lambda: from_pretrained(folder))
    (folder / "config.json").unlink()
    with open(folder / "config.json", "wb") as file:
        file.truncate(40 << 20)
    assert "larger than" in refused(lambda: from_pretrained(folder))


def test_folders_that_cannot_be_written(psp: PSP, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot create" in refused(lambda: save_pretrained(psp, folder / "README.md" / "x"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left" in refused(lambda: save_pretrained(psp, folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_is_known_of_the_codes_goes_along(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    space = CodeSpace({"smile": torch.ones(model.style_dim)}, mark=mark_of(model.decoder))
    save_code_space(space, folder / "model_codes.safetensors")
    again = save_pretrained(model, tmp_path / "again", dtype=torch.float16)
    assert Editor(load_model(again)).names == ["smile"]


# ---- the Hub -----------------------------------------------------------------------------------------


def test_repositories_are_fetched_as_safetensors_and_json(
    folder: Path, psp: PSP, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def snapshot(repo: str, **options: Any) -> str:
        asked.append((repo, options))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    loaded = from_pretrained("owner/name.v1", revision="v2", local_files_only=True)
    assert torch.equal(outputs(loaded), outputs(psp))
    patterns = ["model.safetensors", "config.json", "model_codes.safetensors"]
    assert asked == [("owner/name.v1", {"revision": "v2", "allow_patterns": patterns, "local_files_only": True})]
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name").symlink_to(folder)
    from_pretrained("owner/name")  # a folder of that name comes first
    assert len(asked) == 1
    (folder / "model.safetensors").unlink()
    assert "no model.safetensors" in refused(lambda: from_pretrained("owner/other"))


def error(kind: type[Exception]) -> Exception:
    """One of the Hub's errors, without the answer that its constructor wants."""
    made = kind.__new__(kind)
    made.args = ("404 Client Error.\n\nRequest ID: x",)
    return made


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: error(errors.RepositoryNotFoundError), "no such repository"),
        (lambda: error(errors.GatedRepoError), "asks for consent"),
        (lambda: error(errors.RevisionNotFoundError), "no revision 'v9'"),
        (lambda: error(errors.LocalEntryNotFoundError), "cannot be reached"),
        (lambda: error(errors.OfflineModeIsEnabled), "switched off"),
        (lambda: error(errors.HFValidationError), "owner/name"),
        (lambda: error(errors.HfHubHTTPError), "HfHubHTTPError: 404 Client Error. Request ID: x"),
        (lambda: OSError(28, "No space left on device"), "No space left"),
        (lambda: RuntimeError("what\never"), "RuntimeError: what ever"),
    ],
)
def test_the_hubs_errors_are_one_line(
    make: Callable[[], Exception], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snapshot(repo: str, **options: Any) -> str:
        raise make()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    message = refused(lambda: from_pretrained("no/such", revision="v9"))
    assert wanted in message and "no/such" in message


def test_offline_is_one_line_and_asks_nobody(tmp_path: Path) -> None:
    code = (
        "import socket\n"
        "def nobody(*a, **k): raise SystemExit('the network was asked')\n"
        "socket.getaddrinfo = socket.create_connection = nobody\n"
        "from psp.errors import UserError\nimport psp\n"
        "try: psp.load('no/such')\nexcept UserError as error: print(error)"
    )
    done = run_code(code, env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)})
    assert done.returncode == 0 and "switched off" in done.stdout and done.stdout.count("\n") == 1, done.stderr


def test_the_library_loads_without_huggingface_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert from_pretrained(folder).output_size == 16
    assert "pip install huggingface-hub" in refused(lambda: from_pretrained("no/such"))
