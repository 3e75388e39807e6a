"""What makes results others, and what is refused because it would change nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import drawing, fill_folder, labels, save_tiny, tiny_psp

from psp.errors import UserError
from psp.images.preprocess import prepare_source
from psp.inference.engine import Engine
from psp.inference.options import parse
from psp.inference.run import translate_folder
from psp.tasks import get_task
from psp.weights.code_space import CodeSpace, beside, mark_of, save_code_space

SKETCH = get_task("celebs_sketch_to_face")


def run(*argv: object, mixing: bool = False) -> int:
    return translate_folder(parse([*map(str, argv), "--device=cpu"], mixing=mixing)).made


def refused(*argv: object, mixing: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        run(*argv, mixing=mixing)
    return str(caught.value)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    fill_folder(tmp_path / "in", ["0.jpg", "1.jpg"], drawing)
    save_tiny(tmp_path / "m.pt")
    return [f"--checkpoint_path={tmp_path / 'm.pt'}", f"--data_path={tmp_path / 'in'}", f"--exp_dir={tmp_path / 'out'}"]


def test_the_numbers_in_a_label_map_file_count(tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["0.png"], labels)
    save_tiny(tmp_path / "m.pt", "celebs_seg_to_face")
    numbers = tmp_path / "my.json"
    numbers.write_text(json.dumps(list(range(19))))
    given = [
        f"--checkpoint_path={tmp_path / 'm.pt'}",
        f"--data_path={tmp_path / 'in'}",
        f"--exp_dir={tmp_path / 'out'}",
    ]
    assert run(*given, f"--label_map={numbers}") == 1
    numbers.write_text(json.dumps([0, *range(18)]))
    assert "another label map" in refused(*given, f"--label_map={numbers}")


def test_what_is_known_of_the_parts_counts(command: list[str], tmp_path: Path) -> None:
    model = tiny_psp()
    space = CodeSpace(parts=torch.eye(model.style_dim)[:2], mark=mark_of(model.decoder))
    assert run(*command, "--vary=people") == 2
    save_code_space(space, beside(tmp_path / "m.pt"))
    assert "parts" in refused(*command, "--vary=people")
    space.mark = torch.randn(len(mark_of(model.decoder)))
    save_code_space(space, beside(tmp_path / "m.pt"))
    assert "belongs to another generator" in refused(*command, "--vary=people")


def test_no_code_depends_on_its_neighbours() -> None:
    engine = Engine(tiny_psp())
    sketches = torch.rand(3, 1, 256, 256)
    assert torch.equal(engine.encode(sketches), torch.cat([engine.encode(one[None]) for one in sketches]))


@pytest.mark.parametrize("flag", ["--mix_alpha=0.3", "--directions=smile.safetensors"])
def test_flags_without_effect(flag: str, command: list[str]) -> None:
    assert "changes nothing without" in refused(*command, flag)


@pytest.mark.parametrize(("mixing", "more"), [(True, []), (False, ["--style_seed=1"]), (False, ["--vary=colours"])])
def test_directions_without_edits_beside_styles(command: list[str], mixing: bool, more: list[str]) -> None:
    said = refused(*command, *more, "--directions=smile.safetensors", mixing=mixing)
    assert said == "--directions changes nothing without --edit or --follow; add that, or leave it out"


@pytest.mark.parametrize("name", ["data_path", "checkpoint_path"])
def test_an_empty_path_is_no_default(name: str, command: list[str]) -> None:
    assert refused(*command, f"--{name}=") == f"--{name} is empty; give a path, or leave the flag out"


def test_strips_wider_than_a_jpeg_are_refused_at_once(command: list[str], tmp_path: Path) -> None:
    wide = [*command, "--n_outputs_to_generate=300", "--resize_outputs"]
    assert "300 faces of 256 px in a row are wider than a JPEG can be" in refused(*wide, mixing=True)
    assert not (tmp_path / "out").exists(), "before the folder is made, locked and given a record"


def test_light_ink_on_a_transparent_ground() -> None:
    ink = 255 - np.asarray(drawing(3, 256).convert("L"))
    chalk = Image.merge("RGBA", [Image.new("L", (256, 256), 255)] * 3 + [Image.fromarray(ink)])
    dark = Image.merge("RGBA", [Image.new("L", (256, 256), 0)] * 3 + [Image.fromarray(ink)])
    assert torch.equal(prepare_source(chalk, SKETCH), prepare_source(dark, SKETCH))
    nothing = Image.new("RGBA", (256, 256), (255, 255, 255, 0))
    assert float(prepare_source(nothing, SKETCH).min()) == 1
