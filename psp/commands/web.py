"""The studio's page as static files, with the bundled models run by the visitor's browser: `psp web`, `make web`."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psp.cli import Parser
from psp.errors import UserError, one_line

if TYPE_CHECKING:
    from psp.models.psp import PSP
    from psp.studio.models import Kind
    from psp.studio.psp_model import PspModel

RUNTIME = "onnxruntime-web@1.30.0"  # MIT
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
FEATURES = ("seed", "styles", "latent", "follow")  # that psp/studio/web/worker.js has
# What browsers are told in place of the server's headers.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
MARK, ORT = "models.json", Path("static", "ort")  # in every folder that the command wrote


def build_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        "Write the studio's page as a folder of static files: the bundled models run in the visitor's browser, and "
        "nothing leaves it. Needs npm, and what psp export needs. Then: python -m http.server --directory OUT",
        prog=prog,
    )
    parser.add_argument("target", metavar="OUT", nargs="?", default="build/web", help="folder (default: %(default)s)")
    parser.add_argument("--dtype", choices=("fp32", "fp16", "int8"), default="fp16", help="what weights are stored as")
    return parser


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """The command; returns the exit status."""
    flags = build_parser(prog).parse_args(argv)
    target = Path(flags.target).expanduser().absolute()
    if target.exists() and not ((target / MARK).is_file() and (target / ORT).is_dir()):
        raise UserError(f"{target} is there, and is no folder that this command wrote", "give another one")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "web"
        runtime = fetch_runtime(Path(folder))
        write_page(page, runtime)
        write_models(page, flags.dtype)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            shutil.rmtree(target)
        shutil.move(page, target)
    total = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"wrote   {target} ({total / 1e6:.1f} MB): python -m http.server --directory {target}")
    return 0


def fetch_runtime(folder: Path) -> Path:
    """The folder of onnxruntime-web's files, unpacked below `folder`. UserError where npm or the network is missing."""
    npm = shutil.which("npm")
    if npm is None:
        raise UserError("npm is missing, which fetches onnxruntime-web", "install Node.js")
    done = subprocess.run([npm, "pack", "--silent", RUNTIME], cwd=folder, capture_output=True, text=True)
    packed = next(folder.glob("*.tgz"), None)
    if done.returncode or packed is None:
        raise UserError(f"npm could not fetch {RUNTIME} ({one_line(done.stderr)[-200:]})", "is there a network?")
    with tarfile.open(packed) as archive:
        for name in RUNTIME_FILES:
            archive.extract(f"package/dist/{name}", folder, filter="data")
    return folder / "package" / "dist"


def write_page(page: Path, runtime: Path) -> None:
    """The studio's files, with the requests to a server replaced by the worker, and the runtime beside it."""
    import psp.studio

    studio = Path(psp.studio.__file__).parent
    shutil.copytree(studio / "static", page / "static")
    for path in (studio / "web").glob("*.js"):
        shutil.copy(path, page / "static")
    (page / ORT).mkdir()
    for name in RUNTIME_FILES:  # some hosts do not know .mjs, and browsers run no module that is sent as something else
        shutil.copy(runtime / name, page / ORT / name.replace(".mjs", ".js"))
    html = (page / "static" / "index.html").read_text(encoding="utf-8")
    (page / "static" / "index.html").unlink()
    head = '<meta charset="utf-8">'
    assert head in html
    policy = f'{head}\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    (page / "index.html").write_text(html.replace(head, policy, 1), encoding="utf-8")


