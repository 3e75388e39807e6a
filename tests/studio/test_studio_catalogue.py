"""The model menu: bundled tasks, checkpoints of every method, CycleGAN in both directions, an enhancer if any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_public as public
import tiny_studio as tiny
import torch
from PIL import Image
from tiny_image_gans import cyclegan, pix2pix
from tiny_models import save_tiny
from tiny_studio import good, refused

from psp.commands import studio as command
from psp.errors import UserError
from psp.studio import enhancing
from psp.studio.catalogue import bundled_entries, checkpoint_entries, open_models
from psp.studio.psp_model import PspModel
from psp.studio.service import Studio
from psp.weights.places import BUNDLED


def client(paths: list[Path], **options: Any) -> tuple[Any, Studio]:
    from psp.studio.app import create_app

    studio = tiny.studio(entries=checkpoint_entries([str(path) for path in paths], "cpu", **options))
    studio.shelf.look_ahead()
    return create_app(studio).test_client(), studio


def listed(client: Any) -> dict[str, dict[str, Any]]:
    return {model["id"]: model for model in good(client.get("/api/models"))["models"]}


def test_the_bundled_models_are_offered_once_each() -> None:
    entries = bundled_entries("cpu")
    assert len(entries) == len(set(BUNDLED.values())) and {entry.input for entry in entries} == {"sketch", "labels"}
    assert all(entry.state == "cold" and not entry.eager for entry in entries)


def test_a_psp_checkpoint_and_a_model_folder(tmp_path: Path) -> None:
    save_tiny(tmp_path / "mine.pt")
    made, _ = client([tmp_path / "mine.pt"])
    (record,) = listed(made).values()
    assert (record["title"], record["input"], record["size"], record["state"]) == ("mine", "sketch", 16, "ready")
    good(made.post("/api/generate", **tiny.form(image=tiny.drawing(1), n=2)))


def test_models_of_files_are_called_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    paths = [save_tiny(path) for path in (tmp_path / "a.pt", tmp_path / "b:2.pt", tmp_path / "other" / "a.pt")]
    paths.append(cyclegan(tmp_path / "b.pt"))
    keys = ["file-a", "file-b-2", "file-a-2", "file-b"]
    assert [entry.key for entry in checkpoint_entries([str(path) for path in paths], "cpu")] == keys
    assert [entry.key for entry in checkpoint_entries([str(path) for path in paths[:0:-1]], "cpu")] == [
        "file-b", "file-a", "file-b-2",
    ]  # fmt: skip
    made, _ = client(paths)
    assert list(listed(made)) == [*keys, "file-b:2"]


def test_a_cyclegan_is_offered_in_both_directions(tmp_path: Path) -> None:
    made, _ = client([cyclegan(tmp_path / "two_ways.pt")])
    models = listed(made)
    assert [(m["title"], m["input"], m["output"]) for m in models.values()] == [
        ("two_ways", "sketch", "face"), ("two_ways", "photo", "sketch"),
    ]  # fmt: skip
    there, back = models
    face = good(made.post("/api/generate", **tiny.form(model=there, image=tiny.drawing(1), n=4)))["pictures"]
    sketch = good(made.post("/api/generate", **tiny.form(model=back, image=tiny.photo(1))))["pictures"]
    assert len(face) == len(sketch) == 1 and "latent" not in face[0]
    assert not np.array_equal(tiny.picture(face[0]), tiny.picture(sketch[0]))


def test_pix2pix_and_public_files(tmp_path: Path) -> None:
    torch.save(public.unet(7, "batch"), tmp_path / "latest_net_G.pth")
    made, _ = client([pix2pix(tmp_path / "p.pt"), tmp_path / "latest_net_G.pth"], task="celebs_sketch_to_face")
    for key, record in listed(made).items():
        assert record["state"] == "ready" and record["features"] == [] and record["layers"] == 0
        good(made.post("/api/generate", **tiny.form(model=key, image=tiny.drawing(1))))
    npy = tiny.form(model="file-p", latent=_code())
    assert "no latents" in refused(made.post("/api/generate", **npy), 400)


def _code() -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, np.zeros((6, 8), np.float32))
    return file.getvalue()


def test_files_that_are_none_are_named_without_their_folder(tmp_path: Path) -> None:
    (tmp_path / "broken.pt").write_bytes(b"broken")
    torch.save(public.unet(7, "batch"), tmp_path / "unknown.pth")
    made, _ = client([tmp_path / "broken.pt", tmp_path / "unknown.pth", save_tiny(tmp_path / "fine.pt")])
    models = list(listed(made).values())
    assert [model["state"] for model in models] == ["failed", "failed", "ready"]
    assert "broken.pt" in models[0]["error"] and "trained for" in models[1]["error"]
    assert all(str(tmp_path) not in str(model) and "--" not in str(model) for model in models)
    with pytest.raises(UserError, match="nothing.pt does not exist; check --checkpoint_path"):
        checkpoint_entries([str(tmp_path / "nothing.pt")], "cpu")


def test_a_checkpoint_that_does_not_say_its_task_is_known_by_its_channels(tmp_path: Path) -> None:
    for task in ("celebs_sketch_to_face", "celebs_seg_to_face", "ffhq_encode"):
        path = save_tiny(tmp_path / f"{task}.pt", task)
        content = torch.load(path, weights_only=True)
        del content["opts"]["dataset_type"]
        torch.save(content, path)
        (model,) = open_models(path, "cpu")
        assert isinstance(model, PspModel) and model.task.name == task


def test_an_enhancer_is_found_by_its_published_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSP_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setitem(enhancing.PACKAGES, "gfpgan", "json")  # a package that is there
    assert enhancing.find_enhancer("cpu") is None
    (tmp_path / "GFPGANv1.4.pth").write_bytes(b"weights")
    found = enhancing.find_enhancer("cpu")
    assert found is not None and (found.name, Path(found.path).name) == ("gfpgan", "GFPGANv1.4.pth")
    with pytest.raises(UserError):
        found(Image.new("RGB", (8, 8)))
    monkeypatch.setitem(enhancing.PACKAGES, "gfpgan", "no_such_package")
    assert enhancing.find_enhancer("cpu") is None


def test_weights_of_no_enhancer_are_refused() -> None:
    with pytest.raises(UserError, match="--enhance_weights does nothing without --enhance gfpgan"):
        command.tools(command.build_parser().parse_args(["--enhance_weights=x.pth"]), {})


def test_an_enhancer_is_read_once_and_its_failures_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def load(name: str, path: str, device: object) -> Any:
        calls.append(name)
        return lambda pixels: (255 - pixels, np.array([pixels.mean() < 200]))

    monkeypatch.setattr("psp.inference.enhance.load_enhancer", load)
    enhancer = enhancing.LazyEnhancer("gfpgan", "x.pth", "cpu")
    dark, light = Image.new("RGB", (4, 4), (9, 9, 9)), Image.new("RGB", (4, 4), "white")
    assert np.asarray(enhancer(dark)).mean() == 246
    with pytest.raises(UserError, match="the enhancer's result is not finite"):
        enhancer(light)
    assert calls == ["gfpgan"]
