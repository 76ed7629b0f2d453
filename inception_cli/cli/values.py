"""Parse and check the values of options, before a command begins; complete them in shells."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import typer

from inception_cli.config import ARRAY_SUFFIX, Auto, Crops
from inception_cli.errors import InceptionError, UsageError
from inception_cli.files.file_kind import file_kind
from inception_cli.files.remote import is_remote
from inception_cli.predictions.formats import check_suffix
from inception_cli.training.settings import is_folder

if TYPE_CHECKING:
    CountOrAuto = int | Auto
else:
    CountOrAuto = str  # Typer accepts no unions; the parser returns a number or "auto"


def complete(choices: Sequence[object]) -> Callable[[str], list[str]]:
    """Return a shell completion of the choices; where none matches, shells offer files."""
    return lambda incomplete: [text for text in map(str, choices) if text.startswith(incomplete)]


def count_or_auto(text: str) -> CountOrAuto:
    """Parse a number from 0 on, or "auto"."""
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdigit()):
        raise typer.BadParameter(f"{text!r} is neither a number nor auto")
    return int(text)


def positive_or_auto(text: str) -> CountOrAuto:
    """Parse a number from 1 on, or "auto"."""
    if text == "0":
        raise typer.BadParameter("it must be at least 1, or auto")
    return count_or_auto(text)


def crops(value: str | int) -> int:
    """Parse the number of crops; Typer passes the default as a number."""
    text = str(value)
    if text not in map(str, get_args(Crops)):
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(map(str, get_args(Crops)))}")
    return int(text)


def html_file(option: typer.CallbackParam, name: str | None) -> str | None:
    """Check that a report can get this name; `check_outputs` checks its folder."""
    if not name:
        return name
    file, flag = Path(name), option.opts[0]
    if is_remote(name):
        raise UsageError(f"{flag} {name}: give a file on this machine")
    other_name = f"give another name to {flag}"
    if file_kind(file, other_name) == "folder":
        raise InceptionError(f"{file} is a folder; name a file in it, such as {file / 'report.html'}")
    if file.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{flag} {name}: the report is an .html file; give a name that ends in .html")
    return name


def weights_file(name: str | None) -> str | None:
    """Check that trained weights can get this name: of a .safetensors file, or of a folder."""
    if not name:
        return name
    file_kind(name, "give another name to --out")  # raises an error for a name that cannot be
    if is_folder(name) == (Path(name).suffix == ".safetensors"):
        raise UsageError(
            f"--out {name}: give a file that ends in .safetensors, or a folder (timm's layout) that ends in /"
        )
    return name


def onnx_file(name: str | None) -> str | None:
    """Check that a network can be exported to a file of this name."""
    if name and (is_remote(name) or Path(name).suffix.lower() != ".onnx"):
        raise UsageError(f"--out {name}: give a file on this machine, with a name that ends in .onnx")
    return name


def predictions_file(context: typer.Context, name: str | None) -> str | None:
    """Check that predictions can be written to this file; `classify` also writes to standard output (`-`)."""
    if not name or context.params.get("engine") == "ray":  # Ray writes a folder
        return name
    if not (name == "-" and context.info_name == "classify"):
        try:
            check_suffix(Path(name))
        except InceptionError as error:
            raise UsageError(f"--out {error}") from error
    return name


def min_score(value: float | None) -> float | None:
    """Check that this is a score, and not in percent."""
    if value is not None and not 0 <= value <= 1:
        raise UsageError(f"--min-score {value:g}: give a score from 0 to 1, such as 0.5")
    return value


def rollup(value: float | None) -> float | None:
    """Check that at most one node of each level of the tree can reach this sum."""
    if value is not None and not 0.5 < value <= 1:
        raise UsageError(f"--rollup {value:g}: give a sum above 0.5 and at most 1, such as 0.8")
    return value


def csv_file(option: typer.CallbackParam, name: str | None) -> str | None:
    """Check that a CSV file can get this name; `check_outputs` checks its folder."""
    if name and is_remote(name):
        raise UsageError(f"{option.opts[0]} {name}: give a file on this machine")
    if name and Path(name).suffix.lower() != ".csv":
        raise UsageError(f"{option.opts[0]} {name}: it is written as CSV; give a name that ends in .csv")
    return name


def array_file(option: typer.CallbackParam, name: str | None) -> str | None:
    """Check that an array can get this name."""
    if name and not name.endswith(ARRAY_SUFFIX):
        kind = "a file, not standard output" if name == "-" else "a .npy file"
        raise UsageError(f"{option.opts[0]} {name}: an array is written to {kind}; give a name that ends in .npy")
    return name


def familiar(value: float | None) -> float | None:
    """Check that this is a share of photos, and not in percent."""
    if value is not None and not 0 < value < 1:
        raise UsageError(f"--familiar {value:g}: give a share above 0 and below 1, such as 0.95")
    return value


def percent(option: typer.CallbackParam, value: float | None) -> float | None:
    """Check that an accuracy is in percent, and not a share."""
    if value is not None and not 0 <= value <= 100:
        raise UsageError(f"{option.opts[0]} {value:g}: it is in percent: give a number from 0 to 100")
    if value is not None and 0 < value <= 1:
        raise UsageError(f"{option.opts[0]} {value:g}: it is in percent: did you mean {100 * value:g}?")
    return value
