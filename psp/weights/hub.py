"""Models as folders in the Hugging Face manner: model.safetensors, config.json and a card, local or on the Hub.

The tensors lie under `encoder.`, `decoder.`, `photo_encoder.`, `style_bank.` and `latent_avg`; config.json holds the
options by pSp's names, which are checked against the tensors like those of any other file.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import torch

from psp.errors import UserError, brief
from psp.files import make_folder, write_text
from psp.models.image_to_image import PictureModel
from psp.models.psp import PSP, parameter_count
from psp.weights.code_space import beside, copy_codes
from psp.weights.convert import lowered, model_tensors
from psp.weights.load import load_any_model
from psp.weights.places import FOLDER_CONFIG, FOLDER_WEIGHTS
from psp.weights.safe_torch import plain_options
from psp.weights.save import save_safetensors, structure

CARD = "README.md"
_REPO_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)  # owner/name
_WEIGHTS = (".pt", ".pth", ".pkl", ".safetensors")


def save_pretrained(model: PSP, folder: str | Path, *, dtype: torch.dtype | None = None, card: bool = True) -> Path:
    """Write a model as a folder that `from_pretrained`, the scripts' --checkpoint_path and the Hub take; its path.

    The file of directions beside the model's own (`psp.weights.code_space`) is copied, if there is one.
    dtype: torch.float16 or bfloat16 for matrices and convolutions; None keeps fp32, and with it every output's bits.
    card: also write README.md, unless there is one. UserError: an option that JSON cannot hold, values beyond fp16, or
    a folder that cannot be written. Files are written one by one, each of them whole or not at all.
    """
    tensors = model_tensors(model)
    config = plain_options(model.config, where="the model's config")
    config = {"encoder_type": type(model.encoder).__name__, **config, **structure(model)}
    config.pop("generator", None)  # it is in the file
    if dtype is not None:
        tensors = lowered(tensors, dtype, where="the model")
    path = make_folder(folder)
    save_safetensors(tensors, config, path / FOLDER_WEIGHTS)
    write_text(path / FOLDER_CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
    if model.path is not None:
        copy_codes(model.path, path / FOLDER_WEIGHTS)
    if card and not (path / CARD).exists():
        write_text(path / CARD, model_card(model, path.resolve().name))
    return path


def from_pretrained(
    name_or_folder: str | Path,
    *,
    revision: str | None = None,
    task: str | None = None,
    direction: str | None = None,
    device: str | torch.device = "cpu",
    local_files_only: bool = False,
) -> PSP | PictureModel:
    """Model of any kind: of a weights file, of a folder that `save_pretrained` wrote, of a repository on the Hugging
    Face Hub, or the bundled one of a task, such as "celebs_sketch_to_face". In eval mode, ready to translate.

    name_or_folder: what exists on this machine is read here, without the network; otherwise `owner/name`, of which
    model.safetensors and config.json are fetched into Hugging Face's cache. local_files_only, or HF_HUB_OFFLINE=1: only
    the cache. task, direction, device: as `load_any_model`. UserError in one line: not there, no network, or no model.
    """
    path = Path(name_or_folder)
    if os.path.exists(path):  # False where the name is too long to be looked up
        if revision is not None:
            raise UserError(f"{path} is a local folder, which has no revision {revision!r}", "leave it out")
    elif _REPO_ID.fullmatch(str(name_or_folder)) and path.suffix not in _WEIGHTS:
        path = _snapshot(str(name_or_folder), revision, local_files_only)
    return load_any_model(path, task=task, direction=direction, device=device)


def _snapshot(repo: str, revision: str | None, local_files_only: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(f"fetching {repo} needs huggingface_hub", "pip install huggingface-hub") from error
    try:
        folder = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=[FOLDER_WEIGHTS, FOLDER_CONFIG, beside(Path(FOLDER_WEIGHTS)).name],
            local_files_only=local_files_only,
        )
    except Exception as error:  # the Hub's own errors, its network library's, the file system's
        raise UserError(_why(error, repo, revision)) from error
    path = Path(folder)
    if not (path / FOLDER_WEIGHTS).is_file():
        raise UserError(f"{repo} on the Hugging Face Hub has no {FOLDER_WEIGHTS}, so it holds no model of this project")
    return path


def _why(error: Exception, repo: str, revision: str | None) -> str:
    """One line for what the Hub's client raised, told by class names: they moved between its versions."""
    names = {kind.__name__ for kind in type(error).__mro__}
    there = f"no folder {repo} here, and"
    hub = "the Hugging Face Hub"
    offline = f"{there} it is not in Hugging Face's cache, and the Hub cannot be reached or is switched off"
    reasons = {
        "GatedRepoError": f"{repo} on {hub} asks for consent: accept its terms there, then log in with `hf auth login`",
        "RepositoryNotFoundError": f"{there} {hub} has no such repository (or it is private: `hf auth login`)",
        "RevisionNotFoundError": f"{repo} on {hub} has no revision {str(revision)[:80]!r}",
        "HFValidationError": f"{there} {str(repo)[:80]!r} is no name of a repository on {hub} (owner/name)",
        "OfflineModeIsEnabled": offline,
        "LocalEntryNotFoundError": offline,
    }
    for name, reason in reasons.items():
        if name in names:
            return reason
    if isinstance(error, OSError) and not names & {"HTTPError", "HfHubHTTPError", "RequestException"}:
        return f"cannot fetch {repo}: {error.strerror or str(error)[:160]}"
    return f"cannot fetch {repo} from the Hugging Face Hub ({type(error).__name__}: {brief(error, 160)})"


def model_card(model: PSP, name: str) -> str:
    """README.md with the YAML header that the Hub reads; filled from the model, and asking for what its maker knows."""
    task, bank = model.task, model.style_bank
    tag = f"\n- {task.name}" if task else ""
    use = task.description if task else "images -> faces (the task is not recorded)"
    channels = f"{model.input_nc} channel{'' if model.input_nc == 1 else 's'}"
    parameters = f"{parameter_count(model.encoder) / 1e6:.1f} M + {parameter_count(model.decoder) / 1e6:.1f} M"
    random = f"\n| random styles | from a bank of {len(bank):,} codes of photos |" if bank else ""
    return f"""\
---
license: other
library_name: pytorch
pipeline_tag: image-to-image
tags:
- pixel2style2pixel
- psp
- stylegan2
- image-to-image
- face-generation{tag}
---

# {name}

A pixel2style2pixel model: {use}. An encoder maps the input to W+ codes of a StyleGAN2 generator.

| | |
|---|---|
| output | {model.output_size} px, {model.n_styles} styles of {model.style_dim} |
| input | {channels}, 256 px |
| encoder | `{type(model.encoder).__name__}` |
| parameters | {parameters} (encoder + generator) |{random}

```python
import psp

model = psp.load("{name}")
```

## Training data, quality, limits and terms

Not filled in yet. State the data and its licence, the generator's licence (NVIDIA's FFHQ weights are
non-commercial), what was measured, and what comes out badly; then set `license` above.
"""
