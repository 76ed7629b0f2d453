"""Completion by bash, zsh and fish: the right words, and nothing heavy is imported for them."""

import os
import subprocess
import sys

import pytest
from test_architecture import HEAVY

from inception_cli import completion
from inception_cli.images.preprocess import CROPS, PRESETS
from inception_cli.published import DEMO, PUBLISHED
from inception_cli.results.labels import FORMS
from inception_cli.settings import DEVICES, PRECISIONS, SCRATCH

PROGRAM = (
    "import sys; from inception_cli.__main__ import main\n"
    "sys.argv = ['inception']\n"
    "try: main()\n"
    f"finally: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
)


def completed(shell: str, line: str) -> set[str]:
    """The words that a shell is given for a command line under way."""
    environment = os.environ | {"_INCEPTION_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
    environment |= {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    ended = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert ended.stderr.strip() == "[]"
    if shell == "zsh":  # _arguments '*: :(("word":"help" …))'
        return set(ended.stdout.partition("((")[2].replace('"', " ").split())
    return {line.partition("\t")[0] for line in ended.stdout.splitlines() if line}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_names_are_completed_without_importing_anything_heavy(shell: str) -> None:
    assert {"timm-tv", "timm-tf", "timm-adv", "timm-gluon"} <= completed(shell, "inception classify -w timm")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("inception ", {"classify", "evaluate", "report", "train", "info"}),
        ("inception classify --pre", {"--preset", "--precision"}),
        ("inception classify --preset timm-", {"timm-gluon"}),
        ("inception info --device c", {"cpu", "cuda"}),
        ("inception train --from sc", {"scratch"}),
        ("inception classify --weights ./mine", set()),  # so the shell offers files
    ],
)
def test_words_are_completed(line: str, words: set[str]) -> None:
    assert completed("bash", line) == words


def test_the_words_are_those_of_the_program() -> None:
    assert (*PUBLISHED, DEMO) == completion.WEIGHTS
    assert (*PUBLISHED, DEMO, SCRATCH) == completion.STARTS
    assert (*PRESETS,) == completion.PRESETS
    assert tuple(map(str, CROPS)) == completion.CROPS
    assert (completion.DEVICES, completion.PRECISIONS) == (DEVICES, PRECISIONS)
    assert FORMS[:-1] == completion.LABEL_FORMS  # skip-N is for a number to be put in


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_its_script(shell: str) -> None:
    environment = os.environ | {"_INCEPTION_COMPLETE": f"source_{shell}"}
    ended = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)

    assert f"_INCEPTION_COMPLETE=complete_{shell}" in ended.stdout
    assert ended.stderr.strip() == "[]"


def test_completion_can_be_installed() -> None:
    ended = subprocess.run([sys.executable, "-m", "inception_cli", "-h"], capture_output=True, text=True, check=True)

    assert "--install-completion" in ended.stdout
