"""Faces made from drawings, judged as looks: how real, how like the photo; and how much several faces differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from criteria.distributions import frechet_of_features
from criteria.dlib_resnet import DlibFaceResNet
from criteria.extractors import Extractor
from criteria.lpips import LPIPS
from psp.weights.face_parser import load_face_parser


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
        found: dict[str, float] = {}
        made = self._features(faces)
        if made is not None and self.real is not None:
            found["frechet"] = frechet_of_features(made, self.real)
        pairs = list(zip(faces, self.photos, strict=True))
        found["lpips"] = float(np.mean([float(self.lpips(face, photo)) for face, photo in pairs]))
        distances = [float((self.people(face) - one).norm()) for face, one in zip(faces, self.known, strict=True)]
        return found | {"identity": float(np.mean(distances))}

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
