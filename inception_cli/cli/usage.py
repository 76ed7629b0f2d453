"""Errors in a command line that name the right form to type."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import fields
from fnmatch import fnmatch
from glob import has_magic
from pathlib import Path
from typing import Any

from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from inception_cli.config import Settings
from inception_cli.errors import InceptionError, UsageError, os_errors
from inception_cli.files.file_kind import file_kind
from inception_cli.files.remote import is_remote
from inception_cli.images.discovery import SUPPORTED_SUFFIXES, UNSUPPORTED_SUFFIXES, suffix_of
from inception_cli.predictions.formats import SUFFIXES

#: The option for what is often given as an argument, by command.
OPTION_FOR_ARGUMENT = {"evaluate": "--val-dir", "info": "--weights"}
#: The options of `evaluate` that are for classifying.
RUN_OPTIONS = {"out", "restart", *(field.name for field in fields(Settings))} - {"only_classes", "min_score", "rollup"}
#: Remedy for predictions that cannot be looked at.
READABLE = "give a file that can be read, or change the permissions of its folder"
#: Width in characters below which the help has no frames.
NARROW = 80


class Command(TyperCommand):
    """A command that refuses empty values, and names the option for an argument that it does not take."""

    allow_extra_args = True  # refused here, with a better message

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        _leave_out_frames(self, formatter)
        super().format_help(ctx, formatter)

    def get_short_help_str(self, limit: int = 0) -> str:
        """Return the first line of the help, whole."""
        return (self.help or "").partition("\n")[0]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the name of the command."""
        rest = super().parse_args(ctx, args)
        if ctx.resilient_parsing:  # for the completion of shells
            return rest
        if ctx.args:
            raise UsageError(_unexpected(self.name or "", ctx.args))
        for parameter in self.params:
            value = ctx.params.get(parameter.name or "")
            if "" in (value if isinstance(value, list | tuple) else [value]):
                label = (
                    parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar or parameter.name
                )
                raise UsageError(f"{label} is empty; give a value (a variable may not be set)")
        return rest


class Group(TyperGroup):
    """The command `inception`; for a photo or a folder it names the command `classify`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help; returned, it would be the message of an error where there are no arguments."""
        _leave_out_frames(self, formatter)
        super().format_help(ctx, formatter)
        print(formatter.getvalue(), end="")
        formatter.buffer.clear()

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command of this name."""
        name = args[0]
        if self.get_command(ctx, name) is None and _is_path(name):
            raise UsageError(f"{name} is not a command; to {_for_path(name, args)}")
        return super().resolve_command(ctx, args)


def require_predictions(name: str) -> None:
    """Raise InceptionError for what is no file of predictions, with the command that makes one."""
    if is_remote(name):
        return
    finished = name.removesuffix(".part")
    if file_kind(finished, READABLE) is None and os.path.isfile(f"{finished}.part"):  # noqa: PTH113 - may be too long
        raise InceptionError(f"{finished}: its run was interrupted; the command that began it resumes and finishes it")
    kind = file_kind(name, READABLE)
    if kind is None:
        raise InceptionError(f"{name}: no such file; give a file that inception classify --out has written")
    if _is_table(name) and kind != "folder":
        return
    if (kind == "folder" and not _holds_predictions(name)) or (kind == "file" and is_image(name)):
        what = "a folder without predictions" if kind == "folder" else "an image"
        raise InceptionError(f"{name} is {what}; first {_classify([name], ['--out', 'preds.csv'])}")
    if kind == "file":
        raise InceptionError(
            f"{name}: not a file of predictions, which ends in {', '.join(SUFFIXES)}; "
            "give one that inception classify --out has written"
        )


def check_predictions(context: Any, predictions: str | None, against: str | None) -> None:
    """Check the files of predictions that `evaluate` scores and compares with, before it begins.

    Raises UsageError for options of a run with `predictions`, on which they would have no effect.
    """
    if against:
        require_predictions(against)
    if not predictions:
        return
    require_predictions(predictions)
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name)
        if parameter.name == "familiar" and given and given.name == "COMMANDLINE":
            raise UsageError(
                "--familiar needs a run: classify again with it; --predictions keeps the labels of photos that a run "
                "found unfamiliar"
            )
        if parameter.name in RUN_OPTIONS and given and given.name == "COMMANDLINE":
            raise UsageError(
                f"{parameter.opts[0]} has no effect with --predictions, which scores rows as they are; leave it out"
            )


def is_image(name: str) -> bool:
    """Return whether a name ends like that of an image."""
    return suffix_of(name) in SUPPORTED_SUFFIXES or suffix_of(name) in UNSUPPORTED_SUFFIXES


def _leave_out_frames(command: TyperCommand | TyperGroup, formatter: Any) -> None:
    """Prepare plain help for a narrow terminal, where Rich would cut the names of options."""
    width = Console().width
    if width < NARROW:
        command.rich_markup_mode = None
        formatter.width = min(formatter.width, width - 2)


def _holds_predictions(folder: str) -> bool:
    with os_errors(folder, READABLE):
        names = [file.name for file in Path(folder).iterdir()]
    return any(fnmatch(name, pattern) for name in names for pattern in ("part-*.parquet", "_*.json"))


def _is_table(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _is_path(name: str) -> bool:
    looks_like_path = "/" in name or has_magic(name) or is_image(name) or _is_table(name)
    return not name.startswith("-") and (looks_like_path or os.path.exists(name))  # noqa: PTH110 - may be too long


def _for_path(name: str, args: Sequence[str]) -> str:
    """Return what a path is for, and the command for it."""
    if _is_table(name):
        return f"view predictions: inception report {shlex.join(args)}"
    return f"classify it: inception classify {shlex.join(args)}"


def _unexpected(command: str, arguments: Sequence[str]) -> str:
    """Return the error for arguments that a command does not take."""
    option, first = OPTION_FOR_ARGUMENT.get(command), arguments[0]
    if option and command == "evaluate" and _is_table(first):
        option = "--predictions"
    if option:
        return f"{command} takes no argument: inception {command} {option} {shlex.quote(first)}"
    return f"unexpected argument: {shlex.join(arguments)} (see --help)"


def _classify(inputs: Sequence[str], options: Sequence[str]) -> str:
    return f"classify it: inception classify {shlex.join([*inputs, *options])}"
