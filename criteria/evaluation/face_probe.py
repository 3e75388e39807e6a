"""Pictures of faces become numbers: what `measure_face` finds, who it is, and whatever labelled photos teach."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from criteria.crop import resize
from criteria.dlib_resnet import DlibFaceResNet
from criteria.evaluation.face_measures import MEASURES, measure_face
from psp.errors import UserError
from psp.images.labels import LABELS
from psp.images.sheets import to_pixels
from psp.weights.face_parser import load_face_parser

SIDE = 128  # at which faces are measured
FEWEST = 40  # labelled photos that a label is learned from
RIDGE = 1.0
GLASSES = LABELS.index("eye_g")
FAINT = 1e-4  # share of the picture that is no glasses yet

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """measures [M,K], NaN where a face does not show one; descriptors [M,128], dlib's, to compare by distance."""

    measures: Numbers
    descriptors: Numbers


@dataclass
class FaceProbe:
    """What is seen in faces. names: of the measures. UserError: the networks' weights are missing."""

    device: torch.device
    names: list[str] = field(default_factory=lambda: list(MEASURES))

    def __post_init__(self) -> None:
        self._parser, self._dlib = load_face_parser().to(self.device), DlibFaceResNet().to(self.device)
        self._learned: list[tuple[Numbers, float]] = []

    @torch.no_grad()
    def look(self, images: Tensor) -> Seen:
        """RGB faces [B,3,S,S] in [-1,1], FFHQ-aligned."""
        images = images.to(self.device).float()
        small = resize(images, SIDE)
        scores = self._parser.scores(small)
        ids = scores.argmax(1).to(torch.uint8).cpu().numpy()
        faces = [measure_face(*pair) for pair in zip(to_pixels(small), ids, strict=True)]
        likely = scores.softmax(1)[:, GLASSES].mean((1, 2))  # an area would be 0 until the parser is sure of them
        for face, share in zip(faces, likely.tolist(), strict=True):
            face["glasses"] = math.log(share + FAINT)
        measures = np.array([[face.get(name, np.nan) for name in MEASURES] for face in faces])
        return self.complete(Seen(measures, self._dlib(images).double().cpu().numpy()))

    def complete(self, seen: Seen) -> Seen:
        """What was seen, with the measures that were learned since."""
        missing = self._learned[seen.measures.shape[1] - len(MEASURES) :]
        columns = [seen.descriptors @ weights + offset for weights, offset in missing]
        return Seen(np.column_stack([seen.measures, *columns]), seen.descriptors)

    def learn(self, descriptors: Numbers, labels: Mapping[str, Numbers]) -> dict[str, float]:
        """Make labels of photos, NaN where unknown, measures of any face: ridge regression on the descriptors [M,128].

        Returns for each the correlation with the labels in two-fold cross-validation. UserError: too few labels, or a
        label called as what is measured already.
        """
        correlations: dict[str, float] = {}
        for name, values in labels.items():
            if name in self.names:
                raise UserError(f"{name} is measured already", "give the column of --labels another name")
            known = np.isfinite(values)
            if known.sum() < FEWEST or np.ptp(values[known]) == 0:
                raise UserError(
                    f"{name}: {int(known.sum())} photos have that label", f"{FEWEST} with different values are needed"
                )
            x, y = descriptors[known], values[known]
            folds = np.arange(len(y)) % 2 == 0
            guess = np.empty_like(y)
            for fold in (folds, ~folds):
                weights, offset = _ridge(x[~fold], y[~fold])
                guess[fold] = x[fold] @ weights + offset
            correlations[name] = float(np.corrcoef(guess, y)[0, 1])
            self._learned.append(_ridge(x, y))
            self.names.append(name)
        return correlations


def _ridge(x: Numbers, y: Numbers) -> tuple[Numbers, float]:
    """Weights [D] and offset of a linear guess; the penalty counts in units of the features' mean variance."""
    away = x - x.mean(0)
    penalty = RIDGE * away.var(0).mean() * x.shape[1]
    weights = np.linalg.solve(away.T @ away + penalty * np.eye(x.shape[1]), away.T @ (y - y.mean()))
    return weights, float(y.mean() - x.mean(0) @ weights)
