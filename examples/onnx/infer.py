"""A drawing becomes five faces, with numpy, Pillow and onnxruntime alone.

python infer.py MODEL DRAWING OUT [--n 5] [--seed 0] [--styles CODES.npz]

MODEL: a file of `psp export`, or a folder with encoder.onnx, mapping.onnx and generator.onnx, which encodes the drawing
once. DRAWING: what the file asks for: a sketch, a photo, or a label map. OUT: folder for face_0.png, face_1.png, ...
--styles: codes [K,D] or [K,N,D] in the place of random ones, the only array of a .npz or .npy; with a folder.
The faces are those of `psp mix --style_seed SEED --truncation T --cleanup false`, T as the file names it.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

SIDE = 256  # of every input
Facts = dict[str, str]


def picture(path: str, source: str) -> np.ndarray:
    """The input [1,...] of a file: sketches in [0,1], photos in [-1,1], label maps as numbers."""
    image = Image.open(path)
    if source == "labels":
        if image.mode not in ("P", "L"):
            raise SystemExit(f"error: {path} is no palette or grey image of label numbers")
        return np.asarray(square(image, source), np.uint8)[None]
    if image.mode != "RGB":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    if source == "sketch":
        return np.asarray(square(image.convert("L"), source), np.float32)[None, None] / 255
    return np.asarray(square(image, source), np.float32).transpose(2, 0, 1)[None] / 127.5 - 1


def square(image: Image.Image, source: str) -> Image.Image:
    """256 x 256 pixels: a sketch that is not square on a white square, of others the middle."""
    width, height = image.size
    resample = Image.Resampling.NEAREST if source == "labels" else Image.Resampling.BILINEAR
    if abs(width - height) <= 0.02 * max(width, height):
        return image.resize((SIDE, SIDE), resample)
    if source != "sketch":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), resample)
    inner = [max(1, round(length * SIDE / max(width, height))) for length in (width, height)]
    sheet = Image.new("L", (SIDE, SIDE), 255)
    sheet.paste(image.resize((inner[0], inner[1]), resample), ((SIDE - inner[0]) // 2, (SIDE - inner[1]) // 2))
    return sheet


def noise(seed: int, n: int, dim: int) -> np.ndarray:
    """Normal noise [n,D], row k from (seed, k) alone, as torch.randn makes it; D is a multiple of 16."""
    rows = []
    for k in range(n):
        digest = hashlib.sha256(f"{seed}/{k}/".encode()).digest()
        twister = np.random.RandomState(int.from_bytes(digest[:8], "big") >> 1 & 0xFFFFFFFF)
        uniform = (np.frombuffer(twister.bytes(4 * dim), "<u4") & 0xFFFFFF) / 2.0**24
        first, second = uniform.reshape(-1, 2, 8).swapaxes(0, 1)  # Box and Muller, eight pairs at a time
        radius, angle = np.sqrt(-2 * np.log(1 - first)), 2 * np.pi * second
        rows.append(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(dim))
    return np.array(rows, np.float32)


def layers(text: str) -> list[int]:
    """ "5-7,9" -> [5, 6, 7, 9]."""
    runs = [[int(end) for end in run.split("-")] for run in text.split(",")]
    return [layer for run in runs for layer in range(run[0], run[-1] + 1)]


def opened(path: Path) -> tuple[onnxruntime.InferenceSession, Facts]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session, session.get_modelmeta().custom_metadata_map


def faces_of_file(path: Path, drawing: str, n: int, seed: int) -> np.ndarray:
    session, facts = opened(path)
    inputs = {"image": picture(drawing, facts["source"])}
    if facts["part"] != "all":
        raise SystemExit(f"error: {path} is the {facts['part']} alone; give the folder of all parts")
    if "styles" in facts:
        strength = np.zeros(int(facts["styles"]), np.float32)
        strength[layers(facts["mixing_layers"])] = 1
        inputs |= {"z": noise(seed, n, int(facts["style_dim"])), "strength": strength}
        inputs["truncation"] = np.array([facts["truncation"]], np.float32)
    return np.asarray(session.run(None, inputs)[0])


def faces_of_folder(folder: Path, drawing: str, n: int, seed: int, styles: str | None) -> np.ndarray:
    encoder, facts = opened(folder / "encoder.onnx")
    codes = encoder.run(None, {"image": picture(drawing, facts["source"])})[0]
    if styles is None:
        z, truncation = noise(seed, n, int(facts["style_dim"])), np.array([facts["truncation"]], np.float32)
        new = opened(folder / "mapping.onnx")[0].run(None, {"z": z, "truncation": truncation})[0]
    else:
        content = np.load(styles, allow_pickle=False)
        new = np.asarray(content if isinstance(content, np.ndarray) else content[content.files[0]], np.float32)[:n]
        new = new if new.ndim == 3 else np.repeat(new[:, None], codes.shape[1], axis=1)
    mixed = np.repeat(codes, len(new), axis=0)
    fine = layers(facts["mixing_layers"])
    mixed[:, fine] = new[:, fine]
    generator = opened(folder / "generator.onnx")[0]
    return np.concatenate([generator.run(None, {"codes": code[None]})[0] for code in mixed])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("drawing")
    parser.add_argument("out", type=Path)
    parser.add_argument("--n", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--styles")
    flags = parser.parse_args()
    if flags.model.is_dir():
        faces = faces_of_folder(flags.model, flags.drawing, flags.n, flags.seed, flags.styles)
    elif flags.styles:
        raise SystemExit("error: --styles needs a folder with encoder.onnx and generator.onnx")
    else:
        faces = faces_of_file(flags.model, flags.drawing, flags.n, flags.seed)
    flags.out.mkdir(parents=True, exist_ok=True)
    for k, face in enumerate(faces):
        pixels = (face.transpose(1, 2, 0).clip(-1, 1) * 127.5 + 127.5).astype(np.uint8)
        Image.fromarray(pixels).save(flags.out / f"face_{k}.png")
        print(flags.out / f"face_{k}.png")


if __name__ == "__main__":
    main()
