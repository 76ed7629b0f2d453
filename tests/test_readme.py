"""The README keeps its word: its help texts are the program's, its commands and options exist, and its figures hold."""

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
from inception_cli.published import PUBLISHED

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
HELP = re.findall(r"```\n\$ (inception [^\n]*--help)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL) for line in block.splitlines()]


def help_of(command: str) -> str:
    """What the command prints on a plain terminal of 100 columns."""
    program = "from inception_cli.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program, *command.split()[1:]],
        env={"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1", "PATH": "", "TERMINAL_WIDTH": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    return "\n".join(line.rstrip() for line in ended.stdout.splitlines()).strip()


@pytest.mark.parametrize(("command", "text"), HELP, ids=[command for command, _ in HELP])
def test_a_help_text_is_the_programs(command: str, text: str) -> None:
    assert text.strip() == help_of(command)


def test_every_command_has_its_help_text() -> None:
    assert [command.split()[1] for command, _ in HELP] == ["classify", "evaluate", "train", "info"]


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
