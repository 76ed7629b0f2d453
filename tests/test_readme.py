"""README is true: its commands and examples run, its names and paths exist, its tables are complete."""

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import shots
import torch
from draw import picture
from lively import lively
from running import Inception
from torch import Tensor, nn

from inception_cli.actions import export_onnx
from inception_cli.errors import ExitCode
from inception_cli.files.hashing import sha256
from inception_cli.predictions.prediction import STATUSES
from inception_cli.weights.registry import PUBLISHED

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "inception_cli"
README = (ROOT / "README.md").read_text()
#: The blocks of code with their languages.
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
LINES = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]
PYTHON = [block for language, block in BLOCKS if language == "python"]


def test_readme_has_at_most_250_lines() -> None:
    assert len(README.splitlines()) <= 250


def test_every_command_is_linked_to_its_help() -> None:
    names = [command for command in shots.COMMANDS if command]

    assert [name for name in names if f"[{name}](tests/snapshots/help/{name}.txt)" not in README] == []


def test_every_exit_code_and_status_is_explained() -> None:
    (codes,) = re.findall(r"^Exit codes: (.*?)\n\n", README, flags=re.DOTALL | re.MULTILINE)
    statuses = re.findall(r"^\| (`.*?) \|", README, flags=re.MULTILINE)

    assert [int(each.split()[0]) for each in codes.split("· ")] == [code.value for code in ExitCode]
    assert [status for status in STATUSES if f"`{status}`" not in ", ".join(statuses)] == []


def test_every_linked_file_exists() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)

    assert len(links) >= 10
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_every_script_and_test_that_is_named_exists() -> None:
    names = re.findall(r"tests/[\w/]+\.py", README)

    assert len(names) >= 10
    assert [name for name in names if not (ROOT / name).is_file()] == []


def test_the_source_tree_is_complete() -> None:
    tree = next(block for language, block in BLOCKS if language == "text")
    folders = {f"{path.name}/" for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    files = {path.name for path in PACKAGE.glob("[!_]*.py")}

    assert set(re.findall(r"(?:^|  )(\w+/|\w+\.py)(?=  )", tree, flags=re.MULTILINE)) == folders | files


def test_every_answer_to_where_do_i_add_exists() -> None:
    table = README.partition("| where do I add")[2].partition("\n\n")[0]
    files = re.findall(r"`([\w/]+\.py)`", table)

    assert len(files) >= 9
    assert [file for file in files if not (PACKAGE / file).is_file()] == []
    for name, file in re.findall(r"`([A-Z]\w+)` (?:of|in) `([\w/]+\.py)`", table):
        assert re.search(rf"^(class )?{name}\b", (PACKAGE / file).read_text(), flags=re.MULTILINE), (name, file)


def test_all_blocks_are_run_but_the_source_tree() -> None:
    assert {language for language, _ in BLOCKS} == {"sh", "python", "text"}


def test_commands_that_need_another_host_say_that_they_are_not_run() -> None:
    (paragraph,) = (text for text in README.split("\n\n") if "download.pytorch.org" in text)

    assert "(not run by the tests)" in paragraph


@pytest.mark.parametrize("name", ["terminal.svg", "report.png"])
def test_pictures_are_small_and_download_nothing(name: str) -> None:
    data = (shots.PICTURES / name).read_bytes()

    assert f"(.readme/{name})" in README
    assert 5_000 < len(data) < 200_000
    assert re.findall(rb"""(?:url\(|href=|src=)["']?https?:""", data) == []


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("inception")])
def test_every_option_of_a_command_exists(line: str) -> None:
    command, options = line.split()[1], re.findall(r"(?<= )--[a-z0-9-]+", line)
    known = shots.snapshot(command).read_text().split()

    assert [option for option in options if option not in known] == []


@pytest.fixture
def example_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with everything that README uses; torchvision's file in the cache is a made-up one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    for name in ("apple", "pear"):
        shutil.copytree(ROOT / "sample_images" / name, f"sample_images/{name}")
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
        monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], sha256=sha256(file)))
    return tmp_path


class OneLayer(nn.Module):
    """A network with only the classifier of Inception V3: x (N, 3, S, S), 0…255 → logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 10)
        self.fc.weight.data /= 255

    def stages(self) -> list[tuple[str, nn.Module]]:
        return []

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(x.float().mean((2, 3)))
        return logits


@pytest.fixture
def one_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `export` export a network of one layer: a whole one, as in test_export_onnx.py, takes 8 s."""
    network = OneLayer()
    monkeypatch.setattr(export_onnx, "fold_all", lambda *_: network)
    monkeypatch.setattr(export_onnx, "optimize", lambda *_: network)


@pytest.mark.usefixtures("one_layer")
def test_every_command_runs(example_folder: Path, inception: Inception) -> None:
    lines = [line for line in LINES if line.startswith("inception ")]
    assert len(lines) >= 7

    for line in lines:
        arguments = shlex.split(line)[1:]
        if arguments[0] == "train":
            arguments += ["--epochs", "1", "--size", "75", "--batch-size", "4"]  # as small as possible
        if "--predictions" not in line and arguments[0] in ("classify", "evaluate", "train"):
            arguments += ["--workers", "0"]  # starting them takes longer than these few photos
        if "--out preds.csv" in line:
            arguments.append("--force")
        ended = inception(*arguments)
        assert ended.code == 0, (line, ended.err)


def test_the_other_lines_are_those_that_ci_runs() -> None:
    install, test = (line for line in LINES if not line.startswith("inception "))

    assert all(line.startswith("python3 -m venv ") for line in (install, test))
    assert "inception classify" in install
    assert "pytest" in test


def test_ci_runs_again_in_the_same_clone(tmp_path: Path) -> None:
    """With programs that do nothing, and a second line that fails if its file is there, as `classify` does."""
    for name, text in {
        "bin/python3": "#!/bin/sh\n",
        ".venv-test/bin/activate": "ruff() { :; }; mypy() { :; }\n",
        ".ci/run": (ROOT / ".ci" / "run").read_text(),
        "README.md": "python3 -m venv a && : pytest\npython3 -m venv b && test ! -e preds.csv && : inception classify "
        "&& touch preds.csv preds.csv.json\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "bin" / "python3").chmod(0o755)
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}

    for _ in range(2):
        subprocess.run(["bash", tmp_path / ".ci" / "run"], env=environment, check=True, capture_output=True)


def test_the_example_in_python_runs(example_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = PYTHON
    variables: dict[str, Any] = {}

    exec(example, variables)

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(" ok (" in line for line in lines)
    assert list(variables["frame"]["status"]) == ["ok"] * 4
