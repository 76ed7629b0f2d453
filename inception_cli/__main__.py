"""The command `inception`: whatever goes wrong is one line and an exit code."""

import os
import signal
import sys
import traceback
from itertools import pairwise
from types import FrameType

import typer

from inception_cli.cli import app
from inception_cli.errors import ExitCode, InceptionError


def main() -> None:
    """The command `inception`: whatever goes wrong is one line and an exit code; `--debug` shows the traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    # Of GNU OpenMP, which torch brings: how long its threads spin before they sleep. A third of the default is as fast
    # alone (127 images/s instead of 121, bf16 on two cores), and leaves more to those who share the cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "100000")
    try:
        code = app(standalone_mode=False, prog_name="inception") or ExitCode.OK
        sys.stdout.flush()
    except BrokenPipeError:
        code = _closed_pipe()
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        code = _explain(error)
    if code == ExitCode.INTERRUPTED:
        goes_on = "the same command goes on where it stopped"
        cure = "with --out FILE the same command would go on where it stopped"
        print("interrupted;", goes_on if _into_a_file(sys.argv) else cure, file=sys.stderr)
    sys.exit(code)


def _explain(error: Exception) -> int:
    """Say in one line what happened; the exit code."""
    from inception_cli import display

    match error:
        case InceptionError():
            display.complain(str(error))
            return error.exit_code
        case typer.TyperException():  # Typer's own: a wrong option, a missing argument
            if message := error.format_message():
                display.complain(f"{message} (--help shows how)")
            return error.exit_code
        case _:
            display.complain(f"{type(error).__name__}: {error} (unforeseen: --debug shows where; please report it)")
            return ExitCode.ERROR


def _into_a_file(words: list[str]) -> bool:
    """Whether a command line names a file for its rows, where they stay when it is interrupted."""
    after = [word for option, word in pairwise(words) if option in ("-o", "--out")]
    joined = [word.removeprefix("--out=") for word in words if word.startswith("--out=")]
    return any(word != "-" for word in after + joined)


def _closed_pipe() -> int:
    """`| head` has seen enough: end quietly."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at its end
    return ExitCode.OK


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
