"""The help of every command is complete, and as in its snapshot."""

import re

import pytest
import shots
import typer
from fresh import FreshProcesses
from typer.core import TyperArgument, TyperGroup, TyperOption

from inception_cli.cli.commands import app


def group() -> TyperGroup:
    """Return the command `inception`, which holds the others."""
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    return command


COMMANDS = group().commands
PARAMETERS = [
    pytest.param(parameter, id=f"{name} {parameter.name}")
    for name, command in {"inception": group(), **COMMANDS}.items()
    for parameter in command.params
]


def words(text: str) -> list[str]:
    """Return the words of a help text without the frames, which differ between releases of Rich."""
    return re.sub(r"[─│╭╮╰╯]", " ", text).split()


def test_every_command_has_a_snapshot() -> None:
    assert ("", *COMMANDS) == shots.COMMANDS
    assert sorted(file.stem for file in shots.HELP.iterdir()) == sorted(["inception", *COMMANDS])


@pytest.mark.parametrize("command", shots.COMMANDS)
def test_help_equals_its_snapshot(command: str, fresh: FreshProcesses) -> None:
    kept = shots.snapshot(command).read_text()
    ended = fresh.run(*command.split(), "--help", environment=shots.PLAIN)

    assert (ended.code, ended.err) == (0, "")
    assert words(ended.out) == words(kept), "python tests/helpers/shots.py help renews the snapshots"
    assert max(map(len, kept.splitlines())) <= shots.WIDTH


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_summary_and_an_example(command: str) -> None:
    summary, _, rest = (COMMANDS[command].help or "").partition("\n")

    assert summary.endswith(".")
    assert f"inception {command}" in rest


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_every_option_and_argument_has_help(parameter: TyperArgument | TyperOption) -> None:
    assert (parameter.help or "").endswith(".")