def write_models(page: Path, dtype: str) -> None:
    """The bundled models, what the page asks about them and about the studio, and the examples."""
    from psp.commands.studio import example_files
    from psp.export.graphs import PARTS
    from psp.export.write import export
    from psp.studio.catalogue import bundled_entries
    from psp.studio.inputs import Tools
    from psp.studio.models import Shelf
    from psp.studio.psp_model import PspModel
    from psp.studio.service import Studio
    from psp.weights.places import BUNDLED, read_manifest

    kinds: tuple[Kind, ...] = ("sketch", "labels")
    examples = {kind: example_files(kind) for kind in kinds}
    shelf, records = Shelf(bundled_entries("cpu")), list[dict[str, Any]]()
    manifest, terms = read_manifest(), {f"{RUNTIME}: MIT"}
    shared: dict[str, dict[str, str]] = {}
    (page / "models").mkdir(parents=True)
    for key, entry in shelf.entries.items():
        model, file = shelf.model(key), BUNDLED[key]
        assert isinstance(model, PspModel)
        licence = manifest[file.name].licence
        terms.add(f"models/: {licence}")
        files = dict(shared.get(digest := digest_of(model.model), {}))
        for part in [part for part in PARTS if part not in files]:
            path = page / "models" / f"{key}-{part}.onnx"
            for _, error in export(model.model, {part: path}, dtype=dtype, name=file.name, licence=licence):
                print(f"export  {path.name}, differs by {error}", flush=True)
            files[part] = path.relative_to(page).as_posix()
        shared[digest] = {part: name for part, name in files.items() if part != "encoder"}
        record = {name: value for name, value in entry.record().items() if name not in ("state", "seconds_per_picture")}
        record["features"] = [feature for feature in model.info.features if feature in FEATURES]
        record |= {"files": files, "style_dim": model.model.style_dim, "band_layers": model.bands}
        records.append(record | {"space": write_space(page, f"models/{key}-codes.npy", model)})
    about = Studio(shelf, Tools(examples=examples)).about()
    paths = [path for kind in examples.values() for path in kind]
    for example, path in zip(about["examples"], paths, strict=True):
        example["url"] += path.suffix
        (page / example["url"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, page / example["url"])
    (page / "about.json").write_text(json.dumps(about), encoding="utf-8")
    (page / "LICENCES.txt").write_text("\n".join(sorted(terms)) + "\n", encoding="utf-8")
    (page / MARK).write_text(json.dumps(records), encoding="utf-8")


def write_space(page: Path, name: str, model: PspModel) -> dict[str, Any]:
    """What is known about the model's codes, for psp/studio/web/space.js: tables of D columns in one .npy of that name.

    Returns what says which rows are which, and the numbers that are no rows.
    """
    import numpy as np

    from psp.models.people import FURTHER
    from psp.models.plausible import RADIUS

    tables = {"average": model.model.latent_avg} | {
        f"edit.{name}": model.editor.step(name) for name in model.info.edits
    }
    record: dict[str, Any] = {"file": name, "further": FURTHER}
    if "follow" in model.info.features:
        faces = model.editor.known_faces()
        tables |= {"mean": faces.mean, "axes": faces.axes.flatten(0, 1)}
        record["follow"] = {"layers": faces.layers, "deviations": faces.deviations.tolist(), "radius": RADIUS}
    if model.parts is not None:
        tables |= {"parts": model.parts.axes, "back": model.parts.back.T}
    arrays = {table: tensor.detach().cpu().numpy().astype("<f4") for table, tensor in tables.items()}
    ends = np.cumsum([len(array) for array in arrays.values()]).tolist()
    rows = {table: [end - len(array), end] for (table, array), end in zip(arrays.items(), ends, strict=True)}
    np.save(page / name, np.ascontiguousarray(np.concatenate(list(arrays.values()))))
    return record | {"rows": rows, "count": ends[-1]}


def digest_of(model: PSP) -> str:
    """The same for models whose mapping and generator are the same."""
    bank = [] if model.style_bank is None else [model.style_bank.codes]
    sha = hashlib.sha256()
    for tensor in [*model.decoder.state_dict().values(), model.latent_avg, *bank]:
        sha.update(tensor.detach().cpu().numpy().tobytes())
    return sha.hexdigest()
