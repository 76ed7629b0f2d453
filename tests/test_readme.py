"""The README keeps its word: its commands run, and every command, exit code and status is in it."""

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import shots
import torch
from draw import picture
from lively import lively
from running import Inception

from inception_cli import published
from inception_cli.cli import app
from inception_cli.errors import ExitCode
from inception_cli.published import PUBLISHED
from inception_cli.results.rows import STATUSES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL) for line in block.splitlines()]


PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
HELP = {command: block for _, command, block, _ in shots.HELP_BLOCK.findall(README)}


def words(text: str) -> list[str]:
    """A help without its frames, which are another matter from one release of Rich to the next."""
    return re.sub(r"[─│╭╮╰╯]", " ", text).split()


def test_every_command_is_in_the_readme() -> None:
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]

    assert [name for name in names if f"| `inception {name}" not in README] == []


def test_every_exit_code_and_status_is_in_the_readme() -> None:
    assert [code for code in ExitCode if f"| {code.value} |" not in README] == []
    assert [status for status in STATUSES if f"| `{status}` |" not in README] == []


def test_every_command_has_its_help_in_the_readme() -> None:
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]

    assert [*HELP] == ["inception --help", *(f"inception {name} --help" for name in names)]


@pytest.mark.parametrize("command", HELP)
def test_help_is_as_in_the_readme(command: str) -> None:
    assert words(HELP[command]) == words(shots.help_of(command)), "python tests/shots.py help writes it anew"


@pytest.mark.parametrize("picture", ["terminal.svg", "report.png"])
def test_pictures_are_there_small_and_fetch_nothing(picture: str) -> None:
    data = (shots.PICTURES / picture).read_bytes()

    assert f"(.readme/{picture})" in README
    assert 5_000 < len(data) < 200_000
    assert re.findall(rb"""(?:url\(|href=|src=)["']?https?:""", data) == []


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("inception")])
def test_every_option_of_a_readme_command_exists(line: str) -> None:
    command, options = line.split()[1], re.findall(r"(?<= )--[a-z0-9-]+", line)

    assert [option for option in options if option not in HELP[f"inception {command} --help"]] == []


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the README speaks of; torchvision's file is a made-up one in its cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    shutil.copytree(ROOT / "sample_images", "sample_images")
    for folder in ("photos", "my-photos/apple", "my-photos/pear", "imagenet/val/n07742313"):
        Path(folder).mkdir(parents=True)
        for number in range(3):
            picture(folder[-4:] if folder.endswith("pear") else "apple", number, (96, 80)).save(
                f"{folder}/{number}.jpg"
            )
    file = Path("torch/hub/checkpoints", PUBLISHED["torchvision"].filename)
    file.parent.mkdir(parents=True)
    torch.save(lively().state_dict(), file)
    for name in ("torchvision", "mmpretrain"):
        monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], sha256=published.sha256(file)))
    return tmp_path


def test_every_command_runs(somewhere: Path, inception: Inception) -> None:
    lines = [line for line in COMMANDS if line.startswith("inception ")]
    assert len(lines) >= 7

    for line in lines:
        words = shlex.split(line)[1:]
        if words[0] == "train":
            words += ["--epochs", "1", "--size", "75", "--batch-size", "4"]  # as small as it can be
        if "--out preds.csv" in line:
            words.append("--force")
        ended = inception(*words)
        assert ended.code == 0, (line, ended.err)


def test_the_example_in_python_runs(somewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = PYTHON

    exec(example, {})

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(" ok (" in line for line in lines)
