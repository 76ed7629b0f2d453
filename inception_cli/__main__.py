"""Entry point of the command `inception`: exceptions become one line and an exit code."""

import atexit
import errno
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType

import typer
from typer.core import TyperGroup

from inception_cli.cli.commands import app
from inception_cli.errors import ExitCode, InceptionError, is_out_of_memory, one_line
from inception_cli.files.streams import ClosedPipe, open_standard_streams


def main() -> None:
    """Run the command line; `--debug` shows the traceback of an error."""
    open_standard_streams()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # `nohup` ignores SIGHUP
            signal.signal(number, _interrupt)
    # The garbage collector would visit torch's million objects again and again: a quarter of the time of a short run.
    gc.set_threshold(100_000, 50, 100)
    atexit.register(gc.freeze)
    # GNU OpenMP, which torch uses: how long its threads spin before they sleep. A third of the default is as fast when
    # nothing else runs (127 images/s instead of 121, bf16 on two cores), and leaves more time to other processes.
    os.environ.setdefault("GOMP_SPINCOUNT", "100000")
    code = _exit_code(lambda: app(standalone_mode=False, prog_name="inception"))
    code = _exit_code(sys.stdout.flush) or code
    if code == ExitCode.INTERRUPTED:
        print(f"interrupted{_how_to_resume(sys.argv)}", file=sys.stderr)
    sys.exit(code)


def _exit_code(run: Callable[[], int | None]) -> int:
    """Return the exit code of a function; print its error. A pipe that `| head` has closed is none."""
    try:
        return run() or ExitCode.OK
    except ClosedPipe:
        return ExitCode.OK
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        return _print_error(error)


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
        case _ if is_out_of_memory(error):
            other = {"classify": "--workers", "evaluate": "--workers", "train": "--size"}.get("".join(sys.argv[1:2]))
            options = f", or choose a smaller --batch-size or {other}" if other else ""
            console.print_error(f"not enough memory; stop other programs{options}")
            return ExitCode.ERROR
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            console.print_error(f"{one_line(error)}; allow more open files (ulimit -n 1024)")
            return ExitCode.ERROR
        case _:
            console.print_error(
                f"{type(error).__name__}: {error} (unexpected error: --debug shows the traceback; please report it)"
            )
            return ExitCode.ERROR


def _how_to_resume(arguments: list[str]) -> str:
    """Return the end of the line about an interruption; only these commands can resume."""
    if not {"classify", "evaluate", "sort", "train"}.intersection(arguments[1:2]):
        return ""
    if arguments[1] == "sort" or _has_output_file(arguments[1], arguments[2:]):
        return "; the same command resumes the run"
    return "; with --out FILE the same command would resume the run"


def _has_output_file(name: str, arguments: list[str]) -> bool:
    """Return whether a command's arguments name a file for the rows, which stays when the run is interrupted."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    out = group.commands[name].make_context(name, arguments, resilient_parsing=True).params["out"]
    return out not in (None, "-")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
