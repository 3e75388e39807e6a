"""The user's mistakes: one exception class, and the one place where scripts turn it into a line and an exit status."""

from __future__ import annotations

import os
import reprlib
import sys
import traceback
from collections.abc import Callable


class UserError(Exception):
    """A mistake that the user can fix.

    problem: what was given, and what is wrong with it. advice: what is allowed, or which flag to change; may be empty.
    Scripts print `problem; advice` as one line without a traceback; everything else that is raised is a bug of ours and
    keeps its traceback. What names in files bring in of line breaks and control characters is replaced.
    """

    def __init__(self, problem: str = "", advice: str = ""):
        self.problem, self.advice = _visible(problem).strip(), _visible(advice).strip()
        super().__init__(self.problem, self.advice)

    def __str__(self) -> str:
        return "; ".join(part for part in (self.problem, self.advice) if part)


def run_main(main: Callable[[], int | None]) -> None:
    """Run a script's `main` and end the process with its exit status.

    main: takes nothing, returns the exit status (None counts as 0). UserError: `error: <line>` on stderr, status 2.
    So is any exception with a true `is_user_error` attribute: `stylegan2_ops` stands below this package and cannot
    raise UserError. Ctrl-C: status 130. A closed output pipe (`... | head`): status 141, as the shell would say.
    """
    for stream in (sys.stdout, sys.stderr):  # names of files may hold what the terminal's encoding does not
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1  # otherwise one of the processes that torchrun has started
    try:
        status = main() or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        # Python flushes stdout again at exit: give it somewhere to go, so that it does not complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except Exception as error:
        if isinstance(error, UserError) or getattr(error, "is_user_error", False):
            print("error: " + one_line(error), file=sys.stderr)
            status = 2
        elif alone:
            raise
        else:
            traceback.print_exc()
            status = 1
    if not alone:  # gloo's threads may abort while Python cleans up, NCCL's may wait for ranks that are gone
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def shown(value: object, length: int = 80) -> str:
    """A value of unknown origin for a message: its repr, short however large, deep or self-repeating the value is."""
    try:
        text = reprlib.repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= length else text[: length - 3] + "..."


def brief(error: BaseException, length: int = 120) -> str:
    """What another library's exception says, for a message of ours: one line of at most `length` characters."""
    return one_line(error)[:length] or type(error).__name__


def one_line(error: BaseException | str) -> str:
    """A message without line breaks, and without the control characters that names of files may hold."""
    return _visible(" ".join(str(error).split()))


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else " " if c in "\r\n\t" else "?" for c in text)
