"""How much one request and all of them together may ask for, and the exception that says no. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from psp.errors import UserError, one_line
from psp.images.decode import MAX_PIXELS


@dataclass(frozen=True)
class Limits:
    """Bounds of the studio; every one of them is answered with a 4xx or 503 beyond it.

    body: bytes of one request. json: of one in JSON, which is parsed at once and then weighs many times more.
    bodies: bytes of all larger bodies being received or worked on at the same time.
    pixels: of one uploaded image. large: pixels from which on images are decoded one at a time. parts: of one multipart
    form. text: bytes of its text fields together.
    pictures: made by one request. frames: interpolated by one request. waiting: jobs before the one being worked on.
    """

    body: int = 16 << 20
    json: int = 1 << 20
    bodies: int = 40 << 20
    pixels: int = MAX_PIXELS
    large: int = 2_000_000
    parts: int = 32
    text: int = 2 << 20
    pictures: int = 9
    frames: int = 17
    waiting: int = 8


class Refused(Exception):
    """A request that is answered with an error: status, one sentence, and after how many seconds to try again."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after


def plain_words(error: UserError) -> str:
    """A UserError as a sentence, without the advice about command-line flags, which a page's visitor does not have."""
    message = one_line(error)
    clauses = [clause for clause in message.split("; ") if "--" not in clause]
    sentence = "; ".join(clauses) or message
    while "--" in sentence and "(" in sentence and ")" in sentence[sentence.rindex("(") :]:
        start = sentence.rindex("(")
        sentence = (sentence[:start].rstrip() + sentence[sentence.index(")", start) + 1 :]).strip()
    if sentence.partition(" ")[0].isalpha():  # a file's name stays as it is
        sentence = sentence[:1].upper() + sentence[1:]
    return sentence.removesuffix(".") + "."
