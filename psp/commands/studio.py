"""The web studio: `psp studio` and `scripts/studio.py`. Needs no torch for --help."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psp.cli import Parser, at_least
from psp.errors import UserError
from psp.files import checkout
from psp.inference.options import ENHANCERS
from psp.tasks import TASKS, get_task

if TYPE_CHECKING:
    from argparse import Namespace

    import numpy as np
    from PIL.Image import Image

    from psp.studio.inputs import Tools
    from psp.studio.models import Kind

EXAMPLES: dict[Kind, tuple[str, ...]] = {"sketch": ("sketches", "drawn"), "labels": ("labels",), "photo": ("photos",)}


def build_parser(prog: str | None = None) -> Parser:
    text = "Draw or paint in the browser, and see faces as you draw. Without flags: http://localhost:5000."
    parser = Parser(text, prog=prog)
    add = parser.add_argument
    add("--checkpoint_path", nargs="+", default=[], metavar="FILE", help="to offer besides the bundled ones")
    add("--dataset_type", metavar="TASK", help=f"of checkpoints that do not say theirs: {', '.join(TASKS)}")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 lets everybody on the network in")
    add("--port", type=int, default=5000, metavar="N", help="0 takes any that is free")
    add("--allow_host", nargs="+", default=[], metavar="NAME", help="names that a proxy calls this machine by")
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    add("--threads", type=at_least(1), metavar="N", help="CPU threads of the network (default: torch's choice)")
    add("--enhance", choices=ENHANCERS, help="offer to restore faces (default: where weights and spandrel are there)")
    add("--enhance_weights", metavar="FILE", help="the file of that network")
    return parser


def main(
    argv: Sequence[str] | None = None,
    *,
    prog: str | None = None,
    find_tools: Callable[[], dict[str, Any]] = dict,
) -> int:
    """The command; returns when the server has ended.

    find_tools: gives what an installed package lacks, the `sketch_styles` and `cut_face` of `psp.studio.inputs.Tools`.
    """
    flags = build_parser(prog).parse_args(argv)
    if not 0 <= flags.port <= 65535:
        raise UserError(f"--port {flags.port} is out of range", "allowed are 0 to 65535")
    if missing := [name for name in ("flask", "waitress") if importlib.util.find_spec(name) is None]:
        raise UserError(f"the studio needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    from psp.studio.catalogue import bundled_entries, checkpoint_entries

    if flags.dataset_type is not None:
        get_task(flags.dataset_type)
    given = checkpoint_entries(flags.checkpoint_path, flags.device, flags.dataset_type)

    # Before torch is imported: its threads would wait for each other spinning, which beside a busy browser is most of
    # what they would do: 0.43 CPU seconds for a face instead of 0.03, measured on two cores that others used as well.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch

    from psp.device import device_name, pick_device
    from psp.studio.app import create_app
    from psp.studio.guard import address_for_others, host_name
    from psp.studio.models import Shelf
    from psp.studio.server import make_server
    from psp.studio.service import Studio

    if flags.threads:
        torch.set_num_threads(flags.threads)
    device = pick_device(flags.device)
    shelf = Shelf([*given, *bundled_entries(flags.device)], log=functools.partial(print, flush=True))
    studio = Studio(
        shelf,
        tools(flags, find_tools()),
        device=device_name(device),
        allowed_hosts=[name.lower() for name in (host_name(flags.host), *flags.allow_host)],
    )
    if any(entry.eager for entry in given):
        studio.queue.submit(lambda job: shelf.look_ahead())
    server = make_server(create_app(studio), host=flags.host, port=flags.port, limits=studio.limits)
    others = address_for_others(flags.host)
    if others:
        print(
            f"WARNING: --host {flags.host} lets everybody who reaches this machine use the studio, without a password "
            f"and unencrypted: http://{others}:{server.effective_port}",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    shown = others or "localhost"
    print(f"studio  http://{shown}:{server.effective_port}  on {studio.device}; Ctrl-C ends it", flush=True)
    server.run()
    return 0


def tools(flags: Namespace, given: dict[str, Any]) -> Tools:
    """What the studio needs from outside its room, and what is optional."""
    from psp.studio.enhancing import LazyEnhancer, find_enhancer
    from psp.studio.inputs import Tools
    from psp.weights.face_parser import BUNDLED

    if flags.enhance_weights is not None and flags.enhance is None:
        raise UserError(f"--enhance_weights does nothing without --enhance {'|'.join(ENHANCERS)}")
    enhancer = find_enhancer(flags.device)
    if flags.enhance is not None:
        if flags.enhance_weights is None or not Path(flags.enhance_weights).is_file():
            raise UserError(f"--enhance {flags.enhance} needs its file as --enhance_weights FILE")
        enhancer = LazyEnhancer(flags.enhance, flags.enhance_weights, flags.device)
    return Tools(
        parse_face=parse_face if BUNDLED.is_file() else None,
        enhance=enhancer,
        enhance_name=ENHANCERS[enhancer.name] if enhancer else "",
        examples={kind: example_files(kind) for kind in EXAMPLES},
        **given,
    )


def example_files(kind: Kind) -> list[Path]:
    """The pictures in the checkout's examples/ that are inputs of a kind."""
    folders = [checkout() / "examples" / name for name in EXAMPLES[kind]]
    return [path for folder in folders for path in sorted(folder.glob("*.[jp][pn]g"))]


def parse_face(face: Image) -> np.ndarray:
    """The labels of a face that was cut out, by the bundled parser, on the CPU."""
    from psp.images.preprocess import prepare_target
    from psp.weights.face_parser import parse_faces

    return parse_faces(prepare_target(face, size=face.width)[None])[0].numpy()
