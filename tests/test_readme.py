"""The README keeps its word: its commands run, and every command, exit code and status is in it."""

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
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


def help_of(command: str) -> str:
    """What the command prints on a plain terminal."""
    program = "from inception_cli.__main__ import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program, *command.split()[1:]],
        env={"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1", "PATH": "", "TERMINAL_WIDTH": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    return "\n".join(line.rstrip() for line in ended.stdout.splitlines()).strip()


def test_every_command_is_in_the_readme() -> None:
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]

    assert [name for name in names if f"| `inception {name}" not in README] == []


def test_every_exit_code_and_status_is_in_the_readme() -> None:
    assert [code for code in ExitCode if f"| {code.value} |" not in README] == []
    assert [status for status in STATUSES if f"| `{status}` |" not in README] == []


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("inception")])
def test_every_option_of_a_readme_command_exists(line: str) -> None:
    command, options = line.split()[1], re.findall(r"(?<= )--[a-z0-9-]+", line)

    assert [option for option in options if option not in help_of(f"inception {command} --help")] == []


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
