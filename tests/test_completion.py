"""Completion in bash, zsh and fish offers what the command accepts, and loads nothing heavy."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
import typer
from fresh import FreshProcesses
from test_architecture import HEAVY
from typer.core import TyperGroup

from inception_cli import config
from inception_cli.cli import options
from inception_cli.cli.commands import app
from inception_cli.evaluation.class_numbering import label_lookup
from inception_cli.predictions.classes import imagenet
from inception_cli.storage import label_sources
from inception_cli.weights.registry import DEMO, PUBLISHED

Completed = Callable[[str, str], set[str]]


@pytest.fixture
def completed(fresh: FreshProcesses) -> Completed:
    """Return the words that a shell offers to complete a command line; fail if anything heavy was loaded."""

    def complete(shell: str, line: str) -> set[str]:
        environment = {"_INCEPTION_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
        environment |= {
            "COMP_WORDS": line,
            "COMP_CWORD": str(line.count(" ")),
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        ended = fresh.run(environment=environment)
        assert (ended.code, ended.err) == (0, "")
        assert ended.modules.isdisjoint(HEAVY)
        if shell == "zsh":  # _arguments '*: :(("word":"help" …))'
            return set(ended.out.partition("((")[2].replace('"', " ").split())
        return {line.partition("\t")[0] for line in ended.out.splitlines() if line}

    return complete


def offered(command: str, option: str) -> tuple[str, ...]:
    """Return everything that is offered as the value of an option."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    context: Any = group.make_context("inception", [command, "--help"], resilient_parsing=True)
    (parameter,) = (each for each in group.commands[command].params if option in each.opts)
    return tuple(item.value for item in parameter.shell_complete(context, ""))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_names_are_completed_without_loading_anything_heavy(shell: str, completed: Completed) -> None:
    assert {"timm-tv", "timm-tf", "timm-adv", "timm-gluon"} <= completed(shell, "inception classify -w timm")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("inception ", {"classify", "evaluate", "report", "sort", "tag", "train", "export", "info"}),
        ("inception classify --pre", {"--preset", "--precision"}),
        ("inception classify --preset timm-", {"timm-gluon"}),
        ("inception info --device c", {"cpu", "cuda"}),
        ("inception train --from sc", {"scratch"}),
        ("inception classify --weights ./mine", set()),  # so that the shell offers files
    ],
)
def test_words_are_completed(line: str, words: set[str], completed: Completed) -> None:
    assert completed("bash", line) == words


@pytest.mark.parametrize(
    ("option", "choices"),
    [
        ("--preset", config.PresetName),
        ("--decode", config.Decode),
        ("--precision", config.PrecisionChoice),
        ("--compile", config.CompileChoice),
        ("--engine", config.Engine),
        ("--crops", config.Crops),
        ("--label-format", label_sources.LabelFormat),
    ],
)
def test_the_values_of_an_option_are_those_of_the_configuration(option: str, choices: object) -> None:
    assert offered("evaluate", option) == tuple(map(str, get_args(choices)))


def test_the_names_of_weights_are_those_of_the_registry() -> None:
    assert offered("classify", "--weights") == (*PUBLISHED, DEMO, "hf-hub:", "local-dir:")
    assert offered("train", "--from") == (*PUBLISHED, DEMO, "hf-hub:", "local-dir:", "scratch")


def test_every_offered_value_is_accepted() -> None:
    assert tuple(config.PRESETS) == get_args(config.PresetName)
    assert ("auto", *get_args(config.Precision)) == get_args(config.PrecisionChoice)
    assert offered("classify", "--device") == options.DEVICES
    for device in options.DEVICES:
        config.Settings(device=device)
    for label_format in get_args(label_sources.LabelFormat):
        label_lookup(label_format, imagenet())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_its_script(shell: str, fresh: FreshProcesses) -> None:
    ended = fresh.run(environment={"_INCEPTION_COMPLETE": f"source_{shell}"})

    assert f"_INCEPTION_COMPLETE=complete_{shell}" in ended.out
    assert (ended.code, ended.err) == (0, "")
    assert ended.modules.isdisjoint(HEAVY)


def test_completion_can_be_installed(fresh: FreshProcesses) -> None:
    assert "--install-completion" in fresh.run("-h").out
