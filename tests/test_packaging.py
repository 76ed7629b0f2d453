"""A wheel that is built and installed elsewhere classifies from another folder; the distribution has one name."""

import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = [path for path in (ROOT / "inception_cli").rglob("*") if path.suffix in (".py", ".j2", ".js", ".md")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and return its file."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_what_the_program_reads(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    read = [
        "py.typed",
        "data/imagenet.csv",
        "data/imagenet_tree.csv",
        "data/demo.safetensors",
        "data/MODEL_CARD.md",
        "data/LICENSE",
        "training/model_card.md.j2",
    ]
    read += [f"report/{name}" for name in ("page.html.j2", "page.css", "page.js", "training.html.j2", "training.css")]
    assert [name for name in read if f"inception_cli/{name}" not in names] == []
    assert not [name for name in names if name.startswith("tests")]


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert [path for path in SOURCES if str(path.relative_to(ROOT)) not in names] == []


def test_the_wheel_has_the_name_of_the_distribution(wheel: Path) -> None:
    assert PROJECT["name"] == "inception-photos"
    assert wheel.name.startswith("inception_photos-")


def test_no_message_names_a_distribution_of_this_project() -> None:
    wrong = re.compile(r"inception-photos|inception-cli\[|pip install '?\"?inception")

    assert [path for path in SOURCES if wrong.search(path.read_text())] == []


def test_what_messages_install_is_in_an_extra() -> None:
    extras = {re.split(r"[\[<>=]", need)[0] for needs in PROJECT["optional-dependencies"].values() for need in needs}
    named = {name for path in SOURCES for name in re.findall(r"pip install [\"']?([\w-]+)", path.read_text())}

    assert len(named) >= 3
    assert named - extras == set()


def test_the_wheel_classifies_from_another_folder(wheel: Path, photos: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    zipfile.ZipFile(wheel).extractall(site)  # what an installation without dependencies does
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    program = "from inception_cli.__main__ import main; main()"
    arguments = ["classify", str(photos / "a"), "-w", "demo", "-o", "preds.csv", "-j", "0"]

    ended = subprocess.run(
        [python, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stderr
    assert len((tmp_path / "preds.csv").read_text().splitlines()) == 9
    imported = subprocess.run(
        [python, "-c", "import inception_cli; print(inception_cli.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert imported.stdout.startswith(str(tmp_path))
