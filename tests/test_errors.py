"""run_main: what a script's user sees, and the exit status."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from psp.errors import UserError, run_main


def test_exit_status() -> None:
    for returned, status in ((0, 0), (None, 0), (3, 3)):
        with pytest.raises(SystemExit) as stop:
            run_main(lambda returned=returned: returned)  # type: ignore[misc]
        assert stop.value.code == status


def test_a_users_mistake_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise UserError("no such file: x.png;\n  change --data_path")

    with pytest.raises(SystemExit) as stop:
        run_main(main)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: no such file: x.png; change --data_path\n")


def test_problem_and_advice_survive_another_process() -> None:
    error = UserError("--size 7 is no power of two\n", "use 8")
    again = pickle.loads(pickle.dumps(error))
    for one in (error, again):
        assert (one.problem, one.advice, str(one)) == ("--size 7 is no power of two", "use 8", f"{one.problem}; use 8")
    assert str(UserError("no advice")) == "no advice" and str(UserError()) == ""


def test_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        run_main(main)
    assert stop.value.code == 130
    assert "Traceback" not in capsys.readouterr().err


def test_our_own_bugs_keep_their_traceback() -> None:
    def main() -> int:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        run_main(main)


@pytest.mark.parametrize("code", ["print('x' * 100_000, flush=True)", "print('x')"])
def test_a_closed_pipe_is_no_traceback(code: str, root: Path) -> None:
    script = f"from psp.errors import run_main\ndef main():\n    {code}\nrun_main(main)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    stderr = process.stderr.read()
    assert process.wait() == 141
    assert stderr == b""


@pytest.mark.parametrize(("raised", "status"), [("UserError('one line')", 2), ("ValueError('a bug')", 1), ("", 0)])
def test_one_of_several_processes_ends_at_once(raised: str, status: int) -> None:
    """Without Python's clean-up, which would wait for the thread here as it may for other ranks; see run_main."""
    code = (
        "import threading\nfrom psp.errors import UserError, run_main\n"
        "def main():\n    threading.Thread(target=threading.Event().wait).start()\n    print('flushed')\n"
        + (f"    raise {raised}\n" if raised else "")
        + "run_main(main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"WORLD_SIZE": "2"}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status and done.stdout == "flushed\n"
    assert ("Traceback" in done.stderr) == (status == 1)


def test_control_characters_do_not_reach_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UserError("a\x1b[31m\x00b\nü: wrong")

    with pytest.raises(SystemExit):
        run_main(main)
    assert capfd.readouterr().err == "error: a?[31m?b ü: wrong\n"


def test_messages_are_one_line_whatever_names_hold() -> None:
    assert str(UserError("a\nb\x1b[1m  c\u202e")) == "a b?[1m  c?"
