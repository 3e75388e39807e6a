"""The page without a server in a real browser: faces from static files, equal to the server's, with the network cut.

Needs npm, Playwright's Python package, a Chromium, and what `psp export` needs. Run with `python -m pytest -m browser`.
"""

from __future__ import annotations

import functools
import http.server
import io
import shutil
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_browser import Studio, browser, needs_chromium, oval  # noqa: F401

from psp.commands import web
from psp.errors import UserError
from psp.images.preprocess import described_pixels
from psp.studio.models import Ask
from psp.studio.psp_model import PspModel
from psp.tasks import get_task
from psp.weights.load import load_model

pytestmark = [pytest.mark.browser, needs_chromium, pytest.mark.timeout(1800)]
for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed (pip install {package})")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("npm") is None:
        pytest.skip("no npm here")
    out = tmp_path_factory.mktemp("page") / "web"
    try:
        assert web.main([str(out)]) == 0
    except UserError as error:
        if "npm could not fetch" in str(error):
            pytest.skip(str(error))
        raise
    return out


@pytest.fixture(scope="module")
def static(folder: Path) -> Iterator[tuple[str, http.server.ThreadingHTTPServer]]:
    """What `python -m http.server` is."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}/", server
    server.shutdown()


@pytest.fixture
def page(browser: Any, static: tuple[str, Any]) -> Iterator[Studio]:  # noqa: F811
    made = Studio(browser, static[0])
    yield made
    made.context.close()
    assert made.problems == []
    assert [url for url in made.requests if not url.startswith((static[0], "data:", "blob:"))] == []
    assert not [url for url in made.requests if "/api/" in url]


STATES = """async () => {
  const { get } = await import(new URL("static/api.js", location.href).href);
  return (await get("api/models")).models.map(({ state }) => state);
}"""


def server_face(task: str, picture: Image.Image, **wishes: Any) -> np.ndarray:
    model = PspModel(load_model(task=task))
    (made, *_) = model.generate(Ask(source=picture, **wishes), lambda: None)
    return np.asarray(made.image)


def test_a_drawing_becomes_the_servers_face_and_the_network_can_go(page: Studio) -> None:
    started = time.monotonic()
    page.stroke("#sketch", oval(128, 138, 60, 84))
    page.settle()
    print(f"first face after {time.monotonic() - started:.1f} s")
    while set(page.page.evaluate(STATES)) != {"ready"}:  # the other model is read when there is nothing else to do
        page.page.wait_for_timeout(200)
    page.settle()
    page.context.set_offline(True)
    page.stroke("#sketch", oval(128, 120, 90, 100))
    page.settle()
    page.page.click("#more summary")
    page.page.fill("#seed", "77")
    page.page.press("#seed", "Enter")
    page.settle()
    drawing = Image.open(io.BytesIO(saved_sketch(page))).convert("L")
    assert np.asarray(drawing).min() < 100
    wanted = server_face("celebs_sketch_to_face", drawing, seed=77)
    assert np.abs(page.face().astype(int) - wanted).mean() <= 2
    other = server_face("celebs_sketch_to_face", drawing, seed=78)
    assert np.abs(page.face().astype(int) - other).mean() > 2  # the comparison can fail
    page.page.fill('[data-setting="middle"]', "1")
    page.settle()
    people = server_face("celebs_sketch_to_face", drawing, seed=77, vary="people", strengths=(0.0, 1.0, 1.0))
    assert np.abs(page.face().astype(int) - people).mean() <= 2
    assert np.abs(people.astype(int) - wanted).mean() > 2
    page.page.click("#tab-labels")  # the other model is there as well
    page.stroke("#labels", oval(128, 120, 60, 60))
    page.settle()
    assert page.face().std() > 5
    page.context.set_offline(False)
    assert all("ERR_INTERNET_DISCONNECTED" in problem for problem in page.problems)
    page.problems.clear()  # thumbnails of examples, which were never looked at before


def saved_sketch(page: Studio) -> bytes:
    """sketch.png of the project: what the page shows the model."""
    page.page.click("#project-menu summary")
    with page.page.expect_download() as started:
        page.page.click("#project-save")
    with zipfile.ZipFile(started.value.path()) as archive:
        return archive.read("sketch.png")


def test_areas_mixing_four_faces_and_what_lies_between(page: Studio) -> None:
    page.page.click("#tab-labels")
    page.page.click("#empty-examples button")
    page.settle()
    page.page.click('#count [data-value="4"]')
    page.settle()
    faces = page.faces()
    assert len({face.tobytes() for face in faces}) == 4 and min(face.std() for face in faces) > 10
    page.page.click("#grid button:nth-child(1)")
    page.page.click("#set-a")
    page.page.click("#grid button:nth-child(2)")
    page.page.click("#set-b")
    page.settle()
    page.page.wait_for_function("() => document.querySelectorAll('#grid img').length === 1")
    middle = page.face().astype(int)
    assert np.abs(middle - faces[0]).mean() > 0.5 and np.abs(middle - faces[1]).mean() > 0.5
    page.page.click("#tab-sketch")


def test_a_photo_is_refused_in_one_sentence(page: Studio, root: Path) -> None:
    page.page.set_input_files("#file", str(next((root / "examples" / "photos").glob("*.jpg"))))
    page.page.wait_for_selector(".toast")
    page.page.wait_for_function("() => document.querySelector('.toast:last-child p').textContent.includes('photo')")
    assert "only drawings and label maps" in page.toast()
    page.settle()


def test_photographed_paper_becomes_a_drawing_on_white(page: Studio, root: Path, tmp_path: Path) -> None:
    sketch = np.asarray(Image.open(root / "examples" / "drawn" / "simple_face.png").convert("L").resize((480, 480)))
    light = np.linspace(0.85, 0.5, 480)
    warm = np.stack([sketch * light * tint for tint in (1.0, 0.93, 0.78)], axis=-1).astype(np.uint8)
    Image.fromarray(warm).save(tmp_path / "paper.png")
    page.page.set_input_files("#file", str(tmp_path / "paper.png"))
    page.page.wait_for_function("() => document.querySelector('#source-words').textContent.includes('paper.png')")
    page.settle()
    assert page.page.is_hidden("#source-reading")  # there is nothing else that it could be read as
    shown = np.asarray(Image.open(io.BytesIO(saved_sketch(page))).convert("L")).astype(int)
    wanted, steps = described_pixels(Image.fromarray(warm), get_task("celebs_sketch_to_face"))
    assert steps == ["paper made white"] and np.abs(shown - wanted).mean() < 0.5


def test_without_webassembly_the_page_says_so(browser: Any, static: tuple[str, Any]) -> None:  # noqa: F811
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("delete globalThis.WebAssembly")
    page.goto(static[0])
    page.wait_for_selector(".toast")
    assert "no WebAssembly" in page.inner_text(".toast:last-child p")
    context.close()


def test_the_folder_is_small_and_strict(folder: Path) -> None:
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert total <= 40_000_000
    assert "Content-Security-Policy" in (folder / "index.html").read_text()
    # two encoders, one mapping, one generator, and what is known about the codes of either task
    assert len(list((folder / "models").iterdir())) == 6
