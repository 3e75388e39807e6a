"""Parsing loss: does the face parser find in the output what the label map, or the target photo, has there?"""

from __future__ import annotations

from torch import Tensor

from criteria.similarity import Frozen
from psp.networks.face_parser import INPUT_SIZE, faces_at_input_size, ids_at_input_size, parsing_losses
from psp.weights.face_parser import load_face_parser


class ParsingLoss(Frozen):
    """Class-balanced cross-entropy plus soft Dice of the bundled face parser, frozen; see `parsing_losses`.

    Faces are RGB in [-1,1], [B,3,S,S], FFHQ-aligned. The parser sees 128 px whatever their size. UserError: its file is
    missing. Whoever trains with this loss and then measures the parser's mIoU measures with what was trained against.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parser = load_face_parser()

    def features(self, target: Tensor) -> Tensor:
        """What the parser finds in target faces: class ids uint8 [B,128,128]."""
        return self.parser.parse(target, size=(INPUT_SIZE, INPUT_SIZE))

    def forward(self, output: Tensor, ids: Tensor) -> Tensor:
        """The loss, a scalar, of output faces against class ids [B,H,W] of any size. Only output gets a gradient."""
        logits = self.parser(faces_at_input_size(output)).float()
        return parsing_losses(logits, ids_at_input_size(ids))["loss"]
