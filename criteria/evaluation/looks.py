"""Faces made from drawings, judged as looks: how real, how like the photo; and how much several faces differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from criteria.distributions import frechet_of_features
from criteria.dlib_resnet import DlibFaceResNet
from criteria.extractors import Extractor
from criteria.lpips import LPIPS
from psp.models.mixing import TRUNCATION, VARY, mix, seeded_noise
from psp.models.people import PartsAxes
from psp.models.psp import PSP
from psp.weights.code_space import parts_of
from psp.weights.face_parser import load_face_parser


@dataclass(frozen=True)
class Look:
    """vary: see `psp.models.mixing.VARY`; None: the encoder's own styles. truncation: of its random styles.
    several: whether faces of one drawing are compared."""

    vary: str | None
    truncation: float = 1.0
    several: bool = False


LOOKS = {
    "own colours": Look(None),
    "chance": Look("colours"),
    "chance, truncation 0.7": Look("colours", 0.7),
    "chance, truncation 0.5": Look("colours", 0.5),
    "colours": Look("colours", TRUNCATION, several=True),
    "people": Look("people", several=True),
}
COLUMNS = {
    "frechet": "squared Frechet distance of the first faces to the photos ({features}); lower is better",
    "lpips": "LPIPS (AlexNet) of the first face and its photo; lower is better",
    "identity": "distance of dlib's descriptors of the first face and its photo; below 0.6 is the same person",
    "identity_among": "the same, mean over all pairs of {n_faces} faces of one drawing",
    "parts_kept": "share of the pixels where the face parser finds what it finds in the first of them",
}


@dataclass(frozen=True)
class Drawing:
    """source: network input [1,C,256,256]. photo: RGB [1,3,S,S] in [-1,1]. key: what its random styles depend on."""

    source: Tensor
    photo: Tensor
    key: str


class LookJudge:
    """Measures faces made from the drawings of some photos, with one number per look.

    photos: RGB [1,3,S,S] in [-1,1], FFHQ-aligned, on one device; two at least where there is an extractor.
    extractor: for the Frechet distance; None: it is left out.
    UserError: weights of dlib's network, of LPIPS (AlexNet) or of the face parser are missing.
    """

    @torch.inference_mode()
    def __init__(self, photos: Sequence[Tensor], extractor: Extractor | None = None):
        device = photos[0].device
        self.extractor = extractor
        self.lpips, self.people = LPIPS("alex", download=False).to(device), DlibFaceResNet().to(device)
        self.parser = load_face_parser().to(device)
        self.photos = list(photos)
        self.known = [self.people(photo) for photo in photos]
        self.real = self._features(photos)

    @torch.inference_mode()
    def against_photos(self, faces: Sequence[Tensor]) -> dict[str, float]:
        """One face [1,3,S,S] for each photo: frechet, the squared distance of both sets' features; lpips; identity,
        the mean distance of dlib's descriptors."""
        features, frechet = self._features(faces), {}
        if features is not None and self.real is not None:
            frechet["frechet"] = frechet_of_features(features, self.real)
        lpips = [float(self.lpips(face, photo)) for face, photo in zip(faces, self.photos, strict=True)]
        identity = [float((self.people(face) - one).norm()) for face, one in zip(faces, self.known, strict=True)]
        return {**frechet, "lpips": float(np.mean(lpips)), "identity": float(np.mean(identity))}

    @torch.inference_mode()
    def among(self, several: Sequence[Tensor]) -> dict[str, float]:
        """Faces [K,3,S,S] of each drawing, K at least 2; means over the drawings.

        identity_among: distance of dlib's descriptors, over all pairs. parts_kept: share of the pixels where the face
        parser finds the class that it finds in the first face, over the others.
        """
        identity, parts = [], []
        for faces in several:
            identity.append(float(torch.pdist(self.people(faces).double()).mean()))
            seen = self.parser.parse(faces)
            parts.append(float((seen[1:] == seen[:1]).double().mean()))
        return {"identity_among": float(np.mean(identity)), "parts_kept": float(np.mean(parts))}

    def _features(self, images: Sequence[Tensor]) -> np.ndarray | None:
        if self.extractor is None:
            return None
        return torch.cat([self.extractor.features(image) for image in images]).double().cpu().numpy()


@torch.inference_mode()
def compare_looks(
    model: PSP, drawings: Sequence[Drawing], *, n_faces: int, extractor: Extractor | None
) -> Iterable[tuple[str, dict[str, float]]]:
    """The name of each of `LOOKS` and its numbers under the names of `COLUMNS`, as soon as they are there.

    n_faces: of each drawing, for the looks of which several are compared. Errors as `LookJudge`.
    """
    judge, parts = LookJudge([one.photo for one in drawings], extractor), parts_of(model)
    codes = [model.encode(one.source).float() for one in drawings]

    def faces(look: Look, k: int, n: int) -> Tensor:
        return model.decode(_styled(model, parts, look, codes[k], drawings[k].key, n)).clamp(-1, 1)

    for name, look in LOOKS.items():
        row = judge.against_photos([faces(look, k, 1) for k in range(len(drawings))])
        if look.several:
            row |= judge.among([faces(look, k, n_faces) for k in range(len(drawings))])
        yield name, row


def _styled(model: PSP, parts: PartsAxes | None, look: Look, codes: Tensor, key: str, n: int) -> Tensor:
    """Codes [n,N,D] of one drawing's [1,N,D]; more of the same key begin with the same ones."""
    if look.vary is None:
        return codes.expand(n, -1, -1)
    noise = seeded_noise(n, model.style_dim, 0, key).to(model.device)
    styles = torch.cat([model.map(z[None], truncation=look.truncation) for z in noise]).float()
    codes = codes.expand(n, -1, -1)
    if look.vary == "people" and parts is not None:
        styles = parts.people(codes, styles, model.latent_avg)
    for layers, share in zip(model.bands().values(), VARY[look.vary], strict=True):
        codes = mix(codes, styles, layers, share)
    return codes
