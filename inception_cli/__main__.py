"""Entry point of the command `inception`: exceptions become one line and an exit code."""

import os
import signal
import sys
import traceback
from itertools import pairwise
from types import FrameType

import typer

from inception_cli.cli.commands import app
from inception_cli.errors import ExitCode, InceptionError


def main() -> None:
    """Run the command line; `--debug` shows the traceback of an error."""
    signal.signal(signal.SIGTERM, _interrupt)
    # GNU OpenMP, which torch uses: how long its threads spin before they sleep. A third of the default is as fast when
    # nothing else runs (127 images/s instead of 121, bf16 on two cores), and leaves more time to other processes.
    os.environ.setdefault("GOMP_SPINCOUNT", "100000")
    try:
        code = app(standalone_mode=False, prog_name="inception") or ExitCode.OK
        sys.stdout.flush()
    except BrokenPipeError:
        code = _close_pipe()
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        code = _print_error(error)
    if code == ExitCode.INTERRUPTED:
        resumable = "the same command resumes the run"
        not_kept = "with --out FILE the same command would resume the run"
        print("interrupted;", resumable if _has_output_file(sys.argv) else not_kept, file=sys.stderr)
    sys.exit(code)


def _print_error(error: Exception) -> int:
    """Print one line for the error, and return the exit code."""
    from inception_cli.cli import console

    match error:
        case InceptionError():
            console.print_error(str(error))
            return error.exit_code
        case typer.TyperException():  # a wrong option, a missing argument
            if message := error.format_message():
                console.print_error(f"{message.replace('Value error, ', '').rstrip('.')} (see --help)")
            return error.exit_code
        case _:
            console.print_error(
                f"{type(error).__name__}: {error} (unexpected error: --debug shows the traceback; please report it)"
            )
            return ExitCode.ERROR


def _has_output_file(arguments: list[str]) -> bool:
    """Return whether the command line names a file for the rows, which stays when the run is interrupted."""
    separate = [value for option, value in pairwise(arguments) if option in ("-o", "--out")]
    joined = [argument.removeprefix("--out=") for argument in arguments if argument.startswith("--out=")]
    return any(value != "-" for value in separate + joined)


def _close_pipe() -> int:
    """End quietly after `| head` has closed the pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python reports an error when it flushes
    return ExitCode.OK


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
