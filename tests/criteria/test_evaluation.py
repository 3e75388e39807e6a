"""Measuring: what is read, what is kept, and that neither batches nor stops change a number."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_models import drawing, fill_folder, photo

from criteria.dlib_resnet import DlibFaceResNet
from criteria.evaluation import report
from criteria.evaluation.cache import Cache, content_key
from criteria.evaluation.examples import Example, Reader
from criteria.evaluation.measurements import Measurement, identity_distance, in_fixed_batches, pixel_errors
from criteria.evaluation.registry import METRICS, Chosen, Setup, choose, parse_metrics
from criteria.evaluation.run import measure
from psp.errors import UserError
from psp.images.sources import open_source

CPU = torch.device("cpu")
NAMES = [f"{k}.png" for k in range(5)]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    fill_folder(tmp_path / "result", NAMES, photo)
    fill_folder(tmp_path / "target", NAMES, lambda k: photo(k + 100))
    return Reader({role: open_source(tmp_path / role) for role in ("result", "target")})


def examples(*roles: str) -> list[Example]:
    return [{role: name for role in roles} for name in NAMES]


# --- reading ------------------------------------------------------------------------------------------------------


def test_everything_is_brought_to_the_result_s_shape(tmp_path: Path) -> None:
    photo(0, 40).save(tmp_path / "r.png")
    photo(1, 200).crop((0, 0, 200, 120)).save(tmp_path / "t.png")
    drawing(2, 90).save(tmp_path / "s.png")
    strip = Image.new("RGB", (160, 40))
    strip.paste((255, 0, 0), (0, 0, 40, 40))
    strip.paste((0, 255, 0), (40, 0, 160, 40))
    strip.save(tmp_path / "m.png")
    images = {role: open_source(tmp_path) for role in ("result", "target", "source", "mixed")}
    example = {"result": "r.png", "target": "t.png", "source": "s.png", "mixed": "m.png"}
    pixels = Reader(images).read(example)
    assert {role: array.shape for role, array in pixels.items()} == {
        "result": (40, 40, 3), "target": (40, 40, 3), "source": (256, 256), "mixed": (3, 40, 40, 3)
    }  # fmt: skip
    middle = Image.open(tmp_path / "t.png").crop((40, 0, 160, 120)).resize((40, 40), Image.Resampling.BILINEAR)
    assert (pixels["target"] == np.asarray(middle)).all(), "cut around the centre, then made smaller"
    assert (pixels["mixed"] == (0, 255, 0)).all(), "the input at the strip's start is no variant"
    assert Reader(images, size=32).read(example)["target"].shape == (32, 32, 3)
    with pytest.raises(UserError, match=r"r\.png: 40x40 is no strip"):
        Reader(images).read({"result": "r.png", "mixed": "r.png"})


def test_shapes_that_are_not_square_stay_and_large_ones_shrink(tmp_path: Path) -> None:
    photo(0, 300).resize((400, 500)).save(tmp_path / "a.png")
    images = {role: open_source(tmp_path) for role in ("result", "target")}
    pixels = Reader(images).read({"result": "a.png", "target": "a.png"})
    assert pixels["result"].shape == (256, 205, 3) and (pixels["result"] == pixels["target"]).all()


def test_label_maps_keep_their_ids(tmp_path: Path) -> None:
    ids = np.kron(np.arange(16).reshape(4, 4), np.ones((32, 32))).astype(np.uint8)
    Image.fromarray(ids).save(tmp_path / "a.png")
    images = {role: open_source(tmp_path) for role in ("result", "source")}
    example = {"result": "a.png", "source": "a.png"}
    source = Reader(images, source_kind="labels").read(example)["source"]
    assert source.shape == (256, 256) and set(np.unique(source)) == set(range(16))
    Image.fromarray(ids + 10).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="out of range"):
        Reader(images, source_kind="labels").read(example)


# --- measuring ----------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_no_number_depends_on_the_batch(tmp_path: Path, reader: Reader) -> None:
    setup = Setup(CPU, frozenset(("result", "target")))
    chosen = choose(["mse", "psnr", "ssim", "l2_norm", "lpips_alex", "id_distance"], setup)
    found = []
    for batch in (1, 2, 3, 7):
        cache = Cache(tmp_path / f"{batch}.sqlite")
        measurements = list(chosen.measurements.values())
        measured = measure(examples("result", "target"), reader, measurements, cache, batch_size=batch)
        cache.close()
        found.append(report.columns(chosen.metrics, measured))
    for other in found[1:]:
        assert all((other[name] == found[0][name]).all() for name in found[0])
    a, b = (np.asarray(photo(k)).astype(float) for k in (0, 100))
    assert found[0]["mse"][0] == pytest.approx(((a - b) ** 2).mean())
    assert found[0]["l2_norm"][0] == pytest.approx(np.linalg.norm(a - b))


def test_fixed_batches_fill_up_the_last_one() -> None:
    sizes = []

    def function(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return x.sum(1)

    found = in_fixed_batches(function, torch.arange(6.0).view(3, 2))
    assert found.tolist() == [[1.0], [5.0], [9.0]] and set(sizes) == {1}


def test_what_was_measured_is_kept_by_content_and_settings(tmp_path: Path, reader: Reader) -> None:
    calls: list[int] = []

    def mean(version: int) -> Measurement:
        def function(pixels: dict[str, np.ndarray]) -> np.ndarray:  # type: ignore[type-arg]
            calls.append(len(pixels["result"]))
            return pixels["result"].mean((1, 2, 3), dtype=np.float64)[:, None] * version

        return Measurement("mean", ("result",), function, {"version": version})  # type: ignore[arg-type]

    def run(version: int, names: list[str] = NAMES) -> np.ndarray:
        cache = Cache(tmp_path / "c.sqlite")
        wanted = [example for example in examples("result") if example["result"] in names]
        measured = measure(wanted, reader, [mean(version)], cache, batch_size=2)
        cache.close()
        assert measured.names == names
        return measured.numbers["mean"][:, 0]

    first = run(1, NAMES[:3])
    assert sum(calls) == 3
    every = run(1)
    assert sum(calls) == 5 and (every[:3] == first).all(), "only what is new is measured"
    photo(77).save(reader.images["result"].path / "0.png")
    assert run(1)[0] != every[0] and sum(calls) == 6, "a changed picture is measured again"
    assert (run(2)[1:] == 2 * every[1:]).all() and sum(calls) == 11, "other settings count as new"


def test_distances_by_other_weights_are_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity_distance(CPU).settings
    tensors = DlibFaceResNet().state_dict()
    save_file(tensors | {"fc.weight": tensors["fc.weight"] * 2}, tmp_path / "dlib_face_resnet.safetensors")
    monkeypatch.setenv("PSP_WEIGHTS_DIR", str(tmp_path))
    assert identity_distance(CPU).settings != before


def test_unreadable_files_are_named_and_left_out(
    tmp_path: Path, reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    (reader.images["target"].path / "2.png").write_bytes(b"\x89PNG nothing")
    cache = Cache(tmp_path / "c.sqlite")
    measured = measure(examples("result", "target"), reader, [pixel_errors(CPU)], cache)
    assert measured.names == ["0.png", "1.png", "3.png", "4.png"] and list(measured.failed) == ["2.png"]
    assert "target/2.png" in measured.failed["2.png"] and "target/2.png" in capsys.readouterr().err
    assert len(measured.numbers["pixels"]) == 4 and measured.shapes == {"64x64": 4}


def test_cache_survives_and_refuses_other_files(tmp_path: Path) -> None:
    key = content_key({"a": 1}, [np.zeros(3, np.uint8)])
    assert key != content_key({"a": 2}, [np.zeros(3, np.uint8)]) != content_key({"a": 2}, [np.zeros((3, 1), np.uint8)])
    cache = Cache(tmp_path / "c.sqlite")
    cache.put({key: np.array([1.5, np.nan])})
    again = Cache(tmp_path / "c.sqlite")
    found = again.get(key)
    assert found is not None and found[0] == 1.5 and np.isnan(found[1]) and again.get(b"other") is None
    (tmp_path / "text").write_text("no database, but long enough to look at" * 10)
    with pytest.raises(UserError, match="--exp_dir"):
        Cache(tmp_path / "text")


# --- choosing and reporting ---------------------------------------------------------------------------------------


def test_metrics_by_name() -> None:
    assert parse_metrics(None) == list(METRICS) == parse_metrics("all")
    assert parse_metrics("SSIM, mse") == ["mse", "ssim"]
    with pytest.raises(UserError, match=r"sim is no metric; choose from mse, psnr"):
        parse_metrics("sim")
    with pytest.raises(UserError, match="nothing is no metric"):
        parse_metrics(",")


def test_what_cannot_be_had_has_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSP_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    chosen = choose(list(METRICS), Setup(CPU, frozenset(("result", "source")), "labels"))
    assert set(chosen.metrics) == {"parser_miou"} and list(chosen.measurements) == ["parsing"]
    assert "--ground_truth" in chosen.unavailable["mse"] and "--mixed" in chosen.unavailable["diversity"]
    assert "for sketch inputs" in chosen.unavailable["edge_f1"]
    chosen = choose(["lpips_vgg", "fid"], Setup(CPU, frozenset(("result", "target"))))
    assert not chosen.metrics and not chosen.measurements
    assert "vgg16_features.safetensors" in chosen.unavailable["lpips_vgg"]
    assert "pt_inception-2015-12-05-6726825d.pth" in chosen.unavailable["fid"]


def summary_of(name: str, numbers: dict[str, np.ndarray]) -> dict[str, object]:
    metric = METRICS[name]
    measured = measured_with(numbers)
    chosen = Chosen({name: metric}, {key: Measurement(key, (), lambda x: x["a"]) for key in metric.measurements})
    return report.summarise(chosen, measured, report.columns(chosen.metrics, measured))[name]


def measured_with(numbers: dict[str, np.ndarray]) -> report.Measured:
    n = len(next(iter(numbers.values())))
    return report.Measured(names=[f"{i}.png" for i in range(n)], numbers=numbers)


def test_equal_images_do_not_break_the_mean_psnr() -> None:
    entry = summary_of("psnr", {"pixels": np.array([[0, np.inf, 1, 0], [1.0, 40.0, 0.9, 9], [1.0, 20.0, 0.9, 9]])})
    assert entry["value"] == 30.0 and entry["n"] == 2 and entry["not_finite"] == 1
    json.dumps(entry, allow_nan=False)


def test_miou_over_the_classes_present() -> None:
    """Class 1: 6 of 8 pixels; class 2: 1 of 4, in the second image only; class 5 is guessed but not there."""
    numbers = np.zeros((2, 57))
    numbers[:, 1] = (2, 4)
    numbers[:, 19 + 1] = (3, 5)
    numbers[:, 38 + 1] = (3, 4)
    numbers[1, 2], numbers[1, 19 + 2], numbers[1, 38 + 2] = 1, 4, 2
    numbers[0, 19 + 5] = 9
    entry = summary_of("parser_miou", {"parsing": numbers})
    assert entry["value"] == pytest.approx((6 / 8 + 1 / 4) / 2)
    classes, images = entry["per_class"], entry["per_image"]
    assert isinstance(classes, dict) and isinstance(images, dict)
    assert images["value"] == pytest.approx((2 / 3 + (4 / 5 + 1 / 4) / 2) / 2)
    assert classes["skin"] == pytest.approx(6 / 8) and classes["l_eye"] is None


def test_set_metrics_count_their_images_or_say_why_not() -> None:
    random = np.random.default_rng(0)
    numbers = {f"features_{role}": random.normal(size=(30, 4)) for role in ("result", "real")}
    for name in ("fid", "kid", "precision", "recall"):
        entry = summary_of(name, numbers)
        assert isinstance(entry["value"], float) and entry["n_results"] == entry["n_real"] == 30
        entry = summary_of(name, {key: value[:1] for key, value in numbers.items()})
        assert entry["value"] is None and "at least" in str(entry["reason"])


def test_verification_and_edges_without_lines() -> None:
    assert summary_of("verification", {"identity": np.array([[0.59], [0.61], [0.2], [0.6]])})["value"] == 0.5
    entry = summary_of("edge_f1", {"edges": np.array([[np.nan] * 3, [0.5, 1.0, 2 / 3]])})
    assert entry["value"] == pytest.approx(2 / 3) and entry["precision"] == 0.5 and entry["not_finite"] == 1


def test_row_and_psp_scores(tmp_path: Path) -> None:
    metrics = {name: METRICS[name] for name in ("lpips_alex", "fid")}
    row = report.markdown("a | b", metrics, {"lpips_alex": {"value": 0.12345}, "fid": {"value": None}}, 3).splitlines()
    assert (
        row[0] == "| results | images | LPIPS (alex) ↓ | Fréchet distance ↓ |"
        and row[2] == "| a \\| b | 3 | 0.1235 | – |"
    )
    values = {"lpips_alex": np.array([0.1, 0.3]), "mse": np.array([127.5**2, 0.0]), "id_distance": np.array([0.6, 0.0])}
    written = report.save_psp_scores(values, ["x/a.jpg", "x/b.jpg"], ["a.png", "b.png"], tmp_path)
    assert sorted(written) == sorted(path.name for path in tmp_path.iterdir())
    assert json.loads((tmp_path / "scores_lpips.json").read_text()) == {"a.jpg": 0.1, "b.jpg": 0.3}
    assert json.loads((tmp_path / "scores_l2.json").read_text()) == {"a.jpg": 1.0, "b.jpg": 0.0}
    assert json.loads((tmp_path / "scores_id.json").read_text()) == {"a.png": 0.5, "b.png": 1.0}
    assert (tmp_path / "stat_lpips.txt").read_text() == "Average loss is 0.20+-0.10"
    assert (tmp_path / "stat_id.txt").read_text() == "New Average score is 0.75+-0.25"


def test_mean_is_exact() -> None:
    values = np.array([1e16, 1.0, -1e16, 3.0])
    assert report.mean_std(values)[0] == 1.0 and math.isclose(report.mean_std(np.array([1.0, 3.0]))[1], 1.0)
